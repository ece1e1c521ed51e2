package archive_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/restore"
)

// twin is a copy of b's home, and a watch of its own for it.
func (b *bench) twin() *bench {
	b.t.Helper()
	other := *b
	other.home, other.state = filepath.Join(b.t.TempDir(), "home"), b.t.TempDir()
	if err := os.CopyFS(other.home, os.DirFS(b.home)); err != nil {
		b.t.Fatal(err)
	}
	return &other
}

// TestTwoCopiesShip: the watches of a home and of its copy, which continue the same timeline, both notice and leave it, and every restore is one of the two.
func TestTwoCopiesShip(t *testing.T) {
	defer archive.LookAround(time.Millisecond)()
	env, b := bank(t)
	a := b.watch(archive.WatchOptions{})
	a.awaitFulls(1)
	commit(t, env, 50, envtest.BankOptions{Seed: 1})
	shared := a.awaitShipped(b.logEnd())
	twin := b.twin()
	c := twin.watch(archive.WatchOptions{})
	if s := c.awaitShipped(b.logEnd()); s.Timeline != shared.Timeline {
		t.Fatalf("the copy does not continue timeline %s, so this shows nothing: %s", shared.Timeline, c.story())
	}
	watches := []*watched{a, c}
	var both sync.WaitGroup
	for i, h := range []*bench{b, twin} {
		both.Go(func() {
			load := envtest.StartBank(t, envtest.Open(h.home, ""), envtest.BankOptions{Seed: uint64(i + 7), Rate: 100, Processes: 1})
			watches[i].await("its own timeline", func(s archive.WatchStatus) bool {
				return s.Timeline != shared.Timeline && s.Counters.Fulls == int64(2-i)
			})
			if err := load.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	for i, h := range []*bench{b, twin} {
		s := watches[i].awaitShipped(h.logEnd())
		watches[i].end()
		t.Log(watches[i].story())
		broken := watches[i].heard(archive.EventChainBroken)
		if len(broken) == 0 || !strings.Contains(broken[0].Text, "a copy of this environment ships under the same name") {
			t.Error("no event tells why the timeline was left")
		}
		restoresBackup(t, h, s.FullID)
	}
}

// restoresBackup checks that the newest that a backup leads to is an exact prefix of the bank's commits.
func restoresBackup(t *testing.T, b *bench, id manifest.BackupID) {
	plan, err := restore.MakePlan(t.Context(), b.repo, "test", restore.Target{Backup: id})
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "restored")
	if _, err = restore.Restore(t.Context(), b.repo, plan, restore.Options{To: to, Verify: restore.VerifyNever}); err != nil {
		t.Fatal(err)
	}
	if r, err := envtest.CheckBank(to, ""); err != nil || r.LastCommit <= 50 {
		t.Errorf("backup %s: %d commits: %v", id, r.LastCommit, err)
	}
	if plan.End != b.logEnd() {
		t.Errorf("backup %s leads to LSN %s, and the log ends at %s", id, plan.End, b.logEnd())
	}
}
