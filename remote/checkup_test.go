package remote_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bdbvault/remote"
	"bdbvault/remote/file"
	"bdbvault/remote/remotetest"
)

// odd is a store in memory with one fault.
type odd struct {
	*remotetest.Memory
	putAs    func(opt remote.PutOptions) remote.PutOptions // what the store makes of the options
	body     func([]byte) []byte                           // what it stores
	unlisted bool
	kept     bool // deleted objects stay
	before   func(ctx context.Context, op string) error
}

func newOdd() *odd { return &odd{Memory: remotetest.NewMemory(time.Now)} }

func (o *odd) begin(ctx context.Context, op string) error {
	if o.before == nil {
		return nil
	}
	return o.before(ctx, op)
}

func (o *odd) Put(ctx context.Context, key string, body io.ReaderAt, size int64, opt remote.PutOptions) error {
	if err := o.begin(ctx, "put"); err != nil {
		return err
	}
	if o.body != nil {
		data := make([]byte, size)
		if _, err := body.ReadAt(data, 0); err != nil && err != io.EOF {
			return err
		}
		body, opt.HasSHA256 = bytes.NewReader(o.body(data)), false
	}
	if o.putAs != nil {
		opt = o.putAs(opt)
	}
	return o.Memory.Put(ctx, key, body, size, opt)
}

func (o *odd) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := o.begin(ctx, "open"); err != nil {
		return nil, err
	}
	return o.Memory.Open(ctx, key, offset, length)
}

func (o *odd) List(ctx context.Context, prefix, after string, fn func(remote.Info) error) (time.Time, error) {
	if err := o.begin(ctx, "list"); err != nil {
		return time.Time{}, err
	}
	return o.Memory.List(ctx, prefix, after, func(i remote.Info) error {
		if o.unlisted {
			return nil
		}
		return fn(i)
	})
}

func (o *odd) Delete(ctx context.Context, keys []string) error {
	if err := o.begin(ctx, "delete"); err != nil || o.kept {
		return err
	}
	return o.Memory.Delete(ctx, keys)
}

func (o *odd) count(t *testing.T) (n int) {
	t.Helper()
	_, err := o.Memory.List(context.Background(), "", "", func(remote.Info) error { n++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func examine(t *testing.T, d remote.Driver, quick bool) *remote.Examination {
	t.Helper()
	b := remote.New(d, remote.Options{Prefix: "some/prefix", RetryFor: time.Second})
	e, err := b.Examine(t.Context(), remote.ExamineOptions{Quick: quick, Each: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestExamineDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := file.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	e := examine(t, d, false)
	for name, trial := range map[string]remote.Trial{"put": e.Put, "get": e.Get, "range": e.Range, "list": e.List, "if absent": e.IfAbsent,
		"overwrite": e.Overwrite, "delete": e.Delete, "outside": e.Outside, "throughput": e.Throughput} {
		if !trial.Worked() {
			t.Errorf("%s: %+v", name, trial)
		}
	}
	if !errors.Is(e.Altered.Err, remote.ErrDamaged) || !errors.Is(e.Settings.Err, remote.ErrUnsupported) {
		t.Errorf("altered: %v, settings: %v", e.Altered.Err, e.Settings.Err)
	}
	if e.Left != 0 || e.Skew != 0 || !e.HasClock || e.Up <= 0 || e.Down <= 0 || e.Latency["put"].Requests != 20 || e.Latency["get"].P95 < e.Latency["get"].P50 {
		t.Errorf("%+v", e)
	}
	left := 0
	if _, err := d.List(t.Context(), "", "", func(remote.Info) error { left++; return nil }); err != nil || left > 0 {
		t.Errorf("%d objects are left, %v", left, err)
	}
}

// TestExamineFinds has one fault at a time.
func TestExamineFinds(t *testing.T) {
	t.Parallel()
	flip := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
	denied := &remote.Error{Kind: remote.Denied, Err: errors.New("not you")}
	refuse := func(what string) func(context.Context, string) error {
		return func(_ context.Context, op string) error {
			if op == what {
				return denied
			}
			return nil
		}
	}
	for _, c := range []struct {
		name  string
		fault func(*odd)
		found func(*remote.Examination) bool
	}{
		{"other bytes", func(o *odd) { o.body = flip }, func(e *remote.Examination) bool { return e.Get.Err != nil && e.Altered.Worked() }},
		{"no list yet", func(o *odd) { o.unlisted = true }, func(e *remote.Examination) bool { return e.List.Err != nil }},
		{"no conditions", func(o *odd) {
			o.putAs = func(opt remote.PutOptions) remote.PutOptions { opt.IfAbsent = false; return opt }
		}, func(e *remote.Examination) bool { return errors.Is(e.IfAbsent.Err, remote.ErrUnsupported) }},
		{"deletes nothing, says nothing", func(o *odd) { o.kept = true }, func(e *remote.Examination) bool {
			return e.Delete.Err != nil && !e.Delete.Refused() && e.Left > 0 && !e.Throughput.Tried
		}},
		{"delete refused", func(o *odd) { o.before = refuse("delete") }, func(e *remote.Examination) bool {
			return e.Delete.Refused() && e.Left > 5 && e.LeftBytes > 5<<10 && e.Latency["put"].Requests == 5 && !e.Throughput.Tried
		}},
		{"read only", func(o *odd) { o.before = refuse("put") }, func(e *remote.Examination) bool {
			return e.Put.Refused() && e.List.Worked() && !e.Get.Tried && e.Latency["list"].Requests > 0
		}},
		{"clock ahead", func(o *odd) {
			o.Memory = remotetest.NewMemory(func() time.Time { return time.Now().Add(7 * time.Minute) })
		}, func(e *remote.Examination) bool { return e.Skew > 6*time.Minute && e.Skew < 8*time.Minute }},
		{"clock behind", func(o *odd) {
			o.Memory = remotetest.NewMemory(func() time.Time { return time.Now().Add(-7 * time.Minute) })
		}, func(e *remote.Examination) bool { return e.Skew < -6*time.Minute && e.Skew > -8*time.Minute }},
		{"flaky", func(o *odd) {
			var n atomic.Int64
			o.before = func(context.Context, string) error {
				if n.Add(1)%2 == 1 {
					return errFlaky
				}
				return nil
			}
		}, func(e *remote.Examination) bool { return e.Put.Worked() && e.Stats.Retries > 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOdd()
				c.fault(o)
				if e := examine(t, o, true); !c.found(e) {
					t.Errorf("%+v", e)
				}
			})
		})
	}
}

// cleaning is how many requests the removal of what was put takes. A signal that comes by then comes too late.
const cleaning = 3

// TestExamineIsBounded has the store hang from each request on in turn, and has a signal come at each request in turn.
func TestExamineIsBounded(t *testing.T) {
	t.Parallel()
	total := int64(0)
	for stop := int64(1); stop == 1 || stop <= total; stop++ {
		synctest.Test(t, func(t *testing.T) {
			o := newOdd()
			var n atomic.Int64
			o.before = func(ctx context.Context, _ string) error {
				if n.Add(1) >= stop && stop > 1 {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
			began := time.Now()
			e, err := remote.New(o, remote.Options{}).Examine(t.Context(), remote.ExamineOptions{Quick: true, Each: time.Second})
			if err != nil || time.Since(began) > 15*time.Second {
				t.Errorf("hangs at %d: %v after %v: %+v", stop, err, time.Since(began), e)
			}
			total = max(total, n.Load())
		})
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o := newOdd()
			var n atomic.Int64
			o.before = func(context.Context, string) error {
				if n.Add(1) == stop {
					cancel()
				}
				return nil
			}
			_, err := remote.New(o, remote.Options{}).Examine(ctx, remote.ExamineOptions{Quick: true})
			if !errors.Is(err, context.Canceled) && stop <= total-cleaning {
				t.Errorf("interrupted at %d: %v", stop, err)
			}
			if left := o.count(t); left > 0 {
				t.Errorf("interrupted at %d: %d objects are left", stop, left)
			}
		})
	}
	if total < 30 {
		t.Errorf("only %d requests", total)
	}
}

func TestExamineSaysWhereThingsAre(t *testing.T) {
	t.Parallel()
	o := newOdd()
	o.kept = true
	e := examine(t, o, true)
	if !strings.HasPrefix(e.LeftAt, "some/prefix/doctor-") || o.count(t) != e.Left {
		t.Errorf("%d of %d objects at %s", e.Left, o.count(t), e.LeftAt)
	}
}
