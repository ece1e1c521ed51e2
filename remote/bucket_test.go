package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bdbvault/remote"
	"bdbvault/remote/file"
	"bdbvault/remote/remotetest"
)

var errFlaky = &remote.Error{Kind: remote.Transient, Err: errors.New("flaky")}

// scripted is a driver whose operations fail as told, over a real directory.
type scripted struct {
	remote.Driver
	put  func(n int) (before, after error) // of the nth put, from 1
	open func(n int, body io.ReadCloser) (io.ReadCloser, error)
	list func(n, delivered int) error

	puts, opens, lists int
}

func (s *scripted) Put(ctx context.Context, key string, body io.ReaderAt, size int64, opt remote.PutOptions) error {
	s.puts++
	if s.put == nil {
		return s.Driver.Put(ctx, key, body, size, opt)
	}
	before, after := s.put(s.puts)
	if before != nil {
		return before
	}
	if err := s.Driver.Put(ctx, key, body, size, opt); err != nil {
		return err
	}
	return after
}

func (s *scripted) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	s.opens++
	body, err := s.Driver.Open(ctx, key, offset, length)
	if err != nil || s.open == nil {
		return body, err
	}
	return s.open(s.opens, body)
}

func (s *scripted) List(ctx context.Context, prefix, after string, fn func(remote.Info) error) (time.Time, error) {
	s.lists++
	delivered := 0
	return s.Driver.List(ctx, prefix, after, func(i remote.Info) error {
		if s.list != nil {
			if err := s.list(s.lists, delivered); err != nil {
				return err
			}
		}
		delivered++
		return fn(i)
	})
}

func newScripted(t *testing.T) *scripted {
	t.Helper()
	d, err := file.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &scripted{Driver: d}
}

func TestRetriesLastAsLongAsFaults(t *testing.T) {
	for _, limit := range []time.Duration{0, 10 * time.Minute, -1} {
		synctest.Test(t, func(t *testing.T) {
			d := newScripted(t)
			d.put = func(int) (error, error) { return errFlaky, nil }
			var waits []time.Duration
			b := remote.New(d, remote.Options{RetryFor: limit, OnRetry: func(err error, wait time.Duration) {
				if !errors.Is(err, remote.ErrTransient) {
					t.Error(err)
				}
				waits = append(waits, wait)
			}})
			began := time.Now()
			err := b.Put(t.Context(), "key", strings.NewReader("x"), 1, remote.PutOptions{})
			if !errors.Is(err, remote.ErrTransient) {
				t.Fatal(err)
			}
			want := max(limit, 0)
			if limit == 0 {
				want = remote.DefaultRetryFor
			}
			if got := time.Since(began); got != want {
				t.Errorf("gave up after %v instead of %v", got, want)
			}
			if len(waits) != d.puts-1 || b.Stats().Retries != int64(len(waits)) || b.Stats().Requests.Put != int64(d.puts) {
				t.Errorf("%d tries, %d notices, %+v", d.puts, len(waits), b.Stats())
			}
			if limit >= 0 && (waits[0] > 200*time.Millisecond || slices.Max(waits) < 5*time.Second || slices.Max(waits) > 30*time.Second) {
				t.Errorf("waits %v", waits)
			}
		})
	}
}

func TestPermanentErrorsAreNotRetried(t *testing.T) {
	for kind := remote.Unknown; kind <= remote.Canceled; kind++ {
		synctest.Test(t, func(t *testing.T) {
			d := newScripted(t)
			cause := fmt.Errorf("kind %d", kind)
			d.put = func(int) (error, error) { return &remote.Error{Kind: kind, Err: cause}, nil }
			err := remote.New(d, remote.Options{}).Put(t.Context(), "key", strings.NewReader("x"), 1, remote.PutOptions{})
			if remote.KindOf(err) != kind || !errors.Is(err, cause) || kind.String() == "" {
				t.Errorf("kind %v: %v", kind, err)
			}
			tries := map[remote.Kind]int{remote.Damaged: 3, remote.Unsupported: 1}[kind]
			retried := kind == remote.Unreachable || kind == remote.Transient
			if tries == 0 && !retried {
				tries = 1
			}
			if !retried && d.puts != tries || retried && d.puts < 10 {
				t.Errorf("kind %v: %d tries", kind, d.puts)
			}
		})
	}
}

// A store that took objects denies one: MinIO does that by mistake now and then.
func TestSuddenDenialIsDoubted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScripted(t)
		denied := &remote.Error{Kind: remote.Denied}
		d.put = func(n int) (error, error) { return []error{denied, nil, denied, nil, denied, denied, denied}[n-1], nil }
		b := remote.New(d, remote.Options{})
		for i, ok := range []bool{false, true, true, false} {
			err := b.Put(t.Context(), "key", strings.NewReader("x"), 1, remote.PutOptions{})
			if ok != (err == nil) || !ok && !errors.Is(err, remote.ErrDenied) {
				t.Errorf("put %d: %v", i, err)
			}
		}
		if d.puts != 7 {
			t.Errorf("%d tries", d.puts)
		}
	})
}

func TestCancelEndsTheWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScripted(t)
		d.put = func(int) (error, error) { return errFlaky, nil }
		why := errors.New("enough of this")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Second, func() { cancel(why) })
		began := time.Now()
		err := remote.New(d, remote.Options{}).Put(ctx, "key", strings.NewReader("x"), 1, remote.PutOptions{})
		if !errors.Is(err, context.Canceled) || !errors.Is(err, why) || remote.KindOf(err) != remote.Canceled {
			t.Error(err)
		}
		if time.Since(began) != 10*time.Second {
			t.Errorf("took %v", time.Since(began))
		}
	})
}

func TestDownloadContinuesWhereItBroke(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 100)
	for _, length := range []int64{-1, 1000} {
		synctest.Test(t, func(t *testing.T) {
			d := newScripted(t)
			b := remote.New(d, remote.Options{RetryFor: time.Minute})
			if err := b.Put(t.Context(), "key", bytes.NewReader(data), 1000, remote.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			// Each connection gives 30 bytes; 33 breaks, each of which is followed by progress.
			d.open = func(_ int, body io.ReadCloser) (io.ReadCloser, error) {
				return struct {
					io.Reader
					io.Closer
				}{io.MultiReader(io.LimitReader(body, 30), failing{errFlaky}), body}, nil
			}
			r, err := b.Open(t.Context(), "key", 0, length)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); length > 0 && err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if b.Stats().BytesDown != 1000 {
				t.Errorf("%+v", b.Stats())
			}
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Without progress a download gives up like everything else.
func TestDownloadGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScripted(t)
		b := remote.New(d, remote.Options{RetryFor: time.Minute})
		if err := b.Put(t.Context(), "key", strings.NewReader("data"), 4, remote.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		d.open = func(_ int, body io.ReadCloser) (io.ReadCloser, error) {
			return struct {
				io.Reader
				io.Closer
			}{failing{errFlaky}, body}, nil
		}
		began := time.Now()
		_, err := b.Get(t.Context(), "key", 10)
		if !errors.Is(err, remote.ErrTransient) || time.Since(began) < time.Minute || time.Since(began) > 2*time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestListContinuesAfterTheLastKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScripted(t)
		b := remote.New(d, remote.Options{Prefix: "p"})
		var want []string
		for i := range 20 {
			key := fmt.Sprintf("k/%02d", i)
			want = append(want, key)
			if err := b.Put(t.Context(), key, strings.NewReader(""), 0, remote.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		d.list = func(_, delivered int) error {
			if delivered == 7 {
				return errFlaky
			}
			return nil
		}
		began := time.Now()
		var got []string
		date, err := b.List(t.Context(), "k/", "", func(i remote.Info) error {
			got = append(got, i.Key)
			return nil
		})
		if err != nil || !slices.Equal(got, want) || d.lists != 3 || !date.Equal(began) {
			t.Errorf("%q, %v, %d lists, date %v", got, err, d.lists, date)
		}
	})
}

func TestPutRecognisesItsOwnObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScripted(t)
		d.put = func(n int) (error, error) { return nil, map[bool]error{true: errFlaky}[n == 1] }
		b := remote.New(d, remote.Options{})
		absent := remote.PutOptions{IfAbsent: true}
		if err := b.Put(t.Context(), "a", strings.NewReader("mine"), 4, absent); err != nil || d.puts != 2 {
			t.Errorf("%v, %d puts", err, d.puts)
		}
		// The same bytes, but nothing of ours can have arrived: somebody else's.
		if err := b.Put(t.Context(), "a", strings.NewReader("mine"), 4, absent); !errors.Is(err, remote.ErrExists) {
			t.Error(err)
		}
		// Another writer's object of the same size came while ours failed.
		d.put = func(n int) (error, error) {
			if n == 4 {
				other := remote.New(d.Driver, remote.Options{})
				return errors.Join(other.Put(t.Context(), "b", strings.NewReader("them"), 4, absent), errFlaky), nil
			}
			return nil, nil
		}
		if err := b.Put(t.Context(), "b", strings.NewReader("mine"), 4, absent); !errors.Is(err, remote.ErrExists) {
			t.Error(err)
		}
	})
}

// careless ignores conditions, or refuses to know them.
type careless struct {
	remote.Driver
	err error
}

func (c careless) Put(ctx context.Context, key string, body io.ReaderAt, size int64, opt remote.PutOptions) error {
	if opt.IfAbsent && c.err != nil {
		return c.err
	}
	opt.IfAbsent = false
	return c.Driver.Put(ctx, key, body, size, opt)
}

func TestStoresWithoutConditions(t *testing.T) {
	for _, refusal := range []error{nil, &remote.Error{Kind: remote.Unsupported}} {
		b := remote.New(careless{newScripted(t).Driver, refusal}, remote.Options{})
		if ok, err := b.SupportsIfAbsent(t.Context()); ok || err != nil {
			t.Errorf("supported: %v, %v", ok, err)
		}
		absent := remote.PutOptions{IfAbsent: true}
		if err := b.Put(t.Context(), "key", strings.NewReader("one"), 3, absent); err != nil {
			t.Error(err)
		}
		if err := b.Put(t.Context(), "key", strings.NewReader("two"), 3, absent); !errors.Is(err, remote.ErrExists) {
			t.Errorf("got %v", err)
		}
	}
}

func TestKeysAndSizes(t *testing.T) {
	b := remote.New(newScripted(t), remote.Options{Prefix: "/pre/", Name: "the store"})
	bad := []string{"", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\x00b", "a\xffb", ".tmp", "x/.tmp-1", strings.Repeat("k", 1021)}
	for _, key := range bad {
		err := b.Put(t.Context(), key, strings.NewReader(""), 0, remote.PutOptions{})
		_, serr := b.Stat(t.Context(), key)
		_, oerr := b.Open(t.Context(), key, 0, -1)
		for _, err := range []error{err, serr, oerr, b.Delete(t.Context(), []string{"good", key})} {
			if !errors.Is(err, remote.ErrInvalid) || !strings.Contains(err.Error(), "the store") {
				t.Errorf("%q: %v", key, err)
			}
		}
	}
	for _, size := range []int64{-1, remote.MaxObject + 1} {
		if err := b.Put(t.Context(), "key", strings.NewReader(""), size, remote.PutOptions{}); !errors.Is(err, remote.ErrInvalid) {
			t.Errorf("size %d: %v", size, err)
		}
	}
	// A body that is shorter than announced.
	if err := b.Put(t.Context(), "key", strings.NewReader("abc"), 4, remote.PutOptions{}); err == nil {
		t.Error("stored a short body")
	}
}

func TestMessages(t *testing.T) {
	b := remote.New(newScripted(t).Driver, remote.Options{Prefix: "repo", Name: "s3://bucket/repo"})
	_, err := b.Stat(t.Context(), "a/b")
	want := "stat a/b in s3://bucket/repo: no such object: "
	if !strings.HasPrefix(err.Error(), want) || !errors.Is(err, remote.ErrNotFound) || errors.Is(err, remote.ErrExists) {
		t.Errorf("%v", err)
	}
}

// Wrappers of remotetest keep their promises, since other packages' tests stand on them.
func TestImmutable(t *testing.T) {
	b := remote.New(remotetest.Immutable(newScripted(t).Driver), remote.Options{})
	put := func(opt remote.PutOptions) error {
		return b.Put(t.Context(), "key", strings.NewReader("x"), 1, opt)
	}
	if err := put(remote.PutOptions{}); err != nil {
		t.Error(err)
	}
	if err := put(remote.PutOptions{IfAbsent: true}); !errors.Is(err, remote.ErrExists) {
		t.Error(err)
	}
	if err := b.Delete(t.Context(), []string{"key"}); !errors.Is(err, remote.ErrDenied) {
		t.Error(err)
	}
	if err := put(remote.PutOptions{}); !errors.Is(err, remote.ErrDenied) {
		t.Error(err)
	}
}

func TestRecorder(t *testing.T) {
	r := remotetest.Record(newScripted(t).Driver)
	b := remote.New(r, remote.Options{RetryFor: -1})
	run := func() error {
		err := b.Put(t.Context(), "key", strings.NewReader("x"), 1, remote.PutOptions{})
		_, gerr := b.Get(t.Context(), "key", 1)
		_, serr := b.Stat(t.Context(), "key")
		_, lerr := b.List(t.Context(), "", "", func(remote.Info) error { return nil })
		return errors.Join(err, gerr, serr, lerr, b.Delete(t.Context(), []string{"key"}))
	}
	boom := errors.New("boom")
	for n := range 6 {
		for _, after := range []bool{false, true} {
			r.Fail(n, after, boom)
			if err := run(); errors.Is(err, boom) != (n > 0) {
				t.Errorf("operation %d (after: %v): %v", n, after, err)
			}
			r.Fail(0, false, nil)
			if ops := r.Ops(); len(ops) != 5 || ops[0] != (remotetest.Op{Name: "put", Key: "key", Size: 1}) || ops[4].Name != "delete" {
				t.Errorf("%+v", ops)
			}
		}
	}
}
