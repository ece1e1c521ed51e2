package engine

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is the process that runs the engine.
type child struct {
	cmd    *exec.Cmd
	stdin  *os.File // our ends of its pipes
	stdout *os.File
	stderr *tail
	exited chan struct{} // closed when it has been waited for
}

// spawn starts the program in a session of its own, so that what a terminal sends to the foreground does not reach it.
func spawn(argv []string, inherit []*os.File) (*child, error) {
	cmd, err := command(argv)
	if err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, stderr: &tail{}, exited: make(chan struct{})}
	theirIn, ourOut, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	ourIn, theirOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, theirIn.Close(), ourOut.Close())
	}
	c.stdin, c.stdout = ourOut, ourIn
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirIn, theirOut, c.stderr
	cmd.ExtraFiles = inherit
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = time.Second // a program that the child left behind may hold its standard error open
	err = cmd.Start()
	// Whether it started or not: the child has its own copies of these, and ours would keep the pipes from ending.
	theirIn.Close()
	theirOut.Close()
	if err != nil {
		return nil, errors.Join(err, ourIn.Close(), ourOut.Close())
	}
	go func() { // lives as long as the child, which may outlive the client if it hangs on a live environment
		_ = cmd.Wait() // the state tells
		close(c.exited)
	}()
	return c, nil
}

// command is the given one, or this very program: through /proc, so that an upgrade that replaced the file changes nothing.
func command(argv []string) (*exec.Cmd, error) {
	if len(argv) > 0 {
		return exec.Command(argv[0], argv[1:]...), nil
	}
	const self = "/proc/self/exe"
	if _, err := os.Stat(self); err == nil {
		cmd := exec.Command(self, "engine")
		cmd.Args[0] = os.Args[0]
		return cmd, nil
	}
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return exec.Command(path, "engine"), nil
}

func (c *child) hasExited() bool {
	select {
	case <-c.exited:
		return true
	default:
		return false
	}
}

// waitExit reports whether the child has ended, after waiting for at most d.
func (c *child) waitExit(d time.Duration) bool {
	select {
	case <-c.exited:
		return true
	case <-time.After(d):
		return false
	}
}

// kill ends the child and what it started. Only for one that works on private files.
func (c *child) kill() {
	if !c.hasExited() {
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
		<-c.exited
	}
}

// obituary says how the child ended, if it did.
func (c *child) obituary(op, lastMessage string, err error) *ChildError {
	e := &ChildError{Op: op, ExitCode: -1, LastMessage: lastMessage, Err: err}
	if !c.hasExited() {
		return e
	}
	e.Stderr = c.stderr.lines()
	e.Signal, e.ExitCode = Fate(c.cmd.ProcessState, e.Stderr)
	return e
}

// runtimeSignal is how the Go runtime reports a signal that it received inside C code, before it exits with status 2.
var runtimeSignal = regexp.MustCompile(`^(?:\[signal )?(SIG[A-Z]+): `)

// Fate returns the signal that a process died of, or "", and its exit status. The first lines of its standard error serve to
// recognize a Go program that was hit by a signal in C code: the runtime turns that into an ordinary exit.
func Fate(state *os.ProcessState, stderr []string) (signal string, exitCode int) {
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return signalName(ws.Signal()), -1
	}
	if state.ExitCode() == 2 {
		for _, line := range firstLines(stderr, 5) {
			if m := runtimeSignal.FindStringSubmatch(line); m != nil {
				return m[1], 2
			}
		}
	}
	return "", state.ExitCode()
}

func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(s))
}

// tail keeps the beginning and the end of what is written to it: a crash says first what it is, other programs say it last.
type tail struct {
	mu    sync.Mutex
	first []byte
	last  []byte
}

const tailSize = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(len(p), tailSize-len(t.first))
	t.first = append(t.first, p[:n]...)
	t.last = append(t.last, p[n:]...)
	if over := len(t.last) - tailSize; over > 0 {
		t.last = bytes.Clone(t.last[over:])
	}
	return len(p), nil
}

func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(strings.ToValidUTF8(string(t.first)+string(t.last), "?"))
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}
