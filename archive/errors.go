package archive

import (
	"errors"
	"fmt"
	"strings"

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

// lostError carries packs and maps that a backup counted on and that the store does not have as they were stored, or that a prune has
// condemned.
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

// logCondemnedError says that a prune has condemned log which the backup counts on. Segments have their names from what is in them, so they can't be
// stored anew where they are: only on another timeline.
type logCondemnedError struct {
	Timeline manifest.Timeline
	err      error
}

func (e *logCondemnedError) Error() string {
	return fmt.Sprintf("log was condemned by a prune: %v", e.err)
}

func (e *logCondemnedError) Unwrap() error { return e.err }
