package endtoend

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/envtest"
	"bdbvault/restore"
)

// TestLive backs up, and ships all the time, while several writers work, at every page size, with and without page checksums. Every
// restore recovers, verifies, holds the bank's invariant, is an exact prefix of the commits, and reaches what ship said it had shipped.
func TestLive(t *testing.T) {
	for _, pageSize := range []int{512, 4096, 16384, 65536} {
		for _, checksum := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d/checksum=%t", pageSize, checksum), func(t *testing.T) { live(t, pageSize, checksum, 3*torture()) })
		}
	}
}

func live(t *testing.T, pageSize int, checksum bool, backups int) {
	home := filepath.Join(t.TempDir(), "home")
	env := envtest.Create(t, home, envtest.Spec{
		DataDirs: []string{"data1", "data2"}, LogDir: "logs", LogFileSize: 2 << 20, Cache: 2 << 20,
		Databases: envtest.AllShapes(pageSize, checksum),
		Bank:      &envtest.Bank{PageSize: pageSize, Checksum: checksum, Payload: min(300, pageSize/4)},
	})
	v := newVault(t, home)
	rate := max(150, 1500/float64(torture())) // or the environment outgrows the machine: the bank works on while the test restores
	w := envtest.StartBank(t, env, envtest.BankOptions{Processes: 3, Rate: rate, Checkpoint: 150 * time.Millisecond})
	v.mustBackup(archive.BackupOptions{})
	ships := startShips(v)
	for i := range backups {
		waitCommits(t, w, w.LastCommitted()+100)
		res, err := v.backup(archive.BackupOptions{ReadAll: i%2 == 0, Checkpoint: i%3 == 2})
		if err != nil {
			t.Fatalf("backup %d: %v", i, err)
		}
		if !res.Manifest.BulkSafe.Held {
			t.Errorf("backup %d: the flag was not held: %s", i, res.Manifest.BulkSafe.Why)
		}
		if why := res.Manifest.NewTimeline; i > 0 && why != "" {
			t.Errorf("backup %d began a new timeline: %s", i, why)
		}
		waitCommits(t, w, w.LastCommitted()+100)
		shipped := ships.last()
		want := commitsBefore(w, shipped)
		to, rres := v.mustRestore(restore.Target{})
		if rres.End.Before(shipped) {
			t.Errorf("backup %d: shipped to %s, restored to %s: %q", i, shipped, rres.End, rres.Notes)
		}
		check(t, v, to, want)
		t.Logf("backup %d: %d pages, %d read again; restored to %s", i, res.Manifest.Pages.Read, res.Manifest.Pages.Reread, rres.End)
	}
	ships.stop()
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	// At rest, everything is there: the last backup, and each of the earlier ones rolled forward to the end of the log.
	end := v.mustShip()
	to, _ := v.mustRestore(restore.Target{})
	if got := check(t, v, to, w.LastCommitted()); got != w.LastCommitted() {
		t.Errorf("%d commits restored, %d were made; shipped to %s", got, w.LastCommitted(), end.To)
	}
}

// check proves that a restored home holds an exact prefix of the bank's commits, at least so many.
func check(t *testing.T, v *vault, home string, atLeast uint64) uint64 {
	t.Helper()
	report, err := envtest.CheckBank(home, v.password)
	if err != nil {
		t.Fatalf("restored home: %v", err)
	}
	if report.LastCommit < atLeast {
		t.Errorf("restored up to commit %d, but %d were shipped", report.LastCommit, atLeast)
	}
	if err := envtest.Verify(home, v.password); err != nil {
		t.Errorf("restored home: %v", err)
	}
	if err := os.RemoveAll(home); err != nil {
		t.Fatal(err)
	}
	return report.LastCommit
}

// ships ships without a pause, as watch would, until it is stopped.
type ships struct {
	v      *vault
	cancel context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex
	end    bdb.LSN
}

func startShips(v *vault) *ships {
	ctx, cancel := context.WithCancel(v.t.Context())
	s := &ships{v: v, cancel: cancel}
	s.done.Go(func() {
		for ctx.Err() == nil {
			res, err := archive.Ship(ctx, v.repo, v.env(), archive.ShipOptions{Env: "test", StateDir: v.state})
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					v.t.Errorf("ship: %v", err)
				}
				return
			}
			s.mu.Lock()
			s.end = res.To
			s.mu.Unlock()
		}
	})
	return s
}

func (s *ships) last() bdb.LSN {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

func (s *ships) stop() {
	s.cancel()
	s.done.Wait()
}
