package archive_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
)

// bank makes an environment with small log files and a bank in it.
func bank(t *testing.T, logFlags ...string) (*envtest.Environment, *bench) {
	t.Helper()
	home := filepath.Join(t.TempDir(), "home")
	env := envtest.Create(t, home, envtest.Spec{LogFileSize: 1 << 20, LogFlags: logFlags, Bank: &envtest.Bank{Payload: 400}})
	return env, newBench(t, home)
}

// commit has the bank make n more commits and stops it.
func commit(t *testing.T, env *envtest.Environment, n int, o envtest.BankOptions) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	o.Processes = 1
	w := envtest.StartBank(t, env, o)
	if err := w.WaitCommit(ctx, w.LastCommitted()+uint64(n)); err != nil {
		t.Fatal(err)
	}
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	return w.LastCommitted()
}

func TestShip(t *testing.T) {
	env, b := bank(t)
	if _, err := b.ship(); !errors.Is(err, archive.ErrNoBackup) {
		t.Fatalf("ship before a backup: %v", err)
	}
	full := b.backup(archive.BackupOptions{})
	nothing, err := b.ship()
	if err != nil || nothing.Segments != 0 || nothing.From != nothing.To || nothing.To != full.Manifest.ConsistentAt {
		t.Errorf("nothing new: %s %v", dump(nothing), err)
	}
	commit(t, env, 2000, envtest.BankOptions{})
	b.rec.Ops()
	some, err := b.ship()
	if err != nil || some.Segments < 2 || some.Commits < 2000 || some.From != nothing.To || time.Since(some.LastCommit) > time.Minute {
		t.Errorf("2000 commits: %s %v", dump(some), err)
	}
	b.rec.Ops()
	again, err := b.ship()
	if ops := b.rec.Ops(); err != nil || again.Segments != 0 || len(ops) > 2 { // one more opens the repository
		t.Errorf("nothing new: %s %v; %d requests: %v", dump(again), err, len(ops), ops)
	}
	b.state = t.TempDir()
	if again, err = b.ship(); err != nil || again.Segments != 0 || again.To != some.To {
		t.Errorf("nothing new, state lost: %s %v", dump(again), err)
	}
	reaches(t, b, full.Manifest, some.To)

	// A run that died between two uploads leaves a gap; the next one fills it.
	commit(t, env, 4000, envtest.BankOptions{})
	b.rec.Fail(4, false, errors.New("injected"))
	if _, err := b.ship(); err == nil {
		t.Error("a failed upload is no error")
	}
	b.rec.Fail(0, false, nil)
	filled, err := b.ship()
	if err != nil {
		t.Fatal(err)
	}
	reaches(t, b, full.Manifest, filled.To)
}

// reaches checks that the stored log is unbroken from the backup to end.
func reaches(t *testing.T, b *bench, m *manifest.Manifest, end bdb.LSN) {
	t.Helper()
	list, err := b.repo.Segments(t.Context(), "test", m.Timeline, nil)
	if err != nil {
		t.Fatal(err)
	}
	cover, err := manifest.NewChain(m.Timeline, list).CoverBackup(m, bdb.LSN{})
	if err != nil || cover.End != end {
		t.Errorf("the stored log reaches %s, want %s: %v", cover.End, end, err)
	}
}

// TestLogRemovedAfterItsEndWasShipped: a log file whose every record is stored, though not as one sealed segment, may go.
func TestLogRemovedAfterItsEndWasShipped(t *testing.T) {
	env, b := bank(t)
	full := b.backup(archive.BackupOptions{})
	hold := envtest.StartHold(t, env)
	last := hold.LogEnd().File
	for n := 0; ; n++ {
		hold.Put("", "bank-accounts-0.db", 1000+n, 20)
		hold.FlushLog()
		if _, err := b.ship(); err != nil {
			t.Fatal(err)
		}
		if hold.LogEnd().File > last {
			break
		}
	}
	t.Log("a log file was filled, shipped in tails")
	hold.Checkpoint()
	hold.Checkpoint()
	hold.RemoveLogs()
	if _, err := os.Stat(filepath.Join(b.home, "log.0000000001")); err == nil {
		t.Fatal("the engine removed nothing")
	}
	res, err := b.ship()
	if err != nil {
		t.Fatal(err)
	}
	reaches(t, b, full.Manifest, res.To)
}

func TestBrokenChains(t *testing.T) {
	broken := func(t *testing.T, b *bench, full *archive.BackupResult) {
		t.Helper()
		var chain *archive.ChainError
		if _, err := b.ship(); !errors.As(err, &chain) {
			t.Fatalf("ship: %v", err)
		}
		t.Log(chain)
		again := b.backup(archive.BackupOptions{})
		if again.Manifest.Timeline == full.Manifest.Timeline || again.Manifest.NewTimeline == "" {
			t.Errorf("the next backup stays on the timeline: %s", dump(again.Manifest.NewTimeline))
		}
		if _, err := b.ship(); err != nil {
			t.Errorf("ship after the next backup: %v", err)
		}
	}
	t.Run("removed before it was shipped", func(t *testing.T) {
		env, b := bank(t, "DB_LOG_AUTO_REMOVE")
		full := b.backup(archive.BackupOptions{})
		commit(t, env, 6000, envtest.BankOptions{Checkpoint: 20 * time.Millisecond})
		hold := envtest.StartHold(t, env)
		hold.Checkpoint()
		hold.RemoveLogs()
		broken(t, b, full)
	})
	t.Run("newest records lost in a crash, their place taken by others", func(t *testing.T) {
		env, b := bank(t)
		full := b.backup(archive.BackupOptions{})
		saved := t.TempDir()
		if err := os.CopyFS(filepath.Join(saved, "home"), os.DirFS(b.home)); err != nil {
			t.Fatal(err)
		}
		commit(t, env, 500, envtest.BankOptions{Seed: 1})
		if _, err := b.ship(); err != nil {
			t.Fatal(err)
		}
		// The copy never saw those commits and goes on from before them: as after a power loss, or a restore.
		if err := os.RemoveAll(b.home); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(saved, "home"), b.home); err != nil {
			t.Fatal(err)
		}
		commit(t, envtest.Open(b.home, ""), 900, envtest.BankOptions{Seed: 2})
		broken(t, b, full)
	})
	t.Run("older than what was shipped", func(t *testing.T) {
		env, b := bank(t)
		full := b.backup(archive.BackupOptions{})
		saved := t.TempDir()
		if err := os.CopyFS(filepath.Join(saved, "home"), os.DirFS(b.home)); err != nil {
			t.Fatal(err)
		}
		commit(t, env, 3000, envtest.BankOptions{})
		if _, err := b.ship(); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(b.home); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(saved, "home"), b.home); err != nil {
			t.Fatal(err)
		}
		broken(t, b, full)
	})
}

// TestShipsBesideAnother: another run sends a log file that was begun after this one opened the log. That breaks no chain.
func TestShipsBesideAnother(t *testing.T) {
	env, b := bank(t)
	full := b.backup(archive.BackupOptions{})
	hold := envtest.StartHold(t, env)
	overtake := func(name string) error {
		if name != "find" {
			return nil
		}
		for n, file := 0, hold.LogEnd().File; hold.LogEnd().File == file; n++ {
			hold.Put("", "bank-accounts-0.db", 1000+n, 20)
		}
		hold.FlushLog()
		_, err := b.ship()
		return err
	}
	if _, err := archive.Ship(t.Context(), b.repo, b.env(), archive.ShipOptions{Env: "test", StateDir: b.state, Step: overtake}); err != nil {
		t.Error(err)
	}
	if m := b.backup(archive.BackupOptions{Step: overtake}).Manifest; m.Timeline != full.Manifest.Timeline {
		t.Errorf("the backup began a new timeline: %s", m.NewTimeline)
	}
	reaches(t, b, full.Manifest, b.logEnd())
}

// TestPasswordNotGivenAnyMore: without the password the last checkpoint can't be read, and recovery needs the log from an earlier file on than the timeline
// has it.
func TestPasswordNotGivenAnyMore(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	const password = "secret"
	env := envtest.Create(t, home, envtest.Spec{LogFileSize: 1 << 20, Password: password, Bank: &envtest.Bank{Payload: 400}})
	commit(t, env, 3000, envtest.BankOptions{})
	if err := envtest.Checkpoint(home, password); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, home)
	b.key = bdb.NewKey(password)
	with := b.backup(archive.BackupOptions{}).Manifest
	b.key = nil
	without := b.backup(archive.BackupOptions{}).Manifest
	if with.NeededFrom.File < 2 || without.NeededFrom.File != 1 || without.Timeline == with.Timeline || without.NewTimeline == "" {
		t.Errorf("needed from %s on timeline %s, then from %s on %s", with.NeededFrom, with.Timeline, without.NeededFrom, without.Timeline)
	}
	reaches(t, b, without, without.ConsistentAt)
}
