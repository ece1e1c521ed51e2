package archive_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/bdb"
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
	commit(t, env, 50, envtest.BankOptions{Seed: 1, Rate: 100})
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
				// The one may find the other's first full as its parent, and begin anew once more.
				return s.Timeline != shared.Timeline && s.Counters.Fulls >= int64(2-i)
			})
			if err := load.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	c.await("a timeline apart", func(s archive.WatchStatus) bool { return s.Timeline != a.Status().Timeline })
	for i, h := range []*bench{b, twin} {
		s := watches[i].awaitShipped(h.logEnd())
		watches[i].end()
		t.Log(watches[i].story())
		broken := watches[i].heard(archive.EventChainBroken)
		if len(broken) == 0 || !strings.Contains(broken[0].Text, "is shipped under the same name, and has parted from this one") {
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

// TestRestoreOfAMixedTimeline: a restore that meets the logs of two copies on one timeline fails, says up to where the log is one, and gets that far.
func TestRestoreOfAMixedTimeline(t *testing.T) {
	env, b := bank(t)
	a := b.watch(archive.WatchOptions{ShipEvery: 400 * time.Millisecond})
	a.awaitFulls(1)
	commit(t, env, 50, envtest.BankOptions{Seed: 1, Rate: 100})
	a.awaitShipped(b.logEnd())
	twin := b.twin()
	c := twin.watch(archive.WatchOptions{ShipEvery: 400 * time.Millisecond})
	shared := c.awaitShipped(b.logEnd())
	for i, n := range []int{40, 60, 100, 120, 100} { // in turn, each beyond the other's end
		h, w := b, a
		if i%2 == 1 {
			h, w = twin, c
		}
		commit(t, envtest.Open(h.home, ""), n, envtest.BankOptions{Seed: uint64(7 + i%2), Rate: 100})
		w.awaitShipped(h.logEnd())
	}
	a.end()
	c.end()
	err := b.tryRestore(restore.Target{})
	damage, ok := errors.AsType[*restore.DamageError](err)
	if !ok || !strings.Contains(err.Error(), "two logs are mixed") && !strings.Contains(err.Error(), "does not continue") || damage.LogGood.Before(shared.ShippedTo) {
		t.Fatalf("%v\n%+v\n%v\n%s%s", err, damage, must(b.repo.Segments(t.Context(), "test", shared.Timeline, nil)), a.story(), c.story())
	}
	t.Log(err, damage.LogGood)
	if strings.Contains(err.Error(), "two logs are mixed") { // else they part just where both sent a segment
		b.toldAsMixed(damage.LogGood)
	}
	if err := b.tryRestore(restore.Target{LSN: damage.LogGood}); err != nil {
		t.Error(err)
	}
}

// toldAsMixed checks that plan and list say up to where the log is one.
func (b *bench) toldAsMixed(end bdb.LSN) {
	t := b.t
	t.Helper()
	plan, err := restore.MakePlan(t.Context(), b.repo, "test", restore.Target{})
	if err != nil || plan.PartedAt != end || len(plan.Notes) == 0 {
		t.Errorf("the plan says that the log is one up to %s, the restore up to %s: %q, %v", plan.PartedAt, end, plan.Notes, err)
	}
	h, err := restore.ReadHistory(t.Context(), b.repo, "test")
	if err != nil || len(h.Ranges) != 1 || h.Ranges[0].To != end || h.Timelines[0].PartedAt != end || !end.Before(h.Timelines[0].To) {
		t.Errorf("the list: %+v: %v", h.Ranges, err)
	}
}

// TestRestoreBesideAnotherLog: the log that is stored is not the one beside which the pages were copied, although it fits together and reaches far enough.
func TestRestoreBesideAnotherLog(t *testing.T) {
	env, b := bank(t)
	b.backup(archive.BackupOptions{})
	shared := b.logEnd()
	twin := b.twin()
	commit(t, env, 50, envtest.BankOptions{Seed: 1, Rate: 100})
	m := b.backup(archive.BackupOptions{}).Manifest
	for _, n := range must(b.repo.Segments(t.Context(), "test", m.Timeline, nil)) {
		if n.End > shared.Offset {
			lose(t, b, n.Key("test"))
		}
	}
	commit(t, envtest.Open(twin.home, ""), 200, envtest.BankOptions{Seed: 2})
	if res, err := twin.ship(); err != nil || res.Timeline != m.Timeline {
		t.Fatalf("%+v, %v", res, err)
	}
	err := b.tryRestore(restore.Target{Backup: m.ID})
	if damage, ok := errors.AsType[*restore.DamageError](err); !ok || damage.LogGood != (bdb.LSN{}) || !strings.Contains(err.Error(), "two logs are mixed") {
		t.Errorf("%v", err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// tryRestore restores the bank and checks that it is an exact prefix of the commits.
func (b *bench) tryRestore(target restore.Target) error {
	b.t.Helper()
	plan, err := restore.MakePlan(b.t.Context(), b.repo, "test", target)
	if err != nil {
		return err
	}
	to := filepath.Join(b.t.TempDir(), "restored")
	if _, err = restore.Restore(b.t.Context(), b.repo, plan, restore.Options{To: to, Verify: restore.VerifyNever}); err != nil {
		return err
	}
	_, err = envtest.CheckBank(to, "")
	return err
}
