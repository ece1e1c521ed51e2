package bdb

import (
	"path"
	"slices"
)

// FileState says what the log makes of a file.
type FileState string

const (
	FileExists  FileState = "exists"
	FileRemoved FileState = "removed"
	FileUndone  FileState = "undone"   // made by a transaction that was never committed: must not be there
	FileInDoubt FileState = "in doubt" // a prepared transaction made, renamed or removed it
)

// HistoryFile is a database file as it must be when recovery has replayed the log.
type HistoryFile struct {
	ID       FileID
	State    FileState
	Name     string // as the log spells it: relative to a data directory, or absolute. Of a file that is gone: the last it had. A name that it got without a transaction counts if it was opened under it
	Dir      string // the data directory, as DB_CONFIG spells it; empty: home, or the log does not say
	Created  LSN    // where it was made; zero: it was there before the log added
	Removed  LSN
	Renames  []HistoryRename // those that were committed
	LastOpen LSN             // the last record that tells that it was open
	LastSeen LSN             // the last record that names it

	createdBy  LSN // the commit
	lastChange LSN
}

// HistoryRename is a committed rename of a file.
type HistoryRename struct {
	LSN      LSN
	From, To string
}

// Remade reports that the log makes the file, over copies that were begun at the LSN copied: a backup need not have it.
func (f *HistoryFile) Remade(copied LSN) bool {
	return !f.createdBy.IsZero() && !f.createdBy.Before(copied)
}

// CreatedBy is the commit of the transaction that made the file; zero: none did, or it is not in the log added.
func (f *HistoryFile) CreatedBy() LSN { return f.createdBy }

// Files are the files that the log added so far knows, by id, as recovery must leave them: what transactions did that were not committed is
// undone. The log does not know of files that were removed without a transaction.
//
// Not among them are files of which the log knows no more than that they were closed, or what transactions did to them that had begun before the log added and
// were not committed: such a transaction may have made the file too, and then it is gone.
func (h *History) Files() []HistoryFile {
	var files []HistoryFile
	for _, f := range h.sorted() {
		if f.isKnown() {
			files = append(files, f.outcome())
		}
	}
	return files
}

func (f *fileLife) isKnown() bool {
	return !f.lastOpen.IsZero() || slices.ContainsFunc(f.changes, func(c *fileChange) bool { return !c.partial || !c.commit.IsZero() })
}

func (f *fileLife) outcome() HistoryFile {
	o := HistoryFile{ID: f.id, State: FileExists, Name: f.origin(), LastOpen: f.lastOpen, LastSeen: f.lastSeen}
	doubt := false
	pending := map[string]bool{}
	for _, c := range f.changes {
		if c.what == changeCreate {
			o.Created, o.State = c.lsn, FileUndone
		}
		doubt = doubt || c.prepared
		if c.commit.IsZero() {
			pending[path.Base(c.to)] = true
		} else {
			o.apply(c)
		}
	}
	if o.lastChange.Before(f.calledAt) && !pending[path.Base(f.called)] && path.Base(f.called) != path.Base(o.Name) {
		o.Name = f.called
	}
	if doubt {
		o.State = FileInDoubt
	}
	return o
}

func (o *HistoryFile) apply(c *fileChange) {
	o.lastChange = c.commit
	switch c.what {
	case changeCreate:
		o.State, o.createdBy = FileExists, c.commit
		o.Name, o.Dir = c.to, c.dir
	case changeRename:
		o.Renames = append(o.Renames, HistoryRename{c.lsn, c.from, c.to})
		o.Name, o.Dir = c.to, c.dir
	case changeRemove:
		o.State, o.Removed = FileRemoved, c.lsn
		if n := len(o.Renames); n > 0 { // to the temporary name: part of the removal
			o.Name = o.Renames[n-1].From
			o.Renames = o.Renames[:n-1]
		}
	}
}
