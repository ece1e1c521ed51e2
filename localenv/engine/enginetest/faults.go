package enginetest

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bdbvault/localenv/engine"
	"bdbvault/localenv/envtest"
)

// testChild looks at what the child is to its host: deaf to the signals that end programs, in a session of its own, the last to be killed for
// memory, and silent about the password.
func (s Subject) testChild(t *testing.T) {
	env, load := bank(t, envtest.Spec{})
	opt := engine.Options{Home: env.Home}
	secret := password
	if s.TakesPassword { // which the child only gets wrong once it uses it
		opt.Password = secret
	}
	c := s.start(t, opt)
	pid := engineOf(t, os.Getpid())
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE} {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	if session, err := unix.Getsid(pid); err != nil || session != pid {
		t.Errorf("session %d of process %d: %v", session, pid, err)
	}
	for _, file := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil || strings.Contains(string(b), secret) {
			t.Errorf("%s tells the password: %v", file, err)
		}
	}
	score, _ := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if os.Geteuid() == 0 && strings.TrimSpace(string(score)) != "-1000" && canScore() {
		t.Errorf("out-of-memory score %s", score)
	}
	if s.TakesPassword {
		want(t, c.Checkpoint(t.Context()), engine.ErrPassword, "")
	} else if err := c.Checkpoint(t.Context()); err != nil {
		t.Error(err)
	}
	healthy(t, env, load)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if alive(pid) {
		t.Error("the child is still there")
	}
}

// canScore tells whether this user may ask for the score at all: root in a container often may not.
func canScore() bool {
	cmd := exec.Command("sleep", "60")
	if cmd.Start() != nil {
		return false
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	return os.WriteFile("/proc/"+strconv.Itoa(cmd.Process.Pid)+"/oom_score_adj", []byte("-1000"), 0) == nil
}

// testChildKilled kills the child between two calls.
func (s Subject) testChildKilled(t *testing.T) {
	env, load := bank(t, envtest.Spec{})
	c := s.start(t, engine.Options{Home: env.Home})
	if err := c.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	kill(t, engineOf(t, os.Getpid()))
	healthy(t, env, load)
	e := wantDeath(t, c.Checkpoint(t.Context()), "SIGKILL")
	if e.Op != "checkpoint of "+env.Home {
		t.Errorf("op %q", e.Op)
	}
	if err := c.Close(); err != nil {
		t.Errorf("close of a client whose death is known: %v", err)
	}
	if !s.HoldsFlag {
		return
	}
	c = s.start(t, engine.Options{Home: env.Home})
	failure := errors.New("fn went on")
	err := c.HotBackup(t.Context(), func(context.Context) error {
		kill(t, engineOf(t, os.Getpid()))
		healthy(t, env, load)
		return failure
	})
	wantDeath(t, err, "SIGKILL")
	want(t, err, failure, "fn went on")
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process is dead", func() bool { return !alive(pid) })
}

// testChildHangs stops the child, so that a call on the live environment is not answered: it is reported and the child left alone, and all
// is well once it can go on.
func (s Subject) testChildHangs(t *testing.T) {
	env, load := bank(t, envtest.Spec{})
	c := s.start(t, engine.Options{Home: env.Home, Patience: time.Second})
	pid := engineOf(t, os.Getpid())
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGCONT)
	err := c.Checkpoint(t.Context())
	hung, ok := errors.AsType[*engine.HungError](err)
	if !ok || hung.PID != pid || hung.Waited < time.Second || !strings.Contains(err.Error(), "checkpoint") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = c.Checkpoint(ctx)
	if _, ok := errors.AsType[*engine.HungError](err); !ok || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancelled: got %v", err)
	}
	if s.HoldsFlag {
		err := c.HotBackup(t.Context(), func(context.Context) error { t.Error("called"); return nil })
		if _, ok := errors.AsType[*engine.HungError](err); !ok {
			t.Errorf("hot backup: got %v", err)
		}
	}
	if !alive(pid) {
		t.Fatal("the child was killed")
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if s.HoldsFlag && IsHot(t, env.Home) {
		t.Error("the flag that nobody waited for any more is set")
	}
	healthy(t, env, load)
}

// testParentKilled kills a program that holds the flag.
func (s Subject) testParentKilled(t *testing.T) {
	if !s.HoldsFlag {
		return
	}
	env, load := bank(t, envtest.Spec{})
	parent, held := startHolder(t, env.Home)
	if err := <-held; err != nil {
		t.Fatal(err)
	}
	if !IsHot(t, env.Home) {
		t.Error("the flag is not set")
	}
	child := engineOf(t, parent.Process.Pid)
	kill(t, parent.Process.Pid)
	eventually(t, "the flag is reset", func() bool { return !IsHot(t, env.Home) })
	eventually(t, "the child has left", func() bool { return !alive(child) })
	healthy(t, env, load)
}

// startHolder starts a program that sets the flag. The channel gets nil when it has, or why it never will.
func startHolder(t *testing.T, home string) (*exec.Cmd, <-chan error) {
	t.Helper()
	parent := exec.CommandContext(t.Context(), "/proc/self/exe", roleHolder, home)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	held := make(chan error, 1)
	go func() {
		_, err := bufio.NewReader(out).ReadString('\n')
		held <- err
	}()
	t.Cleanup(func() {
		parent.Process.Kill()
		parent.Wait()
	})
	return parent, held
}

// testParentKilledAnytime kills the program wherever it happens to be: before its child joins, while it does, while it holds the flag.
func (s Subject) testParentKilledAnytime(t *testing.T) {
	if !s.HoldsFlag {
		return
	}
	env, load := bank(t, envtest.Spec{})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	reached := 0
	for range 10 * torture() {
		parent, held := startHolder(t, env.Home)
		select {
		case err := <-held:
			if err != nil {
				t.Fatal(err)
			}
			reached++
		case <-time.After(time.Duration(random.IntN(60)) * time.Millisecond):
		}
		kill(t, parent.Process.Pid)
	}
	t.Logf("%d of %d had the flag set", reached, 10*torture())
	eventually(t, "the flag is reset", func() bool { return !IsHot(t, env.Home) })
	healthy(t, env, load)
}

// testParentGone leaves a child alone that is in the middle of a recovery: it must not go on for long, because somebody may begin anew. The
// recovery can't get on: one of the databases is a pipe that nobody writes to.
func (s Subject) testParentGone(t *testing.T) {
	target := copyHome(t, crashed(t, envtest.Spec{}))
	remove(t, filepath.Join(target, envtest.BankFile))
	if err := unix.Mkfifo(filepath.Join(target, envtest.BankFile), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startRaw(t, s, "")
	r.say(t, fmt.Sprintf(`{"verb":"call","id":1,"op":"recover","home":%s}`, base64(t, scratch(t, target))))
	began := time.Now()
	time.AfterFunc(200*time.Millisecond, func() { r.in.Close() }) // before, after or while the engine reads the pipe: all must end well
	_, _ = io.Copy(io.Discard, r.out)
	if err := r.cmd.Wait(); err != nil || time.Since(began) > 10*time.Second {
		t.Errorf("the child ended with %v after %s", err, time.Since(began))
	}
}

// rawChild is a child that the test talks to itself.
type rawChild struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.ReadCloser
}

func startRaw(t *testing.T, s Subject, home string) *rawChild {
	t.Helper()
	r := &rawChild{cmd: exec.CommandContext(t.Context(), "/proc/self/exe", roleEngine)}
	var err error
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if r.out, err = r.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.say(t, fmt.Sprintf(`{"verb":"setup","setup":{"kind":%q,"home":%s}}`, s.Kind, base64(t, home)))
	r.hear(t, "ready")
	return r
}

// base64 is how paths travel in JSON.
func base64(t *testing.T, s string) string {
	t.Helper()
	b, err := json.Marshal([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (r *rawChild) say(t *testing.T, body string) {
	t.Helper()
	if _, err := r.in.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)); err != nil {
		t.Fatal(err)
	}
}

func (r *rawChild) hear(t *testing.T, verb string) {
	t.Helper()
	var size [4]byte
	_, err := io.ReadFull(r.out, size[:])
	body := make([]byte, min(binary.BigEndian.Uint32(size[:]), 1<<20))
	if err == nil {
		_, err = io.ReadFull(r.out, body)
	}
	if err != nil || !strings.Contains(string(body), fmt.Sprintf("%q", verb)) {
		t.Fatalf("heard %s (%v), want %s", body, err, verb)
	}
}

// testPipeBroken breaks the talk in other ways than by death while the flag is set: the child always resets it and leaves.
func (s Subject) testPipeBroken(t *testing.T) {
	env, load := bank(t, envtest.Spec{})
	op, answer := "hot backup", "held"
	if !s.HoldsFlag {
		op, answer = "checkpoint", "result"
	}
	breaks := map[string]func(*testing.T, *rawChild){
		"input ends": func(*testing.T, *rawChild) {},
		"output ends": func(t *testing.T, r *rawChild) {
			r.out.Close()
			r.say(t, `{"verb":"call","id":2,"op":"checkpoint"}`)
		},
		"half a message": func(t *testing.T, r *rawChild) { r.in.Write([]byte{0, 0, 1, 0, '{'}) },
		"no message":     func(t *testing.T, r *rawChild) { r.say(t, "what?") },
		"endless message": func(t *testing.T, r *rawChild) {
			r.in.Write([]byte{0xff, 0xff, 0xff, 0xff})
		},
	}
	for name, breakIt := range breaks {
		t.Run(name, func(t *testing.T) {
			r := startRaw(t, s, env.Home)
			r.say(t, fmt.Sprintf(`{"verb":"call","id":1,"op":%q}`, op))
			r.hear(t, answer)
			if s.HoldsFlag && !IsHot(t, env.Home) {
				t.Error("the flag is not set")
			}
			breakIt(t, r)
			r.in.Close()
			_, _ = io.Copy(io.Discard, r.out) // to the end
			err := r.cmd.Wait()
			if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() != 1 {
				t.Errorf("the child ended with %v", err)
			}
			if IsHot(t, env.Home) {
				t.Error("the flag is still set")
			}
		})
	}
	healthy(t, env, load)
	t.Run("child talks nonsense", func(t *testing.T) { testNonsense(t) })
}

// testNonsense starts programs that are no engines.
func testNonsense(t *testing.T) {
	for _, argv := range [][]string{{"echo", "hello, this is no engine"}, {"true"}, {"sh", "-c", "echo broken >&2; exit 7"}} {
		_, err := engine.Start(t.Context(), engine.Options{Executable: argv})
		if e, ok := errors.AsType[*engine.ChildError](err); !ok || argv[0] == "sh" && (e.ExitCode != 7 || e.Stderr[0] != "broken") {
			t.Errorf("%s: got %v", argv[0], err)
		}
	}
	if _, err := engine.Start(t.Context(), engine.Options{Executable: []string{"/nowhere/engine"}}); err == nil {
		t.Error("a program that does not exist was started")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := engine.Start(ctx, engine.Options{Executable: []string{"sleep", "60"}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a program that says nothing: %v", err)
	}
}
