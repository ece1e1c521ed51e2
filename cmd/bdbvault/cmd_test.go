package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/file"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

func TestParseLocation(t *testing.T) {
	for text, want := range map[string]location{
		"file:///srv/backups":        {dir: "/srv/backups"},
		"file:///srv/my backups/50%": {dir: "/srv/my backups/50%"},
		"s3://bucket":                {bucket: "bucket"},
		"s3://bucket/":               {bucket: "bucket"},
		"s3://bucket/a/b/":           {bucket: "bucket", prefix: "a/b"},
	} {
		if got, err := parseLocation(text); err != nil || got != want {
			t.Errorf("parseLocation(%q) = %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "backups", "/srv/backups", "file://srv", "file:/srv", "s3://", "s3:///a", "s3://b/a//c", "s3://b/..", "http://host/b"} {
		if got, err := parseLocation(text); !is[usageError](err) {
			t.Errorf("parseLocation(%q) = %+v, %v, want a usage error", text, got, err)
		}
	}
}

func TestSanitize(t *testing.T) {
	for name, want := range map[string]string{
		"mail": "mail", "my db!": "my_db_", ".hidden": "hidden", "-x": "x", "Größe": "Gr__e", "...": "", strings.Repeat("x", 70): strings.Repeat("x", 64),
	} {
		got := sanitize(name)
		if got != want || (got != "" && manifest.CheckEnv(got) != nil) {
			t.Errorf("sanitize(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestFlagsFirst(t *testing.T) {
	commands := (&program{}).commands()
	for line, want := range map[string]string{
		"show ID":                        "show -- ID",
		"show ID -r file:///x --json":    "show -r file:///x --json -- ID",
		"show --repository=file:///x ID": "show --repository=file:///x -- ID",
		"show -r file:///x -- -ID":       "show -r file:///x -- -ID",
		"show --json ID":                 "show --json -- ID", // a flag without a value takes none
		"show ID -r":                     "show ID -r",
		"nothing -x y":                   "nothing -x y",
		"--help":                         "--help",
	} {
		got := flagsFirst(commands, append([]string{"bdbvault"}, strings.Fields(line)...))
		if s := strings.Join(got[1:], " "); s != want {
			t.Errorf("flagsFirst(%q) = %q, want %q", line, s, want)
		}
	}
}

func TestWantsJSON(t *testing.T) {
	for line, want := range map[string]bool{
		"list": false, "list --json": true, "list -json": true, "list --json=false": false, "list -- --json": false, "list json": false,
	} {
		if got := wantsJSON(strings.Fields(line)); got != want {
			t.Errorf("wantsJSON(%q) = %v", line, got)
		}
	}
	t.Setenv("BDBVAULT_JSON", "1")
	if !wantsJSON([]string{"list"}) || wantsJSON([]string{"list", "--json=0"}) {
		t.Error("BDBVAULT_JSON is not looked at, or the flag does not win over it")
	}
}

func TestCount(t *testing.T) {
	for want, got := range map[string]string{"0 files": count(0, "file"), "1 file": count(1, "file"), "2 passes": count(2, "pass")} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestProgressLines(t *testing.T) {
	began := time.Date(2026, 11, 20, 5, 30, 0, 0, time.UTC)
	now := began.Add(10 * time.Second)
	for want, ph := range map[string]phase{
		"reading: 100 MiB of 1.0 GiB, 9 %, 10 MiB/s, 1m32s left": {name: "reading", total: 1 << 30, began: began},
		"reading: 100 MiB, 10 MiB/s":                             {name: "reading", began: began},
	} {
		if got := ph.line(100<<20, now); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	ph := phase{name: "recovering", total: 100, percent: true, began: began}
	if got := ph.line(42, now); got != "recovering: 42 %" {
		t.Errorf("got %q", got)
	}
	if got := (&phase{name: "reading", total: 10, began: began}).line(0, now); got != "reading: 0 B of 10 B, 0 %, 0 B/s, ? left" {
		t.Errorf("got %q", got)
	}
}

// TestProgressIsQuiet checks that quiet means silence whatever is reported.
func TestProgressIsQuiet(t *testing.T) {
	var b strings.Builder
	p := newProgress(&b, true, true)
	p.Phase("x", 1)
	p.Add(1)
	p.File("file")
	p.Note("note")
	p.retrying(errors.New("fault"), time.Second)
	p.end()
	if b.Len() > 0 {
		t.Errorf("it says %q", b.String())
	}
}

// TestJudge holds the exit code of every kind of error, and that a person is told what to do next.
func TestJudge(t *testing.T) {
	id := manifest.BackupID("20261120T053012Z-4f3a")
	store := func(k remote.Kind) error {
		return fmt.Errorf("list: %w", &remote.Error{Op: "list", Store: "s3://b", Kind: k, Err: errors.New("x")})
	}
	cases := []struct {
		err  error
		code int
	}{
		{usagef("no"), exitUsage},
		{&archive.ChainError{Reason: "forked"}, exitChain},
		{fmt.Errorf("ship: %w", archive.ErrNoBackup), exitChain},
		{&restore.UnusableError{Backup: id, Err: &manifest.GapError{}}, exitChain},
		{&archive.DamageError{Files: []archive.DamagedFile{{Path: "a.db", Pages: []bdb.PageError{{Page: 1}}}}}, exitDamage},
		{fmt.Errorf("object x: %w", manifest.ErrDamaged), exitDamage},
		{&restore.UnusableError{Backup: id, Err: manifest.ErrDamaged}, exitDamage},
		{&restore.DamageError{Backup: id}, exitDamage},
		{&restore.MissingError{Missing: []string{"a.db"}}, exitDamage},
		{&restore.VerifyError{Files: []string{"a.db"}, Err: engine.ErrDamaged}, exitDamage},
		{&restore.NameError{Name: "../x"}, exitDamage},
		{repository.ErrNone, exitFailed},
		{repository.ErrExists, exitFailed},
		{&repository.VoidError{ID: id}, exitFailed},
		{&manifest.FormatError{What: "manifest", Found: 2, Known: 1}, exitFailed},
		{&archive.OtherEnvironmentError{Env: "a", Last: manifest.New("a", id)}, exitFailed},
		{&archive.NotCoveredError{Names: []string{"a.db"}}, exitFailed},
		{&archive.LogTooShortError{File: "a.db"}, exitFailed},
		{restore.ErrEnvironment, exitFailed},
		{restore.ErrNoBackup, exitFailed},
		{restore.ErrPassword, exitFailed},
		{&restore.TargetError{Dir: "/x", Problem: "not empty"}, exitFailed},
		{&restore.ConfigError{Line: 1, Text: "set_lg_dir /x"}, exitFailed},
		{&restore.LogEndError{}, exitFailed},
		{&restore.RecoveryError{Err: &engine.ChildError{Op: "recover", Signal: "SIGSEGV"}}, exitFailed},
		{&noBackupError{id: id}, exitFailed},
		{&engine.EngineError{Op: "join", Kind: engine.ErrNotJoinable}, exitFailed},
		{&engine.EngineError{Op: "join", Kind: engine.ErrStaleRegion}, exitFailed},
		{&engine.EngineError{Op: "join", Kind: engine.ErrPassword}, exitFailed},
		{engine.ErrNotSupported, exitFailed},
		{engine.ErrFlagLost, exitFailed},
		{&engine.HungError{Op: "checkpoint", PID: 7}, exitFailed},
		{&engine.ChildError{Op: "checkpoint", Signal: "SIGKILL"}, exitFailed},
		{bdb.ErrPassword, exitFailed},
		{localenv.ErrNoLog, exitFailed},
		{fmt.Errorf("write: %w", syscall.ENOSPC), exitFailed},
		{fmt.Errorf("write: %w", syscall.EROFS), exitFailed},
		{fmt.Errorf("open: %w", fs.ErrPermission), exitFailed},
		{fmt.Errorf("open: %w", fs.ErrNotExist), exitFailed},
		{store(remote.NoBucket), exitFailed},
		{store(remote.Auth), exitFailed},
		{store(remote.Expired), exitFailed},
		{store(remote.Denied), exitFailed},
		{store(remote.WrongRegion), exitFailed},
		{store(remote.ClockSkew), exitFailed},
		{store(remote.Untrusted), exitFailed},
		{store(remote.Unreachable), exitFailed},
		{store(remote.Transient), exitFailed},
		{store(remote.Full), exitFailed},
		{store(remote.ReadOnly), exitFailed},
		{store(remote.NotFound), exitFailed},
	}
	for _, c := range cases {
		v := judge(context.Background(), c.err)
		if v.code != c.code || v.text == "" || v.hint == "" {
			t.Errorf("%T %v: code %d, hint %q, want code %d and a hint", c.err, c.err, v.code, v.hint, c.code)
		}
	}
	if v := judge(context.Background(), nil); v != (verdict{}) {
		t.Errorf("no error is %+v", v)
	}
}

// TestHintsOfAMissingStore: a bucket has to be made by other means, a directory is made by init.
func TestHintsOfAMissingStore(t *testing.T) {
	d, err := file.New(filepath.Join(t.TempDir(), "none"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = repository.Open(t.Context(), remote.New(d, remote.Options{RetryFor: -1}))
	if h := hint(err); !strings.Contains(h, "bdbvault init") || strings.Contains(h, "aws") {
		t.Errorf("%v: %q", err, h)
	}
	err = &remote.Error{Op: "list", Store: "s3://b", Kind: remote.NoBucket, Err: errors.New("x")}
	if h := hint(err); !strings.Contains(h, "aws s3 mb") || strings.Contains(h, "bdbvault init") {
		t.Errorf("%v: %q", err, h)
	}
}

// TestJudgeInterrupted: whatever else an interrupted command fails with, its exit code says that it was interrupted, but nothing that went
// wrong besides is kept quiet.
func TestJudgeInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errInterrupted)
	if v := judge(ctx, fmt.Errorf("put: %w", context.Canceled)); v.code != exitInterrupted || v.text != "interrupted" {
		t.Errorf("got %+v", v)
	}
	if v := judge(ctx, errors.New("flag not reset")); v.code != exitInterrupted || v.text != "flag not reset" {
		t.Errorf("got %+v", v)
	}
	if v := judge(ctx, nil); v.code != exitDone {
		t.Errorf("a command that came to its end all the same is %+v", v)
	}
}

// TestEveryFlagHasItsVariable: what can be said on the command line can be said by the environment.
func TestEveryFlagHasItsVariable(t *testing.T) {
	type visible interface{ GetEnvVars() []string }
	for _, c := range (&program{}).commands() {
		for _, f := range c.Flags {
			name := f.Names()[0]
			own := variables(name)[0]
			if name == flagPassword {
				continue // BDBVAULT_DB_PASSWORD is read by hand
			}
			if v, ok := f.(visible); !ok || !slices.Contains(v.GetEnvVars(), own) {
				t.Errorf("%s --%s: no %s", c.Name, name, own)
			}
		}
	}
}
