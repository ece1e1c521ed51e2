package remotetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"bdbvault/remote"
)

// Open makes a driver on a new, empty bucket or directory.
type Open func(t *testing.T) remote.Driver

// Run is what every driver must do right, on whatever store.
func Run(t *testing.T, open Open) {
	tests := []struct {
		name string
		run  func(*testing.T, remote.Driver)
	}{
		{"put, open, stat", testPutOpenStat},
		{"ranges", testRanges},
		{"put checks its hash", testHash},
		{"put replaces", testReplace},
		{"put if absent", testIfAbsent},
		{"two writers race", testRace},
		{"list", testList},
		{"delete", testDelete},
		{"not there", testNotThere},
		{"cancelled", testCancelled},
		{"unreadable body", testSource},
		{"many at once", testParallel},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, open(t))
		})
	}
}

func bucket(d remote.Driver, prefix string) *remote.Bucket {
	return remote.New(d, remote.Options{Prefix: prefix, RetryFor: time.Minute})
}

func random(size int) []byte {
	data := make([]byte, size)
	src := rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, size)))
	src.Read(data) // never fails
	return data
}

func put(t *testing.T, b *remote.Bucket, key string, data []byte, opt remote.PutOptions) {
	t.Helper()
	if err := b.Put(t.Context(), key, bytes.NewReader(data), int64(len(data)), opt); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, b *remote.Bucket, key string, offset, length int64) []byte {
	t.Helper()
	r, err := b.Open(t.Context(), key, offset, length)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatalf("read %s from %d, %d bytes: %v", key, offset, length, err)
	}
	return data
}

func keys(t *testing.T, b *remote.Bucket, prefix, after string) []string {
	t.Helper()
	var list []string
	_, err := b.List(t.Context(), prefix, after, func(i remote.Info) error {
		list = append(list, i.Key)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// wantKind checks err, and that its message names key and store.
func wantKind(t *testing.T, err error, kind remote.Kind, key string, b *remote.Bucket) {
	t.Helper()
	var e *remote.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Errorf("got %v (kind %q), want kind %q", err, remote.KindOf(err), kind)
		return
	}
	if text := err.Error(); !strings.Contains(text, key) || !strings.Contains(text, b.String()) {
		t.Errorf("message %q names not both %q and %q", text, key, b.String())
	}
}

func testPutOpenStat(t *testing.T, d remote.Driver) {
	b := bucket(d, "some/prefix/")
	for _, size := range []int{0, 1, 4096, 2<<20 + 7} {
		data, key := random(size), fmt.Sprintf("sizes/%d", size)
		before := time.Now()
		put(t, b, key, data, remote.PutOptions{ContentType: "text/plain"})
		if got := read(t, b, key, 0, -1); !bytes.Equal(got, data) {
			t.Errorf("%d bytes come back as other %d", size, len(got))
		}
		if got, err := b.Get(t.Context(), key, int64(size)); err != nil || !bytes.Equal(got, data) {
			t.Errorf("get: %d bytes, %v", len(got), err)
		}
		info, err := b.Stat(t.Context(), key)
		if err != nil || info.Key != key || info.Size != int64(size) {
			t.Errorf("stat: %+v, %v", info, err)
		}
		if off := info.Modified.Sub(before); off < -2*time.Second || off > time.Minute {
			t.Errorf("stat: modified %v after it was put", off)
		}
	}
	_, err := b.Get(t.Context(), "sizes/4096", 4095)
	wantKind(t, err, remote.Invalid, "sizes/4096", b)
	if got := b.Stats(); got.BytesUp != 2<<20+7+4097 || got.Requests.Put < 4 || got.Requests.Head < 4 {
		t.Errorf("stats: %+v", got)
	}
}

func testRanges(t *testing.T, d remote.Driver) {
	b := bucket(d, "")
	data := random(100_000)
	put(t, b, "a/b", data, remote.PutOptions{})
	put(t, b, "empty", nil, remote.PutOptions{})
	for _, r := range [][2]int64{{0, 1}, {0, 0}, {7, 0}, {99_999, 1}, {99_999, -1}, {1, -1}, {4096, 8192}, {0, 100_000}} {
		end := r[0] + r[1]
		if r[1] < 0 {
			end = int64(len(data))
		}
		if got := read(t, b, "a/b", r[0], r[1]); !bytes.Equal(got, data[r[0]:end]) {
			t.Errorf("range %v: got %d bytes", r, len(got))
		}
	}
	for _, r := range [][2]int64{{100_000, 1}, {100_000, -1}, {200_000, 5}} {
		_, err := b.Open(t.Context(), "a/b", r[0], r[1])
		wantKind(t, err, remote.OutOfRange, "a/b", b)
	}
	_, err := b.Open(t.Context(), "empty", 0, 1)
	wantKind(t, err, remote.OutOfRange, "empty", b)
	buf := make([]byte, 10)
	if err := b.ReadRange(t.Context(), "a/b", buf, 5000); err != nil || !bytes.Equal(buf, data[5000:5010]) {
		t.Errorf("read range: %v", err)
	}
	// A range that reaches beyond the end is an error at the end, not fewer bytes.
	patient := remote.New(d, remote.Options{})
	wantKind(t, patient.ReadRange(t.Context(), "a/b", buf, 99_995), remote.OutOfRange, "a/b", patient)
}

func testHash(t *testing.T, d remote.Driver) {
	b := bucket(d, "")
	for _, size := range []int{10, 3 << 20} {
		data := random(size)
		put(t, b, "right", data, remote.PutOptions{HasSHA256: true, SHA256: sha256.Sum256(data)})
		err := b.Put(t.Context(), "wrong", bytes.NewReader(data), int64(size), remote.PutOptions{HasSHA256: true, SHA256: sha256.Sum256(nil)})
		wantKind(t, err, remote.Damaged, "wrong", b)
	}
	if got := keys(t, b, "", ""); !slices.Equal(got, []string{"right"}) {
		t.Errorf("stored: %q", got)
	}
	// Without a hash a driver makes its own, or does without.
	if err := d.Put(t.Context(), "none", bytes.NewReader(random(5)), 5, remote.PutOptions{}); err != nil {
		t.Error(err)
	}
}

func testReplace(t *testing.T, d remote.Driver) {
	b := bucket(d, "")
	put(t, b, "dir/key", []byte("one"), remote.PutOptions{})
	put(t, b, "dir/key", []byte("three"), remote.PutOptions{})
	if got := read(t, b, "dir/key", 0, -1); string(got) != "three" {
		t.Errorf("got %q", got)
	}
}

func testIfAbsent(t *testing.T, d remote.Driver) {
	b := bucket(d, "")
	absent := remote.PutOptions{IfAbsent: true}
	put(t, b, "marker", []byte("first"), absent)
	for _, data := range []string{"second", "first", ""} {
		err := b.Put(t.Context(), "marker", strings.NewReader(data), int64(len(data)), absent)
		wantKind(t, err, remote.Exists, "marker", b)
	}
	large := random(3 << 20)
	err := b.Put(t.Context(), "marker", bytes.NewReader(large), int64(len(large)), absent)
	wantKind(t, err, remote.Exists, "marker", b)
	if got := read(t, b, "marker", 0, -1); string(got) != "first" {
		t.Errorf("got %q", got)
	}
	for range 2 {
		if ok, err := b.SupportsIfAbsent(t.Context()); !ok || err != nil {
			t.Errorf("supports put if absent: %v, %v", ok, err)
		}
	}
	if got := keys(t, b, "", ""); !slices.Equal(got, []string{"marker"}) {
		t.Errorf("the probe left %q", got)
	}
}

func testRace(t *testing.T, d remote.Driver) {
	b := bucket(d, "")
	for i := range 20 {
		key := fmt.Sprintf("race/%d", i)
		var winners atomic.Int32
		var won atomic.Pointer[string]
		var writers sync.WaitGroup
		for w := range 2 {
			writers.Go(func() {
				data := fmt.Sprintf("writer %d", w)
				err := b.Put(t.Context(), key, strings.NewReader(data), int64(len(data)), remote.PutOptions{IfAbsent: true})
				if err == nil {
					winners.Add(1)
					won.Store(&data)
				} else if !errors.Is(err, remote.ErrExists) {
					t.Error(err)
				}
			})
		}
		writers.Wait()
		if n := winners.Load(); n != 1 {
			t.Fatalf("round %d has %d winners", i, n)
		}
		if got := read(t, b, key, 0, -1); string(got) != *won.Load() {
			t.Errorf("round %d: %q won, %q is stored", i, *won.Load(), got)
		}
	}
}

// oddNames can be both S3 keys and paths.
var oddNames = []string{
	"a b", "a+b", "a%20b", "a%b", "a%", "a&b=c?d#e", "ümläut/日本語", "😀", `quo"te'`, "<xml>&amp;", "semi;colon,comma",
	"tilde~(paren)[x]{y}|", "colon:at@", "-dash", "x-b", "x/b", "x.b", "x", "..dots", "dots..", "$dollar^caret`tick", "*star!", " leading",
	"trailing ", "back\\slash", "UPPER/lower", "upper/lower", "=equals=",
}

// listed are the keys to list: more than one page, and names in whose order directories and keys differ.
func listed() []string {
	var all []string
	for i := range 1100 {
		all = append(all, fmt.Sprintf("many/%04d/%d", i/10, i))
	}
	for _, name := range oddNames {
		if name != "x" { // a directory can't hold that beside x/b
			all = append(all, "odd/"+name)
		}
	}
	slices.Sort(all)
	return all
}

func putAll(t *testing.T, b *remote.Bucket, all []string) {
	t.Helper()
	queue := make(chan string, len(all))
	for _, key := range all {
		queue <- key
	}
	close(queue)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for key := range queue {
				if err := b.Put(t.Context(), key, strings.NewReader(key), int64(len(key)), remote.PutOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
}

func testList(t *testing.T, d remote.Driver) {
	b, outside := bucket(d, "pre"), bucket(d, "")
	putAll(t, outside, []string{"pre.fix/no", "prefix/no", "a"})
	all := listed()
	putAll(t, b, all)
	var got []string
	started := time.Now()
	date, err := b.List(t.Context(), "", "", func(i remote.Info) error {
		got = append(got, i.Key)
		if i.Size != int64(len(i.Key)) || time.Since(i.Modified).Abs() > 5*time.Minute {
			t.Errorf("listed %+v", i)
		}
		return nil
	})
	if err != nil || !slices.Equal(got, all) {
		t.Errorf("list: %d keys instead of %d, %v%s", len(got), len(all), err, difference(got, all))
	}
	if off := date.Sub(started); off < -2*time.Second || off > 10*time.Second {
		t.Errorf("list: date is %v off", off)
	}
	for _, key := range all[1100:] {
		if string(read(t, b, key, 0, -1)) != key {
			t.Errorf("%q holds something else", key)
		}
	}
	testListParts(t, b, all)
	stop := errors.New("enough")
	if _, err := b.List(t.Context(), "", "", func(remote.Info) error { return stop }); err != stop {
		t.Errorf("list: fn's error comes back as %v", err)
	}
}

func testListParts(t *testing.T, b *remote.Bucket, all []string) {
	parts := [][2]string{
		{"many/", ""}, {"many/0017", ""}, {"many/0017/", ""}, {"", "many/0050/505"}, {"many/", "many/0050/505"}, {"many/", "many/0050/5050"}, {"many/", "zzz"},
		{"many/0050/", "many/0049/9"}, {"odd/x", ""}, {"odd/x", "odd/x-b"}, {"odd/", "odd/x.b"}, {"odd/", "odd/x/"}, {"odd/", "odd/a%20b"}, {"odd/a+", ""}, {"nothing", ""}, {"", "odd/😀"},
	}
	for _, p := range parts {
		var want []string
		for _, key := range all {
			if strings.HasPrefix(key, p[0]) && key > p[1] {
				want = append(want, key)
			}
		}
		if got := keys(t, b, p[0], p[1]); !slices.Equal(got, want) {
			t.Errorf("list %q after %q: %d keys instead of %d%s", p[0], p[1], len(got), len(want), difference(got, want))
		}
	}
}

func difference(got, want []string) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Sprintf(", %q is missing at the end", want[i])
		case i >= len(want) || got[i] != want[i]:
			return fmt.Sprintf(", %q came as number %d", got[i], i)
		}
	}
	return ""
}

func testDelete(t *testing.T, d remote.Driver) {
	b := bucket(d, "pre")
	var all []string
	for i := range 1010 {
		all = append(all, fmt.Sprintf("d/%d", i))
	}
	for _, name := range oddNames {
		if name != "x" {
			all = append(all, name)
		}
	}
	putAll(t, b, all[500:])
	put(t, b, "kept", []byte("x"), remote.PutOptions{})
	for range 2 { // half of them don't exist the first time, none the second
		if err := b.Delete(t.Context(), all); err != nil {
			t.Fatal(err)
		}
	}
	if got := keys(t, b, "", ""); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("left: %q", got)
	}
	if err := b.Delete(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func testNotThere(t *testing.T, d remote.Driver) {
	b := bucket(d, "")
	put(t, b, "dir/file", []byte("x"), remote.PutOptions{})
	for _, key := range []string{"nothing", "dir", "dir/nothing", "no/such/dir"} {
		_, err := b.Stat(t.Context(), key)
		wantKind(t, err, remote.NotFound, key, b)
		_, err = b.Open(t.Context(), key, 0, -1)
		wantKind(t, err, remote.NotFound, key, b)
		_, err = b.Open(t.Context(), key, 5, 10)
		wantKind(t, err, remote.NotFound, key, b)
	}
	if !errors.Is(b.ReadRange(t.Context(), "nothing", make([]byte, 1), 0), remote.ErrNotFound) {
		t.Error("read range: not ErrNotFound")
	}
}

// testCancelled cancels in the middle of each operation.
func testCancelled(t *testing.T, d remote.Driver) {
	b := remote.New(d, remote.Options{})
	data := random(8 << 20)
	put(t, b, "there", data, remote.PutOptions{})

	ctx, cancel := context.WithCancel(t.Context())
	body := &trigger{ReaderAt: bytes.NewReader(data), at: 5 << 20, do: cancel}
	opt := remote.PutOptions{HasSHA256: true, SHA256: sha256.Sum256(data)}
	wantKind(t, b.Put(ctx, "half", body, int64(len(data)), opt), remote.Canceled, "half", b)

	ctx, cancel = context.WithCancel(t.Context())
	r, err := b.Open(ctx, "there", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = io.Copy(io.Discard, r)
	wantKind(t, err, remote.Canceled, "there", b)
	r.Close() // it failed already

	_, err = b.Stat(ctx, "there")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("stat: %v", err)
	}
	_, err = b.List(ctx, "", "", func(remote.Info) error { return nil })
	wantKind(t, err, remote.Canceled, "", b)
	wantKind(t, b.Delete(ctx, []string{"there"}), remote.Canceled, "there", b)
	if got := keys(t, b, "", ""); !slices.Equal(got, []string{"there"}) {
		t.Errorf("stored: %q", got)
	}
}

// trigger does something once when reading gets beyond a point.
type trigger struct {
	io.ReaderAt
	at   int64
	do   func()
	once sync.Once
}

func (r *trigger) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > r.at {
		r.once.Do(r.do)
	}
	return r.ReaderAt.ReadAt(p, off)
}

// testSource lets the body fail: that is the caller's trouble, nothing to try again, and nothing may be stored.
func testSource(t *testing.T, d remote.Driver) {
	b := remote.New(d, remote.Options{OnRetry: func(err error, _ time.Duration) { t.Errorf("retries after %v", err) }})
	data := random(3 << 20)
	bad := &brokenBody{data, 2 << 20}
	opt := remote.PutOptions{HasSHA256: true, SHA256: sha256.Sum256(data)}
	for _, opt := range []remote.PutOptions{opt, {}} {
		err := b.Put(t.Context(), "half", bad, int64(len(data)), opt)
		wantKind(t, err, remote.Unknown, "half", b)
		if !errors.Is(err, iotest.ErrTimeout) {
			t.Errorf("got %v", err)
		}
	}
	if got := keys(t, b, "", ""); len(got) != 0 {
		t.Errorf("stored: %q", got)
	}
}

type brokenBody struct {
	data []byte
	at   int64
}

func (b *brokenBody) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.at {
		return 0, iotest.ErrTimeout
	}
	return bytes.NewReader(b.data).ReadAt(p, off)
}

// testParallel uses one driver from many goroutines, with folders that appear and vanish in between.
func testParallel(t *testing.T, d remote.Driver) {
	b := remote.New(d, remote.Options{})
	data := random(100_000)
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			for i := range 10 {
				key := fmt.Sprintf("shared/folder/%d-%d", w, i)
				err := b.Put(t.Context(), key, bytes.NewReader(data[w:]), int64(len(data)-w), remote.PutOptions{IfAbsent: i%2 == 0})
				if err != nil {
					t.Error(err)
					return
				}
				got, err := b.Get(t.Context(), key, int64(len(data)))
				if err != nil || !bytes.Equal(got, data[w:]) {
					t.Errorf("%s: %d bytes, %v", key, len(got), err)
				}
				if err := b.Delete(t.Context(), []string{key}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
	if got := keys(t, b, "", ""); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}
