package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// upload is one Put.
type upload struct {
	key, full string
	body      io.ReaderAt
	size      int64
	opt       PutOptions
	maybe     bool // an earlier try may have stored it although its answer was lost
}

func (b *Bucket) put(ctx context.Context, u upload) error {
	p := b.newPatience(ctx)
	// MinIO answers AccessDenied when somebody deletes the last object of the same folder in that moment.
	p.doubt = func(kind Kind) bool { return kind == Denied && b.mayPut.Load() }
	return b.do(ctx, opPut, u.key, p, func(ctx context.Context) error {
		err := b.putOnce(ctx, &u)
		if err == nil {
			b.mayPut.Store(true)
			b.stats.up.Add(u.size)
		}
		return err
	})
}

func (b *Bucket) putOnce(ctx context.Context, u *upload) error {
	var err error
	if u.opt.IfAbsent && b.ifAbsent.is(absentNo) {
		err = b.lookThenPut(ctx, u)
	} else {
		err = b.d.Put(ctx, u.full, u.body, u.size, u.opt)
	}
	switch kind := b.kind(err); {
	case err == nil:
		return nil
	case kind == Unsupported && u.opt.IfAbsent && b.ifAbsent.set(absentNo):
		return b.putOnce(ctx, u)
	case kind == Exists && u.maybe:
		return b.ours(ctx, u, err)
	default:
		// Whatever the store answered, or seemed to, the bytes may be there.
		u.maybe = true
	}
	return err
}

// lookThenPut is what can be done where the store knows no conditions.
func (b *Bucket) lookThenPut(ctx context.Context, u *upload) error {
	_, err := b.d.Stat(ctx, u.full)
	switch {
	case err == nil:
		return &Error{Kind: Exists}
	case b.kind(err) != NotFound:
		return err
	}
	opt := u.opt
	opt.IfAbsent = false
	return b.d.Put(ctx, u.full, u.body, u.size, opt)
}

// ours turns exists into success if the object in the way has just the bytes of the upload.
func (b *Bucket) ours(ctx context.Context, u *upload, exists error) error {
	info, err := b.d.Stat(ctx, u.full)
	if err != nil {
		return err
	}
	if info.Size != u.size {
		return exists
	}
	if u.size == 0 {
		return nil
	}
	body, err := b.d.Open(ctx, u.full, 0, u.size)
	if err != nil {
		return err
	}
	defer body.Close() // reading is over, nothing can be lost
	h := sha256.New()
	n, err := io.Copy(h, body)
	switch {
	case err != nil:
		return err
	case n != u.size:
		return &Error{Kind: Transient, Err: io.ErrUnexpectedEOF}
	case !bytes.Equal(h.Sum(nil), u.opt.SHA256[:]):
		return exists
	}
	return nil
}

const (
	absentUnknown = iota
	absentYes
	absentNo
)

// ifAbsentState is what is known of the store's conditional requests.
type ifAbsentState struct{ v atomic.Int32 }

func (s *ifAbsentState) is(v int32) bool { return s.v.Load() == v }

func (s *ifAbsentState) set(v int32) bool {
	s.v.Store(v)
	return true
}

// Writers and rounds of the probe: with a store that checks and stores in two steps, one round of four goes
// undetected now and then, three hardly.
const (
	probeWriters = 4
	probeRounds  = 3
)

// SupportsIfAbsent reports whether the store really keeps all but one of several writers from creating the same key. It
// finds out once per Bucket, by letting some race for a key named probe-… and reading who won; it removes that
// key again if it may.
func (b *Bucket) SupportsIfAbsent(ctx context.Context) (bool, error) {
	b.probe.Lock()
	defer b.probe.Unlock()
	for range probeRounds {
		if !b.ifAbsent.is(absentUnknown) {
			break
		}
		ok, err := b.race(ctx)
		if err != nil {
			return false, err
		}
		if !ok {
			b.ifAbsent.set(absentNo)
		}
	}
	if b.ifAbsent.is(absentUnknown) {
		b.ifAbsent.set(absentYes)
	}
	return b.ifAbsent.is(absentYes), nil
}

// race lets several writers create one key and reports whether exactly one did, and stayed.
func (b *Bucket) race(ctx context.Context) (bool, error) {
	key := "probe-" + strings.ToLower(rand.Text())
	var winners atomic.Int32
	var winner atomic.Pointer[string]
	group, gctx := errgroup.WithContext(ctx)
	for range probeWriters {
		group.Go(func() error {
			body := rand.Text()
			err := b.put(gctx, upload{
				key: key, full: b.prefix + key, body: strings.NewReader(body), size: int64(len(body)),
				opt: PutOptions{IfAbsent: true, HasSHA256: true, SHA256: sha256.Sum256([]byte(body)), ContentType: "text/plain"},
			})
			if err == nil {
				winners.Add(1)
				winner.Store(&body)
			}
			if errors.Is(err, ErrExists) {
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return false, err
	}
	stored, err := b.Get(ctx, key, MaxKey)
	if err != nil {
		return false, err
	}
	if err := b.Delete(ctx, []string{key}); err != nil && !errors.Is(err, ErrDenied) {
		return false, err
	}
	return !b.ifAbsent.is(absentNo) && winners.Load() == 1 && string(stored) == *winner.Load(), nil
}
