package enginetest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"bdbvault/localenv/engine"
	"bdbvault/localenv/envtest"
)

// closedHome makes a home of all shapes that nobody has open.
func closedHome(t *testing.T, spec envtest.Spec) string {
	t.Helper()
	if spec.Databases == nil {
		spec.Databases = envtest.AllShapes(4096, true)
	}
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), spec)
	return copyHome(t, env.Home)
}

// databaseFiles are the files of AllShapes that can be verified by themselves.
func databaseFiles() (files []string) {
	for _, d := range envtest.AllShapes(4096, false) {
		if d.Name == "" || d.Name == "first" {
			files = append(files, d.File)
		}
	}
	return append(files, "__dbp.partition.db.000")
}

func (s Subject) testVerify(t *testing.T) {
	home := closedHome(t, envtest.Spec{DataDirs: []string{"data"}})
	var notes notebook
	c := s.start(t, engine.Options{Note: notes.add})
	for _, file := range databaseFiles() {
		if err := c.Verify(t.Context(), home, file); err != nil {
			t.Error(err)
		}
		if err := c.Verify(t.Context(), t.TempDir(), filepath.Join(home, "data", file)); err != nil {
			t.Error("by absolute path:", err)
		}
	}
	if got := notes.all(); len(got) > 0 {
		t.Errorf("notes about good databases: %q", got)
	}
	err := c.Verify(t.Context(), home, "missing.db")
	if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, engine.ErrDamaged) {
		t.Errorf("a missing file: %v", err)
	}
}

type notebook struct {
	mu    sync.Mutex
	lines []string
}

func (n *notebook) add(line string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, line)
}

func (n *notebook) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lines
}

func (s Subject) testVerifyOwnOrder(t *testing.T) {
	home := t.TempDir()
	probe(t, "custom", home)
	var notes notebook
	c := s.start(t, engine.Options{Note: notes.add})
	for _, file := range []string{"backwards.db", "hash.db", "dups.db", "callback.db"} {
		if err := c.Verify(t.Context(), home, file); err != nil {
			t.Error(err)
		}
	}
	got := notes.all()
	if len(got) != 3 || !strings.HasPrefix(got[0], "backwards.db:") || !strings.HasPrefix(got[1], "hash.db:") || !strings.HasPrefix(got[2], "dups.db:") {
		t.Errorf("notes: %q", got)
	}
	damage(t, filepath.Join(home, "backwards.db"), 2*4096+4)
	want(t, c.Verify(t.Context(), home, "backwards.db"), engine.ErrDamaged, "backwards.db")
}

// damage overwrites eight bytes.
func damage(t *testing.T, path string, offset int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8"), offset); err != nil {
		t.Fatal(err)
	}
}

func (s Subject) testVerifyDamage(t *testing.T) {
	damages := []struct {
		name   string
		verify string
		spoil  func(t *testing.T, home string)
	}{
		{"page", "btree.db", func(t *testing.T, home string) { damage(t, filepath.Join(home, "btree.db"), 3*4096+2000) }},
		{"metadata", "hash.db", func(t *testing.T, home string) { damage(t, filepath.Join(home, "hash.db"), 80) }},
		{"first partition", "partition.db", func(t *testing.T, home string) { damage(t, filepath.Join(home, "__dbp.partition.db.000"), 4096+20) }},
		{"missing partition", "partition.db", func(t *testing.T, home string) { remove(t, filepath.Join(home, "__dbp.partition.db.001")) }},
		{"extent", "extents.db", func(t *testing.T, home string) { damage(t, lastExtent(t, home), 20) }},
		{"empty", "heap.db", func(t *testing.T, home string) { truncate(t, filepath.Join(home, "heap.db"), 0) }},
		{"cut", "recno.db", func(t *testing.T, home string) { truncate(t, filepath.Join(home, "recno.db"), 2*4096) }},
		{"noise", "btree.db", func(t *testing.T, home string) {
			if err := os.WriteFile(filepath.Join(home, "btree.db"), []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, checksum := range []bool{false, true} {
		home := closedHome(t, envtest.Spec{Databases: envtest.AllShapes(4096, checksum)})
		c := s.start(t, engine.Options{})
		for _, d := range damages {
			if !checksum && d.name == "page" {
				continue // content without a checksum is nobody's to judge
			}
			bad := copyHome(t, home)
			d.spoil(t, bad)
			err := c.Verify(t.Context(), bad, d.verify)
			if !errors.Is(err, engine.ErrDamaged) {
				t.Errorf("%s, checksums %t: %v", d.name, checksum, err)
			}
		}
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// lastExtent is one in use: the engine doesn't look at pages whose records were all consumed.
func lastExtent(t *testing.T, home string) string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(home, "__dbq.extents.db.?"))
	if len(found) == 0 {
		t.Fatal("the queue has no extents")
	}
	return found[len(found)-1]
}

const password = "open sesame"

// testPassword asks for everything with the right password, a wrong one, none, and one too many.
func (s Subject) testPassword(t *testing.T) {
	if !s.TakesPassword {
		_, err := engine.Start(t.Context(), engine.Options{Kind: s.Kind, Password: password})
		want(t, err, engine.ErrNotSupported, "argument")
		return
	}
	sealed := envtest.Create(t, filepath.Join(t.TempDir(), "sealed"), envtest.Spec{Password: password, Databases: envtest.AllShapes(4096, true)}).Home
	plain := envtest.Create(t, filepath.Join(t.TempDir(), "plain"), envtest.Spec{Databases: envtest.AllShapes(4096, true)}).Home
	cases := []struct {
		name, home, given string
		verifies, opens   bool
	}{
		{"right", sealed, password, true, true},
		{"wrong", sealed, "sesame open", false, false},
		{"none", sealed, "", false, false},
		{"too many", plain, password, true, false}, // an unencrypted file may lie in an encrypted environment
	}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			expect := func(what string, ok bool, err error) {
				t.Helper()
				if ok && err != nil || !ok && !errors.Is(err, engine.ErrPassword) {
					t.Errorf("%s: %v", what, err)
				}
			}
			c := s.start(t, engine.Options{Password: k.given})
			target := copyHome(t, k.home)
			expect("recover", k.opens, c.Recover(t.Context(), scratch(t, target), engine.RecoverOptions{}))
			expect("verify", k.verifies, c.Verify(t.Context(), target, "btree.db"))
			live := s.start(t, engine.Options{Password: k.given, Home: k.home})
			expect("checkpoint", k.opens, live.Checkpoint(t.Context()))
		})
	}
	damage(t, filepath.Join(sealed, "btree.db"), 100)
	c := s.start(t, engine.Options{Password: password})
	want(t, c.Verify(t.Context(), copyHome(t, sealed), "btree.db"), engine.ErrDamaged, "btree.db")
}
