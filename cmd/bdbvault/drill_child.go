package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// A watch drills in a process of its own: whatever becomes of that, a crash, or the end of all memory, log is shipped on. It is less important than everything
// else, and ends when the watch does.
const (
	drillNice = 10
	drillOOM  = "500"
)

// drillSettings are those of a watch that its drills share.
func drillSettings() (names []string) {
	for _, f := range join(engineFlags(), repositoryFlags()) {
		if name := f.Names()[0]; name != flagConfig {
			names = append(names, name)
		}
	}
	return append(names, flagStateDir)
}

// drillArgs are the command line of a drill with the settings of the environment. The password is no part of it.
func (s *watchSpec) drillArgs() []string {
	args := []string{commandDrill, "--" + flagScheduled, "--" + flagJSON, "--" + flagQuiet, "--" + flagEnv + "=" + s.name, "--" + flagScratch + "=" + s.scratch}
	for _, name := range drillSettings() {
		if _, given := s.call.origins[name]; given {
			args = append(args, fmt.Sprintf("--%s=%v", name, s.call.Value(name)))
		}
	}
	if s.password != "" {
		args = append(args, "--"+flagPasswordFile+"=/proc/self/fd/3")
	}
	return args
}

// drillVariables are those that the settings of a drill can't come from: its arguments say everything.
func drillVariables() (list []string) {
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "BDBVAULT_") && name != "DB_HOME" && name != "NOTIFY_SOCKET" && !strings.HasPrefix(name, "WATCHDOG_") {
			list = append(list, v)
		}
	}
	return list
}

// drillAnswer is what drill --json prints: its result, or an error with as much of one as there is.
type drillAnswer struct {
	drillReport
	Error  string       `json:"error"`
	Hint   string       `json:"hint"`
	Result *drillReport `json:"result"`
}

// runDrill drills in a process of its own. The entry is nil if there was nothing to record; problem says what went wrong.
func (s *watchSpec) runDrill(ctx context.Context) (entry *drillEntry, problem string) {
	self, err := os.Executable()
	if err != nil {
		return nil, err.Error()
	}
	cmd := exec.CommandContext(ctx, self, s.drillArgs()...)
	cmd.Env = drillVariables()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it clears up, and then ends
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if s.password != "" {
		secret, err := pipeOf(s.password + "\n")
		if err != nil {
			return nil, err.Error()
		}
		defer secret.Close()
		cmd.ExtraFiles = []*os.File{secret}
	}
	err = runHumbly(cmd)
	var a drillAnswer
	if json.Unmarshal(out.Bytes(), &a) != nil {
		return nil, strings.TrimSpace(fmt.Sprintf("its process ended (%v): %.2000s", err, errs.String()))
	}
	return a.outcome(err)
}

func (a *drillAnswer) outcome(err error) (entry *drillEntry, problem string) {
	if a.Result != nil {
		a.Drills = a.Result.Drills
	}
	if len(a.Drills) > 0 {
		entry = a.Drills[0]
	}
	switch {
	case a.Error != "" && a.Hint != "":
		problem = a.Error + ". " + a.Hint
	case a.Error != "":
		problem = a.Error
	case err != nil:
		problem = "its process ended: " + err.Error()
	case entry == nil:
		problem = "it said nothing"
	}
	return entry, problem
}

// pipeOf is a pipe with a text in it that is shorter than what a pipe holds.
func pipeOf(text string) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	_, err = w.WriteString(text)
	return r, firstError(err, w.Close())
}

// runHumbly runs a command behind everybody else. The signal that it gets when its parent dies is bound to the thread that started it.
func runHumbly(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return err
	}
	// What of this may not be done is not worth giving up the drill for.
	syscall.Setpriority(syscall.PRIO_PROCESS, cmd.Process.Pid, drillNice)
	os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", cmd.Process.Pid), []byte(drillOOM), 0)
	return cmd.Wait()
}
