package bdb

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// Replay is one stage of bringing copies of files to where the log ends: put every file where Place wants it, lay the log down up to
// Until, with the Amendments made, and run catastrophic recovery once. There is one stage unless queues with extents are renamed or removed.
//
// Recovery by itself gets there only if the log renames nothing. What goes wrong without help, all of it with exit code 0:
//
//   - Before it redoes a rename, recovery looks whether the file lies under its old name when recovery *begins*
//     (__fop_file_remove_recover, on the way backwards). If not, it takes the rename for done and skips it; but on the way forwards the
//     same record removes the file when it lies there by then. So a file made and then renamed, or renamed twice, is lost.
//   - Redo of a rename whose new name another file has by then removes the file that was to be renamed (__fop_rename_recover). That
//     happens to copies taken later than the log begins, which is the rule: a log file begins before what recovery needs of it.
//   - Undo of a rename that was aborted long ago takes a later, committed one back.
//   - Extents of queues have no metadata page, so that recovery, which compares file ids, never renames them.
//
// Cutting the log before each rename and recovering in stages repairs only the first, and not when file and rename, or two renames, belong to
// one transaction, or when a file gets back a name that it had. Of 600 random histories (six names; creates, renames, removes and writes, one
// to three to a transaction) db_recover -c of 5.3.28 got 405 wrong; stages before every committed rename, 47 of 120; this plan, none.
//
// The plan is this. Files lie under the names they had, by committed transactions, when copying began. File operations of transactions
// that were committed before that, or never, are skipped: what they did is in the copies, or must not be. All others are redone in their
// turn, for which AmendRedo takes away what misleads recovery; its own checks by file id do the rest. Only the renaming of a queue with
// extents ends a stage: what it does is then done by placing the files for the next one. Files with pages that have to be undone are
// pinned: they lie under their last name and are found under all others as well, for recovery undoes before it renames.
type Replay struct {
	Until      LSN         // the first record that is not laid down; zero: all are
	Files      []LaidFile  // what the log says about where files lie
	Amendments []Amendment // to records of the log, ascending

	byID      map[FileID]*LaidFile
	byName    map[string]*LaidFile // by every name it had, without directories
	temporary map[string]bool
}

// LaidFile says where a file has to lie when recovery begins.
type LaidFile struct {
	ID     FileID
	Name   string // as the log spells it
	Dir    string // the data directory, as DB_CONFIG spells it; empty: home, or the log does not say
	Absent bool   // it must not be there: the log makes it, or it never was
	Moved  bool   // the log renames, makes or removes it; else it lies right where it was found
	Pinned bool   // it lies under the last of its names and has to be found under the others too: see Replay.Links

	names []string // all it ever had
}

// Amendment is a change to one record of the log.
type Amendment struct {
	LSN  LSN
	Kind AmendmentKind
}

// AmendmentKind says what is changed in a record. Lengths and places stay as they are; see LogDecoder.Amend.
type AmendmentKind int

const (
	// AmendSkip makes recovery pass over the record, by the flag with which libdb marks records that are there for debugging only.
	AmendSkip AmendmentKind = iota
	// AmendRedo is for __fop_file_remove: it names a nested transaction that does not exist, so that recovery can't take the rename for done.
	AmendRedo
	// AmendMerge is for __db_merge where it moves an empty page of 64 KiB: redo would leave the page with the number of its old place.
	AmendMerge
)

// QueueError is a queue with extents that no recovery can follow, because it was made and renamed in one transaction.
type QueueError struct {
	LSN  LSN
	Name string
}

func (e *QueueError) Error() string {
	return fmt.Sprintf("queue %s, which has extents, was made and renamed in one transaction at %s: recovery can't follow that", e.Name, e.LSN)
}

// Replay plans the replay of the log added so far over copies of files that began to be taken when the log ended at begun, and that lack nothing from
// before needed: at least one stage, in order. The error is a *QueueError.
//
// Files lie under the names of needed and not of begun, if possible: what was written to a file before it was renamed may not be in the
// copy, and redo finds it by the old name only. But what the log made since needed lies under the name of begun, and is not made anew: what a
// transaction with DB_TXN_BULK put into it is in the copy only.
func (h *History) Replay(needed, begun LSN) ([]*Replay, error) {
	var stages []*Replay
	state := h.startAt(needed, begun)
	state.pinned = h.pinned(begun)
	found := &replayState{copied: begun}
	for _, cut := range h.queueMoves(state) {
		if err := cut.check(); err != nil {
			return nil, err
		}
		stages = append(stages, h.stage(state, found, cut.at))
		found = &replayState{copied: cut.at, placed: state.placed, pinned: state.pinned}
		state = state.after(cut)
	}
	stages = append(stages, h.stage(state, found, LSN{}))
	for _, p := range stages {
		p.amendMerges(h.merges, needed)
	}
	return stages, nil
}

// Skip has recovery pass over more records.
func (p *Replay) Skip(list ...LSN) {
	for _, lsn := range list {
		if p.Until.IsZero() || lsn.Before(p.Until) {
			p.Amendments = append(p.Amendments, Amendment{lsn, AmendSkip})
		}
	}
	slices.SortFunc(p.Amendments, func(a, b Amendment) int { return a.LSN.Compare(b.LSN) })
}

// amendMerges amends those that are redone.
func (p *Replay) amendMerges(merges []LSN, needed LSN) {
	for _, lsn := range merges {
		if !lsn.Before(needed) && (p.Until.IsZero() || lsn.Before(p.Until)) {
			p.Amendments = append(p.Amendments, Amendment{lsn, AmendMerge})
		}
	}
	slices.SortFunc(p.Amendments, func(a, b Amendment) int { return a.LSN.Compare(b.LSN) })
}

// replayState is the point at which files are.
type replayState struct {
	copied LSN                  // transactions committed before are in the files
	late   map[*fileLife]LSN    // for these, later ones too
	placed map[*fileChange]bool // and these changes
	pinned map[*fileLife]bool   // and all changes to these
}

// startAt is the state at needed, but for the files that were made since, which are as of begun. If their names get in the way of others, all
// are.
func (h *History) startAt(needed, begun LSN) *replayState {
	needed.Offset++ // without transactions under way a checkpoint needs the log from its last record on, which may be a commit
	if begun.Before(needed) {
		return &replayState{copied: begun}
	}
	s := &replayState{copied: needed, late: map[*fileLife]LSN{}}
	late := map[string]bool{}
	for _, f := range h.sorted() {
		if h.madeOrMoved(f, needed, begun) {
			s.late[f] = begun
			late[path.Base(f.laid(s).Name)] = true
		}
	}
	for _, f := range h.sorted() {
		if _, ok := s.late[f]; !ok && len(late) > 0 && f.hadName(late, s, begun) {
			return &replayState{copied: begun}
		}
	}
	return s
}

// madeOrMoved reports whether the file was made, or its extents were moved, between the two LSNs.
func (h *History) madeOrMoved(f *fileLife, from, to LSN) bool {
	between := func(c *fileChange) bool { return !c.commit.Before(from) && c.commit.Before(to) }
	return slices.ContainsFunc(f.changes, func(c *fileChange) bool { return c.what == changeCreate && between(c) }) ||
		slices.ContainsFunc(h.extents, func(c *fileChange) bool { return ownsExtent(f.id, c.id) && between(c) })
}

// hadName reports whether the file had one of the names at some time between the state and the LSN.
func (f *fileLife) hadName(names map[string]bool, s *replayState, until LSN) bool {
	if l := f.laid(s); !l.Absent && names[path.Base(l.Name)] {
		return true
	}
	return slices.ContainsFunc(f.changes, func(c *fileChange) bool {
		return names[path.Base(c.to)] && !s.has(c) && !c.commit.IsZero() && c.commit.Before(until)
	})
}

func (s *replayState) after(cut queueCut) *replayState {
	next := &replayState{copied: cut.at, placed: maps.Clone(s.placed), pinned: s.pinned}
	if next.placed == nil {
		next.placed = map[*fileChange]bool{}
	}
	for _, c := range cut.changes {
		next.placed[c] = true
	}
	return next
}

// has reports whether the change is in the files.
func (s *replayState) has(c *fileChange) bool {
	return s.placed[c] || !c.commit.IsZero() && c.commit.Before(s.of(c.file))
}

// of is the LSN before which transactions are in the file.
func (s *replayState) of(f *fileLife) LSN {
	if s.pinned[f] {
		return LSN{1<<32 - 1, 1<<32 - 1}
	}
	if late, ok := s.late[f]; ok {
		return late
	}
	return s.copied
}

// stage plans one stage, with the log up to until. The files are to be placed as in state, and are found as in found.
func (h *History) stage(state, found *replayState, until LSN) *Replay {
	p := &Replay{Until: until, byID: map[FileID]*LaidFile{}, byName: map[string]*LaidFile{}, temporary: h.temporary}
	for _, op := range h.ops {
		switch {
		case !until.IsZero() && !op.lsn.Before(until):
		case !op.happens(state.of(op.file), until), op.keeps():
			p.Amendments = append(p.Amendments, Amendment{op.lsn, AmendSkip})
		case op.kind == typeFileRemove:
			p.Amendments = append(p.Amendments, Amendment{op.lsn, AmendRedo})
		}
	}
	files := h.sorted()
	for _, f := range files {
		p.Files = append(p.Files, f.laid(state))
	}
	p.index(files, found)
	return p
}

// laid says where the file has to lie.
func (f *fileLife) laid(state *replayState) LaidFile {
	l := LaidFile{ID: f.id, Name: f.origin(), Moved: len(f.changes) > 0, Pinned: state.pinned[f], names: []string{f.name, f.opened}}
	for _, c := range f.changes {
		done := state.has(c)
		switch {
		case c.what == changeRemove:
			l.Absent = l.Absent || done
			continue
		case c.what == changeCreate:
			l.Absent = !done
		}
		if done || l.Dir == "" {
			l.Dir = c.dir
		}
		if done {
			l.Name = c.to
		}
		l.names = append(l.names, c.from, c.to)
	}
	return l
}

// index makes files findable by id and by name. A name that several files had belongs to the one that is found under it.
func (p *Replay) index(files []*fileLife, found *replayState) {
	for i := range p.Files {
		f := &p.Files[i]
		p.byID[f.ID] = f
		for _, name := range f.names {
			if owner := p.byName[path.Base(name)]; owner == nil || owner.Absent {
				p.byName[path.Base(name)] = f
			}
		}
	}
	for i, f := range files {
		if l := f.laid(found); !l.Absent {
			p.byName[path.Base(l.Name)] = &p.Files[i]
		}
	}
}

// Place says where a copied file has to lie: found is its path relative to the data directory in which it was found, and so is the path returned.
// id is its file id, or zero for what has none; without the password only the first 12 bytes are known, the rest zero. It says false
// for a file that must be left out.
func (p *Replay) Place(found string, id FileID) (place string, ok bool) {
	if !id.IsZero() {
		return p.find(id).placeAt(found)
	}
	if queue, number, isExtent := cutExtent(found); isExtent {
		queue, ok = p.byName[path.Base(queue)].placeAt(queue)
		dir, base := path.Split(queue)
		return dir + extentPrefix + base + "." + number, ok
	}
	return found, !p.temporary[path.Base(found)]
}

func (p *Replay) find(id FileID) *LaidFile {
	if f := p.byID[id]; f != nil {
		return f
	}
	const known = 12
	if !IsZero(id[known:]) {
		return nil
	}
	for i := range p.Files {
		if bytes.Equal(p.Files[i].ID[:known], id[:known]) {
			return &p.Files[i]
		}
	}
	return nil
}

// placeAt is Place for the file itself. A file that the log does not know stays where it was found, and so does one whose name it does not know: a
// copy that the application made of the file has its id too.
func (f *LaidFile) placeAt(found string) (place string, ok bool) {
	switch {
	case f == nil || !f.Moved || !f.isCalled(path.Base(found)):
		return found, true
	case f.Absent:
		return "", false
	}
	return f.respell(found), true
}

func (f *LaidFile) isCalled(base string) bool {
	return slices.ContainsFunc(f.names, func(name string) bool { return path.Base(name) == base })
}

// respell gives the file's name relative to the directory to which found is relative. Names in the log are relative to that, or begin further up or down:
// "data/a.db" in home is "a.db" in the data directory "data".
func (f *LaidFile) respell(found string) string {
	to := path.Clean(f.Name)
	for _, name := range f.names {
		name = path.Clean(name)
		if above, ok := strings.CutSuffix(name, found); ok && strings.HasPrefix(to, above) {
			return strings.TrimPrefix(to, above)
		}
		if below, ok := strings.CutSuffix(found, name); ok && (below == "" || strings.HasSuffix(below, "/")) {
			return below + to
		}
	}
	return path.Join(path.Dir(found), path.Base(to))
}

// cutExtent splits the path of an extent into its queue's and its number.
func cutExtent(name string) (queue, number string, ok bool) {
	dir, base := path.Split(name)
	rest, ok := strings.CutPrefix(base, extentPrefix)
	dot := strings.LastIndexByte(rest, '.')
	if !ok || dot <= 0 {
		return "", "", false
	}
	return dir + rest[:dot], rest[dot+1:], true
}
