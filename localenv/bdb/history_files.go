package bdb

// FileState says what has become of a file.
type FileState int

const (
	// FileExists: recovery leaves the file there.
	FileExists FileState = iota
	// FileRemoved: recovery leaves no such file, because a committed transaction removed it or the one that made it did not commit.
	FileRemoved
	// FileUncertain: a transaction that is prepared, and neither committed nor aborted, did something to the file.
	FileUncertain
)

// HistoryFile is what the log added so far makes of a file, transactions that did not commit undone.
type HistoryFile struct {
	ID      FileID
	Name    string // as the log spells it: relative to its data directory, or absolute
	Dir     string // the data directory as DB_CONFIG spells it; empty: home, or the log does not say
	State   FileState
	Created LSN // its create record; zero: it existed before the log added
	Removed LSN // the record that removed it; zero: not removed, or never made
}

// Files lists the database files that the log names, by id. Temporary, in-memory and placeholder files are left out.
func (h *History) Files() []HistoryFile {
	doubt := map[FileID]bool{}
	for _, t := range h.open {
		for _, c := range t.changes {
			doubt[c.id] = doubt[c.id] || t.prepared
		}
	}
	var list []HistoryFile
	for _, f := range h.sorted() {
		e := f.now()
		if doubt[f.id] {
			e.State = FileUncertain
		}
		list = append(list, e)
	}
	return list
}

// now is the file after its committed changes.
func (f *fileLife) now() HistoryFile {
	e := HistoryFile{ID: f.id, Name: f.first, Dir: f.dir}
	if f.created {
		e.State = FileRemoved // until the commit of its create is found
	}
	for _, c := range f.changes {
		switch c.kind {
		case changeCreate:
			e.State, e.Created = FileExists, c.lsn
		case changeRemove:
			e.State, e.Removed = FileRemoved, c.lsn
		}
		if c.kind != changeRemove {
			e.Name, e.Dir = c.to, c.dir
		}
	}
	return e
}
