package hotcopy

import (
	"errors"
	"fmt"

	"bdbvault/localenv/bdb"
)

// Why a directory of the environment can't be copied under its own name.
var (
	ErrAbsolute = errors.New("an absolute path")
	ErrOutside  = errors.New("it leads out of the home")
)

// DirError is a directory of the environment that has no place in the copy. Err is ErrAbsolute or ErrOutside.
type DirError struct {
	Name string // as DB_CONFIG or the caller spells it
	Log  bool   // it is the log directory
	Err  error
}

func (e *DirError) Error() string { return fmt.Sprintf("directory %s: %v", e.Name, e.Err) }
func (e *DirError) Unwrap() error { return e.Err }

// CollisionError says that two files of the environment would have one name in the copy.
type CollisionError struct{ Name, First, Second string }

func (e *CollisionError) Error() string {
	return fmt.Sprintf("%s and %s would both become %s", e.First, e.Second, e.Name)
}

// OverlapError says that the copy would lie where the environment has its files: it would be emptied.
type OverlapError struct{ Target, Dir string }

func (e *OverlapError) Error() string {
	return fmt.Sprintf("the backup directory %s is the environment's own directory %s", e.Target, e.Dir)
}

// DamageError is a database that is bad on the source's disk.
type DamageError struct {
	File  string
	Pages []bdb.PageError // the first of them
	Count int64
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%s has %d bad pages on this disk; page %d: %s", e.File, e.Count, e.Pages[0].Page, e.Pages[0].Problem)
}

// FutureError is a page that knows of log which is not there.
type FutureError struct {
	File      string
	Page, End bdb.LSN
}

func (e *FutureError) Error() string {
	return fmt.Sprintf("%s has a page of LSN %s, but the log ends at %s", e.File, e.Page, e.End)
}

// GapError says that log is missing between the copy and what is to update it. By the files' numbers, if Removed is not zero.
type GapError struct {
	Removed, Lowest uint32
	Needed          bdb.LSN // from where the copy needs the log
}

func (e *GapError) Error() string {
	if e.Needed.IsZero() {
		return fmt.Sprintf("the copy's log ends with file %d, and the log begins with file %d", e.Removed, e.Lowest)
	}
	return fmt.Sprintf("the copy needs the log from LSN %s on, and the log begins with file %d", e.Needed, e.Lowest)
}

// StrangerError says that a directory does not hold a copy of this environment, or one that somebody has changed since.
type StrangerError struct{ Dir, Problem string }

func (e *StrangerError) Error() string {
	return fmt.Sprintf("%s is no copy that this environment's log continues: %s", e.Dir, e.Problem)
}
