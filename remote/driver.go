package remote

import (
	"context"
	"io"
	"time"
)

// Driver does single attempts against one kind of store. It is implemented once per kind and used only by Bucket.
//
// Keys are UTF-8, at most MaxKey bytes long, "/" separated, without empty, "." and ".." components; Bucket sees to that.
// Drivers don't retry. They are safe for concurrent use. When ctx is cancelled they return soon, and leave
// neither an object nor a temporary file of an unfinished Put behind.
type Driver interface {
	// Put stores size bytes of body under key, all or nothing. It never stores bytes that don't match opt.SHA256
	// (Damaged). With opt.IfAbsent it fails with Exists when the key is taken, or with Unsupported when the store
	// has no such condition; a store may also ignore it silently, see Bucket.SupportsIfAbsent.
	Put(ctx context.Context, key string, body io.ReaderAt, size int64, opt PutOptions) error

	// Open reads from offset, length bytes or to the end if length is negative; the caller closes.
	// Length is never 0. Reading from 0 to the end works for an empty object too; else an object that ends at offset or before is OutOfRange; one that ends inside the range is read to
	// its end. Reading returns io.EOF only at the true end of the range, any other error means that it was cut short.
	Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)

	// Stat describes one object, or fails with NotFound.
	Stat(ctx context.Context, key string) (Info, error)

	// List calls fn for each object whose key starts with prefix and sorts after after, in ascending byte order of
	// keys. An error from fn ends it and comes back as is. Date is the store's own clock when it answered the first page, also when a
	// later page failed; zero if the store told none.
	List(ctx context.Context, prefix, after string, fn func(Info) error) (date time.Time, err error)

	// Delete removes up to MaxDelete objects. Keys that don't exist are no error.
	Delete(ctx context.Context, keys []string) error

	// Classify says what kind an error of this driver is; Unknown if it can't tell.
	Classify(err error) Kind
}

// Limits that every driver may rely on.
const (
	MaxKey    = 1024    // bytes of a key, prefix included
	MaxObject = 5 << 30 // bytes of one object: what S3 takes in a single PUT
	MaxDelete = 1000    // keys in one Delete of a driver
)

// PutOptions are the optional parts of a Put.
type PutOptions struct {
	IfAbsent    bool     // fail with Exists rather than replace
	SHA256      [32]byte // of the whole body, so that the store can refuse a damaged upload
	HasSHA256   bool     // SHA256 is set; Bucket.Put computes it otherwise
	ContentType string   // default application/octet-stream

	StorageClass string    // "" is the bucket's own; others are the store's words, as STANDARD_IA
	Retain       Retention // locks the object from the start; Unsupported where nothing can be locked
}

// Info describes a stored object.
type Info struct {
	Key      string
	Size     int64
	Modified time.Time // by the store's clock
}
