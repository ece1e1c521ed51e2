package envtest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"bdbvault/localenv/bdb"
)

// Commit is a transaction that a worker reported after its commit had returned.
type Commit struct {
	Number uint64
	LSN    bdb.LSN // of the commit record
	Time   time.Time
}

// Workload is a set of processes at work on one environment.
type Workload struct {
	procs []*process

	mu      sync.Mutex
	commits []Commit
	last    uint64
	steps   uint64
	changed chan struct{} // closed and replaced at every report
	killed  bool
}

// process is one dbworkload.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr bytes.Buffer
	ready  chan struct{} // closed at its first line
	done   chan struct{} // closed when it has ended and err is set
	err    error
}

// stopLimit bounds the wait for a worker to finish its transaction and leave the environment.
const stopLimit = time.Minute

func (e *Environment) start(calls [][]string) (*Workload, error) {
	path, err := Tool()
	if err != nil {
		return nil, err
	}
	w := &Workload{changed: make(chan struct{})}
	for _, args := range calls {
		p, err := w.launch(path, e.Password, args)
		if err != nil {
			w.Kill()
			return nil, err
		}
		w.procs = append(w.procs, p)
	}
	for _, p := range w.procs {
		if err := p.waitReady(); err != nil {
			w.Kill()
			return nil, err
		}
	}
	return w, nil
}

func (w *Workload) launch(path, password string, args []string) (*process, error) {
	p := &process{name: args[0], ready: make(chan struct{}), done: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.Env = append(os.Environ(), PasswordVariable+"="+password)
	p.cmd.Stderr = &p.stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go w.follow(p, stdout)
	return p, nil
}

// follow reads a process's reports until it ends.
func (w *Workload) follow(p *process, out io.Reader) {
	lines := bufio.NewScanner(out)
	for first := true; lines.Scan(); first = false {
		if first {
			close(p.ready)
		}
		w.report(lines.Text())
	}
	if err := p.cmd.Wait(); err != nil {
		p.err = &ToolError{Command: "dbworkload " + p.name, Err: err, Text: p.stderr.String()}
	}
	close(p.done)
	w.mu.Lock()
	w.wake()
	w.mu.Unlock()
}

// report takes in a line: "commit NUMBER LSN", or "step …" for anything else that was done.
func (w *Workload) report(line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := strings.Fields(line)
	if len(f) == 0 {
		return
	}
	switch f[0] {
	case "step":
		w.steps++
	case "commit":
		c := Commit{Time: time.Now()}
		var lsn string
		if n, _ := fmt.Sscan(line[len("commit"):], &c.Number, &lsn); n != 2 {
			return
		}
		c.LSN, _ = bdb.ParseLSN(lsn)
		w.commits = append(w.commits, c)
		w.last = max(w.last, c.Number)
	}
	w.wake()
}

func (w *Workload) wake() {
	close(w.changed)
	w.changed = make(chan struct{})
}

func (p *process) waitReady() error {
	select {
	case <-p.ready:
		return nil
	case <-p.done:
		if p.err != nil {
			return p.err
		}
		return fmt.Errorf("dbworkload %s ended before it began", p.name)
	case <-time.After(stopLimit):
		return fmt.Errorf("dbworkload %s did not begin within %v", p.name, stopLimit)
	}
}

// LastCommitted is the highest commit that a worker reported as done. All lower ones are done as well: a number is taken under a
// lock that its commit holds to the end.
func (w *Workload) LastCommitted() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// Commits lists all that were reported so far, in the order of the reports.
func (w *Workload) Commits() []Commit {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Commit(nil), w.commits...)
}

// Steps counts what a churn workload did.
func (w *Workload) Steps() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.steps
}

// WaitCommit returns when commit number n has been reported, or with an error when the workload failed or ctx ended first.
func (w *Workload) WaitCommit(ctx context.Context, n uint64) error {
	return w.wait(ctx, func() bool { return w.last >= n }, fmt.Sprintf("commit %d", n))
}

// WaitSteps returns when a churn workload has done n more steps than it had.
func (w *Workload) WaitSteps(ctx context.Context, n uint64) error {
	until := w.Steps() + n
	return w.wait(ctx, func() bool { return w.steps >= until }, fmt.Sprintf("step %d", until))
}

func (w *Workload) wait(ctx context.Context, reached func() bool, what string) error {
	for {
		w.mu.Lock()
		ok, changed := reached(), w.changed
		w.mu.Unlock()
		if ok {
			return nil
		}
		if ended, err := w.ended(); ended {
			return fmt.Errorf("wait for %s: the workload ended: %w", what, errors.Join(err, io.EOF))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s, reached %d: %w", what, w.LastCommitted(), ctx.Err())
		}
	}
}

// ended reports whether all processes have, or one with an error.
func (w *Workload) ended() (bool, error) {
	all := true
	for _, p := range w.procs {
		select {
		case <-p.done:
			if p.err != nil {
				return true, p.err
			}
		default:
			all = false
		}
	}
	return all, nil
}

// Err is the failure of a worker so far, nil if there is none or they were killed.
func (w *Workload) Err() error {
	w.mu.Lock()
	killed := w.killed
	w.mu.Unlock()
	if killed {
		return nil
	}
	_, err := w.ended()
	return err
}

// Stop lets every worker finish its transaction and leave the environment in order. A worker that failed, or that does not end,
// is the error. Stopping what has ended is no error.
func (w *Workload) Stop() error {
	for _, p := range w.procs {
		p.stdin.Close()
	}
	deadline := time.After(stopLimit)
	for _, p := range w.procs {
		select {
		case <-p.done:
		case <-deadline:
			w.Kill()
			return fmt.Errorf("dbworkload %s did not end within %v", p.name, stopLimit)
		}
	}
	return w.Err()
}

// Kill ends all processes with SIGKILL and waits for their end. The environment then needs recovery.
func (w *Workload) Kill() {
	w.mu.Lock()
	w.killed = true
	w.mu.Unlock()
	for _, p := range w.procs {
		p.cmd.Process.Kill()
	}
	for _, p := range w.procs {
		<-p.done
		p.stdin.Close()
	}
}

// PIDs are the processes that were started, for a test that wants to see or signal them.
func (w *Workload) PIDs() []int {
	var pids []int
	for _, p := range w.procs {
		pids = append(pids, p.cmd.Process.Pid)
	}
	return pids
}

func stopAtEnd(tb testing.TB, w *Workload) {
	tb.Cleanup(func() {
		if err := w.Stop(); err != nil {
			tb.Errorf("workload: %v", err)
		}
	})
}
