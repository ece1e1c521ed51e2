package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/manifest"
	"bdbvault/remote/repository"
)

// backup is the command of that name.
func backup(ctx context.Context, c *call) (result, error) {
	bulkSafe, err := c.oneOf(flagBulkSafe, archive.BulkAuto, archive.BulkRequire, archive.BulkOff)
	if err != nil {
		return nil, err
	}
	lock, err := c.lock()
	if err != nil {
		return nil, err
	}
	s, err := c.openSource()
	if err != nil {
		return nil, err
	}
	repo, err := c.openRepository(ctx)
	if err != nil {
		return nil, err
	}
	c.warnSlow()
	offline := c.Bool(flagOffline)
	var client *engine.Client
	switch {
	case offline && (c.Bool(flagCheckpoint) || bulkSafe == archive.BulkRequire):
		return nil, usagef("--offline joins nothing: leave out -c and --bulk-safe require")
	case !offline:
		if client, err = c.joinEngine(ctx, s, bulkSafe); err != nil {
			return nil, err
		}
	}
	opt := archive.BackupOptions{
		Env: s.name, NewEnvironment: c.Bool(flagNewEnvironment), Checkpoint: c.Bool(flagCheckpoint), BulkSafe: bulkSafe,
		ReadAll: c.Bool(flagReadAll), Lock: lock, AllowDamaged: c.Bool(flagAllowDamaged), Offline: offline,
		StateDir: s.stateDir, Tool: tool, Progress: c.progress,
	}
	began := time.Now()
	var res *archive.BackupResult
	if client == nil {
		res, err = archive.Backup(ctx, repo, s.Env, opt)
	} else {
		opt.Engine = client
		res, err = archive.Backup(ctx, repo, s.Env, opt)
		err = firstError(err, client.Close())
	}
	if res == nil {
		return nil, err
	}
	return newBackupReport(res, time.Since(began), repo), err
}

// backupReport is the result of backup; show tells the rest.
type backupReport struct {
	Environment    string            `json:"environment"`
	ID             manifest.BackupID `json:"id"`
	Parent         manifest.BackupID `json:"parent,omitempty"`
	Timeline       manifest.Timeline `json:"timeline"`
	NewTimeline    string            `json:"newTimeline,omitempty"` // why this backup began it
	Started        time.Time         `json:"started"`
	Seconds        float64           `json:"seconds"`
	Files          int               `json:"files"`
	FilesUnread    int               `json:"filesUnread"` // unchanged since the parent
	Bytes          int64             `json:"bytes"`       // of all files
	UploadedBytes  int64             `json:"uploadedBytes"`
	ConsistentAt   bdb.LSN           `json:"consistentAt"`
	ConsistentTime time.Time         `json:"consistentTime,omitzero"`
	BulkSafe       manifest.BulkSafe `json:"bulkSafe"`
	Lock           *manifest.Lock    `json:"lock,omitempty"`
	UnloggedPages  int64             `json:"unloggedPages"`
	DamagedPages   int64             `json:"damagedPages"`
	Ship           *shipReport       `json:"ship"`
}

func newBackupReport(res *archive.BackupResult, took time.Duration, repo *repository.Repository) *backupReport {
	m := res.Manifest
	return &backupReport{
		Environment: m.Environment, ID: m.ID, Parent: m.Parent, Timeline: m.Timeline, NewTimeline: m.NewTimeline,
		Started: m.Started, Seconds: took.Seconds(),
		Files: len(m.Files), FilesUnread: res.FilesUnread, Bytes: m.Bytes(), UploadedBytes: repo.Bucket.Stats().BytesUp,
		ConsistentAt: m.ConsistentAt, ConsistentTime: m.ConsistentTime, BulkSafe: m.BulkSafe, Lock: m.Lock,
		UnloggedPages: res.PagesNotInLog, DamagedPages: m.Pages.Bad,
		Ship: newShipReport(m.Environment, &res.Ship),
	}
}

func (r *backupReport) text(w io.Writer) {
	fmt.Fprintf(w, "backup %s of %s is done\n", r.ID, r.Environment)
	t := newTable(w)
	files := fmt.Sprintf("%s in %s", size(r.Bytes), count(r.Files, "file"))
	if r.FilesUnread > 0 {
		files += fmt.Sprintf(", %d of them unchanged", r.FilesUnread)
	}
	t.row("  environment", files)
	t.row("  uploaded", fmt.Sprintf("%s in %s", size(r.UploadedBytes), duration(time.Duration(r.Seconds*float64(time.Second)))))
	t.row("  consistent at", moment(r.ConsistentAt, r.ConsistentTime))
	t.row("  timeline", timelineNote(r.Timeline, r.NewTimeline))
	t.row("  bulk safe", bulkNote(r.BulkSafe))
	if r.Lock != nil {
		t.row("  locked", lockedNote(r.Lock))
	}
	if r.DamagedPages > 0 {
		t.row("  DAMAGED", count(int(r.DamagedPages), "page")+" on the source's disk; show names them")
	}
	t.flush()
}

// ship is the command of that name.
func ship(ctx context.Context, c *call) (result, error) {
	lock, err := c.lock()
	if err != nil {
		return nil, err
	}
	s, err := c.openSource()
	if err != nil {
		return nil, err
	}
	repo, err := c.openRepository(ctx)
	if err != nil {
		return nil, err
	}
	res, err := archive.Ship(ctx, repo, s.Env, archive.ShipOptions{Env: s.name, Lock: lock, StateDir: s.stateDir, Progress: c.progress})
	if res == nil {
		return nil, err
	}
	return newShipReport(s.name, res), err
}

// shipReport is the result of ship.
type shipReport struct {
	Environment string            `json:"environment"`
	Timeline    manifest.Timeline `json:"timeline"`
	From        bdb.LSN           `json:"from"` // the log in between is new in the store
	To          bdb.LSN           `json:"to"`
	LastCommit  time.Time         `json:"lastCommit,omitzero"` // newest in the store
	Segments    int               `json:"segments"`
	LogBytes    int64             `json:"logBytes"`
	StoredBytes int64             `json:"storedBytes"`
	Commits     int64             `json:"commits"` // 0 also if they can't be read without the password
}

func newShipReport(env string, res *archive.ShipResult) *shipReport {
	return &shipReport{
		Environment: env, Timeline: res.Timeline, From: res.From, To: res.To, LastCommit: res.LastCommit, Segments: res.Segments,
		LogBytes: res.LogBytes, StoredBytes: res.StoredBytes, Commits: res.Commits,
	}
}

func (r *shipReport) text(w io.Writer) {
	if r.Segments == 0 {
		fmt.Fprintf(w, "nothing new: the log of %s is shipped up to %s\n", r.Environment, moment(r.To, r.LastCommit))
		return
	}
	fmt.Fprintf(w, "shipped the log of %s up to %s\n", r.Environment, moment(r.To, r.LastCommit))
	fmt.Fprintf(w, "  %s of log in %s, stored as %s\n", size(r.LogBytes), count(r.Segments, "segment"), size(r.StoredBytes))
}
