package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

// showReport is the result of show.
type showReport struct {
	Repository     string             `json:"repository"`
	State          string             `json:"state"`
	Problem        string             `json:"problem,omitempty"`
	Bytes          int64              `json:"bytes"`
	StoredBytes    int64              `json:"storedBytes"`
	Stored         time.Time          `json:"stored"` // when the manifest was, by the store's clock
	RestorableTo   bdb.LSN            `json:"restorableTo,omitzero"`
	RestorableTime time.Time          `json:"restorableTime,omitzero"`
	Segments       int                `json:"segments"` // of log that a restore of all of it needs
	Manifest       *manifest.Manifest `json:"manifest"`
}

// show is the command of that name.
func show(ctx context.Context, c *call) (result, error) {
	id, err := parseBackup(c.Args().First())
	if err != nil {
		return nil, usageError{err}
	}
	env, err := c.givenEnv()
	if err != nil {
		return nil, err
	}
	repo, err := c.openRepository(ctx)
	if err != nil {
		return nil, err
	}
	find := findBackup
	if id == "" {
		find = findLatest
	}
	env, stored, err := find(ctx, repo, env, id)
	if err != nil {
		return nil, err
	}
	m, err := repo.Manifest(ctx, env, stored)
	if err != nil {
		return nil, err
	}
	r := &showReport{Repository: repo.Bucket.String(), State: restore.StateOK, Bytes: m.Bytes(), StoredBytes: m.StoredBytes(), Stored: stored.Stored, Manifest: m}
	return r, r.follow(ctx, repo)
}

// latest stands for the newest backup's id.
const latest = "latest"

// parseBackup reads the id of a backup; that of the latest is empty.
func parseBackup(text string) (manifest.BackupID, error) {
	if text == latest {
		return "", nil
	}
	return manifest.ParseBackupID(text)
}

// findLatest looks for the newest backup of one environment, or of the only one there is.
func findLatest(ctx context.Context, repo *repository.Repository, env string, _ manifest.BackupID) (string, repository.Stored, error) {
	if env == "" {
		names, err := repo.Environments(ctx)
		if err != nil {
			return "", repository.Stored{}, err
		}
		if len(names) > 1 {
			return "", repository.Stored{}, fmt.Errorf("%w the repository holds %s", restore.ErrEnvironment, strings.Join(names, ", "))
		}
		env = strings.Join(names, "")
	}
	if env == "" {
		return "", repository.Stored{}, fmt.Errorf("%w: the repository is empty", restore.ErrNoBackup)
	}
	list, err := repo.Backups(ctx, env, "")
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("%w: environment %s has none", restore.ErrNoBackup, env)
	}
	if err != nil {
		return "", repository.Stored{}, err
	}
	return env, list[len(list)-1], nil
}

// noBackupError says that there is no backup of that id.
type noBackupError struct {
	id  manifest.BackupID
	env string // empty: in none
}

func (e *noBackupError) Error() string {
	if e.env == "" {
		return fmt.Sprintf("there is no backup %s in the repository", e.id)
	}
	return fmt.Sprintf("there is no backup %s of %s", e.id, e.env)
}

// findBackup looks for a backup in one environment, or in all.
func findBackup(ctx context.Context, repo *repository.Repository, env string, id manifest.BackupID) (string, repository.Stored, error) {
	names, err := environments(ctx, repo, env)
	if err != nil {
		return "", repository.Stored{}, err
	}
	for _, name := range names {
		info, err := repo.Bucket.Stat(ctx, manifest.ManifestKey(name, id))
		switch {
		case err == nil:
			return name, repository.Stored{ID: id, Size: info.Size, Stored: info.Modified}, nil
		case !errors.Is(err, remote.ErrNotFound):
			return "", repository.Stored{}, err
		}
	}
	return "", repository.Stored{}, &noBackupError{id: id, env: env}
}

// follow finds out how far the shipped log carries the backup; an error if it does not even carry it to where it is consistent.
func (r *showReport) follow(ctx context.Context, repo *repository.Repository) error {
	m := r.Manifest
	piece, err := repo.FollowBackup(ctx, m, nil)
	var gap *manifest.GapError
	if errors.As(err, &gap) {
		r.State, r.Problem = restore.StateGap, err.Error()
	}
	if err != nil {
		return err
	}
	r.RestorableTo, r.Segments, r.RestorableTime = piece.End(), len(piece.Segments), m.ConsistentTime
	if last := unix(piece.Cover().LastCommit); last.After(r.RestorableTime) {
		r.RestorableTime = last.UTC()
	}
	return nil
}

func (r *showReport) text(w io.Writer) {
	m := r.Manifest
	t := newTable(w)
	t.row("backup", string(m.ID))
	t.row("state", r.State)
	t.row("environment", m.Environment)
	t.row("taken of", m.Home+" on "+m.Host)
	t.row("started", stamp(m.Started))
	t.row("finished", stamp(m.Finished))
	t.row("made by", m.Tool+", engine "+orDash(m.Engine))
	t.row("parent", orDash(string(m.Parent)))
	t.row("timeline", timelineNote(m.Timeline, m.NewTimeline))
	t.row("consistent at", moment(m.ConsistentAt, m.ConsistentTime))
	if r.State == restore.StateOK {
		t.row("restorable to", moment(r.RestorableTo, r.RestorableTime))
	}
	if !m.NoLog {
		t.row("log needed from", m.NeededFrom.String())
		t.row("log version", fmt.Sprint(m.LogVersion))
	}
	if m.Offline != nil {
		t.row("offline", offlineNote(m.Offline))
	}
	t.row("size", fmt.Sprintf("%s in %s", size(r.Bytes), count(len(m.Files), "file")))
	t.row("stored", fmt.Sprintf("%s in %s and %s", size(r.StoredBytes), count(len(m.Packs), "pack"), count(len(m.Files), "map")))
	t.row("pages", fmt.Sprintf("%d read, %d of them again, %d bad; %d taken over unread", m.Pages.Read, m.Pages.Reread, m.Pages.Bad, m.Pages.Skipped))
	t.row("bulk safe", bulkNote(m.BulkSafe))
	t.row("encrypted", yesNo(m.Encrypted))
	t.row("locked", lockedNote(m.Lock))
	t.flush()
	r.layout(w)
	r.files(w)
}

// offlineNote says what is known of who had the environment open.
func offlineNote(o *manifest.Offline) string {
	note := "nobody had the environment open"
	if o.Unseen > 0 {
		note += fmt.Sprintf(", as far as can be seen: %s of other users could not be asked", count(o.Unseen, "process"))
	}
	if len(o.Regions) > 0 {
		note += "; its region files were there"
	}
	return note
}

// layout prints the directories and what configures them.
func (r *showReport) layout(w io.Writer) {
	m := r.Manifest
	t := newTable(w)
	fmt.Fprintln(w)
	for _, d := range m.Dirs {
		t.row("data directory", d.Name)
	}
	t.row("log directory", m.LogDir)
	t.flush()
	if m.DBConfig != nil {
		fmt.Fprintf(w, "DB_CONFIG\n%s\n", indent(strings.TrimRight(*m.DBConfig, "\n")))
	}
	for _, s := range m.Skipped {
		fmt.Fprintf(w, "left out: %s: %s\n", s.Path, s.Reason)
	}
}

func (r *showReport) files(w io.Writer) {
	m := r.Manifest
	fmt.Fprintln(w)
	t := newTable(w)
	t.row("DIRECTORY", "FILE", "KIND", "SIZE", "PAGE", "LAST LSN", "FILE ID", "REMARKS")
	for i := range m.Files {
		f := &m.Files[i]
		id := "-"
		if f.FileID != (bdb.FileID{}) {
			id = f.FileID.String()
		}
		t.row(m.Dirs[f.Dir].Name, f.Path, string(f.Kind), size(f.Size), fmt.Sprint(f.PageSize), f.MaxLSN.String(), id, remarks(f))
	}
	t.flush()
}

func remarks(f *manifest.File) string {
	var list []string
	if f.Checksummed {
		list = append(list, "checksummed")
	}
	if f.Encrypted {
		list = append(list, "encrypted")
	}
	if f.Unlogged > 0 {
		list = append(list, count(int(f.Unlogged), "page")+" not logged")
	}
	if len(f.Damaged) > 0 {
		list = append(list, count(len(f.Damaged), "DAMAGED page"))
	}
	return orDash(strings.Join(list, ", "))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
