package bdb

// Replay says how to lay down a log and older copies of files so that catastrophic recovery brings the files to where the log ends.
type Replay struct {
	Files      []LaidFile  // files that must not just lie where they were found
	Amendments []Amendment // changes to records of the log, ascending
}

// LaidFile says where a file has to lie when recovery begins.
type LaidFile struct {
	ID     FileID
	Name   string // as the log spells it
	Dir    string // the data directory, as DB_CONFIG spells it; empty: home, or the log does not say
	Absent bool   // it must not be there: the log makes it, or it never was
}

// Amendment is a change to one record of the log.
type Amendment struct {
	LSN  LSN
	Kind AmendmentKind
}

// AmendmentKind says what is changed in a record.
type AmendmentKind int

const (
	// AmendSkip makes recovery pass over the record, by the flag with which libdb marks records that serve debugging only.
	AmendSkip AmendmentKind = iota
	// AmendRedo is for __fop_file_remove: it names a nested transaction that does not exist, so that recovery can't come to think of the
	// rename as done.
	AmendRedo
)

// Replay plans the replay of the log added so far over copies of files that were found at or after the LSN copied.
func (h *History) Replay(copied LSN) Replay {
	var p Replay
	for _, op := range h.ops {
		happens := op.prepared || !op.commit.IsZero() && !op.commit.Before(copied)
		switch {
		case !happens:
			p.Amendments = append(p.Amendments, Amendment{op.lsn, AmendSkip})
		case op.kind == typeFileRemove:
			p.Amendments = append(p.Amendments, Amendment{op.lsn, AmendRedo})
		}
	}
	for _, f := range h.sorted() {
		if laid, ok := f.laid(copied); ok {
			p.Files = append(p.Files, laid)
		}
	}
	return p
}

// laid says where the file has to lie, if the log has anything to say about it.
func (f *fileLife) laid(copied LSN) (LaidFile, bool) {
	laid := LaidFile{ID: f.id, Name: f.first, Dir: f.dir, Absent: f.created}
	for _, c := range f.changes {
		if !c.commit.Before(copied) {
			break
		}
		laid.Absent = c.kind == changeRemove
		if c.kind != changeRemove {
			laid.Name, laid.Dir = c.to, c.dir
		}
	}
	return laid, true
}
