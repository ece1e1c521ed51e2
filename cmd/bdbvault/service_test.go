package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/cmd/bdbvault/status"
	"bdbvault/localenv/envtest"
)

// product makes the test binary the program that it tests, and returns its path. Main takes it for that by its name.
func product(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bdbvault")
	if os.Link(self, path) == nil {
		return path
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// running is bdbvault watch as a process of its own.
type running struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  bytes.Buffer
	done chan error

	mu    sync.Mutex
	lines []string
	url   chan string
}

var announced = regexp.MustCompile(`at (http://\S+/)`)

func startWatch(t *testing.T, env []string, args ...string) *running {
	t.Helper()
	r := &running{t: t, cmd: exec.Command(product(t), append([]string{"watch", "--listen", "127.0.0.1:0"}, args...)...), done: make(chan error, 1), url: make(chan string, 1)}
	r.cmd.Env = append(append(os.Environ(), "BDBVAULT_STATE_DIR="+t.TempDir()), env...)
	r.cmd.Stdout = &r.out
	errs, err := r.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(errs); lines.Scan(); {
			r.mu.Lock()
			r.lines = append(r.lines, lines.Text())
			r.mu.Unlock()
			if m := announced.FindStringSubmatch(lines.Text()); m != nil {
				r.url <- m[1]
			}
		}
		r.done <- r.cmd.Wait()
	}()
	t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			r.cmd.Process.Signal(syscall.SIGTERM)
			<-r.done
		}
		if t.Failed() {
			t.Logf("it said:\n%s", r.said())
		}
	})
	return r
}

func (r *running) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n")
}

// address waits until the status page can be reached.
func (r *running) address() string {
	r.t.Helper()
	select {
	case u := <-r.url:
		r.url <- u
		return u
	case err := <-r.done:
		r.t.Fatalf("it ended: %v\n%s", err, r.said())
	case <-time.After(patience):
		r.t.Fatal("it does not say where its status page is")
	}
	return ""
}

func (r *running) get(path string) (int, string) {
	r.t.Helper()
	res, err := http.Get(r.address() + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func (r *running) status() (s struct{ Environments []status.Environment }) {
	r.t.Helper()
	_, body := r.get("status.json")
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		r.t.Fatalf("%v: %s", err, body)
	}
	return s
}

// until polls a condition.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to be: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// settled waits until nothing was stored for five ships, and nothing is missing.
func (r *running) settled(env string) {
	r.t.Helper()
	var end string
	since := time.Now()
	until(r.t, "everything is in the store", func() bool {
		for _, e := range r.status().Environments {
			w := e.Watch
			if w.Environment == env && (w.LagSeconds > 0 || w.ShippedTo.String() != end) {
				end, since = w.ShippedTo.String(), time.Now()
			}
		}
		return time.Since(since) > time.Second
	})
}

// stop sends a signal and returns the exit code.
func (r *running) stop(sig os.Signal) int {
	r.t.Helper()
	if err := r.cmd.Process.Signal(sig); err != nil {
		r.t.Fatal(err)
	}
	select {
	case <-r.done:
	case <-time.After(patience):
		r.cmd.Process.Kill()
		r.t.Fatal("it did not end")
	}
	return r.cmd.ProcessState.ExitCode()
}

// bank makes an environment with a bank in it.
func bank(t *testing.T, home string) *envtest.Environment {
	t.Helper()
	return envtest.Create(t, home, envtest.Spec{DataDirs: []string{"data"}, LogFileSize: 1 << 20,
		Databases: []envtest.Database{{File: "b.db", Method: "btree", Records: 500}}, Bank: &envtest.Bank{Accounts: 20}})
}

func makeRepository(t *testing.T) string {
	t.Helper()
	url := "file://" + filepath.Join(t.TempDir(), "repo")
	if code := run([]string{"bdbvault", "init", "-r", url, "-q"}, io.Discard, os.Stderr); code != 0 {
		t.Fatalf("init: exit code %d", code)
	}
	return url
}

// TestWatch runs the service as systemd would, beside a live writer: it says that it is up, lives and ends, what it shows over HTTP is true, and
// when everything is in the store and it is told to end, it ends with 0, and a restore holds the last commit.
func TestWatch(t *testing.T) {
	cleanSettings(t)
	repo, home := makeRepository(t), filepath.Join(t.TempDir(), "bank")
	load := envtest.StartBank(t, bank(t, home), envtest.BankOptions{Processes: 2, Rate: 300})
	systemd := listenSystemd(t)
	r := startWatch(t, []string{"NOTIFY_SOCKET=" + systemd.path, "WATCHDOG_USEC=2000000"}, "-r", repo, "-h", home, "--ship-every", "200ms", "--json")
	systemd.wait("READY=1", 1)
	until(t, "healthy", func() bool { code, _ := r.get("healthz"); return code == http.StatusOK })
	until(t, "shipped", func() bool { return r.status().Environments[0].Watch.Counters.Ships > 3 })
	systemd.wait("WATCHDOG=1", 2)
	systemd.wait("STATUS=bank is protected", 1)

	_, metrics := r.get("metrics")
	for _, line := range []string{`bdbvault_healthy{environment="bank"} 1`, `bdbvault_fulls_total{environment="bank"} 1`, `bdbvault_ship_failures_total{environment="bank"} 0`} {
		if !strings.Contains(metrics, "\n"+line+"\n") {
			t.Errorf("metrics have no %s", line)
		}
	}
	until(t, "the store's history is read", func() bool { h := r.status().Environments[0].History; return h != nil && len(h.Backups) == 1 })
	if code, page := r.get(""); code != 200 || !strings.Contains(page, "bank is protected") || !strings.Contains(page, "<svg class=\"chart\"") {
		t.Errorf("the page: %d %s", code, page)
	}

	if err := load.Stop(); err != nil {
		t.Fatal(err)
	}
	last := load.LastCommitted()
	r.settled("bank")
	if code := r.stop(syscall.SIGTERM); code != exitDone {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	systemd.wait("STOPPING=1", 1)
	checkEvents(t, r.out.Bytes())

	to := filepath.Join(t.TempDir(), "restored")
	out, err := exec.Command(product(t), "restore", "-r", repo, "--env", "bank", "--to", to).CombinedOutput()
	if err != nil {
		t.Fatalf("restore: %v: %s", err, out)
	}
	if report, err := envtest.CheckBank(to, ""); err != nil || report.LastCommit != last {
		t.Errorf("restored up to commit %d of %d: %v", report.LastCommit, last, err)
	}
}

// checkEvents: with --json, standard output is an object a line, and they tell the story.
func checkEvents(t *testing.T, out []byte) {
	t.Helper()
	seen := map[archive.EventKind]int{}
	for line := range bytes.Lines(out) {
		var e eventObject
		if err := json.Unmarshal(line, &e); err != nil || e.Environment != "bank" || e.Time.IsZero() {
			t.Fatalf("%v: %s", err, line)
		}
		seen[e.Event]++
		if (e.Event == archive.EventShipped) != (e.Ship != nil) || (e.Event == archive.EventFullDone) != (e.Full != nil) {
			t.Errorf("lacks what it is about: %s", line)
		}
	}
	if seen[archive.EventFullBegun] != 1 || seen[archive.EventFullDone] != 1 || seen[archive.EventShipped] < 3 || seen[archive.EventStopped] != 1 {
		t.Errorf("events: %v", seen)
	}
}

// TestWatchSeveral: environments of one file are watched side by side; one that can't be does not take the others down, and is told apart.
func TestWatchSeveral(t *testing.T) {
	cleanSettings(t)
	repo, dir := makeRepository(t), t.TempDir()
	for _, name := range []string{"one", "two"} {
		bank(t, filepath.Join(dir, name))
	}
	path := writeConfig(t, "repository: %s\nship-every: 100ms\nmax-lag: 30s\nenvironments:\n  - home: %s/one\n  - home: %s/two\n    env: second\n    bulk-safe: \"off\"\n  - home: %s/gone\n",
		repo, dir, dir, dir)
	r := startWatch(t, nil, "--config", path)
	for _, name := range []string{"one", "second"} {
		until(t, name+" is healthy", func() bool { code, _ := r.get("healthz/" + name); return code == http.StatusOK })
	}
	until(t, "gone is told apart", func() bool {
		code, body := r.get("healthz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "one: ok") && strings.Contains(body, "second: ok") && strings.Contains(body, "gone: ")
	})
	if _, page := r.get(""); !strings.Contains(page, "1 of 3 environments needs attention") {
		t.Errorf("the page says nothing of it: %s", page)
	}
	if code := r.stop(syscall.SIGINT); code != exitDone {
		t.Errorf("exit code %d after SIGINT", code)
	}
	// The same file serves the other commands.
	for _, args := range []string{"ship --env second", "list", "show --env one " + r.status0("one"), "backup --env one"} {
		cmd := exec.Command(product(t), append(strings.Fields(args), "--config", path)...)
		cmd.Env = append(os.Environ(), "BDBVAULT_STATE_DIR="+t.TempDir())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", args, err, out)
		}
	}
	for args, want := range map[string]string{"ship": "choose one with --env: one, second, gone", "ship --env three": "has no environment three"} {
		cmd := exec.Command(product(t), append(strings.Fields(args), "--config", path)...)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v: %s", args, err, out)
		}
	}
}

// status0 finds in what was said the first full backup of an environment.
func (r *running) status0(env string) string {
	r.t.Helper()
	m := regexp.MustCompile(env + `: full backup (\S+) is stored`).FindStringSubmatch(r.said())
	if m == nil {
		r.t.Fatalf("no full backup of %s", env)
	}
	return m[1]
}

// TestWatchAlone: with nothing else to watch, what can't be watched ends the service with an error, and mistakes are found before anything is begun.
func TestWatchAlone(t *testing.T) {
	cleanSettings(t)
	for args, want := range map[string]struct {
		code int
		says string
	}{
		"-r file:///nowhere/repo -h /nowhere/home":                         {exitFailed, "/nowhere/repo"},
		"-h /nowhere/home":                                                 {exitUsage, "needs -r"},
		"-r file:///nowhere/repo":                                          {exitUsage, "needs -h"},
		"-r file:///nowhere/repo -h /x --full-every 1h --full-cron 1":      {exitUsage, "not both"},
		"-r " + makeRepository(t) + " -h /nowhere/home --listen 1.2.3.4:1": {exitFailed, "status page: "},
		"-r " + makeRepository(t) + " -h /nowhere/home":                    {exitFailed, "/nowhere/home"},
	} {
		var out, errs bytes.Buffer
		code := run(append([]string{"bdbvault", "watch", "--state-dir", t.TempDir()}, strings.Fields(args)...), &out, &errs)
		if code != want.code || !strings.Contains(errs.String(), want.says) || out.Len() > 0 {
			t.Errorf("%s: exit code %d: %s%s", args, code, out.String(), errs.String())
		}
	}
	var out, errs bytes.Buffer
	run([]string{"bdbvault", "watch", "-r", makeRepository(t), "-h", "/nowhere", "--json", "--state-dir", t.TempDir()}, &out, &errs)
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	var f failure
	if err := json.Unmarshal(lines[len(lines)-1], &f); err != nil || f.Code != exitFailed {
		t.Errorf("the last line of --json is no failure: %s", out.String())
	}
}

// systemdSocket is a socket like the one that systemd gives its services, and everything that it was told.
type systemdSocket struct {
	t    *testing.T
	path string
	conn *net.UnixConn

	mu    sync.Mutex
	heard []string
}

func listenSystemd(t *testing.T) *systemdSocket {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &systemdSocket{t: t, path: filepath.Join(dir, "notify")}
	if s.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for buf := make([]byte, 4096); ; {
			n, err := s.conn.Read(buf)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.heard = append(s.heard, strings.Split(string(buf[:n]), "\n")...)
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		s.conn.Close()
		<-ended
	})
	return s
}

// times is how often systemd was told something.
func (s *systemdSocket) times(what string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.heard {
		if strings.HasPrefix(line, what) {
			n++
		}
	}
	return n
}

func (s *systemdSocket) wait(want string, times int) {
	s.t.Helper()
	until(s.t, fmt.Sprintf("systemd is told %s %d times", want, times), func() bool { return s.times(want) >= times })
}

// TestWatchdog: systemd is told that the service lives only as long as every watch makes progress.
func TestWatchdog(t *testing.T) {
	systemd := listenSystemd(t)
	t.Setenv("NOTIFY_SOCKET", systemd.path)
	t.Setenv("WATCHDOG_USEC", "400000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	quick, stuck := &guard{spec: &watchSpec{}, pulse: newPulse()}, &guard{spec: &watchSpec{}, pulse: newPulse()}
	s := &service{plan: &watchPlan{}, guards: []*guard{quick, stuck}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	n := newNotifier(s)
	go func() { ended <- n.run(ctx) }()
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		for ctx.Err() == nil {
			quick.pulse.beat()
			sleepFor(ctx, 50*time.Millisecond)
		}
	}()
	systemd.wait("WATCHDOG=1", 1) // both are fresh
	until(t, "one of the two is stuck", func() bool { return !n.alive() })
	told := systemd.times("WATCHDOG=1")
	sleepFor(ctx, time.Second) // five times as long as it should take
	if more := systemd.times("WATCHDOG=1"); more > told+1 {
		t.Errorf("systemd is told %d times more that all is well although a watch is stuck", more-told)
	}
	told = systemd.times("WATCHDOG=1")
	stuck.pulse.beat()
	systemd.wait("WATCHDOG=1", told+1)
	cancel()
	systemd.wait("STOPPING=1", 1)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	<-beating
}
