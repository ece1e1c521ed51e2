package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"bdbvault/localenv/engine"
	"bdbvault/localenv/hotcopy"
)

// hotbackupVoice speaks as db_hotbackup does, numbers of messages included, where it has a message: scripts match on these.
type hotbackupVoice struct {
	name      string // of the program
	out, errs io.Writer

	mu sync.Mutex
}

// say prints a line of -v.
func (h *hotbackup) say(format string, args ...any) {
	if h.verbose {
		h.mu.Lock()
		defer h.mu.Unlock()
		fmt.Fprintf(h.out, "%s: %s\n", h.name, fmt.Sprintf(format, args...))
	}
}

// note prints what is no error but should be known.
func (h *hotbackup) note(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fmt.Fprintf(h.errs, "%s: %s\n", h.name, text)
}

// What restore reports of its progress; db_hotbackup shows none.

func (h *hotbackup) Phase(string, int64) {}
func (h *hotbackup) Add(int64)           {}
func (h *hotbackup) File(string)         {}
func (h *hotbackup) Note(text string)    { h.note(text) }

func (h *hotbackup) started() {
	h.say("BDB5032 hot backup started at %s", time.Now().Format(time.ANSIC))
}
func (h *hotbackup) completed() {
	h.say("BDB5042 hot backup completed at %s", time.Now().Format(time.ANSIC))
}

// event prints a step of the copy.
func (h *hotbackup) event(e hotcopy.Event) {
	switch e.What {
	case hotcopy.Database:
		h.say("BDB0724 copying database %s to %s", e.From, e.To)
	case hotcopy.NotDatabase:
		h.say("BDB0724 copying database %s to %s -- Not a database", e.From, e.To)
		h.say("BDB0726 copying %s to %s", e.From, e.To)
	case hotcopy.LogCopied:
		h.say("BDB0726 copying %s to %s", e.From, e.To)
	case hotcopy.LogMoved:
		h.say("BDB0739 moving %s to %s", e.From, e.To)
	case hotcopy.LogRemoved:
		h.say("BDB0740 removing %s", e.From)
	case hotcopy.TargetRemoved:
		h.say("BDB0715 removing %s", e.To)
	case hotcopy.HighestRemoved:
		h.say("BDB0719 highest numbered log file removed: %d", e.Number)
	case hotcopy.LowestCopied:
		h.say("BDB0742 lowest numbered log file copied: %d", e.Number)
	}
}

// misused says what is wrong with the command line.
func (h *hotbackup) misused(err error) {
	m, _ := errors.AsType[*misuse](err)
	switch {
	case m == nil || m.text == "":
	case m.odd:
		fmt.Fprintf(h.errs, "%s\n: %s\n", m.text, h.name)
	default:
		fmt.Fprintf(h.errs, "%s: %s\n", h.name, m.text)
	}
	fmt.Fprint(h.errs, hotbackupUsage(h.name))
}

func hotbackupUsage(name string) string {
	return fmt.Sprintf("usage: %s [-cDuVv]\n\t[-d data_dir ...] [-h home] [-l log_dir] [-P password] -b backup_dir\n", name)
}

func hotbackupHelp(name string) string {
	return hotbackupUsage(name) + `
Copies a live environment into a directory of this host and recovers the copy. No repository has a part in it.

  -b DIRECTORY  the copy: made if it is not there, emptied of files if it is
  -c            have the engine make a checkpoint first; without -u, remove log files that the environment no longer needs from it
  -D            let data and log directories keep their names; DB_CONFIG comes along. Else all files go into one directory
  -d DIRECTORY  a further data directory, relative to home
  -h DIRECTORY  home of the environment [$DB_HOME]
  -l DIRECTORY  its log directory, relative to home
  -P PASSWORD   of an encrypted environment [$BDBVAULT_DB_PASSWORD]
  -u            update a copy: only log is brought to it. Log files that the environment no longer needs are moved
  -V            print the version
  -v            tell of each step
`
}

// checkLogDir speaks of -l and the log directory of DB_CONFIG.
func (h *hotbackup) checkLogDir() error {
	switch {
	case h.logConflict:
		fmt.Fprintf(h.errs, "BDB5057 %s: cannot specify -l with conflicting DB_CONFIG file\n", h.name)
		return &misuse{}
	case h.logDir != "" && h.env.Config.Present:
		fmt.Fprintf(h.errs, "BDB5058 use of -l with DB_CONFIG file is deprecated\n: %s\n", h.name)
	}
	return nil
}

// failed says what happened, in db_hotbackup's words where it has some.
func (h *hotbackup) failed(ctx context.Context, err error) {
	if is[*misuse](err) {
		fmt.Fprint(h.errs, hotbackupUsage(h.name))
	} else {
		text, hint := hotbackupWords(ctx, err)
		h.note(text)
		if hint != "" {
			fmt.Fprintln(h.errs, indent(hint))
		}
	}
	h.note("BDB5043 HOT BACKUP FAILED!")
}

func hotbackupWords(ctx context.Context, err error) (text, hint string) {
	if dir, ok := errors.AsType[*hotcopy.DirError](err); ok {
		return dirWords(dir)
	}
	if gap, ok := errors.AsType[*hotcopy.GapError](err); ok && gap.Needed.IsZero() {
		return fmt.Sprintf("BDB0743 the largest log file removed (%d) must be greater than or equal the smallest log file copied (%d)", gap.Removed, gap.Lowest),
			"Log is missing between the copy and the environment; nothing was changed. Take a whole copy, without -u."
	}
	if dir, ok := errors.AsType[*noBackupDirError](err); ok {
		return fmt.Sprintf("BDB0718 %s: directory read: %v", dir.dir, cause(dir.err)), ""
	}
	v := judge(ctx, err)
	return v.text, cmp.Or(hotbackupHint(err), v.hint)
}

func dirWords(e *hotcopy.DirError) (text, hint string) {
	switch {
	case errors.Is(e, hotcopy.ErrOutside):
		return fmt.Sprintf("directory %s leads out of the home, and its files out of the copy or over one another", e.Name), ""
	case e.Log:
		return "BDB5033 DB_CONFIG must not contain an absolute path for the log directory", ""
	}
	return fmt.Sprintf("BDB0725 data directory '%s' is absolute path, not permitted unless backup is to a single directory", e.Name), ""
}

func hotbackupHint(err error) string {
	switch {
	case is[*hotcopy.CollisionError](err):
		return "Nothing was copied. With -D each directory keeps its name."
	case is[*hotcopy.GapError](err):
		return "Log is missing between the copy and the environment; nothing was changed. Take a whole copy, without -u."
	case is[*hotcopy.StrangerError](err):
		return "Nothing was changed. Take a whole copy, without -u."
	case is[*hotcopy.OverlapError](err):
		return "Name a directory of its own with -b."
	case is[*hotcopy.DamageError](err):
		return "These pages are bad on this disk. Check it, and verify the databases (db_verify)."
	}
	return ""
}

// cause is an error without the path that it is about.
func cause(err error) error {
	for e := errors.Unwrap(err); e != nil; e = errors.Unwrap(e) {
		err = e
	}
	return err
}

// printVersion is -V.
func (h *hotbackup) printVersion(ctx context.Context) int {
	client, err := engine.Start(ctx, h.engine())
	if err != nil {
		h.note(err.Error())
		return exitFailed
	}
	_, number, _ := strings.Cut(client.Version(), " ")
	fmt.Fprintf(h.out, "Berkeley DB %s: (%s)\n", filepath.Base(number), tool)
	if err := client.Close(); err != nil {
		h.note(err.Error())
		return exitFailed
	}
	return exitDone
}
