package enginetest

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/localenv/envtest"
)

// crashed makes a home whose writers were killed in the middle of their work.
func crashed(t *testing.T, spec envtest.Spec) string {
	t.Helper()
	env, load := bank(t, spec)
	if err := load.WaitCommit(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	load.Kill()
	return env.Home
}

// testRecover recovers a crashed home of all shapes and compares it with what the engine's own crash recovery makes of it. Of a second copy all
// databases are taken away first, so that everything has to come out of the log.
func (s Subject) testRecover(t *testing.T) {
	home := crashed(t, envtest.Spec{DataDirs: []string{"data"}, Databases: envtest.AllShapes(4096, false)})
	truth := copyHome(t, home)
	if err := envtest.RecoverApart(truth, ""); err != nil {
		t.Fatal(err)
	}
	whole, logOnly := copyHome(t, home), copyHome(t, home)
	if err := removeDatabases(filepath.Join(logOnly, "data")); err != nil {
		t.Fatal(err)
	}
	c := s.start(t, engine.Options{})
	for name, target := range map[string]string{"whole": whole, "log only": logOnly} {
		last := -1
		progress := func(n int) {
			if n <= last || n > 100 {
				t.Errorf("%s: progress went from %d to %d", name, last, n)
			}
			last = n
		}
		if err := c.Recover(t.Context(), scratch(t, target, "data"), engine.RecoverOptions{Progress: progress}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if last < 50 {
			t.Errorf("%s: the last progress was %d", name, last)
		}
		compare(t, name, truth, target)
	}
}

func removeDatabases(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			err = os.Remove(path)
		}
		return err
	})
}

func compare(t *testing.T, name, truth, target string) {
	t.Helper()
	if report, err := envtest.CheckBank(target, ""); err != nil {
		t.Errorf("%s: %v (%v)", name, err, report.Problems)
	}
	a, err := envtest.Dump(truth, "")
	if err != nil {
		t.Fatal(err)
	}
	b, err := envtest.Dump(target, "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := envtest.Diff(a, b); len(diff) > 0 {
		t.Errorf("%s: %s", name, strings.Join(diff, "\n"))
	}
}

// testRecoverCancelled stops the child as soon as it is at work, so that it can't finish within the moment it is given.
func (s Subject) testRecoverCancelled(t *testing.T) {
	target := copyHome(t, crashed(t, envtest.Spec{}))
	c := s.start(t, engine.Options{})
	child := engineOf(t, os.Getpid())
	ctx, cancel := context.WithCancel(t.Context())
	progress := func(int) {
		syscall.Kill(child, syscall.SIGSTOP)
		cancel()
	}
	home := scratch(t, target)
	err := c.Recover(ctx, home, engine.RecoverOptions{Progress: progress})
	want(t, err, engine.ErrUnusable, "recover "+home)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v is not a cancellation", err)
	}
	if alive(child) {
		t.Error("the child is still there")
	}
	wantDeath(t, c.Verify(t.Context(), target, "bank.db"), "SIGKILL")
}

func (s Subject) testRecoverRefused(t *testing.T) {
	env, load := bank(t, envtest.Spec{})
	c := s.start(t, engine.Options{})
	err := c.Recover(t.Context(), env.Home, engine.RecoverOptions{})
	if err == nil || !strings.Contains(err.Error(), "region files") {
		t.Errorf("recovery of a live environment: %v", err)
	}
	healthy(t, env, load)
	err = c.Recover(t.Context(), filepath.Join(t.TempDir(), "missing"), engine.RecoverOptions{})
	if err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("recovery of nothing: %v", err)
	}
	damaged := scratch(t, t.TempDir())
	if err := os.WriteFile(filepath.Join(damaged, "DB_CONFIG"), []byte("set_lg_dir /nowhere/at/all\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err = c.Recover(t.Context(), damaged, engine.RecoverOptions{})
	if e, ok := errors.AsType[*engine.EngineError](err); !ok || !strings.Contains(e.Error(), "/nowhere/at/all") {
		t.Errorf("recovery without a log directory: %v", err)
	}
}

// testRecoverCrashes has the library crash for real: it trusts lengths inside log records whose checksum is right.
func (s Subject) testRecoverCrashes(t *testing.T) {
	target := copyHome(t, crashed(t, envtest.Spec{}))
	if err := removeBankFiles(target); err != nil {
		t.Fatal(err)
	}
	poison(t, filepath.Join(target, "log.0000000001"))
	c := s.start(t, engine.Options{})
	home := scratch(t, target)
	e := wantDeath(t, c.Recover(t.Context(), home, engine.RecoverOptions{}), "SIGSEGV")
	if e.Op != "recover "+home || !strings.Contains(e.LastMessage, "Recovery starting") {
		t.Errorf("the error tells op %q and last message %q: %v", e.Op, e.LastMessage, e)
	}
}

// removeBankFiles makes recovery begin with empty databases, so that every record is redone.
func removeBankFiles(home string) error {
	files, err := filepath.Glob(filepath.Join(home, "*.db"))
	for _, file := range files {
		err = errors.Join(err, os.Remove(file))
	}
	return err
}

// poison gives a __db_addrem record (type 41) a header of a gigabyte, which redo then copies.
func poison(t *testing.T, path string) {
	t.Helper()
	const header, addrem, headerSize = 12, 41, 36
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	for at := 0; at+header < len(b); {
		size := int(le.Uint32(b[at+4:]))
		if size < header || at+size > len(b) {
			break
		}
		body := b[at+header : at+size]
		if at > 0 && le.Uint32(body) == addrem {
			le.PutUint32(body[headerSize:], 1<<30)
			le.PutUint32(b[at+8:], bdb.Checksum(body)^le.Uint32(b[at:])^uint32(size))
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			return
		}
		at += size
	}
	t.Fatal("no record to poison")
}
