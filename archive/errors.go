package archive

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
)

// ErrNoBackup says that the log can't be shipped because there is no full backup that it would continue.
var ErrNoBackup = errors.New("no full backup to continue")

// ChainError says that the local log does not continue what was shipped. A full backup begins a new timeline.
type ChainError struct {
	Timeline manifest.Timeline
	Shipped  bdb.LSN // end of what was shipped
	Reason   string
}

func (e *ChainError) Error() string {
	return fmt.Sprintf("the log does not continue what was shipped up to LSN %s of timeline %s: %s", e.Shipped, e.Timeline, e.Reason)
}

// DamageError lists pages that are bad on the source's disk.
type DamageError struct{ Files []DamagedFile }

// DamagedFile is a file with bad pages.
type DamagedFile struct {
	Path  string
	Pages []bdb.PageError // the first ones
	More  int64           // further ones
}

func (e *DamageError) Error() string {
	var b strings.Builder
	for i, f := range e.Files {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s: %d damaged pages, the first is page %d: %s", f.Path, int64(len(f.Pages))+f.More, f.Pages[0].Page, f.Pages[0].Problem)
	}
	return b.String()
}

// OtherEnvironmentError says that the name belongs to an environment with which this one has no database in common, and no log.
type OtherEnvironmentError struct {
	Env  string
	Last *manifest.Manifest
}

func (e *OtherEnvironmentError) Error() string {
	return fmt.Sprintf("%s is the name of another environment: backup %s was taken of %s on %s, and neither is any database file the same nor does the log go on from there",
		e.Env, e.Last.ID, e.Last.Home, e.Last.Host)
}

// NotCoveredError says that the log names databases which the backup has not found.
type NotCoveredError struct{ Names []string }

func (e *NotCoveredError) Error() string {
	return "the log names databases that are not in the environment's directories: " + strings.Join(e.Names, ", ")
}

// LogTooShortError says that a page carries an LSN beyond the end of the log: the log was truncated, or belongs to another environment.
type LogTooShortError struct {
	File string
	Page bdb.LSN
	End  bdb.LSN
}

func (e *LogTooShortError) Error() string {
	return fmt.Sprintf("%s has a page of LSN %s, but the log ends at %s: they do not belong together", e.File, e.Page, e.End)
}

// lostError carries packs and maps that a backup counted on and that the store does not have as they were stored, that verify found damaged, or that
// a prune has condemned.
type lostError struct{ names map[manifest.Hash]string }

func (e *lostError) Error() string {
	for h, why := range e.names {
		return fmt.Sprintf("%d objects of earlier backups can't be used; %s: %s", len(e.names), h, why)
	}
	return "objects of earlier backups can't be used"
}

// queueMovedError says that a queue with extents was renamed or removed while it was copied. Recovery can follow that only from copies that are all
// older, because it has to end just before: pages read later would lie beyond the end of its log.
type queueMovedError struct{ At bdb.LSN }

func (e *queueMovedError) Error() string {
	return fmt.Sprintf("a queue with extents was renamed or removed at LSN %s, while files were copied: back up again when that is over", e.At)
}

// logGoneError says that log files were removed so soon after they were written that they could not be held.
type logGoneError struct{ gap *localenv.LogGap }

func (e *logGoneError) Error() string {
	return fmt.Sprintf("log: %v: removed as soon as written (DB_LOG_AUTOREMOVE, db_archive -d?)", e.gap)
}

func (e *logGoneError) Unwrap() error { return e.gap }

// logCondemnedError says that a prune has condemned log which the backup counts on, or that verify has found it damaged. Segments have their
// names from what is in them, so they can't be stored anew where they are: only on another timeline.
type logCondemnedError struct {
	Timeline manifest.Timeline
	err      error
}

func (e *logCondemnedError) Error() string {
	return fmt.Sprintf("log was condemned by a prune, or found damaged by verify: %v", e.err)
}

func (e *logCondemnedError) Unwrap() error { return e.err }

// UnreadableError says that a prune can't know what a backup needs, and so deleted nothing.
type UnreadableError struct {
	Env    string
	Backup manifest.BackupID
	Err    error
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("what backup %s of %s needs is not known, so nothing was removed: %v", e.Backup, e.Env, e.Err)
}

func (e *UnreadableError) Unwrap() error { return e.Err }

// CopiedError says that a repository was copied to where it is now: its objects are younger than what refers to them.
type CopiedError struct {
	Env    string
	Backup manifest.BackupID
}

func (e *CopiedError) Error() string {
	return fmt.Sprintf("backup %s of %s is older than the objects that it was made of: the repository was copied here, and ages in it mean nothing; nothing was removed", e.Backup, e.Env)
}

// ErrNoneUsable says that no backup of an environment can be restored, so that a prune removes none of its objects.
var ErrNoneUsable = errors.New("none of its backups can be restored as the store is; nothing was removed")

// ErrNoEnvironment says that a name to be pruned stands for nothing.
var ErrNoEnvironment = errors.New("the repository has no environment")

// NotCondemnedError says that there is nothing to undo.
type NotCondemnedError struct {
	Env string // empty: any
	ID  manifest.BackupID
	By  manifest.BackupID // ID is a backup which this prune took
}

func (e *NotCondemnedError) Error() string {
	if e.By != "" {
		return fmt.Sprintf("%s is a backup that prune %s took", e.ID, e.By)
	}
	if e.Env == "" {
		return fmt.Sprintf("no prune %s can be undone", e.ID)
	}
	return fmt.Sprintf("environment %s: no prune %s can be undone", e.Env, e.ID)
}

// TooLateError says that the grace period of a prune is over.
type TooLateError struct {
	Prune manifest.BackupID
	Until time.Time
}

func (e *TooLateError) Error() string {
	return fmt.Sprintf("prune %s could be undone until %s; what it condemned may be deleted by now", e.Prune, e.Until.UTC().Format(time.RFC3339))
}

// GoneError says that a backup to be held is not there.
type GoneError struct {
	Env    string
	Backup manifest.BackupID
	Pruned bool // a prune took it just then
}

func (e *GoneError) Error() string {
	if e.Pruned {
		return fmt.Sprintf("a prune took backup %s of %s just now", e.Backup, e.Env)
	}
	return fmt.Sprintf("there is no backup %s of %s", e.Backup, e.Env)
}

// PrunedError says that a backup to be held stands in the list of a prune that may still run, and take it in the next moment.
type PrunedError struct {
	Env    string
	Backup manifest.BackupID
	Prune  manifest.BackupID
}

func (e *PrunedError) Error() string {
	return fmt.Sprintf("prune %s, which still runs or was stopped, is about to take backup %s of %s", e.Prune, e.Backup, e.Env)
}
