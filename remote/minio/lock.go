package minio

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"time"

	"github.com/minio/minio-go/v7"

	"bdbvault/remote"
	"bdbvault/remote/awsconf"
)

// Retention implements remote.Locker.
func (d *driver) Retention(ctx context.Context, key string) (r remote.Retention, err error) {
	ctx, x := awsconf.Watch(ctx)
	mode, until, err := d.core.GetObjectRetention(ctx, d.bucket, key, "")
	if err = d.result(ctx, x, err); awsconf.NotLocked(err) {
		return r, nil
	}
	if _, odd := errors.AsType[xml.UnmarshalError](err); odd {
		return d.retentionOf(ctx, key) // versitygw's answer has another form
	}
	if err != nil {
		return r, awsconf.LockError(err)
	}
	if mode != nil && until != nil {
		r = remote.Retention{Mode: remote.LockMode(*mode), Until: *until}
	}
	return r, nil
}

// retentionOf looks where answers to HEAD have it.
func (d *driver) retentionOf(ctx context.Context, key string) (r remote.Retention, err error) {
	ctx, x := awsconf.Watch(ctx)
	o, err := d.core.StatObject(ctx, d.bucket, key, minio.StatObjectOptions{})
	if err = d.result(ctx, x, err); err != nil {
		return r, err
	}
	r.Mode = remote.LockMode(o.Metadata.Get("X-Amz-Object-Lock-Mode"))
	r.Until, err = time.Parse(time.RFC3339, o.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
	return r, err
}

// Retain implements remote.Locker.
func (d *driver) Retain(ctx context.Context, key string, r remote.Retention) error {
	ctx, x := awsconf.Watch(ctx)
	mode, until := minio.RetentionMode(r.Mode), r.Until.UTC()
	err := d.core.PutObjectRetention(ctx, d.bucket, key, minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &until})
	return awsconf.LockError(d.result(ctx, x, err))
}

// Facts implements remote.Inspector.
func (d *driver) Facts(ctx context.Context) (f remote.Facts, err error) {
	vctx, x := awsconf.Watch(ctx)
	versioning, err := d.core.GetBucketVersioning(vctx, d.bucket)
	if err = d.result(vctx, x, err); err != nil {
		return f, err
	}
	f.Versioning = versioning.Status
	lctx, x := awsconf.Watch(ctx)
	lock, mode, validity, unit, err := d.core.GetObjectLockConfig(lctx, d.bucket)
	if err = d.result(lctx, x, err); awsconf.MissesLock(err) {
		return f, nil
	}
	if err != nil {
		return f, err
	}
	f.ObjectLock = lock == "Enabled"
	if mode != nil && validity != nil && unit != nil {
		days := *validity
		if *unit == minio.Years {
			days *= 365
		}
		f.DefaultMode, f.DefaultFor = remote.LockMode(*mode), time.Duration(days)*24*time.Hour
	}
	return f, nil
}

// AsOf implements remote.Versioned.
func (d *driver) AsOf(t time.Time) remote.Driver { return awsconf.AsOf(d, t) }

// Versions implements remote.Versioned.
func (d *driver) Versions(ctx context.Context, prefix string, fn func(remote.Version) error) error {
	_, err := d.ListVersions(ctx, prefix, "", fn)
	return err
}

// ListVersions implements awsconf.VersionStore.
func (d *driver) ListVersions(ctx context.Context, prefix, after string, fn func(remote.Version) error) (time.Time, error) {
	ctx, x := awsconf.Watch(ctx)
	versions := d.core.ListObjectsIter(ctx, d.bucket, minio.ListObjectsOptions{Prefix: prefix, StartAfter: after, Recursive: true, WithVersions: true})
	for o := range versions {
		if o.Err != nil {
			return x.Date(), d.result(ctx, x, o.Err)
		}
		v := remote.Version{Info: remote.Info{Key: o.Key, Size: o.Size, Modified: o.LastModified}, ID: o.VersionID, Deleted: o.IsDeleteMarker}
		if err := fn(v); err != nil {
			return x.Date(), err
		}
	}
	return x.Date(), d.result(ctx, x, ctx.Err()) // the iterator just stops when the context ends
}

// OpenVersion implements awsconf.VersionStore.
func (d *driver) OpenVersion(ctx context.Context, key, id string, offset, length int64) (io.ReadCloser, error) {
	return d.open(ctx, key, minio.GetObjectOptions{VersionID: id}, offset, length)
}
