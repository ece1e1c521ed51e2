package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// command is a program to run.
type command struct {
	args []string
	dir  string   // "": this program's
	env  []string // "": this program's
	in   []byte   // standard input
}

// pipeline is commands joined by pipes, as a shell joins them.
type pipeline []command

// cost is what running programs took.
type cost struct {
	wall, cpu time.Duration
	peak      int64 // bytes, of the largest process
	family    family
	output    []byte // standard output of the last one
}

// endLimit is how long a program that was asked to end may take.
const endLimit = 30 * time.Second

// runAll runs pipelines one after the other.
func runAll(ctx context.Context, steps ...pipeline) (total cost, err error) {
	for _, p := range steps {
		c, err := p.run(ctx)
		if err != nil {
			return total, err
		}
		total.add(c)
	}
	return total, nil
}

func (c *cost) add(d cost) {
	c.wall += d.wall
	c.cpu += d.cpu
	c.peak = max(c.peak, d.peak)
	c.family.peak = max(c.family.peak, d.family.peak)
	c.family.childPeak = max(c.family.childPeak, d.family.childPeak)
	c.family.childCPU += d.family.childCPU
	c.output = d.output
}

// run starts all commands, waits for all, and fails if one did. When ctx ends they are told to end.
func (p pipeline) run(ctx context.Context) (c cost, err error) {
	// The kernel sends Pdeathsig when the thread ends that started a process, not when the process does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var out bytes.Buffer
	cmds := p.commands(ctx)
	cmds[len(cmds)-1].Stdout = &out
	w := newWatcher()
	forgetPeak()
	began := time.Now()
	started, err := startAll(cmds)
	w.begin(pidsOf(started))
	errs := []error{err}
	for _, cmd := range started {
		errs = append(errs, waitFor(cmd))
		c.charge(cmd.ProcessState)
	}
	c.wall = time.Since(began)
	c.family, c.output = w.end(), out.Bytes()
	return c, errors.Join(errs...)
}

// forgetPeak makes this program small again in the kernel's eyes, because a program that is started inherits its starter's peak.
func forgetPeak() {
	debug.FreeOSMemory()
	// Without it (a kernel without CONFIG_PROC_PAGE_MONITOR) peaks below this program's own are lost.
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

func (p pipeline) commands(ctx context.Context) []*exec.Cmd {
	var cmds []*exec.Cmd
	for _, c := range p {
		cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
		cmd.Dir, cmd.Env, cmd.Stderr = c.dir, c.env, &tail{}
		if c.in != nil {
			cmd.Stdin = bytes.NewReader(c.in)
		}
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = endLimit
		// A group of their own, so that an interrupt at the terminal reaches them through ctx only.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
		cmds = append(cmds, cmd)
	}
	return cmds
}

// startAll starts commands from the first to the last and returns those that run. Each gets its own end of a pipe only, so that it
// notices when its neighbour ends.
func startAll(cmds []*exec.Cmd) (started []*exec.Cmd, err error) {
	var ours []*os.File
	defer func() {
		for _, f := range ours {
			f.Close() // the children have theirs
		}
	}()
	for i := range len(cmds) - 1 {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		ours = append(ours, r, w)
		cmds[i].Stdout, cmds[i+1].Stdin = w, r
	}
	for _, cmd := range cmds {
		if err := cmd.Start(); err != nil {
			return started, err
		}
		started = append(started, cmd)
	}
	return started, nil
}

func pidsOf(cmds []*exec.Cmd) (pids []int) {
	for _, cmd := range cmds {
		pids = append(pids, cmd.Process.Pid)
	}
	return pids
}

func waitFor(cmd *exec.Cmd) error {
	err := cmd.Wait()
	if err == nil {
		return nil
	}
	name := filepath.Base(cmd.Args[0])
	if len(cmd.Args) > 1 {
		name += " " + cmd.Args[1]
	}
	return fmt.Errorf("%s: %w: %s", name, err, cmd.Stderr.(*tail))
}

// charge adds what the kernel says about a process that has ended.
func (c *cost) charge(s *os.ProcessState) {
	if s == nil {
		return
	}
	c.cpu += s.UserTime() + s.SystemTime()
	if r, ok := s.SysUsage().(*syscall.Rusage); ok {
		c.peak = max(c.peak, r.Maxrss*kib)
	}
}

// tail keeps the end of what is written to it.
type tail struct{ text []byte }

const tailSize = 2000

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-tailSize):]
	return len(p), nil
}

func (t *tail) String() string {
	return strings.Join(strings.Fields(string(t.text)), " ")
}
