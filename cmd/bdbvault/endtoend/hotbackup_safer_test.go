package endtoend

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bdbvault/localenv/envtest"
)

// TestHotbackupSafer is where the two programs differ.
func TestHotbackupSafer(t *testing.T) {
	flat := []string{"-h", "home", "-b", "copy"}
	two := envtest.Spec{DataDirs: []string{"a"}, AddDirs: []string{"b"}, Databases: []envtest.Database{{File: "x.db", Method: "btree", Records: 50}}}
	refused := func(d *duel, words string, args ...string) {
		t.Helper()
		s := d.runOurs(args...)
		if s.code != 1 || !strings.Contains(s.err, words) {
			t.Errorf("exit code 1 and %q are wanted of %s", words, s)
		}
		if err := envtest.Checkpoint(d.ours+"/home", ""); err != nil {
			t.Errorf("after %s: %v", s, err)
		}
	}

	t.Run("nobody has it open", func(t *testing.T) {
		d := newDuel(t, arena(t, two, func(dir string) { removeRegions(t, dir+"/home") }))
		if s := d.runStock(flat...); s.code == 0 {
			t.Errorf("an environment without regions is copied by %s", s)
		}
		if s := d.runOurs(flat...); s.code != 0 || len(contents(t, d.ours+"/copy", "")) != 1 {
			t.Error(s)
		}
	})
	t.Run("two files of one name", func(t *testing.T) {
		d := newDuel(t, arena(t, two, func(dir string) { write(t, dir+"/home/b/notes.txt", []byte("others")) }))
		if s := d.runStock(flat...); s.code != 0 {
			t.Error(s)
		}
		refused(d, "home/a/notes.txt and home/b/notes.txt would both become copy/notes.txt", flat...)
		if left := entries(t, d.ours+"/copy"); len(left) > 0 {
			t.Errorf("the refused copy has %s", left)
		}
		if s := d.runOurs("-Dh", "home", "-b", "copy"); s.code != 0 {
			t.Error(s)
		}
	})
	t.Run("a folder below", func(t *testing.T) {
		deep := two
		deep.LogFileSize = 64 << 10
		deep.Databases = []envtest.Database{{File: "x.db", Method: "btree", Records: 50}, {File: "sub/deep.db", Method: "hash", Records: 50}}
		d := newDuel(t, arena(t, deep, nil))
		d.both(func(dir string) {
			shell(t, dir, "mkdir", "-p", "home/old")
			shell(t, dir, "cp", "-a", "home/a", "home/DB_CONFIG", "home/old")
		})
		d.both(d.grow)
		args := []string{"-ch", "home", "-b", "copy"} // with the log of its making at hand, recovery makes the database anew
		stock, ours := d.runStock(args...), d.runOurs(args...)
		if stock.code != 0 || ours.code != 0 || len(contents(t, d.stock+"/copy", "")) != 2 || len(contents(t, d.ours+"/copy", "")) != 3 {
			t.Error(stock, ours)
		}
		if _, err := os.Stat(d.ours + "/copy/old"); err == nil {
			t.Error("an older copy below home was copied")
		}
	})
	t.Run("out of the copy", func(t *testing.T) {
		outside := two
		outside.DataDirs = []string{"../a"}
		d := newDuel(t, arena(t, outside, nil))
		refused(d, "directory ../a leads out of the home", "-Dh", "home", "-b", "copy")
	})
	t.Run("an update of half a copy", func(t *testing.T) {
		d := newDuel(t, arena(t, two, nil))
		half := &copying{home: d.ours + "/home", to: d.ours + "/copy", step: func(name string) error {
			if name == "pass" { // the files and the log are there, not recovered
				return errHalted
			}
			return nil
		}}
		shell(t, d.ours, "mkdir", "copy")
		if err := half.run(t); !errors.Is(err, errHalted) {
			t.Fatal(err)
		}
		refused(d, "a whole copy into it was begun and not finished", "-uh", "home", "-b", "copy")
		refused(d, "is the environment's own directory", "-h", "home", "-b", "home")
		if s := d.runOurs(flat...); s.code != 0 {
			t.Error(s)
		}
		if s := d.runOurs("-uh", "home", "-b", "copy"); s.code != 0 {
			t.Error(s)
		}
	})
	t.Run("a copy that is open", func(t *testing.T) {
		d := newDuel(t, arena(t, two, nil))
		if s := d.runOurs(flat...); s.code != 0 {
			t.Fatal(s)
		}
		h := envtest.StartHold(t, envtest.Open(d.ours+"/copy", ""))
		refused(d, "the environment is in use", flat...)
		refused(d, "the environment is in use", "-uh", "home", "-b", "copy")
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("the home is gone before an update has ended", func(t *testing.T) {
		d := newDuel(t, arena(t, two, nil))
		if s := d.runOurs("-Dh", "home", "-b", "copy"); s.code != 0 {
			t.Fatal(s)
		}
		d.grow(d.ours)
		stop := &copying{home: d.ours + "/home", to: d.ours + "/copy", update: true, step: func(name string) error {
			if name == "recovered" {
				return errHalted
			}
			return nil
		}}
		if err := stop.run(t); !errors.Is(err, errHalted) {
			t.Fatal(err)
		}
		shell(t, d.ours, "mv", "home", "gone")
		if s := d.runOurs("-Duh", "home", "-b", "copy"); s.code != 1 || !strings.Contains(s.err, "it is finished with the log that it had") {
			t.Error(s)
		}
		if n := len(contents(t, d.ours+"/copy", "")); n != 2 {
			t.Errorf("%d databases in the copy", n)
		}
	})
	t.Run("into itself", func(t *testing.T) {
		d := newDuel(t, arena(t, two, nil))
		refused(d, "is the environment's own directory", "-h", "home", "-b", "home")
		refused(d, "is the environment's own directory", "-h", "home", "-b", "home/a")
	})
	t.Run("a wrong log directory", func(t *testing.T) {
		d := newDuel(t, arena(t, two, nil))
		refused(d, "no log files", "-l", "a", "-h", "home", "-b", "copy")
		if s := d.runStock("-l", "a", "-h", "home", "-b", "copy"); s.code == 0 {
			t.Error(s)
		}
		if err := envtest.Open(d.stock+"/home", "").GrowLog(1000, 1); err == nil {
			t.Error("the stock program left the environment in order")
		}
		if err := envtest.Open(d.ours+"/home", "").GrowLog(1000, 1); err != nil {
			t.Error(err)
		}
	})
	t.Run("made and renamed since the last copy", func(t *testing.T) {
		d := newDuel(t, arena(t, two, nil))
		d.both(func(dir string) {
			shell(t, dir, stockTool, "-Dh", "home", "-b", "copy")
			h := envtest.StartHold(t, envtest.Open(dir+"/home", ""))
			h.Create("", envtest.Database{File: "draft.db", Method: "btree"})
			h.Put("", "draft.db", 0, 20)
			h.Rename("", "draft.db", "final.db")
			h.FlushLog()
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
		})
		stock, ours := d.runStock("-Duh", "home", "-b", "copy"), d.runOurs("-Duh", "home", "-b", "copy")
		if stock.code != 0 || ours.code != 0 || len(contents(t, d.stock+"/copy", "")) != 1 || len(contents(t, d.ours+"/copy", "")) != 2 {
			t.Error(stock, ours)
		}
	})
}

func removeRegions(t *testing.T, home string) {
	t.Helper()
	list, err := filepath.Glob(home + "/__db.0*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range list {
		write(t, name, nil)
	}
}

// TestHotbackupKilled kills hotbackup at random moments, while writers are at work. They go on, and their next checkpoint ends; the same command
// succeeds afterwards, and its copy holds every commit from before it.
func TestHotbackupKilled(t *testing.T) {
	for _, seed := range seeds(t, 1) {
		random := rand.New(rand.NewPCG(seed, 0))
		t.Logf("seed %d", seed)
		h := newHotSiege(t)
		typical := h.timeOf([]string{h.link, "-h", h.home, "-b", h.copies[0]})
		h.timeOf([]string{h.link, "-Dh", h.home, "-b", h.copies[1]})
		for round := range 8 * torture() {
			args := []string{"-h", h.home, "-b", h.copies[0]}
			if round%4 != 0 {
				args = []string{"-Dcuh", h.home, "-b", h.copies[1]}
			}
			if h.killAt(append([]string{h.link}, args...), time.Duration(random.Int64N(int64(typical)))) {
				h.unharmed()
			}
			h.again(args)
		}
	}
}

// hotSiege is a live environment and two copies of it: one that is made anew, and one that is updated.
type hotSiege struct {
	*field
	link   string
	copies [2]string
}

func newHotSiege(t *testing.T) *hotSiege {
	t.Helper()
	top := t.TempDir()
	path, err := product()
	if err != nil {
		t.Fatal(err)
	}
	h := &hotSiege{link: filepath.Join(top, "db_hotbackup"), copies: [2]string{filepath.Join(top, "flat"), filepath.Join(top, "kept")}}
	if err := os.Symlink(path, h.link); err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(top, "home")
	env := envtest.Create(t, home, envtest.Spec{DataDirs: []string{"data"}, LogFileSize: 256 << 10, Cache: 2 << 20, Bank: &envtest.Bank{},
		Databases: []envtest.Database{{File: "queue.db", Method: "queue", Extent: 4, Records: 500}}})
	h.field = &field{vault: &vault{t: t, home: home}, load: envtest.StartBank(t, env, envtest.BankOptions{Processes: 2, Rate: 400})}
	waitCommits(t, h.load, 100)
	return h
}

// unharmed proves that writers and checkpoints go on.
func (h *hotSiege) unharmed() {
	h.t.Helper()
	waitCommits(h.t, h.load, h.load.LastCommitted()+20)
	if err := envtest.Checkpoint(h.home, ""); err != nil {
		h.t.Errorf("checkpoint after a kill: %v", err)
	}
}

// again runs the same command to its end and checks the copy.
func (h *hotSiege) again(args []string) {
	h.t.Helper()
	last := h.load.LastCommitted()
	if err := envtest.Checkpoint(h.home, ""); err != nil { // it also has the log written
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), limit)
	defer cancel()
	for {
		out, err := exec.CommandContext(ctx, h.link, args...).CombinedOutput()
		if err == nil {
			break
		}
		// The engine of the run that was killed ends by itself, a moment later.
		if text := string(out); !strings.Contains(text, "another process") && !strings.Contains(text, "is in use") {
			h.t.Fatalf("%s: %v: %s", args, err, out)
		}
	}
	h.holds(args[len(args)-1], last)
}

// holds checks a copy of the copy, which has to stay as it was left.
func (h *hotSiege) holds(dir string, atLeast uint64) uint64 {
	h.t.Helper()
	opened := filepath.Join(h.t.TempDir(), "opened")
	shell(h.t, "/", "cp", "-a", dir, opened)
	report, err := envtest.CheckBank(opened, "")
	if err == nil {
		err = report.Err()
	}
	if err != nil {
		h.t.Fatalf("%s: %v", dir, err)
	}
	if report.LastCommit < atLeast {
		h.t.Errorf("%s ends with commit %d, and %d was made before it", dir, report.LastCommit, atLeast)
	}
	if names := strings.Join(entries(h.t, dir), " "); strings.Contains(names, ".bdbvault") {
		h.t.Errorf("left in the copy: %s", names)
	}
	return report.LastCommit
}
