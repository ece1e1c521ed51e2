package archive_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
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
	os.Exit(m.Run())
}

// bench is an environment, a repository in a directory whose operations are recorded, and a state directory.
type bench struct {
	t     *testing.T
	home  string
	key   *bdb.Key
	rec   *remotetest.Recorder
	repo  *repository.Repository
	state string
}

func newBench(t *testing.T, home string) *bench {
	t.Helper()
	dir := t.TempDir()
	drv, err := file.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, home: home, rec: remotetest.Record(remotetest.Immutable(drv)), state: t.TempDir()}
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

// age sets the times of the environment's files back, as if they had last changed an hour ago.
func (b *bench) age() {
	b.t.Helper()
	listing, err := b.env().List(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range listing.Files {
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(filepath.Join(b.env().Dirs[f.Dir].Path, f.Path), old, old); err != nil {
			b.t.Fatal(err)
		}
	}
}

func dump(v any) string {
	s, _ := json.MarshalIndent(v, "", " ")
	return string(s)
}

func TestBackupAgainAndAgain(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	env := envtest.Create(t, home, envtest.Spec{
		DataDirs: []string{"data"},
		Databases: []envtest.Database{
			{File: "big.db", Method: "btree", PageSize: 4096, Bytes: 40 << 20, ValueSize: 300},
			{File: "small.db", Method: "hash", PageSize: 512, Records: 50, ValueSize: 30},
		},
	})
	_ = env
	b := newBench(t, home)
	first := b.backup(archive.BackupOptions{})
	t.Logf("first: %d packs, %d bytes, %s", first.NewPacks, first.NewPackBytes, dump(first.Ship))
	if first.NewPacks < 2 || first.Manifest.NewTimeline == "" || first.Manifest.Bytes() < 40<<20 {
		t.Errorf("first backup: %s", dump(first.Manifest))
	}
	checkBlocks(t, b, first.Manifest)

	t.Run("nothing changed", func(t *testing.T) {
		b.rec.Ops()
		again := b.backup(archive.BackupOptions{ReadAll: true})
		if again.NewPacks+again.NewMaps != 0 || again.Manifest.Timeline != first.Manifest.Timeline {
			t.Errorf("read again, %d packs and %d maps are new on timeline %s", again.NewPacks, again.NewMaps, again.Manifest.Timeline)
		}
		ops := b.rec.Ops()
		if len(ops) > 9 { // and one to open the repository
			t.Errorf("%d requests: %v", len(ops), ops)
		}
		checkBlocks(t, b, again.Manifest)
	})
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
