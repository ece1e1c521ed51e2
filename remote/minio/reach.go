package minio

import (
	"context"

	"bdbvault/remote"
	"bdbvault/remote/awsconf"
)

// Reach implements remote.Reacher.
func (d *driver) Reach(ctx context.Context) (otherBuckets int, readsPolicy bool, err error) {
	lctx, x := awsconf.Watch(ctx)
	buckets, err := d.core.ListBuckets(lctx)
	if err := d.result(lctx, x, err); err != nil && d.Classify(err) != remote.Denied {
		return 0, false, err
	}
	for _, b := range buckets {
		if b.Name != d.bucket {
			otherBuckets++
		}
	}
	pctx, x := awsconf.Watch(ctx)
	_, err = d.core.GetBucketPolicy(pctx, d.bucket)
	readsPolicy, err = awsconf.MayRead(d.result(pctx, x, err))
	return otherBuckets, readsPolicy, err
}
