package bdb

import (
	"bytes"
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// History follows database files through the log by file id: who was created, renamed and removed, and whether the transactions that did
// it were committed. Records are added in log order, from any point on; those that don't concern files are passed over.
//
// It answers two questions: which files must exist, under which names, when recovery has replayed the log added so far (Files); and how a
// log and copies of the files have to be laid down so that recovery gets there (Replay).
//
// # How libdb logs file operations
//
// Whatever is done to a file is done in a nested transaction, for which a __txn_child record in its parent follows when it is through:
//
//   - create: __fop_create of a temporary name __db.<txn>.<id>, __fop_write of its first pages, __fop_rename to the real name, __txn_child;
//     then __dbreg_register with the nested transaction's id.
//   - rename: __fop_create and __fop_write of a placeholder under a temporary name, __fop_rename of the file, __fop_rename_noundo of the
//     placeholder to the old name, __txn_child; then, in the parent, __fop_file_remove with the old name and the nested transaction's id.
//     The placeholder keeps the old name taken until the commit, which removes it.
//   - remove: a rename to a temporary name, then, in the parent, __fop_remove of that. The commit removes the file.
//   - queues: the extents are renamed and removed by __fop_rename and __fop_remove records in the parent. That they are made is not logged.
//   - partitions are files like others, each with its own id. Subdatabases are pages of their file. In-memory databases have __crdel_inmem_
//     records and no file.
//   - what is done without a transaction, be it in a transactional environment, is not logged at all.
//
// An abort leaves no record behind unless the transaction was prepared: the work is undone, and nothing more of it is heard.
type History struct {
	files      map[FileID]*fileLife
	open       map[uint32]*fileTxn // transactions that did something to files and have not ended
	ops        []*fileOp           // every record of a file operation, in log order
	extents    []*fileChange       // renames and removals of queues' extents
	merges     []LSN               // records for AmendMerge
	temporary  map[string]bool     // names under which files and placeholders were made
	databases  map[uint32]FileID   // by the short numbers that other records have for them
	undone     []PageUndo          // of transactions that were aborted
	spoiled    map[FileID]bool     // files in which such transactions changed pages
	touched    map[uint32][]FileID // files of which transactions under way changed pages
	subs       map[filePage]bool   // where subdatabases begin that were open
	freed      map[filePage][]LSN  // where such a page was freed
	prepared   map[uint32]Prepared // transactions that were prepared and have not ended
	grown      []PageGroup
	cuts       []HeapCut
	start      LSN // the first record added
	unreadable bool
}

// fileOp is one record of a file operation.
type fileOp struct {
	lsn      LSN
	kind     uint32
	file     *fileLife // on whose behalf; nil: not known, of work never finished
	commit   LSN       // zero: not committed
	prepared bool
	partial  bool // of a transaction that began before the first record added
}

// happens tells whether a replay over files as of the LSN copied has to do the operation, when its log ends at until (zero: nowhere).
func (op *fileOp) happens(copied, until LSN) bool {
	if op.commit.IsZero() {
		return op.prepared
	}
	return !op.commit.Before(copied) && (until.IsZero() || op.commit.Before(until))
}

// keeps tells that the operation is the removal of a file which a prepared transaction has renamed away: recovery would remove it for good,
// although the transaction may still be aborted.
func (op *fileOp) keeps() bool { return op.prepared && op.commit.IsZero() && op.kind == typeRemove }

// fileTxn is a transaction under way.
type fileTxn struct {
	ops      []*fileOp
	changes  []*fileChange
	undos    []PageUndo
	groups   []PageGroup
	emptied  map[FileID][]HeapPage
	cuts     []HeapCut
	last     LSN // its last record
	prepared bool
	partial  bool // it began before the first record added
}

// fileChange is something that was done to a file.
type fileChange struct {
	*fileOp
	id       FileID
	what     changeKind
	from, to string
	dir      string
}

type changeKind int

const (
	changeCreate changeKind = iota
	changeRename
	changeRemove
)

// fileLife is what is known of one file.
type fileLife struct {
	id          FileID
	name        string // some name that the log has for it
	opened      string // the name under which the log first tells that it was open
	openedAt    LSN
	changes     []*fileChange // all of them, committed or not
	placeholder bool
	inMemory    bool
	called      string // the name by which it was last opened
	calledAt    LSN
	lastSeen    LSN
	lastOpen    LSN
}

// NewHistory makes a History that knows nothing yet.
func NewHistory() *History {
	return &History{
		files:     map[FileID]*fileLife{},
		open:      map[uint32]*fileTxn{},
		temporary: map[string]bool{},
		databases: map[uint32]FileID{},
		spoiled:   map[FileID]bool{},
		touched:   map[uint32][]FileID{},
		subs:      map[filePage]bool{},
		freed:     map[filePage][]LSN{},
		prepared:  map[uint32]Prepared{},
	}
}

// Unreadable reports that a record came without its body, for want of the password. Then Files and Replay know nothing.
func (h *History) Unreadable() bool { return h.unreadable }

// Add takes the next record. The only error is a *BadRecord: a body that is not what its type says.
func (h *History) Add(r *Record) error {
	if r.Body == nil {
		h.unreadable = true
		return nil
	}
	if h.start.IsZero() {
		h.start = r.LSN
	}
	switch {
	case r.Txn == 0:
	case r.PrevLSN.IsZero():
		h.abort(r.Txn) // the id is used anew, so whoever had it was aborted
	case r.PrevLSN.Before(h.start):
		h.txn(r.Txn).partial = true
	}
	h.touch(r)
	if t := h.open[r.Txn]; t != nil {
		t.last = r.LSN
	}
	if !h.take(r) {
		return &BadRecord{r.LSN, fmt.Sprintf("body is not one of type %d", r.Type)}
	}
	return nil
}

func (h *History) take(r *Record) (ok bool) {
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
	case typePageInit, typeMetasub:
		return h.addPageUndo(r)
	case typePageFree, typePageFreeData:
		return h.addPageFree(r)
	case typeHashGroup:
		return h.addPageGroup(r)
	case typeHeapTrunc:
		return h.addHeapPage(r)
	case typeHeapTruncMeta:
		return h.addHeapCut(r)
	case typeMerge:
		if _, _, ok := r.emptyPageMoved(); ok {
			h.merges = append(h.merges, r.LSN)
		}
	}
	return true
}

func (h *History) txn(id uint32) *fileTxn {
	t := h.open[id]
	if t == nil {
		t = &fileTxn{}
		h.open[id] = t
	}
	return t
}

// file finds or begins the life of a file, which the log calls name here.
func (h *History) file(id FileID, name string, at LSN) *fileLife {
	f := h.files[id]
	if f == nil {
		f = &fileLife{id: id}
		h.files[id] = f
	}
	if f.name == "" {
		f.name = name
	}
	f.lastSeen = at
	return f
}

func (h *History) addRegister(r *Record) bool {
	g, ok := r.Register()
	if !ok || g.Name == "" || g.ID.IsZero() { // no name: a temporary database
		return ok
	}
	h.databases[uint32(g.Index)] = g.ID
	if g.MetaPage != 0 {
		h.subs[filePage{g.ID, g.MetaPage}] = true
	}
	f := h.file(g.ID, g.Name, r.LSN)
	f.inMemory = f.inMemory || g.InMemory()
	// What a transaction made counts by its create record: without that, whether it went through is not known.
	t := h.open[r.Txn]
	made := t != nil && t.partial || g.CreateTxn != 0 && len(f.changes) == 0
	if g.Op != RegisterClose && g.Op != RegisterRecoveryClose && !made {
		f.lastOpen = r.LSN
		if f.openedAt.IsZero() {
			f.opened, f.openedAt = g.Name, r.LSN
		}
	}
	if g.Op == RegisterOpen || g.Op == RegisterOpenExclusive {
		f.called, f.calledAt = g.Name, r.LSN // other records have the name that the handle was opened by
	}
	return true
}

// addFileOp notes the record itself, and what it does to which file.
func (h *History) addFileOp(r *Record) (ok bool) {
	t := h.txn(r.Txn)
	op := &fileOp{lsn: r.LSN, kind: r.Type, partial: t.partial}
	t.ops = append(t.ops, op)
	h.ops = append(h.ops, op)
	switch r.Type {
	case typeCreate:
		c, ok := r.FileCreate()
		h.temporary[path.Base(c.Name)] = true
		return ok
	case typeRename:
		return h.addRename(r, t, op)
	case typeRenameNoUndo:
		n, ok := r.FileRename()
		h.file(n.ID, n.From, r.LSN).placeholder = true
		return ok
	case typeRemove:
		return h.addRemove(r, t, op)
	case typeFileRemove:
		v, ok := r.FileVacated()
		op.file = h.file(v.Real, v.Name, r.LSN)
		return ok
	}
	return true // what __fop_write says is known from the others
}

func (h *History) addRename(r *Record, t *fileTxn, op *fileOp) bool {
	n, ok := r.FileRename()
	if !ok {
		return false
	}
	c := &fileChange{fileOp: op, id: n.ID, what: changeRename, from: n.From, to: n.To, dir: n.Dir}
	if isTemporary(n.From) {
		c.what = changeCreate // under a temporary name it was no database yet
	}
	h.change(c, t)
	return true
}

func (h *History) addRemove(r *Record, t *fileTxn, op *fileOp) bool {
	m, ok := r.FileRemove()
	if !ok || m.ID.IsZero() {
		return ok
	}
	h.change(&fileChange{fileOp: op, id: m.ID, what: changeRemove, from: m.Name}, t)
	return true
}

func (h *History) change(c *fileChange, t *fileTxn) {
	t.changes = append(t.changes, c)
	if isExtent(c.from) {
		h.extents = append(h.extents, c)
		return
	}
	name := c.from
	switch c.what {
	case changeCreate:
		name = c.to
	case changeRemove:
		name = "" // a temporary one
	}
	c.file = h.file(c.id, name, c.lsn)
	c.file.changes = append(c.file.changes, c)
}

// settle gives a nested transaction's records to the file that it is about: one, whether it is made or renamed.
func (t *fileTxn) settle() {
	for _, c := range t.changes {
		for _, op := range t.ops {
			if op.file == nil {
				op.file = c.file
			}
		}
	}
}

// isTemporary tells the names under which libdb makes and removes databases: __db.<txn>.<id>, but <txn>.<id> in a folder, where it forgets the
// prefix (__db_backup_name).
func isTemporary(name string) bool {
	folder, base := path.Split(name)
	rest, ok := strings.CutPrefix(base, temporaryPrefix)
	txn, id, dot := strings.Cut(rest, ".")
	_, err := strconv.ParseUint(id, 16, 32)
	n, bad := strconv.ParseUint(txn, 16, 32)
	return ok || folder != "" && dot && err == nil && bad == nil && n > noTxn
}

// isExtent tells the files of a queue's extents.
func isExtent(name string) bool { return strings.HasPrefix(path.Base(name), extentPrefix) }

const (
	extentPrefix    = "__dbq."
	temporaryPrefix = "__db."
)

// addChild gives a nested transaction's work to its parent.
func (h *History) addChild(r *Record) bool {
	c, ok := r.Child()
	h.touchAll(r.Txn, h.touched[c.Child])
	delete(h.touched, c.Child)
	child := h.open[c.Child]
	if !ok || child == nil {
		return ok
	}
	delete(h.open, c.Child)
	child.settle()
	t := h.txn(r.Txn)
	for _, op := range child.ops {
		op.partial = t.partial
	}
	t.ops = append(t.ops, child.ops...)
	t.changes = append(t.changes, child.changes...)
	t.undos = append(t.undos, child.undos...)
	t.groups = append(t.groups, child.groups...)
	t.cuts = append(t.cuts, child.cuts...)
	return true
}

func (h *History) addPrepare(r *Record) bool {
	p, ok := r.Prepare()
	if ok {
		h.prepared[r.Txn] = newPrepared(r, p)
	}
	t := h.open[r.Txn]
	if !ok || t == nil {
		return ok
	}
	t.prepared = true
	for _, op := range t.ops {
		op.prepared = true
	}
	return true
}

func (h *History) addRecycle(r *Record) bool {
	c, ok := r.Recycle()
	for id := range h.open {
		if ok && id >= c.Min && id <= c.Max {
			h.abort(id)
		}
	}
	for id := range h.touched {
		if ok && id >= c.Min && id <= c.Max {
			h.spoil(id)
		}
	}
	return ok
}

func (h *History) addCommit(r *Record) bool {
	c, ok := r.Commit()
	if ok {
		delete(h.prepared, r.Txn)
	}
	if c.Abort {
		h.spoil(r.Txn)
	}
	delete(h.touched, r.Txn)
	t := h.open[r.Txn]
	if !ok || t == nil {
		return ok
	}
	if c.Abort {
		h.undone = append(h.undone, t.undoing()...)
	} else {
		h.grown = append(h.grown, t.groups...)
		h.cuts = append(h.cuts, t.cuts...)
	}
	delete(h.open, r.Txn)
	for _, op := range t.ops {
		op.prepared = false
		if !c.Abort {
			op.commit = r.LSN
		}
	}
	return true
}

// abort forgets a transaction of which nothing more is heard.
func (h *History) abort(id uint32) {
	h.spoil(id)
	if t := h.open[id]; t != nil {
		h.undone = append(h.undone, t.undoing()...)
	}
	delete(h.open, id)
}

// origin is the name that the file had, by committed transactions, where the log first knows it. What is left of a transaction that began before and was
// aborted does not tell: it may have given the file another name.
func (f *fileLife) origin() string {
	for _, c := range f.changes {
		if c.partial && c.commit.IsZero() || c.what == changeRemove {
			continue
		}
		if !f.openedAt.IsZero() && f.openedAt.Before(c.lsn) {
			break
		}
		if c.what == changeCreate {
			return c.to
		}
		return c.from
	}
	return cmp.Or(f.opened, f.name)
}

// sorted are the database files that are or were on disk, by id.
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
