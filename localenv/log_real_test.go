package localenv_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/envtest"
)

// logEnv is an environment with a few log files.
func logEnv(t *testing.T, password string) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "home")
	envtest.Create(t, home, envtest.Spec{LogFileSize: 200 << 10, Password: password, Databases: envtest.AllShapes(1024, false)})
	return home
}

func openLog(t *testing.T, dir, password string) *localenv.Log {
	t.Helper()
	l, err := localenv.OpenLogDir(t.Context(), dir, bdb.NewKey(password))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// line is what db_printlog and we both say of a record.
type line struct {
	lsn, prev bdb.LSN
	kind, txn uint32
}

var printed = regexp.MustCompile(`(?m)^\[(\d+)\]\[(\d+)\]\S+: rec: (\d+) txnp ([0-9a-f]+) prevlsn \[(\d+)\]\[(\d+)\]`)

func printlog(t *testing.T, home, password string) (lines []line) {
	t.Helper()
	args := []string{"-h", home}
	if password != "" {
		args = append(args, "-P", password)
	}
	out, err := exec.Command("db5.3_printlog", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range printed.FindAllSubmatch(out, -1) {
		n := make([]uint32, 7)
		for i := 1; i <= 6; i++ {
			base := 10
			if i == 4 {
				base = 16
			}
			v, err := strconv.ParseUint(string(m[i]), base, 32)
			if err != nil {
				t.Fatal(err)
			}
			n[i] = uint32(v)
		}
		lines = append(lines, line{bdb.LSN{File: n[1], Offset: n[2]}, bdb.LSN{File: n[5], Offset: n[6]}, n[3], n[4]})
	}
	return lines
}

func TestLogAgainstPrintlog(t *testing.T) {
	for _, pw := range []string{"", password} {
		t.Run("password "+pw, func(t *testing.T) {
			t.Parallel()
			home := logEnv(t, pw)
			want := printlog(t, home, pw)
			l := openLog(t, home, pw)
			var got []line
			var next, ckp bdb.LSN
			end, err := l.Walk(t.Context(), bdb.LSN{File: 1}, func(r *bdb.Record) error {
				got = append(got, line{r.LSN, r.PrevLSN, r.Type, r.Txn})
				next = r.Next()
				if c, ok := r.Checkpoint(); ok {
					ckp = c.LSN
				}
				return nil
			})
			if err != nil || end != next || !slices.Equal(got, want) {
				t.Errorf("%d records up to %s, %v; db_printlog has %d up to before %s", len(got), end, err, len(want), next)
			}
			if found, ok, err := l.LastCheckpoint(t.Context()); !ok || err != nil || found.LSN != ckp {
				t.Errorf("last checkpoint %v, %v, %v; want %s", found, ok, err, ckp)
			}
			checkEnds(t, l, end)
			if pw != "" {
				checkBlind(t, home, want, end)
			}
			checkResume(t, l, want, end)
		})
	}
}

// checkEnds checks where files end against where the next ones say so.
func checkEnds(t *testing.T, l *localenv.Log, end bdb.LSN) {
	t.Helper()
	files := l.Files()
	if len(files) < 3 {
		t.Fatalf("log files %v: too few for the test", files)
	}
	for i, n := range files {
		at, err := l.EndOf(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		if i == len(files)-1 {
			if again, err := l.End(t.Context()); l.Sealed(n) || again != end || err != nil || at != end.Offset {
				t.Errorf("the log ends at %s, %v, the last file at %d; want %s", again, err, at, end)
			}
			continue
		}
		prev, err := l.FirstRecordPrev(files[i+1])
		if err != nil || !l.Sealed(n) || prev >= at || at-prev > 5000 {
			t.Errorf("file %d ends at %d, its last record is said to be at %d, %v", n, at, prev, err)
		}
	}
}

// checkBlind walks an encrypted log without its password.
func checkBlind(t *testing.T, home string, want []line, end bdb.LSN) {
	t.Helper()
	l := openLog(t, home, "")
	n := 0
	got, err := l.Walk(t.Context(), bdb.LSN{File: 1}, func(r *bdb.Record) error {
		if r.LSN != want[n].lsn || r.Body != nil {
			return fmt.Errorf("record %s, want %s", r.LSN, want[n].lsn)
		}
		raw := make([]byte, r.Len)
		if _, err := l.ReadAt(t.Context(), r.LSN.File, raw, int64(r.LSN.Offset)); err != nil || !bytes.Equal(raw, r.Raw) {
			return fmt.Errorf("record %s is not given as it stands in the file: %v", r.LSN, err)
		}
		n++
		return nil
	})
	if err != nil || n != len(want) || got != end {
		t.Errorf("without the password: %d records up to %s, %v; want %d, %s", n, got, err, len(want), end)
	}
	if _, _, err := l.LastCheckpoint(t.Context()); !errors.Is(err, bdb.ErrPassword) {
		t.Errorf("last checkpoint without the password: %v", err)
	}
	if _, err := localenv.OpenLogDir(t.Context(), home, bdb.NewKey("wrong")); !errors.Is(err, bdb.ErrPassword) {
		t.Errorf("wrong password: %v", err)
	}
}

// checkResume walks from within.
func checkResume(t *testing.T, l *localenv.Log, want []line, end bdb.LSN) {
	t.Helper()
	for _, from := range []int{0, 1, len(want) / 3, len(want) - 1} {
		n := 0
		got, err := l.Walk(t.Context(), want[from].lsn, func(*bdb.Record) error { n++; return nil })
		if err != nil || got != end || n != len(want)-from {
			t.Errorf("from %s: %d records up to %s, %v", want[from].lsn, n, got, err)
		}
	}
	if got, err := l.Walk(t.Context(), end, nil); got != end || err != nil {
		t.Errorf("from the end: %s, %v", got, err)
	}
	first, _ := l.EndOf(t.Context(), 1)
	if got, err := l.Walk(t.Context(), bdb.LSN{File: 1, Offset: first}, nil); got != end || err != nil {
		t.Errorf("from the end of file 1: %s, %v", got, err)
	}
	if _, err := l.Walk(t.Context(), bdb.LSN{File: 1, Offset: first + 4}, nil); err == nil {
		t.Error("a walk begins behind the end of file 1")
	}
	stop := errors.New("enough")
	if at, err := l.Walk(t.Context(), want[5].lsn, func(*bdb.Record) error { return stop }); !errors.Is(err, stop) || at != want[5].lsn {
		t.Errorf("stopped at %s, %v", at, err)
	}
	if _, err := l.Walk(t.Context(), bdb.LSN{File: 99}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("log file 99: %v", err)
	}
}

// TestLiveLog follows a log that grows and of which the engine removes files.
func TestLiveLog(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	env := envtest.Create(t, home, envtest.Spec{LogFileSize: 150 << 10, Bank: &envtest.Bank{}})
	log := openLog(t, home, "")
	first := log.Files()[0]
	load := envtest.StartBank(t, env, envtest.BankOptions{Processes: 2, Checkpoint: 100 * time.Millisecond, RemoveLogs: true})
	commits := map[bdb.LSN]bool{}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	follow := func(from bdb.LSN) bdb.LSN {
		t.Helper()
		if err := log.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		end, err := log.Walk(ctx, from, func(r *bdb.Record) error {
			if c, ok := r.Commit(); ok {
				commits[c.LSN] = true
			}
			return nil
		})
		if err != nil || end.Before(from) {
			t.Fatalf("from %s to %s: %v", from, end, err)
		}
		return end
	}
	at := bdb.LSN{File: first}
	for !log.Removed(first+3) || load.LastCommitted() < 300 {
		at = follow(at)
		if again, err := log.End(ctx); err != nil || again.Before(at) {
			t.Fatalf("the log ends at %s, %v; was %s", again, err, at)
		}
	}
	if err := load.Stop(); err != nil {
		t.Fatal(err)
	}
	follow(at)
	for _, c := range load.Commits() {
		if !commits[c.LSN] {
			t.Errorf("commit %d at %s was not seen", c.Number, c.LSN)
		}
	}
	seen := len(commits)
	clear(commits)
	if follow(bdb.LSN{File: first}); len(commits) != seen {
		t.Errorf("%d commits, with files that were removed %d", seen, len(commits))
	}
}

// copyLogs copies the log files of a home.
func copyLogs(t *testing.T, home string) string {
	t.Helper()
	to := t.TempDir()
	logs, _ := filepath.Glob(filepath.Join(home, "log.*"))
	for _, from := range logs {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(from)), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// change edits a log file.
func change(t *testing.T, dir string, number uint32, edit func(b []byte) []byte) {
	t.Helper()
	path := logPath(dir, number)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, edit(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func logPath(dir string, number uint32) string {
	return filepath.Join(dir, fmt.Sprintf("log.%010d", number))
}

func TestLogDamage(t *testing.T) {
	home := logEnv(t, "")
	want := printlog(t, home, "")
	last := want[len(want)-1].lsn
	in2 := want[slices.IndexFunc(want, func(l line) bool { return l.lsn.File == 2 && l.lsn.Offset > 1000 })].lsn
	flip := func(at uint32) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 8; return b }
	}
	for _, c := range []struct {
		name string
		file uint32
		edit func([]byte) []byte
		lsn  bdb.LSN // of the damage; zero: the log ends before the last record
	}{
		{"body of a sealed file", 2, flip(in2.Offset + 20), in2},
		{"length in a sealed file", 2, flip(in2.Offset + 6), in2},
		{"link in a sealed file", 2, flip(in2.Offset), in2},
		{"zeros in a sealed file", 2, func(b []byte) []byte { clear(b[in2.Offset:]); return b }, in2},
		{"sealed file cut off", 2, func(b []byte) []byte { return b[:in2.Offset+5] }, in2},
		{"last record", last.File, flip(last.Offset + 20), bdb.LSN{}},
		{"last record cut off", last.File, func(b []byte) []byte { return b[:last.Offset+20] }, bdb.LSN{}},
		{"last record's end is zeros", last.File, func(b []byte) []byte { clear(b[last.Offset+16:]); return b }, bdb.LSN{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copyLogs(t, home)
			change(t, dir, c.file, c.edit)
			end, err := openLog(t, dir, "").Walk(t.Context(), bdb.LSN{File: 1}, nil)
			var damage *localenv.LogDamage
			if errors.As(err, &damage) {
				if damage.LSN != c.lsn || end != c.lsn {
					t.Errorf("%v, walk ended at %s; want %s", err, end, c.lsn)
				}
			} else if err != nil || !c.lsn.IsZero() || end != last {
				t.Errorf("no damage: the log ends at %s, %v; the last record was at %s", end, err, last)
			}
		})
	}
}

func TestLogFilesComeAndGo(t *testing.T) {
	home := logEnv(t, "")
	newest := func(l *localenv.Log) uint32 { return slices.Max(l.Files()) }
	for _, c := range []struct {
		name   string
		before func(dir string, n uint32) error // before the log is opened
		after  func(dir string, n uint32) error // before it is refreshed
		want   string
	}{
		{name: "nothing"},
		{name: "oldest goes", after: func(dir string, _ uint32) error { return os.Remove(logPath(dir, 1)) }},
		{name: "next one is made", after: func(dir string, n uint32) error { return os.WriteFile(logPath(dir, n+1), make([]byte, 9999), 0o600) }},
		{name: "gap", before: func(dir string, _ uint32) error { return os.Remove(logPath(dir, 2)) }, want: "log file 2 is missing"},
		{name: "newest goes", after: func(dir string, n uint32) error { return os.Remove(logPath(dir, n)) }, want: "removed before older ones"},
		{name: "another file", after: func(dir string, _ uint32) error {
			return errors.Join(os.Rename(logPath(dir, 1), logPath(dir, 1)+".old"), os.WriteFile(logPath(dir, 1), nil, 0o600))
		}, want: "another file than before"},
		{name: "no log file", before: func(dir string, n uint32) error {
			return os.WriteFile(logPath(dir, n), bytes.Repeat([]byte("x"), 99), 0o600)
		}, want: "not a log file"},
		{name: "header missing", before: func(dir string, _ uint32) error { return os.WriteFile(logPath(dir, 2), make([]byte, 99), 0o600) }, want: "damaged at 2/0"},
		{name: "none", before: func(dir string, _ uint32) error { return os.RemoveAll(dir) }, want: "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copyLogs(t, home)
			n := newest(openLog(t, dir, ""))
			if c.before != nil {
				if err := c.before(dir, n); err != nil {
					t.Fatal(err)
				}
			}
			l, err := localenv.OpenLogDir(t.Context(), dir, nil)
			if err == nil {
				defer l.Close()
				want, _ := l.End(t.Context())
				if c.after != nil {
					if err := c.after(dir, n); err != nil {
						t.Fatal(err)
					}
				}
				err = l.Refresh(t.Context())
				if end, walkErr := l.Walk(t.Context(), bdb.LSN{File: 1}, nil); walkErr != nil || end != want {
					t.Errorf("held files end at %s, %v; want %s", end, walkErr, want)
				}
			}
			if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.Contains(got, c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	if _, err := localenv.OpenLogDir(t.Context(), t.TempDir(), nil); !errors.Is(err, localenv.ErrNoLog) {
		t.Errorf("no log files: %v", err)
	}
}

func BenchmarkWalk(b *testing.B) {
	for _, pw := range []string{"", password} {
		b.Run("password "+pw, func(b *testing.B) {
			home := filepath.Join(b.TempDir(), "home")
			if _, err := envtest.Make(home, envtest.Spec{Password: pw, Databases: []envtest.Database{{File: "a.db", Method: "btree", Bytes: 20 << 20}}}); err != nil {
				b.Fatal(err)
			}
			l, err := localenv.OpenLogDir(b.Context(), home, bdb.NewKey(pw))
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			var bytes int64
			count := func(r *bdb.Record) error { bytes += int64(r.Len); return nil }
			if _, err := l.Walk(b.Context(), bdb.LSN{File: 1}, count); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(bytes)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Walk(b.Context(), bdb.LSN{File: 1}, count); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
