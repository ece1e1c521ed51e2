package remotetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"bdbvault/remote"
)

// Immutable is a store that lets nothing be replaced or deleted, whoever asks: both fail with Denied.
func Immutable(d remote.Driver) remote.Driver { return immutable{d} }

type immutable struct{ remote.Driver }

func (d immutable) Put(ctx context.Context, key string, body io.ReaderAt, size int64, opt remote.PutOptions) error {
	wanted := opt.IfAbsent
	opt.IfAbsent = true
	err := d.Driver.Put(ctx, key, body, size, opt)
	if err != nil && !wanted && d.Classify(err) == remote.Exists {
		return &remote.Error{Op: "put", Key: key, Kind: remote.Denied, Err: errors.New("the store replaces nothing")}
	}
	return err
}

func (d immutable) Delete(context.Context, []string) error {
	return &remote.Error{Op: "delete", Kind: remote.Denied, Err: errors.New("the store deletes nothing")}
}

func (d immutable) Classify(err error) remote.Kind { return classify(d.Driver, err) }

func (d immutable) String() string { return name(d.Driver) }

// Op is one operation of a driver.
type Op struct {
	Name string // put, open, stat, list or delete
	Key  string // the prefix for list, the first one for delete
	Size int64  // of a put
}

// Recorder wraps a driver, notes its operations and makes one of them fail.
type Recorder struct {
	remote.Driver

	mu    sync.Mutex
	ops   []Op
	nth   int
	after bool
	err   error
}

// Record wraps d.
func Record(d remote.Driver) *Recorder { return &Recorder{Driver: d} }

// Fail makes the nth operation from now on (1 is the next one) fail with err: before anything is done, or, if after is set,
// once it has been done, as when an answer is lost. A read then fails when its body is read. N = 0 lets all succeed.
func (r *Recorder) Fail(n int, after bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nth, r.after, r.err = n, after, err
}

// Ops returns the operations so far, and forgets them.
func (r *Recorder) Ops() []Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	ops := r.ops
	r.ops = nil
	return ops
}

// begin notes an operation and returns the errors to fail with before and after it.
func (r *Recorder) begin(op Op) (before, after error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, op)
	if r.nth == 0 {
		return nil, nil
	}
	r.nth--
	switch {
	case r.nth > 0:
		return nil, nil
	case r.after:
		return nil, r.err
	}
	return r.err, nil
}

func (r *Recorder) Put(ctx context.Context, key string, body io.ReaderAt, size int64, opt remote.PutOptions) error {
	before, after := r.begin(Op{"put", key, size})
	if before != nil {
		return before
	}
	if err := r.Driver.Put(ctx, key, body, size, opt); err != nil {
		return err
	}
	return after
}

func (r *Recorder) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	before, after := r.begin(Op{"open", key, 0})
	if before != nil {
		return nil, before
	}
	body, err := r.Driver.Open(ctx, key, offset, length)
	if err == nil && after != nil {
		return failingBody{body, after}, nil
	}
	return body, err
}

type failingBody struct {
	io.Closer
	err error
}

func (f failingBody) Read([]byte) (int, error) { return 0, f.err }

func (r *Recorder) Stat(ctx context.Context, key string) (remote.Info, error) {
	before, after := r.begin(Op{"stat", key, 0})
	if before != nil {
		return remote.Info{}, before
	}
	info, err := r.Driver.Stat(ctx, key)
	if err != nil {
		return info, err
	}
	return info, after
}

func (r *Recorder) List(ctx context.Context, prefix, after string, fn func(remote.Info) error) (time.Time, error) {
	before, late := r.begin(Op{"list", prefix, 0})
	if before != nil {
		return time.Time{}, before
	}
	date, err := r.Driver.List(ctx, prefix, after, fn)
	if err != nil {
		return date, err
	}
	return date, late
}

func (r *Recorder) Delete(ctx context.Context, keys []string) error {
	first := ""
	if len(keys) > 0 {
		first = keys[0]
	}
	before, after := r.begin(Op{"delete", first, 0})
	if before != nil {
		return before
	}
	if err := r.Driver.Delete(ctx, keys); err != nil {
		return err
	}
	return after
}

func (r *Recorder) Classify(err error) remote.Kind { return classify(r.Driver, err) }

func (r *Recorder) String() string { return name(r.Driver) }

// classify knows the errors that wrappers make.
func classify(d remote.Driver, err error) remote.Kind {
	if kind := remote.KindOf(err); kind != remote.Unknown {
		return kind
	}
	return d.Classify(err)
}

func name(d remote.Driver) string {
	if s, ok := d.(fmt.Stringer); ok {
		return s.String()
	}
	return fmt.Sprintf("%T", d)
}
