package remote

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Bucket is a repository's part of a store: all objects whose keys begin with a prefix. Keys given and returned
// are relative to it. It is safe for concurrent use.
type Bucket struct {
	d      Driver
	opt    Options
	prefix string // "" or ends in "/"
	stats  *counters
	mayPut atomic.Bool // the store took an object from us, so it hardly denies the next one for good

	probe    sync.Mutex // held while SupportsIfAbsent finds out
	ifAbsent ifAbsentState
}

// Options of a Bucket.
type Options struct {
	Prefix   string        // before all keys, as in s3://bucket/prefix
	RetryFor time.Duration // how long faults may last; 0 means DefaultRetryFor, negative: no retries
	Name     string        // of the store in messages; default is the driver's own name with the prefix

	// Up and Down limit the contents of objects that are sent and received; what is listed is not held back.
	Up, Down *Rate

	// StorageClass is that of an object that is put without one, by its key in the repository; nil or "": the bucket's own.
	StorageClass func(key string) string

	// OnRetry is told of each fault before the pause that follows it, possibly by several goroutines at once.
	OnRetry func(err error, wait time.Duration)
}

// DefaultRetryFor is how long faults may last before an operation fails.
const DefaultRetryFor = 5 * time.Minute

// New makes a Bucket over a driver.
func New(d Driver, opt Options) *Bucket {
	if opt.RetryFor == 0 {
		opt.RetryFor = DefaultRetryFor
	}
	prefix := strings.Trim(opt.Prefix, "/")
	if opt.Name == "" {
		opt.Name = driverName(d, prefix)
	}
	if prefix != "" {
		prefix += "/"
	}
	return &Bucket{d: d, opt: opt, prefix: prefix, stats: new(counters)}
}

func driverName(d Driver, prefix string) string {
	s, ok := d.(fmt.Stringer)
	switch {
	case !ok:
		return prefix
	case prefix == "":
		return s.String()
	}
	return strings.TrimSuffix(s.String(), "/") + "/" + prefix
}

// FullKey is the key by which the store itself knows an object.
func (b *Bucket) FullKey(key string) string { return b.prefix + key }

// String names the store for messages, for example s3://bucket/prefix.
func (b *Bucket) String() string { return b.opt.Name }

// Put stores an object of exactly size bytes. Body is read from its start for every try.
//
// With IfAbsent it fails with Exists if the key is taken; finding there what an earlier try of this same call
// stored counts as success. On a store without conditional requests that protection has a gap: the key is looked up first, and
// two writers in the same moment both succeed.
func (b *Bucket) Put(ctx context.Context, key string, body io.ReaderAt, size int64, opt PutOptions) error {
	full, err := b.checkKey(opPut, key)
	if err != nil {
		return err
	}
	if size < 0 || size > MaxObject {
		return b.fail(ctx, opPut, key, &Error{Kind: Invalid, Err: fmt.Errorf("%d bytes, the most is %d", size, int64(MaxObject))})
	}
	if !opt.HasSHA256 {
		if opt.SHA256, err = sum(ctx, body, size); err != nil {
			return b.fail(ctx, opPut, key, err)
		}
		opt.HasSHA256 = true
	}
	if opt.StorageClass == "" && b.opt.StorageClass != nil {
		opt.StorageClass = b.opt.StorageClass(key)
	}
	return b.put(ctx, upload{key: key, full: full, body: body, size: size, opt: opt})
}

func sum(ctx context.Context, body io.ReaderAt, size int64) (s [32]byte, err error) {
	h := sha256.New()
	n, err := io.Copy(h, &contextReader{ctx, io.NewSectionReader(body, 0, size)})
	if err == nil && n < size {
		err = fmt.Errorf("body ends after %d of %d bytes", n, size)
	}
	h.Sum(s[:0])
	return s, err
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// Open reads an object from offset, length bytes or to its end if length is negative. A download that breaks is continued
// where it stopped. If the object has fewer bytes than asked for, reading ends in an OutOfRange error. The caller closes.
func (b *Bucket) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	full, err := b.checkKey(opOpen, key)
	if err != nil {
		return nil, err
	}
	if length == 0 {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	r := &reader{b: b, ctx: ctx, key: key, full: full, offset: offset, left: length, patience: b.newPatience(ctx)}
	if err := r.open(nil); err != nil {
		return nil, err
	}
	return r, nil
}

// Get reads a whole object of at most limit bytes; a larger one is Invalid.
func (b *Bucket) Get(ctx context.Context, key string, limit int64) ([]byte, error) {
	r, err := b.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close() // reading is over, nothing can be lost
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, b.fail(ctx, opOpen, key, &Error{Kind: Invalid, Err: fmt.Errorf("larger than the %d bytes that it may have", limit)})
	}
	return data, nil
}

// ReadRange fills buf from offset on.
func (b *Bucket) ReadRange(ctx context.Context, key string, buf []byte, offset int64) error {
	r, err := b.Open(ctx, key, offset, int64(len(buf)))
	if err != nil {
		return err
	}
	defer r.Close() // reading is over, nothing can be lost
	_, err = io.ReadFull(r, buf)
	return err
}

// Stat describes an object.
func (b *Bucket) Stat(ctx context.Context, key string) (Info, error) {
	full, err := b.checkKey(opStat, key)
	if err != nil {
		return Info{}, err
	}
	var info Info
	err = b.do(ctx, opStat, key, b.newPatience(ctx), func(ctx context.Context) (err error) {
		info, err = b.d.Stat(ctx, full)
		return err
	})
	info.Key = key
	return info, err
}

// List calls fn for each object whose key starts with prefix and sorts after after ("" for all), in ascending byte
// order. An error from fn ends it and is returned as is. Date is the store's clock at the first page; zero if it tells none.
func (b *Bucket) List(ctx context.Context, prefix, after string, fn func(Info) error) (time.Time, error) {
	l := &listing{b: b, patience: b.newPatience(ctx), prefix: b.prefix + prefix, fn: fn}
	if after != "" {
		l.last = b.prefix + after
	}
	err := b.do(ctx, opList, prefix, l.patience, l.try)
	if l.stop != nil {
		return l.date, l.stop
	}
	return l.date, err
}

// listing is one List: a second try continues after the last key that the first one delivered.
type listing struct {
	b        *Bucket
	patience *patience
	prefix   string
	last     string
	date     time.Time
	fn       func(Info) error
	stop     error // what fn returned
}

func (l *listing) try(ctx context.Context) error {
	date, err := l.b.d.List(ctx, l.prefix, l.last, l.deliver)
	if l.date.IsZero() {
		l.date = date
	}
	if l.stop != nil {
		return &Error{Kind: Canceled, Err: l.stop}
	}
	return err
}

func (l *listing) deliver(info Info) error {
	if info.Key <= l.last || !strings.HasPrefix(info.Key, l.prefix) {
		return fmt.Errorf("store lists %q after %q, which is out of order", info.Key, l.last)
	}
	l.patience.moved()
	l.last = info.Key
	info.Key = strings.TrimPrefix(info.Key, l.b.prefix)
	l.stop = l.fn(info)
	return l.stop
}

// Delete removes objects. Keys that don't exist are no error. When it fails, some may be gone.
func (b *Bucket) Delete(ctx context.Context, keys []string) error {
	full := make([]string, len(keys))
	for i, key := range keys {
		var err error
		if full[i], err = b.checkKey(opDelete, key); err != nil {
			return err
		}
	}
	for batch := range slices.Chunk(full, MaxDelete) {
		name := fmt.Sprintf("%d objects", len(batch))
		if len(batch) == 1 {
			name = strings.TrimPrefix(batch[0], b.prefix)
		}
		err := b.do(ctx, opDelete, name, b.newPatience(ctx), func(ctx context.Context) error {
			return b.d.Delete(ctx, batch)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// checkKey refuses keys that not every store can hold or that could leave a directory.
func (b *Bucket) checkKey(op operation, key string) (string, error) {
	full := b.prefix + key
	problem := ""
	switch {
	case len(full) > MaxKey:
		problem = fmt.Sprintf("key is longer than %d bytes", MaxKey)
	case !utf8.ValidString(full) || strings.ContainsRune(full, 0):
		problem = "key is not a text"
	case !cleanKey(full):
		problem = `key has an empty, "." or ".." part, or one that starts with ".tmp"`
	default:
		return full, nil
	}
	return "", &Error{Op: op.String(), Key: fmt.Sprintf("%q", key), Store: b.String(), Kind: Invalid, Err: fmt.Errorf("%s", problem)}
}

func cleanKey(key string) bool {
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part == "." || part == ".." || strings.HasPrefix(part, ".tmp") {
			return false
		}
	}
	return true
}
