package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
)

// listReport is the result of list.
type listReport struct {
	Repository   string              `json:"repository"`
	Environments []environmentReport `json:"environments"`
}

type environmentReport struct {
	Name      string           `json:"name"`
	Backups   []backupEntry    `json:"backups"`
	Timelines []*timelineEntry `json:"timelines"`
}

// States of a listed backup.
const (
	stateOK      = "ok"
	stateVoid    = "void"         // committed too late; it may lack what a prune deleted
	stateDamaged = "damaged"      // the manifest is not what was stored
	stateNewer   = "newer format" // only a newer bdbvault can read it
	stateGap     = "gap in log"   // the store lacks log that it needs
)

type backupEntry struct {
	ID             manifest.BackupID `json:"id"`
	State          string            `json:"state"`
	Problem        string            `json:"problem,omitempty"`
	Started        time.Time         `json:"started"`
	Finished       time.Time         `json:"finished,omitzero"`
	Host           string            `json:"host,omitempty"`
	Home           string            `json:"home,omitempty"`
	Files          int               `json:"files"`
	Bytes          int64             `json:"bytes"`
	StoredBytes    int64             `json:"storedBytes"`             // of all packs and maps that it needs
	UploadedBytes  *int64            `json:"uploadedBytes,omitempty"` // of those that its parent does not need; absent if the parent is gone
	ConsistentAt   bdb.LSN           `json:"consistentAt,omitzero"`
	ConsistentTime time.Time         `json:"consistentTime,omitzero"`
	RestorableTo   bdb.LSN           `json:"restorableTo,omitzero"` // as far as the shipped log carries it
	RestorableTime time.Time         `json:"restorableTime,omitzero"`
	Timeline       manifest.Timeline `json:"timeline,omitzero"`
	Parent         manifest.BackupID `json:"parent,omitempty"`
	Encrypted      bool              `json:"encrypted"`
	BulkSafe       bool              `json:"bulkSafe"`
}

type timelineEntry struct {
	Timeline   manifest.Timeline `json:"timeline"`
	Segments   int               `json:"segments"`
	Bytes      int64             `json:"storedBytes"`
	From       bdb.LSN           `json:"from"`
	To         bdb.LSN           `json:"to"` // newest shipped
	LastCommit time.Time         `json:"lastCommit,omitzero"`

	names []manifest.SegmentName
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

func (e *unusableError) add(id manifest.BackupID, err error) {
	e.ids, e.errs = append(e.ids, id), append(e.errs, err)
}

// list is the command of that name.
func list(ctx context.Context, c *call) (result, error) {
	env, err := c.givenEnv()
	if err != nil {
		return nil, err
	}
	repo, err := c.openRepository(ctx)
	if err != nil {
		return nil, err
	}
	names := []string{env}
	if env == "" {
		if names, err = repo.Environments(ctx); err != nil {
			return nil, err
		}
	}
	r := &listReport{Repository: repo.Bucket.String(), Environments: []environmentReport{}}
	var bad unusableError
	for _, name := range names {
		e, err := listEnvironment(ctx, repo, name, &bad)
		if err != nil {
			return nil, err
		}
		r.Environments = append(r.Environments, e)
	}
	if len(bad.ids) > 0 {
		return r, &bad
	}
	return r, nil
}

func listEnvironment(ctx context.Context, repo *repository.Repository, env string, bad *unusableError) (environmentReport, error) {
	e := environmentReport{Name: env, Backups: []backupEntry{}}
	stored, err := repo.Backups(ctx, env, "")
	if err != nil {
		return e, err
	}
	// Log is listed after the backups: what a backup needs is in the store before it is.
	if e.Timelines, err = listTimelines(ctx, repo, env); err != nil {
		return e, err
	}
	var before *manifest.Manifest
	for _, s := range stored {
		m, err := repo.Manifest(ctx, env, s)
		entry := backupEntry{ID: s.ID, State: stateOK, Started: s.ID.Time()}
		if errors.Is(err, remote.ErrNotFound) { // deleted since it was listed
			continue
		}
		if err == nil {
			entry.describe(m, before)
			err = entry.follow(m, e.Timelines)
			before = m
		}
		if err != nil && !entry.explain(err, bad) {
			return e, err
		}
		e.Backups = append(e.Backups, entry)
	}
	return e, nil
}

// listTimelines sorts all shipped log of an environment by timeline, the one with the latest commit last.
func listTimelines(ctx context.Context, repo *repository.Repository, env string) ([]*timelineEntry, error) {
	lines := map[manifest.Timeline]*timelineEntry{}
	list := []*timelineEntry{}
	_, err := repo.Bucket.List(ctx, manifest.LogsPrefix(env), "", func(i remote.Info) error {
		s, err := manifest.ParseSegmentKey(env, i.Key)
		if err != nil {
			return nil // not ours
		}
		t := lines[s.Timeline]
		if t == nil {
			t = &timelineEntry{Timeline: s.Timeline, From: bdb.LSN{File: s.File, Offset: s.Start}}
			lines[s.Timeline] = t
			list = append(list, t)
		}
		t.add(s, i.Size)
		return nil
	})
	slices.SortStableFunc(list, func(a, b *timelineEntry) int { return a.LastCommit.Compare(b.LastCommit) })
	return list, err
}

func (t *timelineEntry) add(s manifest.SegmentName, size int64) {
	t.Segments++
	t.Bytes += size
	t.names = append(t.names, s)
	if end := (bdb.LSN{File: s.File, Offset: s.End}); t.To.Before(end) {
		t.To = end
	}
	if last := unix(s.LastCommit); last.After(t.LastCommit) {
		t.LastCommit = last.UTC()
	}
}

func (b *backupEntry) describe(m, before *manifest.Manifest) {
	b.Started, b.Finished, b.Host, b.Home = m.Started, m.Finished, m.Host, m.Home
	b.Files, b.Bytes, b.StoredBytes = len(m.Files), m.Bytes(), m.StoredBytes()
	b.ConsistentAt, b.ConsistentTime = m.ConsistentAt, m.ConsistentTime
	b.Timeline, b.Parent, b.Encrypted, b.BulkSafe = m.Timeline, m.Parent, m.Encrypted, m.BulkSafe.Held
	if m.Parent == "" || (before != nil && before.ID == m.Parent) {
		n := uploaded(m, before)
		b.UploadedBytes = &n
	}
}

// uploaded is the size of all objects of m that its parent does not have.
func uploaded(m, parent *manifest.Manifest) (n int64) {
	has := map[manifest.Hash]bool{}
	if parent != nil && m.Parent == parent.ID {
		for i := range parent.Packs {
			has[parent.Packs[i].Name] = true
		}
		for i := range parent.Files {
			has[parent.Files[i].Map] = true
		}
	}
	for i := range m.Packs {
		if !has[m.Packs[i].Name] {
			n += m.Packs[i].Size
		}
	}
	for i := range m.Files {
		if !has[m.Files[i].Map] {
			n += m.Files[i].MapSize
		}
	}
	return n
}

// follow finds out how far the shipped log carries the backup.
func (b *backupEntry) follow(m *manifest.Manifest, timelines []*timelineEntry) error {
	var names []manifest.SegmentName
	for _, t := range timelines {
		if t.Timeline == m.Timeline {
			names = t.names
		}
	}
	cover, err := manifest.NewChain(m.Timeline, names).CoverBackup(m, bdb.LSN{})
	if err != nil {
		return err
	}
	b.RestorableTo, b.RestorableTime = cover.End, m.ConsistentTime
	if last := unix(cover.LastCommit); last.After(b.RestorableTime) {
		b.RestorableTime = last.UTC()
	}
	return nil
}

// explain marks a backup that can't be used with the reason; false if err says nothing about the backup itself.
func (b *backupEntry) explain(err error, bad *unusableError) bool {
	var (
		void   *repository.VoidError
		format *manifest.FormatError
		gap    *manifest.GapError
	)
	switch {
	case errors.As(err, &void):
		b.State = stateVoid
	case errors.As(err, &format):
		b.State = stateNewer
	case errors.As(err, &gap):
		b.State = stateGap
		bad.add(b.ID, err)
	case errors.Is(err, manifest.ErrDamaged):
		b.State = stateDamaged
		bad.add(b.ID, err)
	default:
		return false
	}
	b.Problem = err.Error()
	return true
}

func (r *listReport) text(w io.Writer) {
	fmt.Fprintf(w, "repository %s\n", r.Repository)
	if len(r.Environments) == 0 {
		fmt.Fprintln(w, "no environments yet")
	}
	for _, e := range r.Environments {
		e.text(w)
	}
}

func (e *environmentReport) text(w io.Writer) {
	fmt.Fprintf(w, "\nenvironment %s\n", e.Name)
	t := newTable(w)
	t.row("  BACKUP", "STARTED", "SIZE", "STORED", "UPLOADED", "CONSISTENT AT", "LAST COMMIT", "RESTORABLE TO", "TIMELINE", "STATE")
	for _, b := range e.Backups {
		if b.Timeline.IsZero() {
			t.row("  "+string(b.ID), stamp(b.Started), "-", "-", "-", "-", "-", "-", "-", b.State)
			continue
		}
		up := "-"
		if b.UploadedBytes != nil {
			up = size(*b.UploadedBytes)
		}
		t.row("  "+string(b.ID), stamp(b.Started), size(b.Bytes), size(b.StoredBytes), up, b.ConsistentAt.String(), stamp(b.ConsistentTime),
			b.RestorableTo.String(), b.Timeline.String(), b.State)
	}
	t.flush()
	if len(e.Timelines) == 0 {
		return
	}
	fmt.Fprintln(w)
	t = newTable(w)
	t.row("  TIMELINE", "LOG FROM", "SHIPPED TO", "LAST COMMIT", "SEGMENTS", "STORED")
	for _, l := range e.Timelines {
		t.row("  "+l.Timeline.String(), l.From.String(), l.To.String(), stamp(l.LastCommit), fmt.Sprint(l.Segments), size(l.Bytes))
	}
	t.flush()
}
