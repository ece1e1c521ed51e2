package enginetest

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/localenv/envtest"
)

// lastCheckpoint asks db_stat.
func lastCheckpoint(t *testing.T, home string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "db5.3_stat", "-t", "-h", home).CombinedOutput()
	if err != nil {
		t.Fatalf("db5.3_stat: %v: %s", err, out)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

func (s Subject) testCheckpoint(t *testing.T) {
	env, load := bank(t, envtest.Spec{LogDir: "logs"})
	var asked int
	logEnd := func(ctx context.Context) (bdb.LSN, error) {
		asked++
		return readLogEnd(filepath.Join(env.Home, "logs"))
	}
	c := s.start(t, engine.Options{Home: env.Home, LogEnd: logEnd})
	before := lastCheckpoint(t, env.Home)
	for range 3 {
		if err := load.WaitCommit(t.Context(), load.LastCommitted()+50); err != nil {
			t.Fatal(err)
		}
		if err := c.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		after := lastCheckpoint(t, env.Home)
		if after == before {
			t.Errorf("the last checkpoint still is %s", after)
		}
		before = after
	}
	if asked != 6 {
		t.Errorf("asked %d times for the end of the log", asked)
	}
	healthy(t, env, load)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// readLogEnd walks the newest log file. That the writers are at work does not matter: a record that is not whole yet ends it.
func readLogEnd(dir string) (bdb.LSN, error) {
	files, err := filepath.Glob(filepath.Join(dir, "log.*"))
	if err != nil || len(files) == 0 {
		return bdb.LSN{}, errors.Join(err, errors.New("no log"))
	}
	newest := files[len(files)-1]
	b, err := os.ReadFile(newest)
	if err != nil {
		return bdb.LSN{}, err
	}
	const header = 12
	le := binary.LittleEndian
	at := 0
	for at+header < len(b) {
		size := int(le.Uint32(b[at+4:]))
		if size < header || at+size > len(b) || bdb.Checksum(b[at+header:at+size])^le.Uint32(b[at:])^uint32(size) != le.Uint32(b[at+8:]) {
			break
		}
		at += size
	}
	var number uint32
	for _, digit := range strings.TrimPrefix(filepath.Base(newest), "log.") {
		number = number*10 + uint32(digit-'0')
	}
	return bdb.LSN{File: number, Offset: uint32(at)}, nil
}

// testNotJoinable offers what must be refused before anything is touched, and looks that nothing was.
func (s Subject) testNotJoinable(t *testing.T) {
	made := envtest.Create(t, filepath.Join(t.TempDir(), "made"), envtest.Spec{Bank: &envtest.Bank{}})
	regions, err := os.ReadFile(filepath.Join(made.Home, "__db.001"))
	if err != nil {
		t.Fatal(err)
	}
	const major, signature = 8, 24 // in REGENV, src/dbinc/region.h
	altered := func(at int) []byte {
		b := append([]byte(nil), regions...)
		binary.LittleEndian.PutUint32(b[at:], binary.LittleEndian.Uint32(b[at:])+1)
		return b
	}
	cases := []struct {
		name    string
		regions []byte
		config  string
		text    string
	}{
		{"no regions", nil, "", "no region files"},
		{"private", regions, "SET_OPEN_FLAGS db_private\n", "private"},
		{"register", regions, "set_open_flags DB_REGISTER on\n", "register"},
		{"other release", altered(major), "", "version"},
		{"other build", altered(signature), "", "signature"},
	}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			home := copyHome(t, made.Home)
			if k.regions != nil {
				write(t, filepath.Join(home, "__db.001"), k.regions)
			}
			write(t, filepath.Join(home, "DB_CONFIG"), []byte(k.config))
			before := contents(t, home)
			c := s.start(t, engine.Options{Home: home})
			want(t, c.Checkpoint(t.Context()), engine.ErrNotJoinable, k.text)
			if s.HoldsFlag {
				err := c.HotBackup(t.Context(), func(context.Context) error { t.Error("called"); return nil })
				want(t, err, engine.ErrNotJoinable, k.text)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			for name, b := range contents(t, home) {
				if before[name] != b {
					t.Errorf("%s was made or changed", name)
				}
			}
		})
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, e := range entries {
		if e.Type().IsRegular() {
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			found[e.Name()] = string(b)
		}
	}
	return found
}

// testStaleRegions puts together what a power failure leaves: regions and log of different moments, either one being the older.
func (s Subject) testStaleRegions(t *testing.T) {
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{Bank: &envtest.Bank{}})
	early := snapshot(t, env.Home)
	load := envtest.StartBank(t, env, envtest.BankOptions{})
	if err := load.WaitCommit(t.Context(), 200); err != nil {
		t.Fatal(err)
	}
	if err := load.Stop(); err != nil {
		t.Fatal(err)
	}
	late := snapshot(t, env.Home)
	for name, home := range map[string]string{"regions behind": mix(t, early, late), "regions ahead": mix(t, late, early)} {
		t.Run(name, func(t *testing.T) {
			log := contents(t, home)["log.0000000001"]
			c := s.start(t, engine.Options{Home: home, LogEnd: func(context.Context) (bdb.LSN, error) { return readLogEnd(home) }})
			want(t, c.Checkpoint(t.Context()), engine.ErrStaleRegion, "log ends at")
			if s.HoldsFlag {
				want(t, c.HotBackup(t.Context(), func(context.Context) error { return nil }), engine.ErrStaleRegion, "log ends at")
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if contents(t, home)["log.0000000001"] != log {
				t.Error("the log was written to")
			}
		})
	}
	failing := errors.New("log is unreadable today")
	c := s.start(t, engine.Options{Home: env.Home, LogEnd: func(context.Context) (bdb.LSN, error) { return bdb.LSN{}, failing }})
	if err := c.Checkpoint(t.Context()); err == nil || !strings.Contains(err.Error(), failing.Error()) {
		t.Errorf("when the log can't be read: %v", err)
	}
}

// snapshot copies a home that nobody writes to, regions included.
func snapshot(t *testing.T, home string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(home)); err != nil {
		t.Fatal(err)
	}
	return to
}

// mix makes a home of the regions of one and everything else of another.
func mix(t *testing.T, regions, rest string) string {
	t.Helper()
	home := snapshot(t, rest)
	files, _ := filepath.Glob(filepath.Join(regions, "__db.0*"))
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(home, filepath.Base(file)), b)
	}
	return home
}

func (s Subject) testWrongPurpose(t *testing.T) {
	live := s.start(t, engine.Options{Home: t.TempDir()})
	want(t, live.Recover(t.Context(), t.TempDir(), engine.RecoverOptions{}), engine.ErrNotSupported, "live")
	want(t, live.Verify(t.Context(), t.TempDir(), "a.db"), engine.ErrNotSupported, "live")
	offline := s.start(t, engine.Options{})
	want(t, offline.Checkpoint(t.Context()), engine.ErrNotSupported, "live")
	want(t, offline.HotBackup(t.Context(), func(context.Context) error { return nil }), engine.ErrNotSupported, "live")
}

// testHotBackup sets the flag, under all the ways in which fn can end, and looks at it from another process.
func (s Subject) testHotBackup(t *testing.T) {
	env, load := bank(t, envtest.Spec{})
	c := s.start(t, engine.Options{Home: env.Home, LogEnd: func(context.Context) (bdb.LSN, error) { return readLogEnd(env.Home) }})
	if !s.HoldsFlag {
		want(t, c.HotBackup(t.Context(), func(context.Context) error { t.Error("called"); return nil }), engine.ErrNotSupported, "flag")
		return
	}
	t.Run("fn ends well", func(t *testing.T) {
		err := c.HotBackup(t.Context(), func(ctx context.Context) error {
			if !IsHot(t, env.Home) {
				t.Error("the flag is not set")
			}
			return c.Checkpoint(ctx)
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("fn fails", func(t *testing.T) {
		failure := errors.New("disk full")
		if err := c.HotBackup(t.Context(), func(context.Context) error { return failure }); err != failure {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		err := c.HotBackup(ctx, func(ctx context.Context) error { cancel(); return ctx.Err() })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		err = c.HotBackup(ctx, func(context.Context) error { t.Error("called"); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("twice at once", func(t *testing.T) {
		err := c.HotBackup(t.Context(), func(ctx context.Context) error {
			err := c.HotBackup(ctx, func(context.Context) error { return nil })
			if !IsHot(t, env.Home) {
				t.Error("the inner one reset the outer one's flag")
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	if IsHot(t, env.Home) {
		t.Error("the flag is still set")
	}
	healthy(t, env, load)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	t.Run("regions made anew", func(t *testing.T) { s.testFlagLost(t) })
}

// testFlagLost has the application start again with recovery while the flag is held.
func (s Subject) testFlagLost(t *testing.T) {
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{Bank: &envtest.Bank{}})
	c := s.start(t, engine.Options{Home: env.Home})
	err := c.HotBackup(t.Context(), func(ctx context.Context) error {
		if out, err := exec.CommandContext(ctx, "db5.3_recover", "-e", "-h", env.Home).CombinedOutput(); err != nil {
			t.Fatalf("db5.3_recover: %v: %s", err, out)
		}
		return nil
	})
	want(t, err, engine.ErrFlagLost, "")
	load := envtest.StartBank(t, env, envtest.BankOptions{Processes: 1, Rate: 500})
	err = c.HotBackup(t.Context(), func(context.Context) error {
		if !IsHot(t, env.Home) {
			t.Error("the flag is not set in the new regions")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	healthy(t, env, load)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
