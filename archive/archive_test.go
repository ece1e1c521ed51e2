package archive_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/localenv/envtest"
	"bdbvault/localenv/libdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/file"
	"bdbvault/remote/remotetest"
	"bdbvault/remote/repository"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "engine" {
		if err := engine.Serve(os.Stdin, os.Stdout, libdb.New); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	archive.SettleAtOnce()
	os.Exit(m.Run())
}

// bench is an environment, a repository in a directory whose operations are recorded, and a state directory.
type bench struct {
	t     *testing.T
	home  string
	key   *bdb.Key
	rec   *remotetest.Recorder
	repo  *repository.Repository
	dir   string // of the repository
	state string
}

func newBench(t *testing.T, home string) *bench {
	t.Helper()
	dir := t.TempDir()
	drv, err := file.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, home: home, dir: dir, rec: remotetest.Record(remotetest.Immutable(drv)), state: t.TempDir()}
	bucket := remote.New(b.rec, remote.Options{RetryFor: time.Second})
	if b.repo, err = repository.Init(t.Context(), bucket, "test"); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) env() *localenv.Env {
	b.t.Helper()
	env, err := localenv.Open(b.home, b.key)
	if err != nil {
		b.t.Fatal(err)
	}
	return env
}

func (b *bench) try(opt archive.BackupOptions) (*archive.BackupResult, error) {
	opt.Env, opt.StateDir, opt.Tool = "test", b.state, "test"
	if opt.BulkSafe == "" {
		opt.BulkSafe = archive.BulkOff
	}
	return archive.Backup(b.t.Context(), b.repo, b.env(), opt)
}

func (b *bench) backup(opt archive.BackupOptions) *archive.BackupResult {
	b.t.Helper()
	res, err := b.try(opt)
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

func (b *bench) ship() (*archive.ShipResult, error) {
	return archive.Ship(b.t.Context(), b.repo, b.env(), archive.ShipOptions{Env: "test", StateDir: b.state})
}

func dump(v any) string {
	s, _ := json.MarshalIndent(v, "", " ")
	return string(s)
}

func TestBackupAgainAndAgain(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	envtest.Create(t, home, envtest.Spec{
		DataDirs: []string{"data"},
		Databases: []envtest.Database{
			{File: "big.db", Method: "btree", PageSize: 4096, Bytes: 40 << 20, ValueSize: 300},
			{File: "small.db", Method: "hash", PageSize: 512, Records: 50, ValueSize: 30},
		},
	})
	b := newBench(t, home)
	first := b.backup(archive.BackupOptions{})
	if first.NewPacks < 1 || first.Manifest.NewTimeline == "" || first.Manifest.Bytes() < 40<<20 {
		t.Errorf("first backup: %s", dump(first))
	}
	checkBlocks(t, b, first.Manifest)

	t.Run("nothing changed", func(t *testing.T) {
		b.t = t
		b.rec.Ops()
		again := b.backup(archive.BackupOptions{})
		if again.FilesRead != 0 || again.NewPacks+again.NewMaps != 0 || again.Manifest.Timeline != first.Manifest.Timeline {
			t.Errorf("%d files were read, %d packs and %d maps are new on timeline %s", again.FilesRead, again.NewPacks, again.NewMaps, again.Manifest.Timeline)
		}
		// One more opens the repository.
		if ops := b.rec.Ops(); len(ops) > 9 {
			t.Errorf("%d requests: %v", len(ops), ops)
		}
		checkBlocks(t, b, again.Manifest)
	})
	t.Run("read again", func(t *testing.T) {
		b.t = t
		again := b.backup(archive.BackupOptions{ReadAll: true})
		if again.FilesUnread != 0 || again.NewPacks+again.NewMaps != 0 {
			t.Errorf("%d files were not read, %d packs and %d maps are new", again.FilesUnread, again.NewPacks, again.NewMaps)
		}
		checkBlocks(t, b, again.Manifest)
	})
	t.Run("some pages changed", func(t *testing.T) {
		b.t = t
		// Whoever writes pages that no log knows has to be a test: the LSN on each stays as it was.
		changed := scribble(t, filepath.Join(home, "data/big.db"), 4096, 100)
		again := b.backup(archive.BackupOptions{})
		if again.NewPackBytes == 0 || again.NewPackBytes > int64(changed*4096+64<<10) || again.NewMaps != 1 {
			t.Errorf("%d pages were changed: %d bytes of packs and %d maps are new", changed, again.NewPackBytes, again.NewMaps)
		}
		checkBlocks(t, b, again.Manifest)
	})
	t.Run("state lost", func(t *testing.T) {
		b.t = t
		b.state = filepath.Join(b.state, "another")
		again := b.backup(archive.BackupOptions{ReadAll: true})
		if again.NewPacks+again.NewMaps != 0 || again.Ship.Segments != 0 {
			t.Errorf("without its cache it stores %d packs, %d maps and %d segments anew", again.NewPacks, again.NewMaps, again.Ship.Segments)
		}
	})
	t.Run("a pack and a map lost", func(t *testing.T) {
		b.t = t
		m := b.backup(archive.BackupOptions{}).Manifest
		lose(t, b, manifest.PackKey("test", m.Packs[0].Name), manifest.MapKey("test", m.Files[len(m.Files)-1].Map))
		again := b.backup(archive.BackupOptions{})
		if again.NewPacks == 0 || again.NewMaps == 0 {
			t.Errorf("what the store lost is not stored anew: %d packs, %d maps", again.NewPacks, again.NewMaps)
		}
		checkBlocks(t, b, again.Manifest)
	})
}

// scribble changes a byte at the end of n pages, spread over the file, where a btree leaf of this test's keeps values.
func scribble(t *testing.T, name string, pageSize, n int) int {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pages := len(data) / pageSize
	changed := 0
	for i := range n {
		at := (1+i*(pages-1)/n)*pageSize + pageSize - 1
		if data[at] == 0 {
			continue
		}
		if _, err := f.WriteAt([]byte{data[at] ^ 0x5a}, int64(at)); err != nil {
			t.Fatal(err)
		}
		changed++
	}
	if changed < n/2 {
		t.Fatalf("only %d of %d pages could be changed", changed, n)
	}
	return changed
}

func lose(t *testing.T, b *bench, keys ...string) {
	t.Helper()
	for _, k := range keys {
		if err := os.Remove(filepath.Join(b.dir, k)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEveryOperationFails lets each operation on the store fail in turn: the backup fails, nothing is listed, and the next one succeeds and
// finds what the failed one had stored.
func TestEveryOperationFails(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	envtest.Create(t, home, envtest.Spec{LogFileSize: 1 << 20, Databases: []envtest.Database{
		{File: "a.db", Method: "btree", PageSize: 4096, Bytes: 4 << 20, ValueSize: 300, Plain: true},
	}})
	for n := 1; ; n++ {
		b := newBench(t, home)
		broken := &remote.Error{Kind: remote.NoBucket, Err: errors.New("injected")}
		b.rec.Fail(n, n%2 == 0, broken)
		_, err := b.try(archive.BackupOptions{})
		b.rec.Fail(0, false, nil)
		if err == nil {
			if n < 8 {
				t.Errorf("only %d operations", n-1)
			}
			return
		}
		if !errors.Is(err, remote.ErrNoBucket) {
			t.Fatalf("operation %d: %v", n, err)
		}
		list, lerr := b.repo.Backups(t.Context(), "test", "")
		if lerr != nil {
			t.Fatal(lerr)
		}
		b.rec.Ops()
		res := b.backup(archive.BackupOptions{})
		checkBlocks(t, b, res.Manifest)
		packs := 0
		for _, op := range b.rec.Ops() {
			if op.Name == "put" && strings.Contains(op.Key, "/packs/") {
				packs++
			}
		}
		// After the failed operation was the pack's own, or one before it, the pack has to be sent; later it must not be.
		if len(list) == 1 && packs != 0 {
			t.Errorf("operation %d: the backup is listed, and yet the next one stores its packs again", n)
		}
	}
}

func TestFinishedPacksAreReused(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	envtest.Create(t, home, envtest.Spec{Databases: []envtest.Database{
		{File: "a.db", Method: "btree", PageSize: 4096, Bytes: 80 << 20, ValueSize: 300},
	}})
	b := newBench(t, home)
	var stored atomic.Int32
	stop := errors.New("stop")
	_, err := b.try(archive.BackupOptions{Step: func(name string) error {
		if name == "pack-stored" && stored.Add(1) > 1 {
			return stop
		}
		return nil
	}})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	b.rec.Ops()
	res := b.backup(archive.BackupOptions{})
	var bytes int64
	for _, op := range b.rec.Ops() {
		if op.Name == "put" && strings.Contains(op.Key, "/packs/") {
			bytes += op.Size
		}
	}
	var all int64
	for _, p := range res.Manifest.Packs {
		all += p.Size
	}
	if bytes > all-15<<20 {
		t.Errorf("%d of %d bytes of packs are sent, although one pack was finished before", bytes, all)
	}
	checkBlocks(t, b, res.Manifest)
	if again := b.backup(archive.BackupOptions{ReadAll: true}); again.NewPacks != 0 {
		t.Errorf("%d packs are new although nothing changed", again.NewPacks)
	}
}

func TestAnotherEnvironmentUnderTheName(t *testing.T) {
	make := func() string {
		home := filepath.Join(t.TempDir(), "home")
		envtest.Create(t, home, envtest.Spec{Databases: []envtest.Database{{File: "a.db", Method: "btree", Records: 10}}})
		return home
	}
	b := newBench(t, make())
	first := b.backup(archive.BackupOptions{})
	b.home = make()
	var other *archive.OtherEnvironmentError
	if _, err := b.try(archive.BackupOptions{}); !errors.As(err, &other) {
		t.Fatalf("another environment: %v", err)
	}
	var chain *archive.ChainError
	if _, err := b.ship(); !errors.As(err, &chain) {
		t.Errorf("ship of another environment's log: %v", err)
	}
	afresh := b.backup(archive.BackupOptions{NewEnvironment: true})
	if afresh.Manifest.Timeline == first.Manifest.Timeline || afresh.Manifest.Parent != "" {
		t.Errorf("begun afresh: %s", dump(afresh.Manifest))
	}
	if _, err := b.ship(); err != nil {
		t.Errorf("ship after it: %v", err)
	}
}

// checkBlocks reads every file of a backup back through its map and compares it with the file on disk, which nobody has changed since.
func checkBlocks(t *testing.T, b *bench, m *manifest.Manifest) {
	t.Helper()
	for i := range m.Files {
		f := &m.Files[i]
		want, err := os.ReadFile(filepath.Join(b.home, m.Dirs[f.Dir].Name, f.Path))
		if err != nil {
			t.Fatal(err)
		}
		if got := readBack(t, b, m, f); string(got) != string(want) {
			t.Errorf("%s: %d bytes read back differ from the file's %d", f.Path, len(got), len(want))
		}
	}
}
