package s3

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"bdbvault/remote"
	"bdbvault/remote/awsconf"
)

// Reach implements remote.Reacher.
func (d *driver) Reach(ctx context.Context) (otherBuckets int, readsPolicy bool, err error) {
	lctx, x := awsconf.Watch(ctx)
	out, err := d.client.ListBuckets(lctx, &s3.ListBucketsInput{})
	if err := d.result(x, err); err != nil && d.Classify(err) != remote.Denied {
		return 0, false, err
	}
	if out != nil {
		for _, b := range out.Buckets {
			if aws.ToString(b.Name) != d.bucket {
				otherBuckets++
			}
		}
	}
	pctx, x := awsconf.Watch(ctx)
	_, err = d.client.GetBucketPolicy(pctx, &s3.GetBucketPolicyInput{Bucket: &d.bucket})
	readsPolicy, err = awsconf.MayRead(d.result(x, err))
	return otherBuckets, readsPolicy, err
}
