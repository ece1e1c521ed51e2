package bdb

import (
	"bytes"
	"fmt"
	"slices"
)

// History follows database files through the log by file id: who was created, renamed and removed, and whether the transactions that did
// it were committed. Records are added in log order, from any point on; what does not concern files is passed over at no cost.
//
// It answers two questions: which files must exist, under which names, when recovery has replayed the log added so far (Files); and how a log
// and older copies of the files have to be laid down so that recovery gets there (Replay).
//
// # How libdb logs file operations
//
// All in 5.3.28, seen with db_printlog. Whatever is done to a file is done in a nested transaction, which gets a __txn_child record in its
// parent when it is through:
//
//   - create: __fop_create of a temporary name __db.<txn>.<id>, __fop_write of its first pages, __fop_rename to the real name, __txn_child;
//     then __dbreg_register with the nested transaction's id.
//   - rename: __fop_create and __fop_write of a placeholder under a temporary name, __fop_rename of the file, __fop_rename_noundo of the
//     placeholder to the old name, __txn_child; then, in the parent, __fop_file_remove, which names the old name and the nested
//     transaction. The placeholder keeps the old name taken until the commit, which removes it.
//   - remove: a rename to a temporary name, then __fop_remove of that in the parent. The commit removes the file.
//   - subdatabases are made, renamed and removed in pages of their file. In-memory databases have __crdel_inmem_ records and no file.
//   - without a transaction (the handle, not the environment decides) nothing is logged at all.
//
// An abort leaves no record behind unless the transaction was prepared: the work is undone, and nothing follows.
type History struct {
	files      map[FileID]*fileLife
	open       map[uint32]*fileTxn // transactions that did something to files and have not ended
	ops        []*fileOp           // every record of a file operation, in log order
	last       LSN
	unreadable bool
}

// fileOp is one record of a file operation.
type fileOp struct {
	lsn      LSN
	kind     uint32
	commit   LSN // zero: not committed
	prepared bool
}

// fileTxn is a transaction under way.
type fileTxn struct {
	ops      []*fileOp
	changes  []fileChange
	making   map[string]bool // temporary names of files being made
	prepared bool
}

// fileChange is something that a transaction did to a file.
type fileChange struct {
	id       FileID
	kind     changeKind
	lsn      LSN
	from, to string
	dir      string
}

type changeKind int

const (
	changeCreate changeKind = iota
	changeRename
	changeRemove
)

// committedChange is one that counts.
type committedChange struct {
	fileChange
	commit LSN
}

// fileLife is what is known of one file.
type fileLife struct {
	id          FileID
	first       string // the name by which the log first knows it
	dir         string
	changes     []committedChange
	inMemory    bool
	placeholder bool
	created     bool // within the log added, committed or not
	registered  bool
	firstSeen   LSN
	lastSeen    LSN
	lastOpen    LSN
}

// NewHistory makes a History that knows nothing yet.
func NewHistory() *History {
	return &History{files: map[FileID]*fileLife{}, open: map[uint32]*fileTxn{}}
}

// Unreadable reports that a record had no body, for want of the password. Then Files and Replay know nothing.
func (h *History) Unreadable() bool { return h.unreadable }

// Add takes the next record. Only a record of a known type that can't be decoded is an error.
func (h *History) Add(r *Record) error {
	h.last = r.LSN
	if r.Body == nil {
		h.unreadable = true
		return nil
	}
	if r.PrevLSN.IsZero() && r.Txn != 0 && len(h.open) > 0 {
		delete(h.open, r.Txn) // the id is used anew, so whoever had it was aborted
	}
	if ok := h.take(r); !ok {
		return &BadRecord{r.LSN, fmt.Sprintf("body of type %d can't be decoded", r.Type)}
	}
	return nil
}

func (h *History) take(r *Record) bool {
	switch r.Type {
	case typeRegister:
		return h.addRegister(r)
	case typeRegop:
		return h.addCommit(r)
	case typeChild:
		return h.addChild(r)
	case typePrepare:
		return h.addPrepare(r)
	case typeRecycle:
		return h.addRecycle(r)
	case typeCreate, typeWrite, typeRename, typeRenameNoUndo, typeRemove, typeFileRemove:
		return h.addFileOp(r)
	}
	return true
}

func (h *History) txn(id uint32) *fileTxn {
	t := h.open[id]
	if t == nil {
		t = &fileTxn{making: map[string]bool{}}
		h.open[id] = t
	}
	return t
}

// file finds or begins the life of a file, which the log calls name here.
func (h *History) file(id FileID, name string, at LSN) *fileLife {
	f := h.files[id]
	if f == nil {
		f = &fileLife{id: id, first: name, firstSeen: at}
		h.files[id] = f
	}
	f.lastSeen = at
	return f
}

func (h *History) addRegister(r *Record) bool {
	g, ok := r.Register()
	if !ok {
		return false
	}
	if g.Name == "" || g.ID.IsZero() {
		return true // temporary
	}
	f := h.file(g.ID, g.Name, r.LSN)
	f.registered = true
	f.inMemory = f.inMemory || g.InMemory()
	if g.Op != RegisterClose && g.Op != RegisterRecoveryClose {
		f.lastOpen = r.LSN
	}
	return true
}

// addFileOp notes the record itself, and what it does to which file.
func (h *History) addFileOp(r *Record) bool {
	t := h.txn(r.Txn)
	op := &fileOp{lsn: r.LSN, kind: r.Type}
	t.ops = append(t.ops, op)
	h.ops = append(h.ops, op)
	switch r.Type {
	case typeCreate:
		c, ok := r.FileCreate()
		t.making[c.Name] = true
		return ok
	case typeRename:
		return h.addRename(r, t)
	case typeRenameNoUndo:
		n, ok := r.FileRename()
		h.file(n.ID, n.From, r.LSN).placeholder = true
		return ok
	case typeRemove:
		return h.addRemove(r, t)
	}
	return true // __fop_write, __fop_file_remove: what they say is known from the others
}

func (h *History) addRename(r *Record, t *fileTxn) bool {
	n, ok := r.FileRename()
	if !ok {
		return false
	}
	change := fileChange{id: n.ID, kind: changeRename, lsn: r.LSN, from: n.From, to: n.To, dir: n.Dir}
	if t.making[n.From] {
		delete(t.making, n.From)
		change.kind = changeCreate
		h.file(n.ID, n.To, r.LSN).created = true
	}
	f := h.file(n.ID, n.From, r.LSN)
	f.dir = n.Dir
	t.changes = append(t.changes, change)
	return true
}

func (h *History) addRemove(r *Record, t *fileTxn) bool {
	m, ok := r.FileRemove()
	if !ok {
		return false
	}
	if !m.ID.IsZero() {
		h.file(m.ID, m.Name, r.LSN)
		t.changes = append(t.changes, fileChange{id: m.ID, kind: changeRemove, lsn: r.LSN, from: m.Name})
	}
	return true
}

// addChild gives a nested transaction's work to its parent.
func (h *History) addChild(r *Record) bool {
	c, ok := r.Child()
	if !ok {
		return false
	}
	child := h.open[c.Child]
	if child == nil {
		return true
	}
	delete(h.open, c.Child)
	t := h.txn(r.Txn)
	t.ops = append(t.ops, child.ops...)
	t.changes = append(t.changes, child.changes...)
	return true
}

func (h *History) addPrepare(r *Record) bool {
	_, ok := r.Prepare()
	if t := h.open[r.Txn]; ok && t != nil {
		t.prepared = true
		for _, op := range t.ops {
			op.prepared = true
		}
	}
	return ok
}

func (h *History) addRecycle(r *Record) bool {
	c, ok := r.Recycle()
	for id := range h.open {
		if ok && id >= c.Min && id <= c.Max {
			delete(h.open, id)
		}
	}
	return ok
}

func (h *History) addCommit(r *Record) bool {
	c, ok := r.Commit()
	if !ok {
		return false
	}
	t := h.open[r.Txn]
	if t == nil {
		return true
	}
	delete(h.open, r.Txn)
	for _, op := range t.ops {
		op.prepared = false
		if !c.Abort {
			op.commit = r.LSN
		}
	}
	if c.Abort {
		return true
	}
	for _, change := range t.changes {
		f := h.files[change.id]
		f.changes = append(f.changes, committedChange{change, r.LSN})
	}
	return true
}

// sorted are the files that are or were real database files, by id.
func (h *History) sorted() []*fileLife {
	var files []*fileLife
	for _, f := range h.files {
		if !f.inMemory && !f.placeholder {
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(a, b *fileLife) int { return bytes.Compare(a.id[:], b.id[:]) })
	return files
}
