package dbutil

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"bdbvault/localenv/engine"
)

// run is one run of a program.
type run struct {
	cmd    *exec.Cmd
	name   string
	stdout *lines
	stderr *lines
}

// newRun prepares a program. Cancelling ctx kills it. What it says goes to hear line by line, standard output and standard error alike.
func newRun(ctx context.Context, path string, hear func(string), args ...string) *run {
	r := &run{cmd: exec.CommandContext(ctx, path, args...), name: filepath.Base(path)}
	r.stdout, r.stderr = &lines{hear: hear}, &lines{hear: hear, prefix: r.name + ": "}
	r.cmd.Stdout, r.cmd.Stderr = r.stdout, r.stderr
	r.cmd.WaitDelay = time.Second
	return r
}

// finish waits for a program that was started and says how it failed, nil if it didn't.
func (r *run) finish(op string) error {
	err := r.cmd.Wait()
	r.stdout.flush()
	r.stderr.flush()
	if err == nil {
		return nil
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return &engine.EngineError{Op: op, Text: append(r.said(), r.name+": "+err.Error())}
	}
	if signal, code := engine.Fate(exit.ProcessState, nil); signal != "" {
		return &engine.ChildError{Op: op, Signal: signal, ExitCode: code, LastMessage: r.last(), Stderr: r.stderr.all.Lines()}
	}
	return &engine.EngineError{Op: op, Code: int(engine.HostTrouble(r.said())), Text: r.said()}
}

func (r *run) said() []string {
	return append(r.stderr.all.Lines(), r.stdout.all.Lines()...)
}

func (r *run) last() string {
	if r.stderr.last != "" {
		return r.stderr.last
	}
	return r.stdout.last
}

func (r *run) do(op string) error {
	if err := r.cmd.Start(); err != nil {
		return &engine.EngineError{Op: op, Text: []string{err.Error()}}
	}
	return r.finish(op)
}

// lines cuts what is written to it into lines, which carriage returns end as well: progress is told by them.
type lines struct {
	hear   func(string) // told every line; may be nil
	say    func(string) // told the lines that are kept; may be nil
	prefix string       // the program's own name, taken off
	part   []byte
	all    engine.Transcript
	last   string
}

func (l *lines) Write(p []byte) (int, error) {
	l.part = append(l.part, p...)
	for {
		at := bytes.IndexAny(l.part, "\r\n")
		if at < 0 {
			return len(p), nil
		}
		l.line(string(l.part[:at]))
		l.part = l.part[at+1:]
	}
}

func (l *lines) flush() {
	l.line(string(l.part))
	l.part = nil
}

// progress is how db_recover -f tells how far it is, without a line end and with its number on either side of the carriage return.
var progress = regexp.MustCompile(`recovery ([0-9]+)% complete`)

const progressNumber = "BDB5022"

// line takes one line, which may have progress before what it says.
func (l *lines) line(text string) {
	text = strings.ReplaceAll(text, progressNumber, "")
	if at := progress.FindStringIndex(text); at != nil {
		l.tell(text[at[0]:at[1]])
		text = text[:at[0]] + text[at[1]:]
	}
	text = strings.TrimSpace(strings.TrimPrefix(text, l.prefix))
	if text == "" {
		return
	}
	l.tell(text)
	if l.all.Add(text) && l.say != nil {
		l.say(text)
	}
	l.last = text
}

func (l *lines) tell(text string) {
	if l.hear != nil {
		l.hear(text)
	}
}
