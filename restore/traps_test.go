package restore_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/restore"
)

// TestWhereNewFilesGo makes a database after the backup in every place that an environment can have for it, and looks where it is
// after the restore.
func TestWhereNewFilesGo(t *testing.T) {
	old := envtest.Database{File: "old.db", Method: "btree", Records: 200}
	for name, c := range map[string]struct {
		spec  envtest.Spec
		file  string // as the application names it
		place string // where it must be
	}{
		"home":              {envtest.Spec{}, "new.db", "new.db"},
		"folder in home":    {envtest.Spec{}, "made/new.db", "made/new.db"},
		"data directory":    {envtest.Spec{DataDirs: []string{"data1", "data2"}}, "new.db", "data1/new.db"},
		"folder in it":      {envtest.Spec{DataDirs: []string{"data1"}}, "made/new.db", "data1/made/new.db"},
		"create directory":  {envtest.Spec{DataDirs: []string{"data1", "data2"}, CreateDir: "data2", LogDir: "log"}, "new.db", "data2/new.db"},
		"added, so home":    {envtest.Spec{AddDirs: []string{"data1"}}, "new.db", "new.db"},
		"home by name":      {envtest.Spec{DataDirs: []string{"."}}, "new.db", "new.db"},
		"one in the other":  {envtest.Spec{DataDirs: []string{"data", "data/inner"}, CreateDir: "data/inner"}, "new.db", "data/inner/new.db"},
		"with extents":      {envtest.Spec{DataDirs: []string{"data1"}, LogDir: "data1"}, "new.db", "data1/new.db"},
		"log removed early": {envtest.Spec{LogFlags: []string{"db_log_auto_remove"}, LogFileSize: 200 << 10}, "new.db", "new.db"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := c.spec
			spec.Databases = []envtest.Database{old}
			env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), spec)
			p := newPacker(t, "")
			p.full(env.Home, nil)
			made := envtest.Database{File: c.file, Method: "btree", Records: 500}
			if name == "with extents" {
				made.Method, made.Extent = "queue", 2
			}
			if err := os.MkdirAll(filepath.Dir(filepath.Join(env.Home, c.place)), 0o755); err != nil {
				t.Fatal(err)
			}
			h := envtest.StartHold(t, env)
			h.Create("", made)
			h.Put("", "old.db", 1000, 100)
			h.FlushLog()
			p.ship(env.Home)
			h.Close()
			to := filepath.Join(t.TempDir(), "to")
			res, err := p.restoreTo(to, restore.Options{Verify: restore.VerifyAlways})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(to, c.place)); err != nil || fmt.Sprint(res.Created) != "["+c.place+"]" {
				t.Errorf("new database: %v, result says %v", err, res.Created)
			}
			same(t, env.Home, to, "")
			bothOpen(t, to)
		})
	}
}

// bothOpen joins a restored home as an application does, with regions, a transaction and a checkpoint.
func bothOpen(t *testing.T, home string) {
	t.Helper()
	h := envtest.StartHold(t, envtest.Open(home, ""))
	h.Put("", "old.db", 50000, 10)
	h.Checkpoint()
}

// TestDirectoriesThatNobodyConfigured is an application that sets its data directory by itself: DB_CONFIG is not there to tell.
func TestDirectoriesThatNobodyConfigured(t *testing.T) {
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{
		DataDirs: []string{"data"}, Databases: []envtest.Database{{File: "old.db", Method: "btree", Records: 200}},
	})
	config := filepath.Join(env.Home, "DB_CONFIG")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	p := newPacker(t, "")
	if err := os.Remove(config); err != nil {
		t.Fatal(err)
	}
	p.full(env.Home, nil)
	write(t, config, string(text))
	h := envtest.StartHold(t, env)
	h.Put("", "old.db", 1000, 500)
	h.Create("", envtest.Database{File: "new.db", Method: "hash", Records: 500})
	h.FlushLog()
	h.Close()
	p.ship(env.Home)
	to := filepath.Join(t.TempDir(), "to")
	if _, err := p.restoreTo(to, restore.Options{}); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(to, "DB_CONFIG"), string(text))
	same(t, env.Home, to, "")
}

// stock lays the same files and log down for the engine's own program and runs it.
func stock(t *testing.T, before, home string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "stock")
	for _, args := range [][]string{{"cp", "-a", before, to}, {"sh", "-c", `rm -f "$1"/__db.00* "$1"/log.*; cp -p "$2"/log.* "$1"`, "-", to, home}, {"db5.3_recover", "-c", "-h", to}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", args[0], err, out)
		}
	}
	return to
}

func copyHome(t *testing.T, home string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "before")
	if out, err := exec.Command("cp", "-a", home, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return to
}

// TestRenames are histories of names after a backup that the engine's own recovery loses databases over, without a word.
func TestRenames(t *testing.T) {
	fresh := envtest.Database{File: "new.db", Method: "btree", Records: 1000}
	for name, history := range map[string]func(*envtest.TestHold){
		"made and renamed": func(h *envtest.TestHold) {
			h.Create("", fresh)
			h.Rename("", "new.db", "renamed.db")
		},
		"made, renamed and written": func(h *envtest.TestHold) {
			h.Create("", fresh)
			h.Rename("", "new.db", "renamed.db")
			h.Put("", "renamed.db", 5000, 500)
		},
		"renamed twice": func(h *envtest.TestHold) {
			h.Rename("", "old.db", "p.db")
			h.Put("", "p.db", 5000, 100)
			h.Rename("", "p.db", "q.db")
		},
		"there and back": func(h *envtest.TestHold) {
			h.Rename("", "old.db", "p.db")
			h.Rename("", "p.db", "old.db")
			h.Put("", "old.db", 5000, 100)
		},
		"exchanged": func(h *envtest.TestHold) {
			h.Create("", fresh)
			h.Rename("", "old.db", "x.db")
			h.Rename("", "new.db", "old.db")
			h.Rename("", "x.db", "new.db")
		},
		"a queue with extents": func(h *envtest.TestHold) {
			h.Rename("", "queue.db", "line.db")
			h.Put("", "line.db", 0, 300)
			h.Rename("", "line.db", "row.db")
			h.Consume("", "row.db", 250)
		},
		"exchanged in one transaction": func(h *envtest.TestHold) {
			h.Create("", fresh)
			h.Begin("t")
			h.Rename("t", "old.db", "x.db")
			h.Rename("t", "new.db", "old.db")
			h.Rename("t", "x.db", "new.db")
			h.Commit("t")
		},
		"made and renamed in one transaction": func(h *envtest.TestHold) {
			h.Begin("t")
			h.Create("t", fresh)
			h.Rename("t", "new.db", "renamed.db")
			h.Commit("t")
		},
	} {
		t.Run(name, func(t *testing.T) {
			env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{Databases: []envtest.Database{
				{File: "old.db", Method: "btree", Records: 800}, {File: "queue.db", Method: "queue", Extent: 4, Records: 200},
			}})
			p := newPacker(t, "")
			p.full(env.Home, nil)
			before := copyHome(t, env.Home)
			h := envtest.StartHold(t, env)
			history(h)
			h.FlushLog()
			p.ship(env.Home)
			h.Close()
			want := dump(t, env.Home, "")
			if len(envtest.Diff(want, dump(t, stock(t, before, env.Home), ""))) == 0 {
				t.Error("db5.3_recover -c is right: the test shows nothing")
			}
			to := filepath.Join(t.TempDir(), "to")
			if _, err := p.restoreTo(to, restore.Options{}); err != nil {
				t.Fatal(err)
			}
			holds(t, want, to, "")
		})
	}
}

// TestRemoveInFlight has a transaction in progress at the end of the log that removes a database. Home is its data directory, so the engine's
// own recovery sweeps it away.
func TestRemoveInFlight(t *testing.T) {
	for _, when := range []string{"before the backup", "after the backup"} {
		t.Run(when, func(t *testing.T) {
			env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{Databases: []envtest.Database{
				{File: "a.db", Method: "btree", Records: 800}, {File: "b.db", Method: "btree", Records: 10},
			}})
			want := dump(t, env.Home, "")
			p := newPacker(t, "")
			h := envtest.StartHold(t, env)
			remove := func() {
				h.Begin("t")
				h.Remove("t", "a.db")
				h.FlushLog()
			}
			if when == "before the backup" {
				remove()
			}
			p.full(env.Home, nil)
			before := copyHome(t, env.Home)
			if when == "after the backup" {
				remove()
				p.ship(env.Home)
			}
			log := copyHome(t, env.Home)
			h.Abort("t")
			if when == "before the backup" {
				if len(envtest.Diff(want, dump(t, stock(t, before, log), ""))) == 0 {
					t.Error("db5.3_recover -c is right: the test shows nothing")
				}
			}
			to := filepath.Join(t.TempDir(), "to")
			if _, err := p.restoreTo(to, restore.Options{}); err != nil {
				t.Fatal(err)
			}
			same(t, env.Home, to, "")
		})
	}
}

// TestFileThatWasBegun is a backup that met a file which a transaction had just created, still empty, and a log that says no more of it: it may be missing.
func TestFileThatWasBegun(t *testing.T) {
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{Databases: []envtest.Database{{File: "old.db", Method: "btree", Records: 200}}})
	want := dump(t, env.Home, "")
	h := envtest.StartHold(t, env)
	h.Checkpoint()
	h.Begin("x")
	h.Create("x", envtest.Database{File: "new.db", Method: "btree"})
	h.FlushLog()
	h.Kill()
	if err := os.Remove(filepath.Join(env.Home, "new.db")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(env.Home, cutAfterCreate(t, env.Home)), "")
	p := newPacker(t, "")
	p.full(env.Home, nil)
	to := filepath.Join(t.TempDir(), "to")
	if _, err := p.restoreTo(to, restore.Options{}); err != nil {
		t.Fatal(err)
	}
	holds(t, want, to, "")
}

// cutAfterCreate ends the log after the last record that creates a file, and tells which.
func cutAfterCreate(t *testing.T, home string) (name string) {
	t.Helper()
	log, err := localenv.OpenLogDir(t.Context(), home, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var end bdb.LSN
	_, err = log.Walk(t.Context(), bdb.LSN{File: 1}, func(r *bdb.Record) error {
		if c, ok := r.FileCreate(); ok {
			name, end = c.Name, r.Next()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(home, fmt.Sprintf("log.%010d", end.File)), int64(end.Offset)); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestLostFile takes a database out of a manifest: recovery ends well, but something is missing. Unless the log has not heard of it
// since the backup began: then it was removed without a transaction, which the log does not tell.
func TestLostFile(t *testing.T) {
	env, p := small(t)
	h := envtest.StartHold(t, env)
	h.Put("", "a.db", 9000, 10)
	h.FlushLog()
	p.full(env.Home, func(m *manifest.Manifest) {
		m.Files = slices.DeleteFunc(m.Files, func(f manifest.File) bool { return f.Path == "a.db" })
	})
	res, err := p.restoreTo(filepath.Join(t.TempDir(), "to"), restore.Options{})
	if err != nil || len(res.Notes) != 1 || !strings.Contains(res.Notes[0], "a.db") {
		t.Errorf("not heard of any more: %+v, %v", res, err)
	}
	h.Put("", "a.db", 9100, 10)
	h.FlushLog()
	p.ship(env.Home)
	_, err = p.restoreTo(filepath.Join(t.TempDir(), "to"), restore.Options{})
	var missing *restore.MissingError
	if !errors.As(err, &missing) || fmt.Sprint(missing.Missing) != "[a.db]" {
		t.Errorf("in use since: %v", err)
	}
}

func TestEncrypted(t *testing.T) {
	const password = "correct horse"
	for _, known := range []bool{true, false} { // whether the backup is made with the password
		env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{Password: password, Databases: []envtest.Database{
			{File: "a.db", Method: "btree", Records: 800}, {File: "q.db", Method: "queue", Extent: 2, Records: 300},
		}})
		p := newPacker(t, "")
		p.encrypted = true
		if known {
			p.key = bdb.NewKey(password)
		}
		p.full(env.Home, nil)
		h := envtest.StartHold(t, env)
		h.Put("", "a.db", 9000, 300)
		h.Create("", envtest.Database{File: "new.db", Method: "btree", Records: 300})
		h.Rename("", "new.db", "renamed.db")
		h.FlushLog()
		p.ship(env.Home)
		h.Close()
		to := filepath.Join(t.TempDir(), "to")
		for _, wrong := range []string{"", "wrong"} {
			opt := restore.Options{}
			opt.Engine.Password = wrong
			if _, err := p.restoreTo(to, opt); !errors.Is(err, restore.ErrPassword) {
				t.Errorf("password %q: %v", wrong, err)
			}
			if _, err := os.Stat(to); !os.IsNotExist(err) {
				t.Errorf("password %q: the target was touched", wrong)
			}
		}
		opt := restore.Options{}
		opt.Engine.Password = password
		res, err := p.restoreTo(to, opt)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(res.Created) != "[renamed.db]" {
			t.Errorf("created: %v", res.Created)
		}
		same(t, env.Home, to, password)
	}
}

func TestLSNTarget(t *testing.T) {
	env, p := small(t)
	h := envtest.StartHold(t, env)
	h.Put("", "a.db", 9000, 10)
	cut := h.FlushLog()
	h.Checkpoint()
	at := copyHome(t, env.Home)
	h.Put("", "a.db", 9500, 10)
	h.FlushLog()
	p.ship(env.Home)
	h.Close()
	for _, lsn := range []bdb.LSN{cut, {File: cut.File, Offset: cut.Offset + 1}} {
		plan, err := restore.MakePlan(t.Context(), p.repo, envName, restore.Target{LSN: lsn})
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(t.TempDir(), "to")
		res, err := restore.Restore(t.Context(), p.repo, plan, restore.Options{To: to})
		if err != nil || res.End != cut {
			t.Fatalf("to %s: %+v, %v", lsn, res, err)
		}
		same(t, at, to, "")
	}
}
