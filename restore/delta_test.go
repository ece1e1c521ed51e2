package restore_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bdbvault/localenv/envtest"
	"bdbvault/restore"
)

var errStop = errors.New("stop")

// until ends a restore at a stage.
func until(stage string) func(string) error {
	return func(s string) error {
		if s == stage {
			return errStop
		}
		return nil
	}
}

// seed is that of BDBVAULT_SEED, or a new one, which is printed.
func seed(t testing.TB) *rand.Rand {
	n := uint64(time.Now().UnixNano())
	if text := os.Getenv("BDBVAULT_SEED"); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("BDBVAULT_SEED=%d", n)
	return rand.New(rand.NewPCG(n, 1))
}

// files reads a tree: what is no file is described.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	tree := map[string]string{}
	err := filepath.WalkDir(dir, func(at string, e fs.DirEntry, err error) error {
		if err != nil || e.Name() == restore.MarkerName {
			return err
		}
		name, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		tree[name] = e.Type().String()
		if e.Type().IsRegular() {
			data, err := os.ReadFile(at)
			tree[name] = string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func sameFiles(t testing.TB, want, got map[string]string) {
	t.Helper()
	for name, text := range want {
		if is, ok := got[name]; !ok {
			t.Errorf("%s is not there", name)
		} else if is != text {
			t.Errorf("%s differs", name)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s should not be there", name)
		}
	}
}

// shapes makes an environment of all access methods in directories of its own, with files of an application, and a backup of it.
func shapes(t *testing.T) (*envtest.Environment, *packer) {
	t.Helper()
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{
		DataDirs: []string{"data"}, LogDir: "log", LogFileSize: 100 << 10, Databases: envtest.AllShapes(1024, true),
	})
	write(t, filepath.Join(env.Home, "notes.txt"), strings.Repeat("an application's own file\n", 1000))
	holes(t, filepath.Join(env.Home, "data", "holes"))
	p := newPacker(t, "")
	p.full(env.Home, nil)
	return env, p
}

// spoiler changes a copy of an environment at random.
type spoiler struct {
	*testing.T
	r       *rand.Rand
	home    string
	outside string // what no restore may touch
}

func (s *spoiler) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *spoiler) spoil() {
	n := 0
	for name, text := range files(s.T, s.home) {
		at := filepath.Join(s.home, name)
		if info, err := os.Lstat(at); err != nil || !info.Mode().IsRegular() || name == "DB_CONFIG" {
			continue
		}
		n++
		s.change(at, []byte(text), n)
	}
	s.must(os.MkdirAll(filepath.Join(s.home, "more/of/it"), 0o755))
	write(s.T, filepath.Join(s.home, "more/of/it/x"), "x")
	write(s.T, filepath.Join(s.home, "data", "__db.00000001.00000002"), "y")
	s.must(os.Symlink(s.outside, filepath.Join(s.home, "away")))
}

// change does one thing to one file.
func (s *spoiler) change(at string, text []byte, n int) {
	other := filepath.Join(s.outside, fmt.Sprint(n))
	switch s.r.IntN(12) {
	case 0: // stays
	case 1:
		s.must(os.Remove(at))
	case 2:
		s.must(os.Truncate(at, s.r.Int64N(int64(len(text))+1)))
	case 3:
		s.must(os.Truncate(at, int64(len(text))+s.r.Int64N(1<<20)))
	case 4:
		write(s.T, at, string(text)+strings.Repeat("more", 5000))
	case 5: // a copy, elsewhere
		write(s.T, other, string(text))
		s.must(os.Remove(at))
		s.must(os.Symlink(other, at))
	case 6: // the same file has a name elsewhere
		s.flip(at, text)
		s.must(os.Link(at, other))
	case 7:
		s.must(os.Remove(at))
		s.must(os.MkdirAll(filepath.Join(at, "in", "the", "way"), 0o700))
		write(s.T, filepath.Join(at, "in", "file"), "x")
	case 8:
		s.must(os.Remove(at))
		s.must(syscall.Mkfifo(at, 0o600))
	case 9:
		write(s.T, at, strings.Repeat("\x00", len(text)))
		s.must(os.Chmod(at, 0o400))
	default:
		s.flip(at, text)
	}
}

// flip changes a few bits.
func (s *spoiler) flip(at string, text []byte) {
	text = bytes.Clone(text)
	for range 1 + s.r.IntN(4) {
		if len(text) > 0 {
			text[s.r.IntN(len(text))] ^= 1 << s.r.IntN(8)
		}
	}
	f, err := os.OpenFile(at, os.O_WRONLY, 0)
	s.must(err)
	_, err = f.WriteAt(text, 0)
	s.must(errors.Join(err, f.Close()))
}

// TestDeltaOfSpoiledCopies restores into copies that were changed in every way, and holds the data that comes back against a plain restore.
func TestDeltaOfSpoiledCopies(t *testing.T) {
	env, p := shapes(t)
	plain := filepath.Join(t.TempDir(), "plain")
	if _, err := p.restoreTo(plain, restore.Options{Step: until("data")}); err != errStop {
		t.Fatal(err)
	}
	want, content := files(t, plain), dump(t, env.Home, "")
	r := seed(t)
	for range 6 {
		dir := t.TempDir()
		to, outside := filepath.Join(dir, "to"), filepath.Join(dir, "outside")
		if err := errors.Join(envtest.CopyHome(env.Home, to), os.Mkdir(outside, 0o700)); err != nil {
			t.Fatal(err)
		}
		(&spoiler{T: t, r: r, home: to, outside: outside}).spoil()
		others := files(t, outside)
		if _, err := p.restoreTo(to, restore.Options{Delta: true, Step: until("data")}); err != errStop {
			t.Fatal(err)
		}
		sameFiles(t, want, files(t, to))
		sparse(t, filepath.Join(to, "data", "holes"))
		res, err := p.restoreTo(to, restore.Options{Delta: true})
		if err != nil {
			t.Fatal(err)
		}
		if res.Reused != int64(res.Files) {
			t.Errorf("taken up again, %d of %d files were kept", res.Reused, res.Files)
		}
		holds(t, content, to, "")
		sameFiles(t, others, files(t, outside))
	}
}

func sparse(t testing.TB, path string) {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil || st.Blocks*512 > 256<<10 {
		t.Errorf("%s takes %d bytes of disk, %v", path, st.Blocks*512, err)
	}
}

// TestDeltaFetchesWhatDiffers restores over an older state of the same environment.
func TestDeltaFetchesWhatDiffers(t *testing.T) {
	env, p := shapes(t)
	to := filepath.Join(t.TempDir(), "to")
	if _, err := p.restoreTo(to, restore.Options{}); err != nil {
		t.Fatal(err)
	}
	h := envtest.StartHold(t, env)
	h.Put("", "btree.db", 5000, 300)
	h.Create("", envtest.Database{File: "new.db", Method: "btree", Records: 300})
	h.Remove("", "hash.db")
	h.Checkpoint()
	h.Close()
	p.full(env.Home, nil)
	plain, err := p.restoreTo(filepath.Join(t.TempDir(), "plain"), restore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(to, "extra"), "x")
	res, err := p.restoreTo(to, restore.Options{Delta: true})
	if err != nil {
		t.Fatal(err)
	}
	same(t, env.Home, to, "")
	t.Logf("plain: %d bytes in %d requests; delta: %d bytes in %d, %d kept", plain.FetchedBytes, plain.Requests, res.FetchedBytes, res.Requests, res.ReusedBytes)
	if res.Removed != 2 || res.ReusedBytes < (res.Bytes-4<<20)/2 || res.FetchedBytes > plain.FetchedBytes*2/3 || res.Requests >= plain.Requests {
		t.Errorf("result %+v", res)
	}
}

func TestDeltaIsRefused(t *testing.T) {
	env, p := shapes(t)
	made := func(do func(dir string) error) string {
		dir := t.TempDir()
		if err := do(dir); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	copied := func(do func(dir string) error) string {
		return made(func(dir string) error { return errors.Join(envtest.CopyHome(env.Home, dir), do(dir)) })
	}
	for name, to := range map[string]string{
		"not an environment": made(func(dir string) error { return os.WriteFile(filepath.Join(dir, "x"), nil, 0o600) }),
		"a database below": made(func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, "below"), 0o700), os.CopyFS(filepath.Join(dir, "below"), os.DirFS(filepath.Join(env.Home, "data"))))
		}),
		"a folder elsewhere": copied(func(dir string) error {
			moved := filepath.Join(t.TempDir(), "moved")
			return errors.Join(os.Rename(filepath.Join(dir, "data"), moved), os.Symlink(moved, filepath.Join(dir, "data")))
		}),
	} {
		before := files(t, to)
		_, err := p.restoreTo(to, restore.Options{Delta: true})
		var target *restore.TargetError
		if !errors.As(err, &target) {
			t.Errorf("%s: %v", name, err)
		}
		sameFiles(t, before, files(t, to))
		if _, err := os.Lstat(filepath.Join(to, restore.MarkerName)); err == nil {
			t.Errorf("%s: a marker was left", name)
		}
	}
}

// TestDeltaWithoutSigns takes a home of which nothing is left but one of its databases.
func TestDeltaWithoutSigns(t *testing.T) {
	env, p := shapes(t)
	to := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(to, "data"), 0o700),
		os.Link(filepath.Join(env.Home, "data", "hash.db"), filepath.Join(to, "data", "hash.db"))); err != nil {
		t.Fatal(err)
	}
	if _, err := p.restoreTo(to, restore.Options{Delta: true}); err != nil {
		t.Fatal(err)
	}
	same(t, env.Home, to, "")
}

func TestDeltaOfOpenEnvironment(t *testing.T) {
	env, p := small(t)
	h := envtest.StartHold(t, env)
	h.FlushLog()
	_, err := p.restoreTo(env.Home, restore.Options{Delta: true})
	var use *restore.InUseError
	if !errors.As(err, &use) || len(use.Holders) != 1 || use.Holders[0].PID != h.PID() || use.Holders[0].Command == "?" {
		t.Fatalf("open by process %d: %v", h.PID(), err)
	}
	h.Put("", "a.db", 9000, 10) // it is as well as before
	h.Close()

	// This process is left out of those that are looked at, but the kernel knows better.
	f, err := os.OpenFile(filepath.Join(env.Home, "a.db"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.restoreTo(env.Home, restore.Options{Delta: true})
	if !errors.As(err, &use) || use.Holders[0].PID != 0 || use.Holders[0].File != "a.db" {
		t.Errorf("open by somebody: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.restoreTo(env.Home, restore.Options{Delta: true}); err != nil {
		t.Error(err)
	}
}

// TestDeltaTakesOver goes on, to a newer end, with what restores to another one have left.
func TestDeltaTakesOver(t *testing.T) {
	env, p := small(t)
	to := filepath.Join(t.TempDir(), "to")
	if _, err := p.restoreTo(to, restore.Options{Step: until("recovered")}); err != errStop {
		t.Fatal(err)
	}
	h := envtest.StartHold(t, env)
	h.Put("", "a.db", 9000, 300)
	h.FlushLog()
	p.ship(env.Home)
	h.Close()
	var target *restore.TargetError
	if _, err := p.restoreTo(to, restore.Options{}); !errors.As(err, &target) {
		t.Fatalf("not asked to: %v", err)
	}
	for _, text := range []string{"", "{ torn"} {
		if _, err := p.restoreTo(to, restore.Options{Delta: true, Step: until("file")}); !errors.Is(err, errStop) {
			t.Fatal(err)
		}
		write(t, filepath.Join(to, restore.MarkerName), text)
	}
	if _, err := p.restoreTo(to, restore.Options{Delta: true}); err != nil {
		t.Fatal(err)
	}
	same(t, env.Home, to, "")
}

// TestDeltaKilledEverywhere kills a delta restore at each step in turn. Another goes on, or one that is no delta.
func TestDeltaKilledEverywhere(t *testing.T) {
	env, p := small(t)
	old := filepath.Join(t.TempDir(), "old")
	if err := envtest.CopyHome(env.Home, old); err != nil {
		t.Fatal(err)
	}
	h := envtest.StartHold(t, env)
	h.Put("", "a.db", 9000, 300)
	h.Checkpoint()
	h.Close()
	p.full(env.Home, nil)
	want := dump(t, env.Home, "")
	t.Setenv("RESTORE_TEST_DELTA", "1")
	for at := 0; ; at++ {
		to := filepath.Join(t.TempDir(), "to")
		if err := envtest.CopyHome(old, to); err != nil {
			t.Fatal(err)
		}
		if restoreAndDie(t, p.dir, to, at) == nil {
			if at < len(restore.Stages) {
				t.Errorf("only %d steps", at)
			}
			return
		}
		if _, err := os.Stat(filepath.Join(to, restore.MarkerName)); err != nil {
			t.Errorf("killed at step %d: %v", at, err)
		}
		if _, err := p.restoreTo(to, restore.Options{Delta: at%2 == 0}); err != nil {
			t.Fatalf("after a kill at step %d: %v", at, err)
		}
		holds(t, want, to, "")
	}
}
