package endtoend

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"bdbvault/localenv/envtest"
)

// room is a small file system of its own in a mount namespace of its own: it vanishes with the test, however that ends.
type room struct {
	t    *testing.T
	dir  string
	pid  int
	wrap []string // before commands that shall see it
}

// newRoom makes a room of a size as mount takes it. Without the right to mount, the test is skipped.
func newRoom(t *testing.T, size string) *room {
	t.Helper()
	r := &room{t: t, dir: t.TempDir()}
	enter := []string{"-m"}
	if os.Geteuid() != 0 {
		enter = append(enter, "-r")
	}
	script := `mount -t tmpfs -o "size=$1" room "$2" && echo ready && exec cat`
	holder := exec.Command("unshare", append(enter, "sh", "-c", script, "sh", size, r.dir)...)
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	holder.Stderr = &errs
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		holder.Wait() // it ends with its input
	})
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		in.Close()
		holder.Wait()
		t.Skipf("needs the right to mount a tmpfs: %s", errs.String())
	}
	r.pid = holder.Process.Pid
	r.wrap = []string{"nsenter", "-t", strconv.Itoa(r.pid), "-m"}
	if os.Geteuid() != 0 {
		r.wrap = append(r.wrap, "-U", "--preserve-credentials")
	}
	return r
}

// remount changes its size, or makes it read-only (ro).
func (r *room) remount(option string) {
	r.t.Helper()
	argv := append(r.wrap, "mount", "-o", "remount,"+option, r.dir)
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		r.t.Fatalf("%v: %s", err, out)
	}
}

// path is where the test itself, which is outside, finds something in the room.
func (r *room) path(name string) string {
	return filepath.Join("/proc", strconv.Itoa(r.pid), "root", r.dir, name)
}

// in makes commands run where the room is.
func (c *cli) in(r *room) *cli {
	o := *c
	o.wrap = r.wrap
	return &o
}

// storedEnv makes an environment, and a repository with a backup of it and some log.
func storedEnv(t *testing.T, c *cli) (*cli, *envtest.Environment) {
	t.Helper()
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{
		DataDirs: []string{"data"}, LogFileSize: 256 << 10,
		Databases: []envtest.Database{
			{File: "btree.db", Method: "btree", Records: 1000, Overflow: true},
			{File: "queue.db", Method: "queue", Extent: 4, Records: 100},
		},
	})
	c = c.with("BDBVAULT_REPOSITORY=file://"+filepath.Join(t.TempDir(), "repository"), "DB_HOME="+env.Home)
	c.must("init")
	c.must("backup")
	hold := envtest.StartHold(t, env)
	hold.Put("", "btree.db", 100_000, 1000)
	hold.Create("", envtest.Database{File: "new.db", Method: "btree", Records: 2000})
	hold.Checkpoint()
	hold.Close()
	c.must("ship")
	return c, env
}

// untilRoom repeats a command with more and more room. As long as there is too little it fails and says so.
func (r *room) untilRoom(c *cli, kib int, words []string, args ...string) (failures []string) {
	r.t.Helper()
	for ; ; kib += min(kib/2, 128) {
		r.remount(fmt.Sprintf("size=%dk", kib))
		s := c.run(args...)
		if s.code == 0 {
			return failures
		}
		failures = append(failures, s.err)
		if s.code != failed {
			r.t.Fatalf("in %d KiB: %s", kib, s)
		}
		for _, w := range words {
			if !strings.Contains(s.err, w) {
				r.t.Errorf("in %d KiB %q is missing in %s", kib, w, s)
			}
		}
		if kib > 1<<20 {
			r.t.Fatalf("a gibibyte is not enough: %s", s)
		}
	}
}

// TestFullDisk has too little room, by and by less too little: for what is restored, for the repository, for the state. Each time the same command goes
// on when there is more.
func TestFullDisk(t *testing.T) {
	r := newRoom(t, "64k")
	c, env := storedEnv(t, newCLI(t).in(r))
	truth := contents(t, env.Home, "")
	full := []string{"o space left on device", "The disk is full: make room. The same command then goes on."}

	to := filepath.Join(r.dir, "home")
	failures := strings.Join(r.untilRoom(c, 512, full, "restore", "--to", to), "")
	for _, during := range []string{"data/btree.db: ", "object home/logs/", "recovery up to LSN"} {
		if !strings.Contains(failures, during) {
			t.Errorf("it never failed with %q, only:\n%s", during, failures)
		}
	}
	if diff := envtest.Diff(truth, contents(t, r.path("home"), "")); len(diff) > 0 {
		t.Error(diff)
	}
	if err := os.RemoveAll(r.path("home")); err != nil {
		t.Fatal(err)
	}

	repo := c.with("BDBVAULT_REPOSITORY=file://" + filepath.Join(r.dir, "repository"))
	stored := []string{"no space left", "Make room in the store. What is stored already need not be sent again."}
	repo.must("init")
	if n := len(r.untilRoom(repo, 64, stored, "backup")); n < 3 {
		t.Errorf("the backup failed %d times only", n)
	}
	outside := filepath.Join(t.TempDir(), "home")
	repo.must("restore", "--to", outside)
	if diff := envtest.Diff(truth, contents(t, outside, "")); len(diff) > 0 {
		t.Error(diff)
	}
	if err := os.RemoveAll(r.path("repository")); err != nil {
		t.Fatal(err)
	}

	state := c.with("BDBVAULT_STATE_DIR=" + filepath.Join(r.dir, "state"))
	r.untilRoom(state, 8, append(full, filepath.Join(r.dir, "state")), "backup", "--read-all")
	state.must("ship")
	if err := envtest.Checkpoint(env.Home, ""); err != nil {
		t.Errorf("the source: %v", err)
	}
}

// TestReadOnlyDisk finds that nothing can be written where it has to be.
func TestReadOnlyDisk(t *testing.T) {
	r := newRoom(t, "64m")
	c, _ := storedEnv(t, newCLI(t).in(r))
	repo := c.with("BDBVAULT_REPOSITORY=file://" + filepath.Join(r.dir, "repository"))
	repo.must("init")
	repo.must("backup")
	if err := os.Mkdir(r.path("empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.remount("ro")
	for _, to := range []string{"empty", "new"} {
		to = filepath.Join(r.dir, to)
		c.fails(failed, []string{"restore into " + to, "read-only file system", "mounted read-only"}, "restore", "--to", to)
	}
	words := []string{"store is read-only", "file://" + r.dir, "check how it is mounted"}
	repo.fails(failed, append(words, "bdbvault backup: "), "backup")
	repo.fails(failed, []string{"read-only", "bdbvault init: "}, "init", "-r", "file://"+filepath.Join(r.dir, "other"))
	repo.must("list")
	repo.must("restore", "--to", filepath.Join(t.TempDir(), "home"))
	state := c.with("BDBVAULT_STATE_DIR=" + filepath.Join(r.dir, "state"))
	for _, args := range [][]string{{"backup"}, {"ship"}} {
		state.fails(failed, []string{"state directory", "read-only file system", "mounted read-only"}, args...)
	}
	r.remount("rw")
	c.must("restore", "--to", filepath.Join(r.dir, "empty"))
	repo.must("backup")
	state.must("ship")
}

// TestDrillOnFullDisk: a drill that there is too little room for is refused before anything is fetched, and one that is not refused finds enough.
// Every one of them is stored, and none leaves anything.
func TestDrillOnFullDisk(t *testing.T) {
	r := newRoom(t, "64k")
	c, _ := storedEnv(t, newCLI(t).in(r))
	words := []string{"restoring needs ", "bytes in " + r.dir, "Make room there, or restore elsewhere: --scratch DIR"}
	failures := r.untilRoom(c, 4608, words, "drill", "--scratch", r.dir, "--quiet")
	if len(failures) == 0 {
		t.Error("there was room enough from the beginning")
	}
	if left, err := os.ReadDir(r.path(".")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	type summary struct {
		Result string `json:"result"`
		Bytes  int64  `json:"bytes"`
	}
	list := decode[struct {
		Environments []struct {
			Drills struct {
				Count int
				Last  summary
			}
		}
	}](t, c.must("list", "--json"))
	if d := list.Environments[0].Drills; d.Count != len(failures)+1 || d.Last.Result != "passed" {
		t.Errorf("%d drills failed, stored are %+v", len(failures), d)
	}
}
