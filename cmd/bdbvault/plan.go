package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/restore"
)

// Flags that say what to restore to.
const (
	flagAt        = "at"
	flagLSN       = "lsn"
	flagBeforeTxn = "before-txn"

	flagObjects = "objects"
)

func planFlags() []cli.Flag {
	return []cli.Flag{boolFlag(inTarget, flagObjects, "print the keys of all objects that the restore will read, and nothing else")}
}

func targetFlags() []cli.Flag {
	return []cli.Flag{
		stringFlag(inTarget, flagBackup, "`ID` of the backup to begin with (default: latest, the newest that fits)"),
		stringFlag(inTarget, flagAt, "end behind the last commit of that `TIME` or earlier: 2006-01-02T15:04:05Z, 2006-01-02 15:04:05 or [[CC]YY]MMDDhhmm[.SS], local"),
		stringFlag(inTarget, flagLSN, "end just before the log record at `FILE/OFFSET`"),
		stringFlag(inTarget, flagBeforeTxn, "end just before the commit of the transaction `ID`, as db_printlog prints it"),
	}
}

// target is what the flags say; the note is for the user.
func (c *call) target(password string) (t restore.Target, err error) {
	given := 0
	for _, f := range []string{flagAt, flagLSN, flagBeforeTxn} {
		_, variable := os.LookupEnv(variables(f)[0])
		switch {
		case c.String(f) != "":
			given++
		case c.IsSet(f) && !variable: // of a script's variable that has no value; an empty one of ours says nothing
			return t, usagef("--%s is empty; without it, all that is stored is restored", f)
		}
	}
	if given > 1 {
		return t, usagef("give one of --%s, --%s and --%s", flagAt, flagLSN, flagBeforeTxn)
	}
	if id := c.String(flagBackup); id != "" && id != latest {
		if t.Backup, err = manifest.ParseBackupID(id); err != nil {
			return t, usageError{err}
		}
	}
	if s := c.String(flagLSN); s != "" {
		if t.LSN, err = bdb.ParseLSN(s); err == nil && t.LSN.File == 0 {
			err = fmt.Errorf("LSN %q: log files begin with number 1", s)
		}
	}
	if s := c.String(flagBeforeTxn); s != "" {
		t.BeforeTxn, err = restore.ParseTxnID(s)
	}
	if s := c.String(flagAt); s != "" {
		var note string
		if t.At, note, err = parseTime(s, time.Now(), time.Local); note != "" {
			c.progress.Note(note)
		}
	}
	if err != nil {
		return t, usageError{err}
	}
	if password != "" {
		t.Key = bdb.NewKey(password)
	}
	return t, nil
}

// planRestore is the command plan.
func planRestore(ctx context.Context, c *call) (result, error) {
	env, err := c.givenEnv()
	if err != nil {
		return nil, err
	}
	password, err := c.password()
	if err != nil {
		return nil, err
	}
	target, err := c.target(password)
	if err != nil {
		return nil, err
	}
	state, err := c.stateDir()
	if err != nil {
		return nil, err
	}
	repo, err := c.openRepository(ctx)
	if err != nil {
		return nil, err
	}
	plan, err := restore.MakePlan(ctx, repo, env, target)
	if err != nil {
		return nil, err
	}
	if err := plan.FindGaps(ctx, repo); err != nil {
		return nil, err
	}
	r := &planReport{Plan: plan}
	if c.Bool(flagObjects) {
		for _, key := range plan.Keys() {
			r.keys = append(r.keys, repo.Bucket.FullKey(key))
		}
	}
	r.takes, r.known = restore.LoadRates(state, repo.Info.ID).Estimate(plan)
	return r, nil
}

// planReport is the result of plan.
type planReport struct {
	*restore.Plan
	takes time.Duration
	known bool     // takes is
	keys  []string // with --objects: all that will be read, as the store knows it
}

// MarshalJSON adds the estimate, in seconds; absent if there is none.
func (r *planReport) MarshalJSON() ([]byte, error) {
	var seconds *float64
	if r.known {
		s := r.takes.Seconds()
		seconds = &s
	}
	return json.Marshal(struct {
		*restore.Plan
		Seconds *float64 `json:"estimatedSeconds,omitempty"`
		Keys    []string `json:"keys,omitempty"`
	}{r.Plan, seconds, r.keys})
}

func (r *planReport) text(w io.Writer) {
	if r.keys != nil {
		fmt.Fprintln(w, strings.Join(r.keys, "\n"))
		return
	}
	t := newTable(w)
	if r.NoLog {
		fmt.Fprintf(w, "restoring %s would bring back what was copied: there is no log\n", r.Environment)
		t.row("  backup", fmt.Sprintf("%s, started %s", r.Backup, stamp(r.Started)))
	} else {
		fmt.Fprintf(w, "restoring %s would end at LSN %s\n", r.Environment, r.End)
		t.row("  last commit", r.lastCommit())
		t.row("  backup", fmt.Sprintf("%s, started %s, consistent at LSN %s", r.Backup, stamp(r.Started), r.ConsistentAt))
	}
	t.row("  timeline", r.Timeline.String())
	t.row("  data", fmt.Sprintf("%s in %s", size(r.Bytes), count(r.Files, "file")))
	t.row("  log to replay", fmt.Sprintf("%s in %s", size(r.LogBytes), count(r.Segments, "segment")))
	t.row("  to fetch", fmt.Sprintf("about %s of %s, in about %s", size(r.FetchBytes), count(r.Objects, "object"), count(r.Requests, "request")))
	if r.known {
		t.row("  takes", "about "+duration(r.takes)+", as earlier restores on this host did")
	} else {
		t.row("  takes", "no rate recorded yet: restores of that size on this host will tell")
	}
	t.row("  gaps in the log", r.gaps())
	if r.Encrypted {
		t.row("  encrypted", "yes: needs the environment's password")
	}
	t.flush()
	for _, n := range r.Notes {
		fmt.Fprintf(w, "  note: %s\n", n)
	}
}

func (r *planReport) lastCommit() string {
	switch c := r.EndCommit; {
	case c != nil:
		return fmt.Sprintf("%s, transaction %s at LSN %s", stamp(c.Time), c.Txn, c.LSN)
	case r.EndTime.IsZero():
		return "its time is not known"
	}
	return stamp(r.EndTime)
}

func (r *planReport) gaps() string {
	if len(r.Gaps) == 0 {
		return fmt.Sprintf("none up to LSN %s", r.GapsTo)
	}
	s := ""
	for _, g := range r.Gaps {
		s += fmt.Sprintf("LSN %s to %s is missing; ", g.After, g.Before)
	}
	return s + fmt.Sprintf("looked up to LSN %s", r.GapsTo)
}
