// Package s3 is the driver for S3 and its like on the AWS SDK.
//
// What is particular: the SDK's retries and its retry token bucket are off, since remote.Bucket retries. An object is
// one PutObject whose payload hash is the SHA-256 that the caller gives, so nothing is hashed twice, no trailing checksum is
// sent in chunks, which many S3-compatible stores don't take, and the store refuses what arrives damaged. Without a given hash the body is hashed first over plain HTTP;
// over TLS it goes unsigned. Checksums that the SDK adds and verifies on its own are limited to where S3 requires them. A bucket whose objects are
// locked requires one with every upload: it gets it with each that carries a lock, and from its first refusal on, as a header.
package s3

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"bdbvault/remote"
	"bdbvault/remote/awsconf"
)

// Config says which bucket, and how to get there.
type Config = awsconf.Config

type driver struct {
	client *s3.Client
	conf   *awsconf.Resolved
	bucket string
	known  atomic.Bool // the bucket exists
	sums   atomic.Bool // the bucket wants a checksum with every object
}

// New makes a driver. It doesn't talk to the store yet.
func New(ctx context.Context, c Config) (remote.Driver, error) {
	r, err := awsconf.Resolve(ctx, c)
	if err != nil {
		return nil, err
	}
	client := s3.NewFromConfig(r.AWS, func(o *s3.Options) {
		if r.Endpoint != nil {
			o.BaseEndpoint = aws.String(r.Endpoint.String())
		}
		o.UsePathStyle = r.PathStyle
		o.HTTPClient = r.HTTP
		o.Retryer = aws.NopRetryer{}
		o.RetryMaxAttempts = 0
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.ContinueHeaderThresholdBytes = -1 // awsconf's transport does that
	})
	return &driver{client: client, conf: r, bucket: c.Bucket}, nil
}

func (d *driver) String() string { return "s3://" + d.bucket }

// Classify implements remote.Driver.
func (d *driver) Classify(err error) remote.Kind { return awsconf.Classify(err) }

// Put implements remote.Driver.
func (d *driver) Put(ctx context.Context, key string, body io.ReaderAt, size int64, opt remote.PutOptions) error {
	summed := d.sums.Load() || !opt.Retain.Until.IsZero()
	err := d.put(ctx, key, body, size, opt, summed)
	if summed || !opt.HasSHA256 || !awsconf.MayWantChecksum(err) {
		return err
	}
	better := d.put(ctx, key, body, size, opt, true)
	if awsconf.MayWantChecksum(better) {
		return err // that was not it
	}
	d.sums.Store(true)
	return better
}

func (d *driver) put(ctx context.Context, key string, body io.ReaderAt, size int64, opt remote.PutOptions, summed bool) error {
	ctx, x := awsconf.Watch(ctx)
	in := &s3.PutObjectInput{
		Bucket: &d.bucket, Key: &key,
		Body: io.NewSectionReader(body, 0, size), ContentLength: &size,
		ContentType: aws.String("application/octet-stream"),
	}
	if opt.ContentType != "" {
		in.ContentType = &opt.ContentType
	}
	if opt.IfAbsent {
		in.IfNoneMatch = aws.String("*")
	}
	if opt.StorageClass != "" {
		in.StorageClass = types.StorageClass(opt.StorageClass)
	}
	if summed && opt.HasSHA256 {
		in.ChecksumSHA256 = aws.String(base64.StdEncoding.EncodeToString(opt.SHA256[:]))
	}
	if !opt.Retain.Until.IsZero() {
		in.ObjectLockMode, in.ObjectLockRetainUntilDate = types.ObjectLockMode(opt.Retain.Mode), aws.Time(opt.Retain.Until.UTC())
	}
	var options []func(*s3.Options)
	if opt.HasSHA256 {
		options = append(options, withPayloadHash(hex.EncodeToString(opt.SHA256[:])))
	}
	_, err := d.client.PutObject(ctx, in, options...)
	if err = d.result(x, err); !opt.Retain.Until.IsZero() {
		return awsconf.LockError(err)
	}
	return err
}

// withPayloadHash makes the signer use a hash that is already known instead of reading the body for it.
func withPayloadHash(hash string) func(*s3.Options) {
	set := middleware.FinalizeMiddlewareFunc("KnownPayloadHash", func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
		return next.HandleFinalize(v4.SetPayloadHash(ctx, hash), in)
	})
	return s3.WithAPIOptions(func(stack *middleware.Stack) error {
		return stack.Finalize.Insert(set, (*v4.ComputePayloadSHA256)(nil).ID(), middleware.Before)
	})
}

// Open implements remote.Driver.
func (d *driver) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	return d.open(ctx, &s3.GetObjectInput{Bucket: &d.bucket, Key: &key}, offset, length)
}

func (d *driver) open(ctx context.Context, in *s3.GetObjectInput, offset, length int64) (io.ReadCloser, error) {
	ctx, x := awsconf.Watch(ctx)
	if r := awsconf.Range(offset, length); r != "" {
		in.Range = &r
	}
	out, err := d.client.GetObject(ctx, in)
	if err := d.result(x, err); err != nil {
		return nil, err
	}
	if err := awsconf.CheckRange(aws.ToString(out.ContentRange), offset, length); err != nil {
		out.Body.Close() // nothing was read
		return nil, err
	}
	return out.Body, nil
}

// Stat implements remote.Driver.
func (d *driver) Stat(ctx context.Context, key string) (remote.Info, error) {
	hctx, x := awsconf.Watch(ctx)
	out, err := d.client.HeadObject(hctx, &s3.HeadObjectInput{Bucket: &d.bucket, Key: &key})
	if err := d.result(x, err); err != nil {
		return remote.Info{}, awsconf.Explain(err, &d.known, func() error { return d.peek(ctx, key) })
	}
	return remote.Info{Key: key, Size: aws.ToInt64(out.ContentLength), Modified: aws.ToTime(out.LastModified)}, nil
}

func (d *driver) peek(ctx context.Context, key string) error {
	body, err := d.Open(ctx, key, 0, 1)
	if err == nil {
		body.Close() // only the answer's status was wanted
	}
	return err
}

// List implements remote.Driver.
func (d *driver) List(ctx context.Context, prefix, after string, fn func(remote.Info) error) (time.Time, error) {
	ctx, x := awsconf.Watch(ctx)
	in := &s3.ListObjectsV2Input{Bucket: &d.bucket, Prefix: &prefix, EncodingType: types.EncodingTypeUrl}
	if after != "" {
		in.StartAfter = &after
	}
	for {
		out, err := d.client.ListObjectsV2(ctx, in)
		if err := d.result(x, err); err != nil {
			return x.Date(), err
		}
		if err := deliver(out, fn); err != nil {
			return x.Date(), err
		}
		if !aws.ToBool(out.IsTruncated) {
			return x.Date(), nil
		}
		if aws.ToString(out.NextContinuationToken) == "" {
			return x.Date(), errors.New("store says that the list goes on, but not where")
		}
		in.ContinuationToken = out.NextContinuationToken
	}
}

func deliver(page *s3.ListObjectsV2Output, fn func(remote.Info) error) error {
	for _, o := range page.Contents {
		key := aws.ToString(o.Key)
		if page.EncodingType == types.EncodingTypeUrl {
			var err error
			if key, err = url.QueryUnescape(key); err != nil {
				return fmt.Errorf("list: %w", err)
			}
		}
		if strings.HasSuffix(key, "/") {
			continue // a folder that some other tool made; none of ours
		}
		if err := fn(remote.Info{Key: key, Size: aws.ToInt64(o.Size), Modified: aws.ToTime(o.LastModified)}); err != nil {
			return err
		}
	}
	return nil
}

// Delete implements remote.Driver.
func (d *driver) Delete(ctx context.Context, keys []string) error {
	ctx, x := awsconf.Watch(ctx)
	objects := make([]types.ObjectIdentifier, len(keys))
	for i := range keys {
		objects[i].Key = &keys[i]
	}
	out, err := d.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{
		Bucket: &d.bucket, Delete: &types.Delete{Objects: objects, Quiet: aws.Bool(true)},
	})
	if err := d.result(x, err); err != nil {
		return err
	}
	for _, e := range out.Errors {
		failed := &awsconf.ServerError{Key: aws.ToString(e.Key), Code: aws.ToString(e.Code), Message: aws.ToString(e.Message)}
		if d.Classify(failed) != remote.NotFound {
			return failed
		}
	}
	return nil
}

// result turns the SDK's errors into awsconf's.
func (d *driver) result(x *awsconf.Exchange, err error) error {
	if err == nil {
		d.known.Store(true)
		return nil
	}
	var creds *awsconf.CredentialsError
	var conn *awsconf.TransportError
	var api smithy.APIError
	switch {
	case errors.As(err, &creds):
		return creds
	case errors.As(err, &conn):
		return conn
	case errors.As(err, &api):
		err = x.Fail(api.ErrorCode(), api.ErrorMessage(), err)
		d.conf.Refused(err)
	}
	return err
}
