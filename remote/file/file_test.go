package file_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bdbvault/remote"
	"bdbvault/remote/file"
	"bdbvault/remote/remotetest"
)

func open(t *testing.T, dir string) *remote.Bucket {
	t.Helper()
	d, err := file.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	return remote.New(d, remote.Options{RetryFor: -1})
}

func put(t *testing.T, b *remote.Bucket, key, data string) error {
	t.Helper()
	return b.Put(t.Context(), key, strings.NewReader(data), int64(len(data)), remote.PutOptions{IfAbsent: true})
}

// files lists everything below dir that is not a folder.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			all = append(all, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestConformance(t *testing.T) {
	remotetest.Run(t, func(t *testing.T) remote.Driver {
		dir := t.TempDir()
		d, err := file.New(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			for _, name := range files(t, dir) {
				if strings.HasPrefix(name, ".tmp") {
					t.Errorf("left %s", name)
				}
			}
		})
		return d
	})
}

func TestMissingDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	b := open(t, dir)
	_, serr := b.Stat(t.Context(), "key")
	_, lerr := b.List(t.Context(), "", "", func(remote.Info) error { return nil })
	for _, err := range []error{put(t, b, "key", "x"), serr, lerr, b.Delete(t.Context(), []string{"key"})} {
		if !errors.Is(err, remote.ErrNoBucket) || !strings.Contains(err.Error(), dir) {
			t.Error(err)
		}
	}
	for range 2 {
		if err := file.Create(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(t, b, "key", "x"); err != nil {
		t.Error(err)
	}
	if err := file.Create(filepath.Join(dir, "key")); err == nil {
		t.Error("took a file for a directory")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := put(t, b, "other", "x"); !errors.Is(err, remote.ErrNoBucket) {
		t.Errorf("vanished directory: %v", err)
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repo")
	if err := file.Create(dir); err != nil {
		t.Fatal(err)
	}
	if err := put(t, open(t, dir), "a/b", "x"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{".": fs.ModeDir | 0o700, "a": fs.ModeDir | 0o700, "a/b": 0o600, ".tmp": fs.ModeDir | 0o700} {
		if info, err := os.Stat(filepath.Join(dir, path)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

func TestStaysInside(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	b := open(t, dir)
	for _, key := range []string{"link/new", "link/secret", "dangling/new"} {
		if err := put(t, b, key, "y"); err == nil {
			t.Errorf("stored %s", key)
		}
		if _, err := b.Get(t.Context(), key, 10); err == nil {
			t.Errorf("read %s", key)
		}
		b.Delete(t.Context(), []string{key}) // may fail or do nothing
	}
	if got := files(t, outside); len(got) != 1 {
		t.Errorf("outside: %q", got)
	}
}

// Not everything in a directory is an object.
func TestOtherThings(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := open(t, dir)
	if _, err := b.Get(t.Context(), "pipe", 1); !errors.Is(err, remote.ErrNotFound) {
		t.Error(err)
	}
	if _, err := b.List(t.Context(), "", "", func(i remote.Info) error { return errors.New(i.Key) }); err != nil {
		t.Error(err)
	}
	if err := put(t, b, "file", "x"); err != nil {
		t.Fatal(err)
	}
	if err := put(t, b, "file/below", "x"); !errors.Is(err, remote.ErrInvalid) {
		t.Errorf("below a file: %v", err)
	}
	if _, err := b.Stat(t.Context(), "file/below"); !errors.Is(err, remote.ErrNotFound) {
		t.Error(err)
	}
	if err := put(t, b, strings.Repeat("x", 300), "x"); !errors.Is(err, remote.ErrInvalid) {
		t.Errorf("long name: %v", err)
	}
}

// What a crashed process left goes; what a living one is writing stays.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".tmp/dead", ".tmp/alive"} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, ".tmp"), 0o700), os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(filepath.Join(dir, ".tmp/alive"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := put(t, open(t, dir), "key", "x"); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(files(t, dir), " "); got != ".tmp/alive key" {
		t.Errorf("there is %s", got)
	}
}

// A file system of one megabyte that fills up, and then takes no writes at all.
func TestFullAndReadOnly(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("can't mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	b := open(t, dir)
	data := make([]byte, 600<<10)
	store := func(key string) error {
		return b.Put(t.Context(), key, bytes.NewReader(data), int64(len(data)), remote.PutOptions{})
	}
	if err := store("first"); err != nil {
		t.Fatal(err)
	}
	if err := store("new/second"); !errors.Is(err, remote.ErrFull) {
		t.Errorf("full: %v", err)
	}
	if got := strings.Join(files(t, dir), " "); got != "first" {
		t.Errorf("there is %s", got)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := store("third"); !errors.Is(err, remote.ErrReadOnly) {
		t.Errorf("read-only: %v", err)
	}
	if err := b.Delete(t.Context(), []string{"first"}); !errors.Is(err, remote.ErrReadOnly) {
		t.Errorf("read-only: %v", err)
	}
	if got, err := b.Get(t.Context(), "first", 1<<20); err != nil || len(got) != len(data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// Folders and files whose names begin alike come in the order of the keys, whatever prefix a list has and wherever it begins.
func TestListInOrder(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("BDBVAULT_SEED"), 10, 64); err == nil {
		seed = n
	}
	random := rand.New(rand.NewPCG(seed, 1))
	word := func() string {
		s := ""
		for range 1 + random.IntN(3) {
			s += string("a-/0"[random.IntN(4)])
		}
		return s
	}
	dir := t.TempDir()
	var keys []string
	for range 60 {
		key := path.Join("x", word(), word()) // which makes of it a key
		if err := os.MkdirAll(filepath.Join(dir, path.Dir(key)), 0o700); err != nil {
			continue // there is a file where the folder would be
		}
		if os.WriteFile(filepath.Join(dir, key), nil, 0o600) == nil {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	b := open(t, dir)
	for range 2000 {
		prefix, after := "x/"+word(), "x/"+word()+word()
		var got, want []string
		for _, key := range keys {
			if strings.HasPrefix(key, prefix) && key > after {
				want = append(want, key)
			}
		}
		_, err := b.List(t.Context(), prefix, after, func(i remote.Info) error { got = append(got, i.Key); return nil })
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("BDBVAULT_SEED=%d: prefix %q after %q: %q, want %q: %v", seed, prefix, after, got, want, err)
		}
	}
}

// A large folder is remembered between lists; what comes and goes meanwhile shows all the same.
func TestLargeFolder(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	if err := put(t, b, "a/00000", "x"); err != nil {
		t.Fatal(err)
	}
	want := []string{"a/00000"}
	for i := 1; i < 3000; i++ { // not through the driver, which would sync each
		want = append(want, fmt.Sprintf("a/%05d", 2*i))
		if err := os.WriteFile(filepath.Join(dir, want[i]), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-time.Hour)
	settle := func() { // as if the last change were long ago
		if err := os.Chtimes(filepath.Join(dir, "a"), long, long); err != nil {
			t.Fatal(err)
		}
		long = long.Add(time.Minute)
	}
	check := func() {
		t.Helper()
		for range 2 { // the second time as remembered
			for _, from := range []int{-1, 0, 1234, len(want) - 1} {
				after := ""
				if from >= 0 {
					after = want[from]
				}
				var got []string
				if _, err := b.List(t.Context(), "a/", after, func(i remote.Info) error { got = append(got, i.Key); return nil }); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, want[from+1:]) {
					t.Fatalf("after %q: %d keys, want %d", after, len(got), len(want)-from-1)
				}
			}
		}
	}
	settle()
	check()
	if err := put(t, b, "a/00001", "x"); err != nil {
		t.Fatal(err)
	}
	want = slices.Insert(want, 1, "a/00001")
	check()
	settle()
	check()
	if err := b.Delete(t.Context(), want[2000:2001]); err != nil {
		t.Fatal(err)
	}
	want = slices.Delete(want, 2000, 2001)
	check()
}
