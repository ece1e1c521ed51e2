package endtoend

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program runs another program to its end and returns what it printed.
func program(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	if e := cmd.Run(); e != nil {
		t.Fatalf("%v: %v\n%s%s", args, e, out.Bytes(), err.Bytes())
	}
	return strings.TrimSpace(out.String())
}

// TestSubversion protects a Subversion repository on its Berkeley DB back end (DB_REGISTER, DB_LOG_AUTOREMOVE) by watch and by a full backup while it takes commits. Some
// commits are killed, after which Subversion runs recovery beside the watch. The restored repository verifies, with every revision.
func TestSubversion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	repo := filepath.Join(dir, "svn")
	if out, err := exec.Command("svnadmin", "create", "--fs-type", "bdb", repo).CombinedOutput(); strings.Contains(string(out), "Failed to load module") {
		t.Skip("this Subversion is built without Berkeley DB")
	} else if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c := newCLI(t).with("BDBVAULT_REPOSITORY=file://"+filepath.Join(dir, "vault"), "DB_HOME="+filepath.Join(repo, "db"), "BDBVAULT_ENV=svn")
	c.must("init")
	w := c.start("watch", "--full-every", "0", "--ship-every", "100ms")
	w.says("the log continues timeline")
	seed := seeds(t, 1)[0]
	t.Logf("BDBVAULT_SEED=%d", seed)
	s := &revisions{t: t, url: "file://" + repo, file: filepath.Join(dir, "file"), rng: rand.New(rand.NewPCG(seed, 0))}
	for i := range 60 * torture() {
		s.commit(i)
		if i%10 == 5 {
			s.killed(i)
		}
		if i%30 == 20 {
			c.must("backup", "--quiet")
		}
	}
	text := w.ended()
	if strings.Count(text, "hot-backup-in-progress is set") < 1 {
		t.Errorf("the flag was never held:\n%s", text)
	}
	// On a machine that is too busy, Subversion makes and removes a log file before the watch has come to see it.
	if ship := c.run("ship"); ship.code == chain {
		t.Logf("%s%s", text, ship)
		c.must("backup")
	} else if ship.code != 0 {
		t.Error(ship)
	}
	youngest := program(t, dir, "svnlook", "youngest", repo)
	if err := os.RemoveAll(filepath.Join(repo, "db")); err != nil { // the disk is dead; hooks and configuration come from elsewhere
		t.Fatal(err)
	}
	c.must("restore", "--to", filepath.Join(repo, "db"))
	program(t, dir, "svnadmin", "verify", "--quiet", repo)
	if got := program(t, dir, "svnlook", "youngest", repo); got != youngest {
		t.Errorf("restored up to revision %s of %s", got, youngest)
	}
	s.commit(-1) // the repository is in use again
}

// revisions commits to a Subversion repository.
type revisions struct {
	t         *testing.T
	url, file string
	rng       *rand.Rand
}

func (s *revisions) importing(i int) *exec.Cmd {
	s.t.Helper()
	data := make([]byte, 1000+s.rng.IntN(60_000))
	for i := range data {
		data[i] = byte(s.rng.Uint32())
	}
	if err := os.WriteFile(s.file, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return exec.Command("svn", "import", "--quiet", "--non-interactive", "-m", fmt.Sprint("commit ", i), s.file, fmt.Sprintf("%s/%d/%d", s.url, i%7, s.rng.Uint64()))
}

func (s *revisions) commit(i int) {
	s.t.Helper()
	if out, err := s.importing(i).CombinedOutput(); err != nil {
		s.t.Fatalf("commit %d: %v\n%s", i, err, out)
	}
}

// killed kills a commit somewhere on its way, or just after.
func (s *revisions) killed(i int) {
	s.t.Helper()
	cmd := s.importing(i)
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	time.Sleep(time.Duration(s.rng.Int64N(int64(100 * time.Millisecond))))
	cmd.Process.Kill()
	cmd.Wait()
}

// TestPerl protects an order book written in Perl, with two processes taking orders. Each restore passes the application's own check, the last one with every
// order.
func TestPerl(t *testing.T) {
	t.Parallel()
	home := filepath.Join(t.TempDir(), "orders")
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "DB_CONFIG"), []byte("set_lg_max 262144\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	program(t, ".", "perl", "testdata/orders.pl", "create", home)
	c := newCLI(t).with("BDBVAULT_REPOSITORY=file://"+filepath.Join(t.TempDir(), "vault"), "DB_HOME="+home)
	c.must("init")
	clerks := []*clerk{newClerk(t, home), newClerk(t, home)}
	for i := range 3 * torture() {
		c.must("backup", "--bulk-safe", "require", "--quiet")
		c.must("ship")
		to := filepath.Join(t.TempDir(), "restored")
		before := orders(t, c, to)
		c.must("ship")
		if now := orders(t, c, to, "--delta"); now < before {
			t.Errorf("round %d: %d orders, and %d before", i, now, before)
		}
	}
	var last int
	for _, k := range clerks {
		last = max(last, k.ends())
	}
	c.must("ship")
	if got := orders(t, c, filepath.Join(t.TempDir(), "restored")); got != last || last == 0 {
		t.Errorf("%d orders restored of %d", got, last)
	}
}

// orders restores into one place and has the application check it.
func orders(t *testing.T, c *cli, to string, args ...string) int {
	t.Helper()
	c.must(append([]string{"restore", "--to", to}, args...)...)
	n, err := strconv.Atoi(program(t, ".", "perl", "testdata/orders.pl", "check", to))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// clerk is a process that takes orders.
type clerk struct {
	t   *testing.T
	cmd *exec.Cmd
	out *bufio.Reader
	err bytes.Buffer
}

func newClerk(t *testing.T, home string) *clerk {
	t.Helper()
	k := &clerk{t: t, cmd: exec.Command("perl", "testdata/orders.pl", "work", home)}
	k.cmd.Stderr = &k.err
	out, err := k.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	k.out = bufio.NewReader(out)
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.cmd.Process.Kill(); k.cmd.Wait() })
	if _, err := k.out.ReadString('\n'); err != nil {
		t.Fatalf("%v %s", err, k.err.Bytes())
	}
	return k
}

// ends stops the clerk and returns the number of its last order.
func (k *clerk) ends() int {
	k.t.Helper()
	k.cmd.Process.Signal(syscall.SIGTERM)
	line, err := io.ReadAll(k.out)
	if err == nil {
		err = k.cmd.Wait()
	}
	last, bad := strconv.Atoi(strings.TrimSpace(string(line)))
	if err != nil || bad != nil {
		k.t.Fatalf("%v %v %s", err, bad, k.err.Bytes())
	}
	return last
}
