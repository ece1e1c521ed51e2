package restore_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bdbvault/localenv"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/restore"
)

// small makes an environment with two databases and a repository with one backup of it.
func small(t *testing.T) (*envtest.Environment, *packer) {
	t.Helper()
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{Databases: []envtest.Database{
		{File: "a.db", Method: "btree", Records: 2000}, {File: "sub/b.db", Method: "hash", PageSize: 512, Records: 500},
	}})
	write(t, filepath.Join(env.Home, "notes.txt"), "an application's own file")
	p := newPacker(t, "")
	p.full(env.Home, nil)
	return env, p
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

func TestTargetsThatAreRefused(t *testing.T) {
	_, p := small(t)
	stop := errors.New("stop")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "x")
	for name, to := range map[string]string{
		"not empty":             dir,
		"not a directory":       filepath.Join(dir, "file"),
		"below a file":          filepath.Join(dir, "file", "x"),
		"where nothing is made": "/proc/bdbvault/x",
	} {
		_, err := p.restoreTo(to, restore.Options{})
		var target *restore.TargetError
		if !errors.As(err, &target) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(text) != "x" {
		t.Errorf("the foreign file is now %q, %v", text, err)
	}

	begun := filepath.Join(t.TempDir(), "begun")
	_, err := p.restoreTo(begun, restore.Options{Step: func(string) error { return stop }})
	if err != stop {
		t.Fatal(err)
	}
	plan, err := restore.MakePlan(t.Context(), p.repo, envName, restore.Target{})
	if err != nil {
		t.Fatal(err)
	}
	plan.Timeline = manifest.NewTimeline()
	_, err = restore.Restore(t.Context(), p.repo, plan, restore.Options{To: begun})
	var target *restore.TargetError
	if !errors.As(err, &target) || !strings.Contains(err.Error(), "another restore") {
		t.Errorf("another plan's target: %v", err)
	}
}

func TestConcurrentRestores(t *testing.T) {
	_, p := small(t)
	to := filepath.Join(t.TempDir(), "to")
	var second error
	_, err := p.restoreTo(to, restore.Options{Verify: restore.VerifyNever, Step: func(stage string) error {
		if stage == "data" {
			_, second = p.restoreTo(to, restore.Options{})
		}
		return nil
	}})
	var target *restore.TargetError
	if err != nil || !errors.As(second, &target) {
		t.Errorf("first restore: %v, second: %v", err, second)
	}
}

func TestAttributes(t *testing.T) {
	env, p := small(t)
	to := t.TempDir() // exists, and so keeps its own mode
	if _, err := p.restoreTo(to, restore.Options{}); err != nil {
		t.Fatal(err)
	}
	was, err := os.Stat(filepath.Join(env.Home, "notes.txt"))
	if err != nil {
		t.Fatal(err)
	}
	is, err := os.Stat(filepath.Join(to, "notes.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if is.Mode() != was.Mode() || !is.ModTime().Equal(was.ModTime()) || is.Size() != was.Size() {
		t.Errorf("restored %v %v %d, was %v %v %d", is.Mode(), is.ModTime(), is.Size(), was.Mode(), was.ModTime(), was.Size())
	}
	entries, err := os.ReadDir(to)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && e.Name() != localenv.OriginName || strings.HasPrefix(e.Name(), "__db") {
			t.Errorf("left behind: %s", e.Name())
		}
	}
	same(t, env.Home, to, "")
}
