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
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	recent  []string      // the last steps
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
	paused atomic.Int64  // how often it has said that it pauses
	done   chan struct{} // closed when it has ended and err is set
	once   sync.Once
	err    error
}

// maxRecent is how many steps a workload remembers.
const maxRecent = 1000

// stopLimit bounds the wait for a worker to finish its transaction and leave the environment.
const stopLimit = time.Minute

func (e *Environment) start(calls [][]string) (*Workload, error) {
	path, err := Tool()
	if err != nil {
		return nil, err
	}
	w := &Workload{changed: make(chan struct{})}
	for _, args := range calls {
		p, out, err := launch(path, e.Password, args)
		if err != nil {
			w.Kill()
			return nil, err
		}
		w.procs = append(w.procs, p)
		go w.follow(p, out)
		// One after the other: when the first makes the regions, another that opens them half made fails.
		if err := p.waitReady(); err != nil {
			w.Kill()
			return nil, err
		}
	}
	return w, nil
}

func launch(path, password string, args []string) (*process, io.Reader, error) {
	p := &process{name: args[0], ready: make(chan struct{}), done: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.Env = append(os.Environ(), PasswordVariable+"="+password)
	p.cmd.Stderr = &p.stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	p.stdin = stdin
	return p, stdout, p.cmd.Start()
}

// wait waits for the process's end, once; its output has been read to the end or is of no interest.
func (p *process) wait() {
	p.once.Do(func() {
		if err := p.cmd.Wait(); err != nil {
			p.err = &ToolError{Command: "dbworkload " + p.name, Err: err, Text: p.stderr.String()}
		}
		close(p.done)
	})
}

// follow reads a process's reports until it ends.
func (w *Workload) follow(p *process, out io.Reader) {
	lines := bufio.NewScanner(out)
	for first := true; lines.Scan(); first = false {
		if first {
			close(p.ready)
		}
		if lines.Text() == "paused" {
			p.paused.Add(1)
		}
		w.report(lines.Text())
	}
	p.wait()
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
		w.recent = append(w.recent[max(0, len(w.recent)-maxRecent):], line[len("step "):])
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

// RecentSteps are the last steps of a churn workload, in words, to be read when something went wrong.
func (w *Workload) RecentSteps() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.recent)
}

// Quiesce lets all processes pause between two transactions, with a checkpoint, calls fn and lets them go on. While fn runs no
// transaction is open, nothing changes, and every page is on disk: what Dump then reads of home is the truth at the end of the log,
// which no recovery had a hand in. Several workloads on one environment are quiesced one inside the other.
func (w *Workload) Quiesce(ctx context.Context, fn func() error) error {
	before := make([]int64, len(w.procs))
	for i, p := range w.procs {
		before[i] = p.paused.Load()
	}
	defer w.tell("resume")
	w.tell("pause")
	for i, p := range w.procs {
		err := w.wait(ctx, func() bool { return p.paused.Load() > before[i] }, "pause of "+p.name)
		if err != nil {
			return err
		}
	}
	return fn()
}

// tell writes a line to all processes. One that has ended does not hear it, which is noticed where its end matters.
func (w *Workload) tell(word string) {
	for _, p := range w.procs {
		io.WriteString(p.stdin, word+"\n")
	}
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

// Ended reports whether all processes have ended, or one has failed.
func (w *Workload) Ended() bool {
	ended, _ := w.ended()
	return ended
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
