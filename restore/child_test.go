package restore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"bdbvault/localenv/engine"
	"bdbvault/localenv/envtest"
	"bdbvault/remote"
	"bdbvault/remote/file"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

// restoreAndDie is a process that restores and kills itself at one of the restore's steps.
func restoreAndDie(t *testing.T, store, to string, at int) error {
	t.Helper()
	cmd := exec.Command(os.Args[0], "restore", store, to, strconv.Itoa(at))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return err
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return nil
}

// restoreChild is that process.
func restoreChild(store, to, at string) error {
	driver, err := file.New(store)
	if err != nil {
		return err
	}
	ctx := context.Background()
	repo, err := repository.Open(ctx, remote.New(driver, remote.Options{}))
	if err != nil {
		return err
	}
	plan, err := restore.MakePlan(ctx, repo, envName, restore.Target{})
	if err != nil {
		return err
	}
	left, err := strconv.Atoi(at)
	if err != nil {
		return err
	}
	opt := restore.Options{To: to, Delta: os.Getenv("RESTORE_TEST_DELTA") != "", Verify: restore.VerifyNever, Step: func(string) error {
		if left--; left < 0 {
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return nil
	}}
	if script := os.Getenv("RESTORE_TEST_ENGINE"); script != "" {
		opt.Engine.Executable = []string{"/bin/sh", script}
	}
	_, err = restore.Restore(ctx, repo, plan, opt)
	return err
}

// TestKilledEverywhere kills the process that restores at each step in turn.
func TestKilledEverywhere(t *testing.T) {
	env, p := small(t)
	h := envtest.StartHold(t, env)
	h.Put("", "a.db", 9000, 300)
	h.FlushLog()
	p.ship(env.Home)
	h.Close()
	want := dump(t, env.Home, "")
	for at := 0; ; at++ {
		to := filepath.Join(t.TempDir(), "to")
		if restoreAndDie(t, p.dir, to, at) == nil {
			if at < len(restore.Stages) {
				t.Errorf("only %d steps", at)
			}
			return
		}
		if _, err := os.Stat(filepath.Join(to, restore.MarkerName)); err != nil {
			t.Errorf("killed at step %d: %v", at, err)
		}
		if _, err := p.restoreTo(to, restore.Options{}); err != nil {
			t.Fatalf("after a kill at step %d: %v", at, err)
		}
		holds(t, want, to, "")
	}
}

// TestEngineDies has an engine that does not live long enough to recover anything.
func TestEngineDies(t *testing.T) {
	env, p := small(t)
	to := filepath.Join(t.TempDir(), "to")
	dies := restore.Options{}
	dies.Engine.Executable = []string{"/bin/sh", "-c", "echo no library >&2; kill -SEGV $$"}
	var child *engine.ChildError
	if _, err := p.restoreTo(to, dies); !errors.As(err, &child) {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(to); !os.IsNotExist(err) {
		t.Errorf("something was made although the engine does not start: %v", err)
	}

	once := filepath.Join(t.TempDir(), "once")
	dies.Engine.Executable = []string{"/bin/sh", "-c", `if mkdir "$0"; then exec "$1" engine; fi; kill -SEGV $$`, once, os.Args[0]}
	_, err := p.restoreTo(to, dies)
	var recovery *restore.RecoveryError
	if !errors.As(err, &recovery) || !errors.As(err, &child) || recovery.End.IsZero() {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(to, restore.MarkerName)); err != nil {
		t.Errorf("the marker: %v", err)
	}
	res, err := p.restoreTo(to, restore.Options{})
	if err != nil || res.Reused != int64(res.Files) {
		t.Fatalf("again: %+v, %v", res, err)
	}
	same(t, env.Home, to, "")
}

// TestEngineOutlivesRestore kills a restore while its engine is at work, which goes on for a moment: nobody else may begin before it has ended.
func TestEngineOutlivesRestore(t *testing.T) {
	env, p := small(t)
	dir := t.TempDir()
	to, script := filepath.Join(dir, "to"), filepath.Join(dir, "engine.sh")
	at := filepath.Join(dir, "at work")
	write(t, script, fmt.Sprintf("if mkdir '%s/once'; then exec '%s' engine; fi\ntouch '%s'\ncat >/dev/null\nsleep 0.5\nrm '%s'\n", dir, os.Args[0], at, at))
	cmd := exec.Command(os.Args[0], "restore", p.dir, to, "1000")
	cmd.Env = append(os.Environ(), "RESTORE_TEST_ENGINE="+script)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(at); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the engine was not started")
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	_, err := p.restoreTo(to, restore.Options{Step: func(stage string) error {
		if _, err := os.Stat(at); stage == "claimed" && err == nil {
			t.Error("the old engine is still there")
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	same(t, env.Home, to, "")
}

// TestFullDisk restores to a file system that is too small, then to the same one grown.
func TestFullDisk(t *testing.T) {
	_, p := small(t)
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=200k"); err != nil {
		t.Skipf("no tmpfs can be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	to := filepath.Join(disk, "to")
	if _, err := p.restoreTo(to, restore.Options{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("on a disk that is too small: %v", err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=20m"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.restoreTo(to, restore.Options{}); err != nil {
		t.Errorf("with more room: %v", err)
	}
}
