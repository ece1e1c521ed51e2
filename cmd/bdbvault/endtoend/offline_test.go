package endtoend

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bdbvault/archive"
	"bdbvault/localenv"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/restore"
)

// TestOfflineWithoutLog takes environments of Data Store and of Concurrent Data Store there and back, as their user does.
func TestOfflineWithoutLog(t *testing.T) {
	for _, kind := range []string{"ds", "cds"} {
		t.Run(kind, func(t *testing.T) {
			top := t.TempDir()
			home := filepath.Join(top, "home")
			shell(t, top, "mkdir", home)
			write(t, filepath.Join(home, "notes.txt"), []byte("an application's file"))
			program(t, ".", "perl", "testdata/plain.pl", kind, home, "300")
			c := newCLI(t).with("BDBVAULT_REPOSITORY=file://" + top + "/repo")
			c.must("init")
			c.fails(failed, []string{"no log files", "backup --offline"}, "backup", "-h", home)

			var ids []manifest.BackupID
			for _, count := range []string{"300", "700"} {
				program(t, ".", "perl", "testdata/plain.pl", kind, home, count)
				ids = append(ids, decode[struct{ ID manifest.BackupID }](t, c.must("backup", "--offline", "-h", home, "--json")).ID)
				to := filepath.Join(top, "back"+count)
				c.must("restore", "--to", to)
				sameDatabases(t, home, to)
				if _, err := os.Stat(filepath.Join(to, "__db.001")); err == nil || !strings.Contains(strings.Join(entries(t, to), " "), "notes.txt") {
					t.Errorf("restored: %s", entries(t, to))
				}
			}
			c.must("restore", "--to", filepath.Join(top, "first"), "--backup", string(ids[0]))
			if text := dumped(t, filepath.Join(top, "first"), "tree.db"); !strings.Contains(text, "of 300") {
				t.Error("the first backup is not the first state")
			}
			c.must("verify", "--read-data")
			c.must("plan")
			c.must("show", string(ids[0]))
			if s := c.must("drill"); !strings.Contains(s.out, "what was copied: the environment had no log") || !strings.Contains(s.out, "3 databases verified") {
				t.Errorf("the drill: %s", s)
			}
			c.must("list")
			c.fails(failed, []string{"without a log", "LSN 1/28"}, "plan", "--lsn", "1/28", "--backup", string(ids[0]))
			c.fails(failed, []string{"a standby is not to be had"}, "standby", "--once", "--to", filepath.Join(top, "standby"))
			c.must("prune", "--keep-last", "1")
			if list := c.backups(); len(list) != 1 {
				t.Errorf("after prune: %v", list)
			}
			c.must("verify")
		})
	}
}

// sameDatabases compares what db_dump says.
func sameDatabases(t *testing.T, a, b string) {
	t.Helper()
	for _, file := range []string{"tree.db", "table.db", "queue.db"} {
		if x, y := dumped(t, a, file), dumped(t, b, file); x != y || len(x) < 1000 {
			t.Errorf("%s differs: %d and %d bytes", file, len(x), len(y))
		}
	}
}

func dumped(t *testing.T, home, file string) string {
	t.Helper()
	return program(t, home, "db5.3_dump", "-p", file)
}

// TestOfflineIsClosed refuses environments that somebody has open, opens or changes meanwhile.
func TestOfflineIsClosed(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	shell(t, filepath.Dir(home), "mkdir", home)
	program(t, ".", "perl", "testdata/plain.pl", "cds", home, "50")
	v := newVault(t, home)
	offline := archive.BackupOptions{Offline: true, BulkSafe: archive.BulkOff, Env: "test"}

	let := holding(t, home)
	_, err := v.backup(offline)
	if e, ok := errors.AsType[*localenv.OpenError](err); !ok || len(e.Holders) == 0 {
		t.Errorf("an environment that is open: %v", err)
	}
	let()
	for name, disturb := range map[string]func(){
		"opened":  func() { let = holding(t, home) },
		"written": func() { program(t, ".", "perl", "testdata/plain.pl", "cds", home, "60") },
		"touched": func() { write(t, filepath.Join(home, "new.txt"), []byte("new")) },
	} {
		let = func() {}
		opt := offline
		opt.Step = func(step string) error {
			if step == "read" {
				disturb()
				disturb = func() {}
			}
			return nil
		}
		_, err := v.backup(opt)
		if _, open := errors.AsType[*localenv.OpenError](err); !open {
			if _, stirred := errors.AsType[*localenv.StirredError](err); !stirred {
				t.Errorf("%s meanwhile: %v", name, err)
			}
		}
		let()
	}
	if _, err := v.backup(offline); err != nil {
		t.Error(err)
	}
}

// holding has another process keep the environment open, until the function that is returned is called.
func holding(t *testing.T, home string) (let func()) {
	t.Helper()
	cmd := exec.Command("perl", "testdata/plain.pl", "cds", home, "10", "hold")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return func() {
		in.Close()
		io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// TestOfflineWithLog: a transactional environment that nobody has open is backed up as a live one is, and one whose log is not to be had is refused.
func TestOfflineWithLog(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	env := envtest.Create(t, home, envtest.Spec{DataDirs: []string{"data"}, Databases: []envtest.Database{{File: "x.db", Method: "btree", Records: 200}}})
	v := newVault(t, home)
	offline := archive.BackupOptions{Offline: true, BulkSafe: archive.BulkOff, Env: "test"}
	res, err := v.backup(offline)
	if err != nil {
		t.Fatal(err)
	}
	if m := res.Manifest; m.Offline == nil || m.NoLog || m.Format != 1 {
		t.Errorf("offline %v, without log %v, format %d", m.Offline, m.NoLog, m.Format)
	}
	if err := env.GrowLog(10<<10, 1); err != nil {
		t.Fatal(err)
	}
	v.mustShip()
	to, _ := v.mustRestore(restore.Target{})
	if n := len(contents(t, to, "")); n != 2 {
		t.Errorf("%d databases are restored", n)
	}

	for _, name := range logFiles(t, home) {
		write(t, name, nil)
	}
	_, err = v.backup(offline)
	if e, ok := errors.AsType[*archive.UnknownLogError](err); !ok || e.InMemory {
		t.Errorf("without its log: %v", err)
	}
	write(t, filepath.Join(home, "DB_CONFIG"), []byte("log_set_config DB_LOG_IN_MEMORY on\nset_data_dir data\n"))
	_, err = v.backup(offline)
	if e, ok := errors.AsType[*archive.UnknownLogError](err); !ok || !e.InMemory {
		t.Errorf("with a log in memory: %v", err)
	}
}
