package archive_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"bdbvault/archive"
	"bdbvault/localenv/engine"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
)

func paths(m *manifest.Manifest) (list []string) {
	for i := range m.Files {
		list = append(list, m.Files[i].Path)
	}
	return list
}

// copyFile copies a database, and changes a byte at the end of it.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestSeveralNames: each name of a file is in the backup, and so is a copy that somebody made of a database, which is compared with itself.
func TestSeveralNames(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	envtest.Create(t, home, envtest.Spec{Databases: []envtest.Database{{File: "a.db", Method: "btree", Records: 500, ValueSize: 100}}})
	at := func(name string) string { return filepath.Join(home, name) }
	copyFile(t, at("a.db"), at("0-copy.db")) // sorted before the database
	if err := errors.Join(os.WriteFile(at("notes"), []byte("notes"), 0o600), os.Link(at("notes"), at("notes.too")), os.Symlink("a.db", at("b.db"))); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, home)
	first := b.backup(archive.BackupOptions{}).Manifest
	for _, name := range []string{"0-copy.db", "a.db", "b.db", "notes", "notes.too"} {
		if !slices.Contains(paths(first), name) {
			t.Errorf("%s is missing: %v", name, paths(first))
		}
	}
	checkBlocks(t, b, first)
	if again := b.backup(archive.BackupOptions{ReadAll: true}); again.NewPacks+again.NewMaps != 0 {
		t.Errorf("nothing changed, and %d packs and %d maps are new", again.NewPacks, again.NewMaps)
	}
	if again := b.backup(archive.BackupOptions{}); again.FilesRead != 0 {
		t.Errorf("nothing changed, and %d files are read", again.FilesRead)
	}
}

// losesFlag is an engine under which the application makes its regions anew.
type losesFlag struct{ engine.Engine }

func (losesFlag) Version() string { return "test" }

func (losesFlag) HotBackup(ctx context.Context, fn func(context.Context) error) error {
	return errors.Join(fn(ctx), engine.ErrFlagLost)
}

func TestFlagLost(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	envtest.Create(t, home, envtest.Spec{Databases: []envtest.Database{{File: "a.db", Method: "btree", Records: 10}}})
	b := newBench(t, home)
	res := b.backup(archive.BackupOptions{BulkSafe: archive.BulkAuto, Engine: losesFlag{}})
	if res.Manifest.BulkSafe.Held || res.Manifest.BulkSafe.Why == "" {
		t.Errorf("%+v", res.Manifest.BulkSafe)
	}
	if _, err := b.try(archive.BackupOptions{BulkSafe: archive.BulkRequire, Engine: losesFlag{}}); !errors.Is(err, engine.ErrFlagLost) {
		t.Errorf("required: %v", err)
	}
	// Whatever else fails while the flag is lost is not forgiven with it.
	broken := errors.New("broken")
	_, err := b.try(archive.BackupOptions{BulkSafe: archive.BulkAuto, Engine: losesFlag{}, Step: func(name string) error {
		if name == "log-end" {
			return broken
		}
		return nil
	}})
	if !errors.Is(err, broken) {
		t.Errorf("broken: %v", err)
	}
}

// TestEngineKilledWhileItHoldsTheFlag: somebody else kills the engine's child. The flag then stays counted in the application's regions, but nobody
// knows that it was held to the end: the backup says so, and fails only where that was required.
func TestEngineKilledWhileItHoldsTheFlag(t *testing.T) {
	env, b := bank(t)
	envtest.StartHold(t, env)
	killing := func(mode string) (*archive.BackupResult, error) {
		pid := filepath.Join(t.TempDir(), "pid")
		eng, err := engine.Start(t.Context(), engine.Options{Home: b.home, Executable: []string{"/bin/sh", "-c", `echo $$ >"$0"; exec "$1" engine`, pid, os.Args[0]}})
		if err != nil {
			t.Fatal(err)
		}
		defer eng.Close()
		return b.try(archive.BackupOptions{BulkSafe: mode, Engine: eng, Step: func(name string) error {
			if name != "log-end" {
				return nil
			}
			text, err := os.ReadFile(pid)
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(strings.TrimSpace(string(text)))
			return errors.Join(err, syscall.Kill(n, syscall.SIGKILL))
		}})
	}
	res, err := killing(archive.BulkAuto)
	if err != nil {
		t.Fatal(err)
	}
	if safe := res.Manifest.BulkSafe; safe.Held || !strings.Contains(safe.Why, "SIGKILL") {
		t.Errorf("%+v", safe)
	}
	var died *engine.ChildError
	if _, err := killing(archive.BulkRequire); !errors.As(err, &died) {
		t.Errorf("required: %v", err)
	}
	if err := envtest.Checkpoint(b.home, ""); err != nil {
		t.Error(err)
	}
}

// TestJournalIsDamaged: what a crash left of the journal costs packs, and never more.
func TestJournalIsDamaged(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	envtest.Create(t, home, envtest.Spec{Databases: []envtest.Database{{File: "a.db", Method: "btree", Bytes: 1 << 20, ValueSize: 300}}})
	stop := errors.New("stop")
	for flip := range 12 {
		b := newBench(t, home)
		_, err := b.try(archive.BackupOptions{Step: func(name string) error {
			if name == "look" {
				return stop
			}
			return nil
		}})
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
		name := filepath.Join(b.state, b.repo.Info.ID.String(), "test", "journal")
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if flip > 0 { // the first time it stays whole
			data[len(data)*flip/12] ^= 1
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		res := b.backup(archive.BackupOptions{})
		if (res.NewPacks == 0) != (flip == 0) {
			t.Errorf("bit %d: %d packs are new", flip, res.NewPacks)
		}
		checkBlocks(t, b, res.Manifest)
	}
}

// TestLeavesNothingOpen: a process that tries again and again must not run out of descriptors.
func TestLeavesNothingOpen(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	envtest.Create(t, home, envtest.Spec{Databases: []envtest.Database{{File: "a.db", Method: "btree", Records: 10}}})
	b := newBench(t, home)
	b.backup(archive.BackupOptions{})
	before := descriptors(t)
	for _, name := range []string{"begin", "log-open", "read", "pack", "log-end", "map", "look", "commit"} {
		_, err := b.try(archive.BackupOptions{ReadAll: true, Step: func(step string) error {
			if step == name {
				return io.ErrClosedPipe
			}
			return nil
		}})
		if now := descriptors(t); now > before {
			t.Errorf("%s: %v; %d descriptors are open, %d before", name, err, now, before)
		}
	}
	// The journal of an interrupted run is there: what looks for its packs may fail too.
	if err := os.WriteFile(filepath.Join(b.state, b.repo.Info.ID.String(), "test", "journal"), fmt.Appendln(nil), 0o600); err != nil {
		t.Fatal(err)
	}
	b.rec.Fail(3, false, io.ErrClosedPipe)
	_, err := b.try(archive.BackupOptions{})
	b.rec.Fail(0, false, nil)
	if now := descriptors(t); err == nil || now > before {
		t.Errorf("%v; %d descriptors are open, %d before", err, now, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
