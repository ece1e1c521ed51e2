package engine

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"bdbvault/localenv/bdb"
)

var (
	// ErrNotSupported: this engine can't do that at all.
	ErrNotSupported = errors.New("not supported by this engine")

	// ErrNotJoinable: there is no environment in shared memory that this engine could join. It has no region files, is private to its
	// application, was made by another version or build of Berkeley DB, may not be opened by this user, or is damaged.
	ErrNotJoinable = errors.New("environment can't be joined")

	// ErrStaleRegion: the region files don't belong to the log beside them, as after a power failure.
	ErrStaleRegion = errors.New("region files are left over from before a crash")

	// ErrPassword: the password is wrong, missing, or given for an environment that isn't encrypted.
	ErrPassword = bdb.ErrPassword

	// ErrDamaged: the database doesn't verify.
	ErrDamaged = errors.New("database is damaged")

	// ErrUnusable: recovery was given up half way; what it worked on is neither as it was nor recovered.
	ErrUnusable = errors.New("recovery was interrupted, its files are unusable")

	// ErrFlagLost: the application made its regions anew while the hot-backup flag was held, so it was not held to the end.
	ErrFlagLost = errors.New("environment was opened anew, the hot-backup flag was lost")
)

// kinds gives the sentinels their names on the wire.
var kinds = map[string]error{
	"not-supported": ErrNotSupported,
	"not-joinable":  ErrNotJoinable,
	"stale-region":  ErrStaleRegion,
	"password":      ErrPassword,
	"damaged":       ErrDamaged,
	"unusable":      ErrUnusable,
	"flag-lost":     ErrFlagLost,
}

// EngineError is a call that the engine refused or that failed inside it.
type EngineError struct {
	Op   string   // what was being done, and to what
	Code int      // the engine's return value: an errno, or one of Berkeley DB's negative codes; 0 if there was none
	Text []string // what the engine said about it
	Kind error    // one of this package's sentinels, or nil
}

// Error is one line: of a long text it has the beginning and the end.
func (e *EngineError) Error() string {
	var parts []string
	if e.Op != "" {
		parts = append(parts, e.Op)
	}
	if e.Kind != nil {
		parts = append(parts, e.Kind.Error())
	}
	if text := abridge(e.Text, 6); text != "" {
		parts = append(parts, text)
	} else if e.Code != 0 {
		parts = append(parts, fmt.Sprintf("code %d", e.Code))
	}
	return strings.Join(parts, ": ")
}

func abridge(lines []string, n int) string {
	if len(lines) > n {
		lines = append(lines[:n-1:n-1], "…", lines[len(lines)-1])
	}
	return strings.Join(lines, "; ")
}

func (e *EngineError) Unwrap() error { return e.Kind }

// Is lets an error be asked for the errno that the engine returned, as errors.Is(err, fs.ErrNotExist).
func (e *EngineError) Is(target error) bool {
	return e.Code > 0 && (syscall.Errno(e.Code) == target || syscall.Errno(e.Code).Is(target))
}

// ChildError says that the child process died, or could no longer be talked to.
type ChildError struct {
	Op          string   // the call that it was serving, or that was made after its death
	Signal      string   // "SIGSEGV" if it died of one, also of one that the Go runtime turned into an exit
	ExitCode    int      // its exit status, -1 if a signal ended it or it is still running
	LastMessage string   // the last that the engine said
	Stderr      []string // the beginning and the end of what the child wrote to standard error
	Err         error    // what went wrong with the pipe, nil if the child closed it by exiting
}

func (e *ChildError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: engine process %s", e.Op, e.fate())
	if e.LastMessage != "" {
		fmt.Fprintf(&b, "; it last said %q", e.LastMessage)
	}
	if len(e.Stderr) > 0 {
		fmt.Fprintf(&b, "; on standard error: %s", strings.Join(firstLines(e.Stderr, 3), " | "))
	}
	return b.String()
}

func (e *ChildError) fate() string {
	switch {
	case e.Signal != "":
		return "died of " + e.Signal
	case e.Err != nil:
		return "can't be reached: " + e.Err.Error()
	default:
		return fmt.Sprintf("exited with status %d", e.ExitCode)
	}
}

func (e *ChildError) Unwrap() error { return e.Err }

func firstLines(lines []string, n int) []string {
	return lines[:min(n, len(lines))]
}

// HungError says that a call on a live environment was not answered. The child that runs it was left alone, because killing it
// could stop the application for good; it ends by itself as soon as the call does.
type HungError struct {
	Op     string
	PID    int
	Waited time.Duration
}

func (e *HungError) Error() string {
	return fmt.Sprintf("%s: no answer after %s; engine process %d is left alone, since killing it could block the environment",
		e.Op, e.Waited.Round(time.Second), e.PID)
}

// wireError is an error on its way through the pipe.
type wireError struct {
	Op   string    `json:"op,omitempty"`
	Code int       `json:"code,omitempty"`
	Text []string  `json:"text,omitempty"`
	Kind string    `json:"kind,omitempty"`
	Died *obituary `json:"died,omitempty"`
}

// obituary is the ChildError of a program that an engine started in its turn.
type obituary struct {
	Signal string   `json:"signal,omitempty"`
	Exit   int      `json:"exit"`
	Last   string   `json:"last,omitempty"`
	Stderr []string `json:"stderr,omitempty"`
}

func encodeError(err error) *wireError {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*ChildError](err); ok {
		return &wireError{Op: e.Op, Died: &obituary{Signal: e.Signal, Exit: e.ExitCode, Last: e.LastMessage, Stderr: e.Stderr}}
	}
	if e, ok := errors.AsType[*EngineError](err); ok {
		return &wireError{Op: e.Op, Code: e.Code, Text: e.Text, Kind: kindName(e)}
	}
	w := &wireError{Text: []string{err.Error()}, Kind: kindName(err)}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		w.Code = int(errno)
	}
	return w
}

func kindName(err error) string {
	for name, kind := range kinds {
		if errors.Is(err, kind) {
			return name
		}
	}
	return ""
}

func (w *wireError) decode() error {
	if w == nil {
		return nil
	}
	if d := w.Died; d != nil {
		return &ChildError{Op: w.Op, Signal: d.Signal, ExitCode: d.Exit, LastMessage: d.Last, Stderr: d.Stderr}
	}
	return &EngineError{Op: w.Op, Code: w.Code, Text: w.Text, Kind: kinds[w.Kind]}
}
