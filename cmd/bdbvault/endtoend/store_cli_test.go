package endtoend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bdbvault/remote/remotetest"
)

// Exit codes as users know them.
const (
	failed  = 1
	chain   = 3
	damaged = 4
)

// limit is far beyond what any command here takes on a busy machine.
const limit = 3 * time.Minute

// cli runs bdbvault as a person would, with no settings but its own.
type cli struct {
	t    *testing.T
	path string
	wrap []string // before the program's path: in whose namespaces it runs
	env  []string
}

func newCLI(t *testing.T) *cli {
	t.Helper()
	path, err := product()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := &cli{t: t, path: path}
	return c.with("PATH="+os.Getenv("PATH"), "TMPDIR="+dir, "HOME="+dir, "TZ=UTC", "GOCOVERDIR="+os.Getenv("GOCOVERDIR"),
		"BDBVAULT_STATE_DIR="+filepath.Join(dir, "state"), "AWS_EC2_METADATA_DISABLED=true")
}

// with is the same with more, or other, variables.
func (c *cli) with(vars ...string) *cli {
	o := *c
	o.env = slices.Concat(c.env, vars)
	return &o
}

// at makes it use a repository in a server's bucket.
func (c *cli) at(s *remotetest.Server, endpoint, bucket string) *cli {
	return c.with("BDBVAULT_REPOSITORY=s3://"+bucket+"/vault", "BDBVAULT_ENDPOINT="+endpoint, "AWS_REGION="+s.Region,
		"AWS_ACCESS_KEY_ID="+s.AccessKey, "AWS_SECRET_ACCESS_KEY="+s.SecretKey)
}

// said is what a command said and ended with.
type said struct {
	args     []string
	code     int
	out, err string
}

func (s said) String() string {
	return fmt.Sprintf("bdbvault %s: exit code %d\n%s%s", strings.Join(s.args, " "), s.code, s.out, s.err)
}

// command is a command that has not been started.
func (c *cli) command(ctx context.Context, args ...string) *exec.Cmd {
	argv := slices.Concat(c.wrap, []string{c.path}, args)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = c.env
	cmd.WaitDelay = time.Minute // an engine's child may hold the output open
	return cmd
}

// run runs a command to its end.
func (c *cli) run(args ...string) said {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), limit)
	defer cancel()
	cmd := c.command(ctx, args...)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	return c.said(args, cmd.Run(), &out, &err)
}

func (c *cli) said(args []string, ended error, out, err *bytes.Buffer) said {
	c.t.Helper()
	s := said{args: args, out: out.String(), err: err.String()}
	if ended == nil {
		return s
	}
	exit, ok := errors.AsType[*exec.ExitError](ended)
	if !ok {
		c.t.Fatalf("%v: %v", args, ended)
	}
	s.code = exit.ExitCode()
	return s
}

// must wants exit code 0.
func (c *cli) must(args ...string) said {
	c.t.Helper()
	s := c.run(args...)
	if s.code != 0 {
		c.t.Fatal(s)
	}
	return s
}

// fails wants an exit code, and every one of some words on standard error.
func (c *cli) fails(code int, words []string, args ...string) said {
	c.t.Helper()
	s := c.run(args...)
	if s.code != code {
		c.t.Errorf("exit code %d is wanted of %s", code, s)
	}
	for _, w := range words {
		if !strings.Contains(s.err, w) {
			c.t.Errorf("%q is missing in %s", w, s)
		}
	}
	return s
}

// decode reads the object that a command with --json printed.
func decode[T any](t *testing.T, s said) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(s.out), &v); err != nil {
		t.Fatalf("%v in %s", err, s)
	}
	return v
}

// listed is what list --json says, as far as tests look at it.
type listed struct {
	Environments []struct {
		Name    string
		Backups []listedBackup
	}
	Result *listed // beside an error
	Code   int
	Error  string
}

type listedBackup struct {
	ID, State, Problem, Timeline string
}

// backups are all that a list shows.
func (c *cli) backups() (all []listedBackup) {
	c.t.Helper()
	return decode[listed](c.t, c.run("list", "--json")).all()
}

func (l listed) all() (all []listedBackup) {
	if l.Result != nil {
		return l.Result.all()
	}
	for _, e := range l.Environments {
		all = append(all, e.Backups...)
	}
	return all
}

// ongoing is a command that has been started.
type ongoing struct {
	c        *cli
	cmd      *exec.Cmd
	args     []string
	cancel   context.CancelFunc
	out, err bytes.Buffer
	seen     *watcher
}

// start starts a command. A test that does not wait for it kills it in the end.
func (c *cli) start(args ...string) *ongoing {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &ongoing{c: c, args: args, cancel: cancel, cmd: c.command(ctx, args...), seen: &watcher{changed: make(chan struct{})}}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, io.MultiWriter(&r.err, r.seen)
	if err := r.cmd.Start(); err != nil {
		cancel()
		c.t.Fatal(err)
	}
	c.t.Cleanup(cancel)
	return r
}

// says waits until the command has written some words to standard error.
func (r *ongoing) says(words string) {
	r.c.t.Helper()
	for end := time.After(limit); ; {
		text, changed := r.seen.text()
		if strings.Contains(text, words) {
			return
		}
		select {
		case <-changed:
		case <-end:
			r.c.t.Fatalf("%v never says %q, only:\n%s", r.args, words, text)
		}
	}
}

// wait waits for its end.
func (r *ongoing) wait() said {
	r.c.t.Helper()
	defer time.AfterFunc(limit, r.cancel).Stop()
	err := r.cmd.Wait()
	r.cancel()
	return r.c.said(r.args, err, &r.out, &r.err)
}

// kill ends the command as the system does when memory runs out.
func (r *ongoing) kill() {
	r.c.t.Helper()
	if err := r.cmd.Process.Kill(); err != nil {
		r.c.t.Fatal(err)
	}
	if s := r.wait(); s.code != -1 {
		r.c.t.Errorf("not killed: %s", s)
	}
}

// watcher lets a test wait for output.
type watcher struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{} // closed at the next write
}

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
	return w.buf.Write(p)
}

func (w *watcher) text() (string, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String(), w.changed
}
