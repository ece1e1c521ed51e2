// Package minio is the driver for S3 and its like on minio-go, the client with the widest range of proven servers.
//
// What is particular: one PUT per object whatever its size, its payload hash the SHA-256 that the caller gives (computed first
// if none is given and the connection is plain HTTP). A bucket whose objects are locked wants a checksum besides: it gets one, made of that same hash, with each
// upload that carries a lock, and from its first refusal on. The client's own retries are off, since remote.Bucket retries. Credentials come from
// the AWS SDK's chain, not minio-go's, so both drivers obey the same environment and files.
package minio

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"bdbvault/remote"
	"bdbvault/remote/awsconf"
)

// Config says which bucket, and how to get there.
type Config = awsconf.Config

type driver struct {
	core   *minio.Core
	conf   *awsconf.Resolved
	creds  *credentials.Credentials
	bucket string
	plain  bool        // HTTP without TLS
	known  atomic.Bool // the bucket exists
	sums   atomic.Bool // the bucket wants a checksum with every object
}

// New makes a driver. It doesn't talk to the store yet.
func New(ctx context.Context, c Config) (remote.Driver, error) {
	r, err := awsconf.Resolve(ctx, c)
	if err != nil {
		return nil, err
	}
	host, secure := "s3.amazonaws.com", true
	if r.Endpoint != nil {
		host, secure = r.Endpoint.Host+strings.TrimSuffix(r.Endpoint.Path, "/"), r.Endpoint.Scheme == "https"
	}
	creds := credentials.New(&chain{ctx: context.WithoutCancel(ctx), provider: r.AWS.Credentials})
	options := &minio.Options{
		Creds:      creds,
		Secure:     secure,
		Transport:  r.HTTP.Transport,
		Region:     r.AWS.Region,
		MaxRetries: 1,
	}
	if r.PathStyle {
		options.BucketLookup = minio.BucketLookupPath
	}
	core, err := minio.NewCore(host, options)
	if err != nil {
		return nil, &remote.Error{Op: "open", Store: r.Store(), Kind: remote.Invalid, Err: err}
	}
	return &driver{core: core, conf: r, creds: creds, bucket: c.Bucket, plain: !secure}, nil
}

func (d *driver) String() string { return "s3://" + d.bucket }

// Classify implements remote.Driver.
func (d *driver) Classify(err error) remote.Kind { return awsconf.Classify(err) }

// Put implements remote.Driver.
func (d *driver) Put(ctx context.Context, key string, body io.ReaderAt, size int64, opt remote.PutOptions) error {
	summed := d.sums.Load() || !opt.Retain.Until.IsZero()
	err := d.put(ctx, key, body, size, opt, summed)
	if summed || !awsconf.MayWantChecksum(err) {
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
	options := minio.PutObjectOptions{ContentType: opt.ContentType, DisableContentSha256: true, DisableMultipart: true, StorageClass: opt.StorageClass}
	if opt.IfAbsent {
		options.SetMatchETagExcept("*")
	}
	locked := !opt.Retain.Until.IsZero()
	if locked {
		options.Mode, options.RetainUntilDate = minio.RetentionMode(opt.Retain.Mode), opt.Retain.Until
	}
	hash, err := payloadHash(body, size, opt, d.plain)
	if err != nil {
		return err
	}
	contentMD5 := ""
	switch {
	case summed && opt.HasSHA256:
		// minio-go sends as they are what it takes for a user's own headers, of which this is none, so nothing is read twice.
		options.UserMetadata = map[string]string{"X-Amz-Checksum-Sha256": base64.StdEncoding.EncodeToString(opt.SHA256[:])}
	case summed:
		if contentMD5, err = md5Of(body, size); err != nil {
			return err
		}
	}
	_, err = d.core.PutObject(ctx, d.bucket, key, io.NewSectionReader(body, 0, size), size, contentMD5, hash, options)
	if err = d.result(ctx, x, err); locked {
		return awsconf.LockError(err)
	}
	return err
}

// md5Of is a checksum for bodies whose SHA-256 is not given.
func md5Of(body io.ReaderAt, size int64) (string, error) {
	h := md5.New()
	if _, err := io.Copy(h, io.NewSectionReader(body, 0, size)); err != nil {
		return "", &remote.SourceError{Err: err}
	}
	return base64.StdEncoding.EncodeToString(h.Sum(nil)), nil
}

// payloadHash is what the signature covers; "" leaves the body out of it.
func payloadHash(body io.ReaderAt, size int64, opt remote.PutOptions, plain bool) (string, error) {
	if opt.HasSHA256 {
		return hex.EncodeToString(opt.SHA256[:]), nil
	}
	if !plain {
		return "", nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(body, 0, size)); err != nil {
		return "", &remote.SourceError{Err: err}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Open implements remote.Driver.
func (d *driver) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	return d.open(ctx, key, minio.GetObjectOptions{}, offset, length)
}

func (d *driver) open(ctx context.Context, key string, options minio.GetObjectOptions, offset, length int64) (io.ReadCloser, error) {
	ctx, x := awsconf.Watch(ctx)
	if r := awsconf.Range(offset, length); r != "" {
		options.Set("Range", r)
	}
	body, _, header, err := d.core.GetObject(ctx, d.bucket, key, options)
	if err := d.result(ctx, x, err); err != nil {
		return nil, err
	}
	if err := awsconf.CheckRange(header.Get("Content-Range"), offset, length); err != nil {
		body.Close() // nothing was read
		return nil, err
	}
	return body, nil
}

// Stat implements remote.Driver.
func (d *driver) Stat(ctx context.Context, key string) (remote.Info, error) {
	hctx, x := awsconf.Watch(ctx)
	o, err := d.core.StatObject(hctx, d.bucket, key, minio.StatObjectOptions{})
	if err := d.result(hctx, x, err); err != nil {
		return remote.Info{}, awsconf.Explain(err, &d.known, func() error { return d.peek(ctx, key) })
	}
	return remote.Info{Key: key, Size: o.Size, Modified: o.LastModified}, nil
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
	objects := d.core.ListObjectsIter(ctx, d.bucket, minio.ListObjectsOptions{
		Prefix: prefix, StartAfter: after, Recursive: true, FetchOwner: aws.Bool(false),
	})
	for o := range objects {
		if o.Err != nil {
			return x.Date(), d.result(ctx, x, o.Err)
		}
		if strings.HasSuffix(o.Key, "/") {
			continue // a folder that some other tool made; none of ours
		}
		if err := fn(remote.Info{Key: o.Key, Size: o.Size, Modified: o.LastModified}); err != nil {
			return x.Date(), err
		}
	}
	// The iterator just stops when the context ends.
	return x.Date(), d.result(ctx, x, ctx.Err())
}

// Delete implements remote.Driver.
func (d *driver) Delete(ctx context.Context, keys []string) error {
	ctx, x := awsconf.Watch(ctx)
	objects := func(yield func(minio.ObjectInfo) bool) {
		for _, key := range keys {
			if !yield(minio.ObjectInfo{Key: key}) {
				return
			}
		}
	}
	results, err := d.core.RemoveObjectsWithIter(ctx, d.bucket, objects, minio.RemoveObjectsOptions{})
	if err != nil {
		return err
	}
	var failed error
	for r := range results {
		if r.Err == nil || failed != nil {
			continue
		}
		err := d.result(ctx, x, r.Err)
		var server *awsconf.ServerError
		if errors.As(err, &server) && server.Status == 200 {
			server.Status, server.Key = 0, r.ObjectName
		}
		if d.Classify(err) != remote.NotFound {
			failed = err
		}
	}
	if failed == nil {
		failed = ctx.Err() // the iterator just stops then
	}
	return failed
}

// result turns minio-go's errors into awsconf's.
func (d *driver) result(ctx context.Context, x *awsconf.Exchange, err error) error {
	if err == nil {
		d.known.Store(true)
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var creds *awsconf.CredentialsError
	var conn *awsconf.TransportError
	var server minio.ErrorResponse
	switch {
	case errors.As(err, &creds):
		return creds
	case errors.As(err, &conn):
		return conn
	case errors.As(err, &server):
		if err = x.Fail(server.Code, server.Message, err); d.conf.Refused(err) {
			d.creds.Expire()
		}
	}
	return err
}

// chain hands the credentials of the AWS chain to minio-go, anew shortly before they expire.
type chain struct {
	ctx      context.Context // minio-go passes none
	provider aws.CredentialsProvider
	expires  atomic.Pointer[time.Time] // nil: ask
}

// refreshAhead is how long before their end credentials are no longer used, so that none expires in mid-request.
const refreshAhead = time.Minute

func (c *chain) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	v, err := c.provider.Retrieve(c.ctx)
	if err != nil {
		return credentials.Value{}, err
	}
	expires := time.Time{}
	if v.CanExpire {
		expires = v.Expires
	}
	c.expires.Store(&expires)
	return credentials.Value{
		AccessKeyID: v.AccessKeyID, SecretAccessKey: v.SecretAccessKey, SessionToken: v.SessionToken,
		Expiration: expires, SignerType: credentials.SignatureV4,
	}, nil
}

func (c *chain) Retrieve() (credentials.Value, error) { return c.RetrieveWithCredContext(nil) }

func (c *chain) IsExpired() bool {
	expires := c.expires.Load()
	return expires == nil || !expires.IsZero() && time.Until(*expires) < refreshAhead
}
