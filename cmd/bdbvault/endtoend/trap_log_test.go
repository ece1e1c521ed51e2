package endtoend

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/envtest"
	"bdbvault/restore"
)

// TestLogRemoved has log files removed at every stage of a backup: those that it needs, and those that are written while it runs. Plain copies of
// the data and then of the log lack what was only in them.
func TestLogRemoved(t *testing.T) {
	for name, remove := range map[string]func(*trapped){
		"by the application": func(s *trapped) { s.RemoveLogs() },
		"db_archive -d":      archiveLogs,
		"DB_LOG_AUTOREMOVE":  func(*trapped) {},
	} {
		t.Run(name, func(t *testing.T) {
			spec := envtest.Spec{LogFileSize: 100 << 10}
			if name == "DB_LOG_AUTOREMOVE" {
				spec.LogFlags = []string{"db_log_auto_remove"}
			}
			next := 600
			write := func(s *trapped) { s.put("a", next, 800); next += 800 }
			busy := func(s *trapped) {
				for range 2 {
					write(s)
					s.waitHeld()
					s.Checkpoint()
				}
				remove(s)
			}
			m := set(t, spec, "", trap{name: "log removed", files: []envtest.Database{{File: "a", Method: "btree", Records: 600}},
				steps: map[string]func(*trapped){before: write, listing: busy, reading: busy, atEnd: busy, after: write}})
			var copied string
			backup := m.spring(false, func(stage string) {
				if stage == reading {
					copied = m.copyHome()
				}
			})
			for n := backup.BegunAt.File; n < backup.ConsistentAt.File; n++ {
				if _, err := os.Stat(filepath.Join(m.home, logName(n))); err == nil {
					t.Errorf("log file %d is still there", n)
				}
			}
			removeLogs(t, copied)
			if wrong, err := m.stock(copied); err == nil && len(wrong) == 0 {
				t.Error("db5.3_recover -c of a plain copy is right: the test shows nothing")
			} else {
				t.Logf("db5.3_recover -c of a plain copy: %v, %q", err, wrong)
			}
		})
	}
}

// waitHeld returns when the backup, which runs in this process, has the newest log file open. Its life is longer than a moment in any application.
func (s *trapped) waitHeld() {
	newest := filepath.Join(s.home, logName(s.LogEnd().File))
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		open, _ := filepath.Glob("/proc/self/fd/*")
		if slices.ContainsFunc(open, func(fd string) bool { name, _ := os.Readlink(fd); return name == newest }) {
			return
		}
	}
	s.t.Errorf("%s is not held", newest)
}

// archiveLogs is the cron job of many an administrator.
func archiveLogs(s *trapped) {
	if out, err := exec.Command("db5.3_archive", "-d", "-h", s.home).CombinedOutput(); err != nil {
		s.t.Errorf("db5.3_archive -d: %v: %s", err, out)
	}
}

// removeLogs takes the log out of a copy of a home.
func removeLogs(t *testing.T, home string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(home, "log.*"))
	for _, log := range logs {
		err = errors.Join(err, os.Remove(log))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestLogEndsTooEarly has a log that ends before the LSN of a page. db5.3_recover -c takes it without a word, and the application finds out
// when it opens the database.
func TestLogEndsTooEarly(t *testing.T) {
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{LogFileSize: 100 << 10, Databases: []envtest.Database{
		{File: "a", Method: "btree", Records: 600}, {File: "b", Method: "btree", Records: 600},
	}})
	v := newVault(t, env.Home)
	h := envtest.StartHold(t, env)
	h.Put("", "b", 0, 2000)
	h.Checkpoint()
	h.RemoveLogs() // the log that is left has nothing of a
	cut := h.FlushLog()
	h.Put("", "a", 600, 300)
	h.Checkpoint()
	res := v.mustBackup(archive.BackupOptions{})

	early := filepath.Join(t.TempDir(), "early")
	if err := envtest.CopyHome(env.Home, early); err != nil {
		t.Fatal(err)
	}
	cutLog(t, early, cut)
	t.Run("backup", func(t *testing.T) {
		var short *archive.LogTooShortError
		if _, err := newVault(t, early).backup(archive.BackupOptions{BulkSafe: archive.BulkOff}); !errors.As(err, &short) || short.File != "a" || short.End != cut {
			t.Errorf("a backup of such an environment: %v", err)
		}
	})
	t.Run("stock", func(t *testing.T) {
		if err := envtest.RecoverCatastrophic(early, ""); err != nil {
			t.Errorf("db5.3_recover -c notices: %v", err)
		}
		if opens(early, "a") == nil {
			t.Error("the application does not notice: the test shows nothing")
		}
	})
	t.Run("restore", func(t *testing.T) {
		for _, lsn := range []bdb.LSN{cut, {File: res.Manifest.ConsistentAt.File, Offset: res.Manifest.ConsistentAt.Offset - 1}} {
			var early *restore.LogEndError
			if _, _, err := v.restore(restore.Target{Backup: res.Manifest.ID, LSN: lsn}); !errors.As(err, &early) {
				t.Errorf("to %s: %v", lsn, err)
			}
		}
	})
}

// cutLog makes the log of a home end at an LSN.
func cutLog(t *testing.T, home string, end bdb.LSN) {
	t.Helper()
	err := os.Truncate(filepath.Join(home, logName(end.File)), int64(end.Offset))
	for n := end.File + 1; err == nil; n++ {
		if os.Remove(filepath.Join(home, logName(n))) != nil {
			return
		}
	}
	t.Fatal(err)
}

// opens does what an application does with a recovered home.
func opens(home, file string) error {
	h, err := envtest.Open(home, "").RunHold()
	if err != nil {
		return err
	}
	_, err = h.Do(envtest.Step{Do: envtest.DoPut, File: file, From: 5000, Count: 10})
	return errors.Join(err, h.Close())
}

// TestEmptyPageMoved compacts a database without records, of 64 KiB pages, in a file with several: its only page moves. libdb's redo of that copies the page
// with its old number.
func TestEmptyPageMoved(t *testing.T) {
	inside := func(name string) envtest.Database {
		return envtest.Database{File: "a", Name: name, Method: "btree", PageSize: 1 << 16, Records: 20}
	}
	m := set(t, envtest.Spec{}, "", trap{name: "moved", files: []envtest.Database{inside("one"), inside("two")}, steps: map[string]func(*trapped){
		after: func(s *trapped) {
			s.removeInside("a", "one")
			for _, do := range []string{envtest.DoTruncate, envtest.DoCompact} {
				if _, err := s.Do(envtest.Step{Do: do, File: s.file("a"), Name: "two"}); err != nil {
					t.Error(err)
				}
			}
		},
	}})
	var copied string
	m.spring(false, func(stage string) {
		if stage == reading {
			copied = m.copyHome()
		}
	})
	if _, err := m.stock(copied); err != nil {
		t.Fatal(err)
	}
	if err := envtest.Verify(copied, ""); err == nil {
		t.Error("what db5.3_recover -c makes of a plain copy verifies: nothing need be amended")
	} else {
		t.Logf("db5.3_recover -c of a plain copy: %v", err)
	}
}

// TestHeapTruncatedInVain: no recovery of libdb gets past a heap that was truncated, truncated again by a transaction that was aborted, and truncated
// once more, be it the application's own after a crash. Ours does not undo the one in the middle.
func TestHeapTruncatedInVain(t *testing.T) {
	m := set(t, envtest.Spec{}, "", trap{name: "in vain", files: []envtest.Database{{File: "a", Method: "heap", Records: 600}}})
	s := m.steps[0]
	s.open("a")
	s.Checkpoint()
	first := m.mustBackup(archive.BackupOptions{}).Manifest
	s.Truncate("", s.file("a"))
	s.Begin("vain")
	s.Truncate("vain", s.file("a"))
	s.Abort("vain")
	s.Truncate("", s.file("a"))
	s.put("a", 0, 50)
	s.FlushLog()
	crashed := m.copyHome()
	if err := envtest.Recover(crashed, ""); err == nil {
		t.Error("the engine recovers from a crash: nothing need be given up here")
	}
	m.mustShip()
	to, _ := m.mustRestore(restore.Target{Backup: first.ID})
	s.Checkpoint()
	if diff := envtest.Diff(contents(t, m.home, ""), contents(t, to, "")); len(diff) > 0 {
		t.Error(diff)
	}
}

// TestTruncatedInVain: a hash database grows after the backup, and a transaction that truncates it is aborted, or still under way at the end of the log. No
// recovery of libdb undoes that for pages that are not in the file yet.
func TestTruncatedInVain(t *testing.T) {
	for _, abort := range []bool{false, true} {
		t.Run(fmt.Sprintf("aborted=%t", abort), func(t *testing.T) {
			grow := func(s *trapped) {
				s.put("a", 0, 2000)
				s.Begin(s.txn())
				s.Truncate(s.txn(), s.file("a"))
				if abort {
					s.Abort(s.txn())
				}
			}
			m := set(t, envtest.Spec{}, "", trap{name: "in vain", files: []envtest.Database{{File: "a", Method: "hash", Records: 10}},
				steps: map[string]func(*trapped){before: func(s *trapped) { s.open("a") }, after: grow}})
			var copied string
			m.spring(false, func(stage string) {
				if stage == reading {
					copied = m.copyHome()
				}
			})
			if _, err := m.stock(copied); err == nil {
				t.Error("db5.3_recover -c of a plain copy succeeds: nothing need be skipped")
			}
		})
	}
}
