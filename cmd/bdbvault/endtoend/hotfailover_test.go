package endtoend

import (
	"path/filepath"
	"strings"
	"testing"

	"bdbvault/localenv/envtest"
)

// TestHotFailover follows the manual's procedure for hot failover in both forms that README gives it: with hotbackup -u, which moves log files that the
// active home no longer needs, and with ship and standby, which move none. After some cycles beside writers at work the active home dies, and the copy
// takes over with every commit.
func TestHotFailover(t *testing.T) {
	cycles := 4 * torture()
	t.Run("hotbackup", func(t *testing.T) {
		h, c := newHotSiege(t), newCLI(t)
		copied := filepath.Join(t.TempDir(), "copy")
		c.must("hotbackup", "-Dh", h.home, "-b", copied) // step 1, and 2 to 4
		for range cycles {                               // 5: 2 to 4 again
			last := h.goOn()
			c.must("hotbackup", "-Dcuh", h.home, "-b", copied)
			h.holds(copied, last)
		}
		if files := logFiles(t, h.home); filepath.Base(files[0]) == logName(1) {
			t.Errorf("no log file was moved: %s", files)
		}
		last := h.fails()
		c.must("hotbackup", "-Duh", h.home, "-b", copied) // not -c: nobody must join what has died
		takesOver(t, copied, last)
		// Should the old home come back: what took over does not follow it any more.
		if s := c.run("hotbackup", "-Duh", h.home, "-b", copied); s.code != failed || !strings.Contains(s.err, "is no copy that this environment's log continues") {
			t.Error(s)
		}
	})
	t.Run("standby", func(t *testing.T) {
		h := newHotSiege(t)
		top := t.TempDir()
		follower := filepath.Join(top, "standby")
		c := newCLI(t).with("BDBVAULT_REPOSITORY=file://"+filepath.Join(top, "repo"), "BDBVAULT_ENV=bank")
		c.must("init")
		c.must("backup", "-h", h.home) // step 1
		for range cycles {
			h.goOn()
			c.must("ship", "-h", h.home)                  // 3
			c.must("standby", "--once", "--to", follower) // 2 and 4
		}
		last := h.fails()
		c.must("ship", "-h", h.home)
		c.must("standby", "--promote", "--to", follower)
		takesOver(t, follower, last)
	})
}

// goOn waits for more commits, has them written, and returns the last one.
func (h *hotSiege) goOn() uint64 {
	h.t.Helper()
	waitCommits(h.t, h.load, h.load.LastCommitted()+150)
	last := h.load.LastCommitted()
	if err := envtest.Checkpoint(h.home, ""); err != nil {
		h.t.Fatal(err)
	}
	return last
}

// fails is the death of all that had the active home open. It returns the last commit.
func (h *hotSiege) fails() uint64 {
	h.t.Helper()
	waitCommits(h.t, h.load, h.load.LastCommitted()+50)
	h.load.Kill()
	return h.load.LastCommitted()
}

// takesOver proves that a home has every commit up to one, and lets writers loose on it.
func takesOver(t *testing.T, home string, last uint64) {
	t.Helper()
	report, err := envtest.CheckBank(home, "")
	if err != nil || report.LastCommit < last {
		t.Fatalf("%s ends with commit %d of %d: %v", home, report.LastCommit, last, err)
	}
	load := envtest.StartBank(t, envtest.Open(home, ""), envtest.BankOptions{Processes: 2, Rate: 300})
	waitCommits(t, load, report.LastCommit+50)
	if err := load.Stop(); err != nil {
		t.Errorf("%s at work: %v", home, err)
	}
}
