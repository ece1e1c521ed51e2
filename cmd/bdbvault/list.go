package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/restore"
)

// listReport is the result of list.
type listReport struct {
	Repository   string             `json:"repository"`
	Environments []*listEnvironment `json:"environments"`
}

// listEnvironment is one environment of it.
type listEnvironment struct {
	*restore.History
	Drills *restore.DrillHistory `json:"drills"`
}

// unusableError says that a list shows backups that can't be restored.
type unusableError struct {
	ids  []manifest.BackupID
	errs []error
}

func (e *unusableError) Error() string {
	if len(e.ids) == 1 {
		return fmt.Sprintf("backup %s can't be restored: %v", e.ids[0], e.errs[0])
	}
	return fmt.Sprintf("%d backups can't be restored, the first is %s: %v", len(e.ids), e.ids[0], e.errs[0])
}

func (e *unusableError) Unwrap() []error { return e.errs }

// add notes backups of which something is missing or damaged. One that was void from the beginning never was a backup, and one that is too new for us is no
// worse for it.
func (e *unusableError) add(backups []restore.StoredBackup) {
	for i := range backups {
		if b := &backups[i]; b.State == restore.StateGap || b.State == restore.StateDamaged {
			e.ids, e.errs = append(e.ids, b.ID), append(e.errs, b.Err)
		}
	}
}

// list is the command of that name.
func list(ctx context.Context, c *call) (result, error) {
	env, err := c.givenEnv()
	if err != nil {
		return nil, err
	}
	repo, names, err := c.openEnvironments(ctx, env)
	if err != nil {
		return nil, err
	}
	r := &listReport{Repository: repo.Bucket.String(), Environments: []*listEnvironment{}}
	var bad unusableError
	for _, name := range names {
		h, err := restore.ReadHistory(ctx, repo, name)
		if err != nil {
			return nil, err
		}
		if len(h.Backups) == 0 {
			if since := c.tampered(ctx, restore.ErrNoBackup); !since.IsZero() {
				return r, &tamperedError{fmt.Errorf("%w: environment %s has none any more", restore.ErrNoBackup, name), since}
			}
		}
		if env != "" && len(h.Backups)+len(h.Timelines) == 0 {
			return nil, fmt.Errorf("%w: environment %s has none", restore.ErrNoBackup, env)
		}
		bad.add(h.Backups)
		drills, err := restore.ReadDrills(ctx, repo, name)
		if err != nil {
			return nil, err
		}
		r.Environments = append(r.Environments, &listEnvironment{h, drills})
	}
	if len(bad.ids) > 0 {
		return r, &bad
	}
	return r, nil
}

func (r *listReport) text(w io.Writer) {
	fmt.Fprintf(w, "repository %s\n", r.Repository)
	if len(r.Environments) == 0 {
		fmt.Fprintln(w, "no environments yet")
	}
	for _, e := range r.Environments {
		fmt.Fprintf(w, "\nenvironment %s\n", e.Environment)
		listBackups(w, e.History)
		listRanges(w, e.History)
		listLog(w, e.History)
		e.listDrills(w)
	}
}

// listDrills tells of the last drill, and warns where none proves that the backups are worth anything.
func (e *listEnvironment) listDrills(w io.Writer) {
	d := e.Drills
	if len(e.Backups) == 0 && d.Last == nil && d.Problem == "" {
		return
	}
	fmt.Fprintln(w)
	if d.Problem != "" {
		fmt.Fprintf(w, "  warning: a newer record of a drill can't be read: %s\n", d.Problem)
	}
	switch l := d.Last; {
	case l == nil:
		fmt.Fprintln(w, "  last drill: none. Whether this can be restored was not tried yet: bdbvault drill")
	case l.Passed():
		fmt.Fprintf(w, "  last drill: %s, passed in %s; restored to %s\n", stamp(l.Started), seconds(l.Seconds), moment(l.End, l.EndTime))
	default:
		fmt.Fprintf(w, "  warning: the last drill, %s, failed after %s in phase %s: %s\n", stamp(l.Started), seconds(l.Seconds), l.Phase, l.Error)
		if p := d.LastPassed; p != nil {
			fmt.Fprintf(w, "  last drill that passed: %s, in %s; restored to %s\n", stamp(p.Started), seconds(p.Seconds), moment(p.End, p.EndTime))
		}
	}
}

func listBackups(w io.Writer, h *restore.History) {
	t := newTable(w)
	t.row("  BACKUP", "STARTED", "SIZE", "STORED", "UPLOADED", "CONSISTENT AT", "LAST COMMIT", "RESTORABLE TO", "TIMELINE", "STATE")
	for _, b := range h.Backups {
		if b.Timeline.IsZero() {
			t.row("  "+string(b.ID), stamp(b.Started), "-", "-", "-", "-", "-", "-", "-", b.State)
			continue
		}
		up := "-"
		if b.UploadedBytes != nil {
			up = size(*b.UploadedBytes)
		}
		t.row("  "+string(b.ID), stamp(b.Started), size(b.Bytes), size(b.StoredBytes), up, orNone(b.ConsistentAt), stamp(b.ConsistentTime),
			orNone(b.RestorableTo), b.Timeline.String(), stateNote(&b))
	}
	t.flush()
}

// orNone is a place in the log, if there is a log.
func orNone(lsn bdb.LSN) string {
	if lsn.IsZero() {
		return "no log"
	}
	return lsn.String()
}

func stateNote(b *restore.StoredBackup) string {
	if b.Lock == nil || time.Now().After(b.Lock.Until) {
		return b.State
	}
	return b.State + ", locked until " + stamp(b.Lock.Until)
}

// listRanges shows what can be restored, each commit in it.
func listRanges(w io.Writer, h *restore.History) {
	if len(h.Ranges) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := newTable(w)
	t.row("  TIMELINE", "RESTORABLE FROM", "COMMIT OF", "TO", "COMMIT OF", "BACKUPS")
	for _, r := range h.Ranges {
		t.row("  "+r.Timeline.String(), r.From.String(), stamp(r.FromTime), r.To.String(), stamp(r.ToTime), fmt.Sprint(len(r.Backups)))
	}
	t.flush()
}

func listLog(w io.Writer, h *restore.History) {
	if len(h.Timelines) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := newTable(w)
	t.row("  TIMELINE", "LOG FROM", "SHIPPED TO", "LAST COMMIT", "SEGMENTS", "STORED")
	for _, l := range h.Timelines {
		t.row("  "+l.Timeline.String(), l.From.String(), l.To.String(), stamp(l.LastCommit), fmt.Sprint(l.Segments), size(l.Bytes))
	}
	t.flush()
	for _, l := range h.Timelines {
		for _, g := range l.Gaps() {
			fmt.Fprintf(w, "  timeline %s: the log from LSN %s to %s is missing\n", g.Timeline, g.After, g.Before)
		}
		if !l.PartedAt.IsZero() {
			fmt.Fprintf(w, "  timeline %s: the log behind LSN %s is that of two environments that shipped under one name, and can't be restored\n", l.Timeline, l.PartedAt)
		}
	}
}
