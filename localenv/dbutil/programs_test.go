package dbutil

import (
	"os"
	"path/filepath"
	"testing"

	"bdbvault/localenv/engine"
)

func TestFindPrograms(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"db4.8_recover", "db5.3_recover", "db53_recover", "db_recover-18.1", "db6_recovery", "recover", "db_recover.txt"} {
		touch(t, filepath.Join(dir, name), 0o755)
	}
	touch(t, filepath.Join(dir, "db_recover"), 0o644) // not a program
	find := func(bin, want string) {
		t.Helper()
		p, err := findPrograms(bin)
		if err != nil || p.path("verify") != want {
			t.Errorf("in %s: %s, %v", bin, p.path("verify"), err)
		}
	}
	find(dir, filepath.Join(dir, "db_verify-18.1"))
	find(filepath.Join(dir, "db4"), filepath.Join(dir, "db4.8_verify"))
	find(filepath.Join(dir, "db5.3_"), filepath.Join(dir, "db5.3_verify"))
	t.Setenv("PATH", "/nowhere:"+dir)
	find("", filepath.Join(dir, "db_verify-18.1"))
	if err := os.Chmod(filepath.Join(dir, "db_recover"), 0o755); err != nil {
		t.Fatal(err)
	}
	find("", filepath.Join(dir, "db_verify"))
	for _, bin := range []string{t.TempDir(), "/nowhere/db"} {
		if p, err := findPrograms(bin); err == nil {
			t.Errorf("found %+v in %s", p, bin)
		}
	}
}

func touch(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, nil, mode); err != nil {
		t.Fatal(err)
	}
}

// TestOldRelease wraps db_recover into one that does not know -f.
func TestOldRelease(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\ncase \"$*\" in *-f*) echo 'usage: db_recover [-ceVv] [-h home]' >&2; exit 1;; esac\nexec db5.3_recover \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "db_recover"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	e, err := New(engine.Options{DBBin: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Recover(t.Context(), t.TempDir(), engine.RecoverOptions{}); err != nil {
		t.Error(err)
	}
}
