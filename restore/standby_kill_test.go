package restore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bdbvault/localenv/envtest"
	"bdbvault/remote"
	"bdbvault/remote/file"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

// standbyChild is a process that lets a standby catch up once, and kills itself at one of the steps.
func standbyChild(store, to, at string) error {
	driver, err := file.New(store)
	if err != nil {
		return err
	}
	ctx := context.Background()
	repo, err := repository.Open(ctx, remote.New(driver, remote.Options{}))
	if err != nil {
		return err
	}
	left, err := strconv.Atoi(at)
	if err != nil {
		return err
	}
	opt := restore.StandbyOptions{To: to, Step: func(string) error {
		if left--; left < 0 {
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return nil
	}}
	opt.Engine.Password = os.Getenv("STANDBY_TEST_PASSWORD")
	s, err := restore.OpenStandby(opt)
	if err != nil {
		return err
	}
	defer s.Close()
	if os.Getenv("STANDBY_TEST_PROMOTE") != "" {
		_, err = s.Promote(ctx, repo)
		return err
	}
	_, err = s.Cycle(ctx, repo)
	return err
}

// startStandbyChild starts that process.
func startStandbyChild(t *testing.T, store, to, password string, at int, more ...string) (*exec.Cmd, *strings.Builder) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "standby", store, to, strconv.Itoa(at))
	cmd.Env = append(append(os.Environ(), "STANDBY_TEST_PASSWORD="+password), more...)
	out := new(strings.Builder)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

// wasKilled waits for the process and reports whether it came to a violent end. It must not fail.
func wasKilled(t *testing.T, cmd *exec.Cmd, out *strings.Builder) bool {
	t.Helper()
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return false
}

// dyingEngine is an engine that is killed after some time, whatever it does.
func dyingEngine(after time.Duration) []string {
	return []string{"/bin/sh", "-c", `exec 3<&0; "$0" engine <&3 & sleep "$1"; kill -9 $!; wait $!`, os.Args[0], fmt.Sprintf("%.3f", after.Seconds())}
}

// disturb lets a cycle begin that does not come to its end, or may not: by a kill at a step, at any moment, or of the engine.
func (c *standbyHistory) disturb(p *packer, opt restore.StandbyOptions) {
	t := c.t
	t.Helper()
	switch c.IntN(6) {
	case 0, 1:
		at := c.IntN(14)
		cmd, out := startStandbyChild(t, p.dir, opt.To, opt.Engine.Password, at)
		c.say("killed at step %d: %v", at, wasKilled(t, cmd, out))
	case 2:
		cmd, out := startStandbyChild(t, p.dir, opt.To, opt.Engine.Password, 1000)
		time.Sleep(time.Duration(c.IntN(300)) * time.Millisecond) // a moment at random
		_ = cmd.Process.Kill()
		c.say("killed: %v", wasKilled(t, cmd, out))
	case 3:
		opt.Engine.Executable = dyingEngine(time.Duration(c.IntN(120)) * time.Millisecond)
		s, err := restore.OpenStandby(opt)
		p.must(err)
		_, err = s.Cycle(t.Context(), p.repo)
		s.Close()
		c.say("engine killed: %v", err)
	}
}

// TestStandbyKilledEverywhere kills the process that keeps a standby at every step of every kind of cycle in turn.
func TestStandbyKilledEverywhere(t *testing.T) {
	env, p := small(t)
	h := envtest.StartHold(t, env)
	for name, change := range map[string]func(){
		"built": func() {},
		"files": func() {
			h.Create("", envtest.Database{File: "x.db", Method: "btree", Records: 300})
			h.Rename("", "x.db", "y.db")
			h.Put("", "a.db", 9000, 300)
			h.Remove("", "y.db")
		},
		"a new full": func() { p.full(env.Home, nil); h.Put("", "a.db", 9500, 10) },
	} {
		t.Run(name, func(t *testing.T) {
			before := t.TempDir()
			if name != "built" {
				s, err := restore.OpenStandby(restore.StandbyOptions{To: filepath.Join(before, "to")})
				p.must(err)
				_, err = s.Cycle(t.Context(), p.repo)
				p.must(err)
				s.Close()
			}
			change()
			h.FlushLog()
			p.ship(env.Home)
			// Every step in turn takes its time; else some, others each time.
			stride := max(1, 5-torture())
			for at := rand.IntN(stride); killStandbyAt(t, p, before, at); at += stride {
			}
		})
	}
}

func killStandbyAt(t *testing.T, p *packer, before string, at int) (killed bool) {
	t.Helper()
	base := copyHome(t, before)
	to := filepath.Join(base, "to")
	cmd, out := startStandbyChild(t, p.dir, to, "", at)
	killed = wasKilled(t, cmd, out)
	opt := restore.StandbyOptions{To: to}
	s, err := restore.OpenStandby(opt)
	p.must(err)
	defer s.Close()
	res, err := s.Cycle(t.Context(), p.repo)
	p.must(err)
	if diff := compareFresh(t, p, res, opt); len(diff) > 0 {
		t.Errorf("killed at step %d: %s", at, strings.Join(diff, "\n"))
	}
	left, err := filepath.Glob(filepath.Join(to, ".bdbvault-*"))
	p.must(err)
	if len(left) != 2 || !slices.ContainsFunc(left, func(s string) bool { return filepath.Base(s) == ".bdbvault-standby" }) {
		t.Errorf("killed at step %d: left behind: %v", at, left)
	}
	return killed
}
