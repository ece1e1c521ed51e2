package envtest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Freeze stops all processes of a workload (SIGSTOP), calls fn and lets them go on. While it lasts, no file changes: a write that
// was under way has finished in the kernel. Whoever joins the environment meanwhile may wait for a lock that a stopped process has.
func (w *Workload) Freeze(fn func() error) (err error) {
	thaw, err := w.thawer()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, thaw()) }()
	for _, p := range w.procs {
		if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	for _, p := range w.procs {
		if err := waitStopped(p.cmd.Process.Pid); err != nil {
			return fmt.Errorf("freeze dbworkload %s: %w", p.name, err)
		}
	}
	return fn()
}

// thawer starts a shell that lets the processes go on when its standard input ends: when the function that is returned ends it, or
// when this process dies, so that a dead test leaves no stopped processes behind.
func (w *Workload) thawer() (func() error, error) {
	script := "read line; kill -CONT"
	for _, pid := range w.PIDs() {
		script += " " + strconv.Itoa(pid)
	}
	cmd := exec.Command("sh", "-c", script+" 2>/dev/null; true")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return func() error { return errors.Join(stdin.Close(), cmd.Wait()) }, cmd.Start()
}

// waitStopped returns when every thread of a process is stopped, or the process is gone.
func waitStopped(pid int) error {
	for deadline := time.Now().Add(stopLimit); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			return err
		}
		if allStopped(stats) {
			return nil
		}
	}
	return fmt.Errorf("process %d still runs after %v", pid, stopLimit)
}

func allStopped(stats []string) bool {
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		// The state is the first word after the command's name, which ends with the last parenthesis.
		state := strings.TrimSpace(string(text)[strings.LastIndex(string(text), ")")+1:])
		if !strings.HasPrefix(state, "T") && !strings.HasPrefix(state, "Z") {
			return false
		}
	}
	return true
}

// engineFile is a region file or another of the engine's own, which never goes into a copy.
var engineFile = regexp.MustCompile(`^__db\.([0-9]{3}|register|rep.*|freezer.*)$`)

// CopyHome copies a home with everything below it, except region files. Of a frozen environment, recovered by RecoverApart, it is
// the truth that a backup of the same moment must restore to: nothing but the engine's own crash recovery has touched it.
func CopyHome(home, to string) error {
	return filepath.WalkDir(home, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(home, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		if !e.Type().IsRegular() || engineFile.MatchString(e.Name()) {
			return nil
		}
		return copyFile(path, filepath.Join(to, rel))
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
