package s3

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/url"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"bdbvault/remote"
	"bdbvault/remote/awsconf"
)

// Retention implements remote.Locker.
func (d *driver) Retention(ctx context.Context, key string) (remote.Retention, error) {
	ctx, x := awsconf.Watch(ctx)
	out, err := d.client.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{Bucket: &d.bucket, Key: &key})
	if err = d.result(x, err); awsconf.NotLocked(err) {
		return remote.Retention{}, nil
	}
	if err != nil || out.Retention == nil {
		return remote.Retention{}, awsconf.LockError(err)
	}
	return remote.Retention{Mode: remote.LockMode(out.Retention.Mode), Until: aws.ToTime(out.Retention.RetainUntilDate)}, nil
}

// Retain implements remote.Locker.
func (d *driver) Retain(ctx context.Context, key string, r remote.Retention) error {
	ctx, x := awsconf.Watch(ctx)
	_, err := d.client.PutObjectRetention(ctx, &s3.PutObjectRetentionInput{
		Bucket: &d.bucket, Key: &key,
		Retention: &types.ObjectLockRetention{Mode: types.ObjectLockRetentionMode(r.Mode), RetainUntilDate: aws.Time(r.Until.UTC())},
	})
	return awsconf.LockError(d.result(x, err))
}

// Facts implements remote.Inspector.
func (d *driver) Facts(ctx context.Context) (f remote.Facts, err error) {
	vctx, x := awsconf.Watch(ctx)
	versioning, err := d.client.GetBucketVersioning(vctx, &s3.GetBucketVersioningInput{Bucket: &d.bucket})
	if err = d.result(x, err); err != nil {
		return f, err
	}
	f.Versioning = string(versioning.Status)
	lctx, x := awsconf.Watch(ctx)
	out, err := d.client.GetObjectLockConfiguration(lctx, &s3.GetObjectLockConfigurationInput{Bucket: &d.bucket})
	if err = d.result(x, err); awsconf.MissesLock(err) {
		return f, nil
	}
	if err != nil || out.ObjectLockConfiguration == nil {
		return f, err
	}
	f.ObjectLock = out.ObjectLockConfiguration.ObjectLockEnabled == types.ObjectLockEnabledEnabled
	if rule := out.ObjectLockConfiguration.Rule; rule != nil && rule.DefaultRetention != nil {
		days := int(aws.ToInt32(rule.DefaultRetention.Days)) + 365*int(aws.ToInt32(rule.DefaultRetention.Years))
		f.DefaultMode, f.DefaultFor = remote.LockMode(rule.DefaultRetention.Mode), time.Duration(days)*24*time.Hour
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

// OpenVersion implements awsconf.VersionStore.
func (d *driver) OpenVersion(ctx context.Context, key, id string, offset, length int64) (io.ReadCloser, error) {
	return d.open(ctx, &s3.GetObjectInput{Bucket: &d.bucket, Key: &key, VersionId: &id}, offset, length)
}

// ListVersions implements awsconf.VersionStore.
func (d *driver) ListVersions(ctx context.Context, prefix, after string, fn func(remote.Version) error) (time.Time, error) {
	ctx, x := awsconf.Watch(ctx)
	in := &s3.ListObjectVersionsInput{Bucket: &d.bucket, Prefix: &prefix, EncodingType: types.EncodingTypeUrl}
	if after != "" {
		in.KeyMarker = &after
	}
	for {
		out, err := d.client.ListObjectVersions(ctx, in)
		if err := d.result(x, err); err != nil {
			return x.Date(), err
		}
		page, next, err := versionsOf(out)
		if err != nil {
			return x.Date(), err
		}
		for _, v := range page {
			if err := fn(v); err != nil {
				return x.Date(), err
			}
		}
		if !aws.ToBool(out.IsTruncated) {
			return x.Date(), nil
		}
		if next == "" {
			return x.Date(), errors.New("store says that the list goes on, but not where")
		}
		in.KeyMarker, in.VersionIdMarker = &next, out.NextVersionIdMarker
	}
}

// versionsOf puts a page's versions and delete markers, which the SDK hands over apart, into one order.
func versionsOf(out *s3.ListObjectVersionsOutput) (page []remote.Version, next string, err error) {
	text := func(s *string) string {
		plain := aws.ToString(s)
		if out.EncodingType == types.EncodingTypeUrl {
			decoded, bad := url.QueryUnescape(plain)
			err = errors.Join(err, bad)
			return decoded
		}
		return plain
	}
	latest := map[string]bool{} // by version
	for _, v := range out.Versions {
		info := remote.Info{Key: text(v.Key), Size: aws.ToInt64(v.Size), Modified: aws.ToTime(v.LastModified)}
		page = append(page, remote.Version{Info: info, ID: aws.ToString(v.VersionId)})
		latest[aws.ToString(v.VersionId)] = aws.ToBool(v.IsLatest)
	}
	for _, v := range out.DeleteMarkers {
		info := remote.Info{Key: text(v.Key), Modified: aws.ToTime(v.LastModified)}
		page = append(page, remote.Version{Info: info, ID: aws.ToString(v.VersionId), Deleted: true})
		latest[aws.ToString(v.VersionId)] = aws.ToBool(v.IsLatest)
	}
	first := func(v remote.Version) int {
		if latest[v.ID] && v.ID != "null" {
			return 0
		}
		return 1
	}
	// Stable: versions of one second stay in the store's order, and come before a delete marker of the same second.
	slices.SortStableFunc(page, func(a, b remote.Version) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(first(a), first(b)), b.Modified.Compare(a.Modified))
	})
	return page, text(out.NextKeyMarker), err
}
