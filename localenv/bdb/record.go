package bdb

import (
	"encoding/binary"
	"time"
)

// Record is one record of the log.
//
// All bodies of libdb's own records begin alike, with fields in the log's byte order:
//
//	0 type    4 transaction    8 previous LSN of the same transaction, 8 bytes    16 the type's own fields
//
// Strings and other variable fields ("DBT") are a length and that many bytes; names end with a NUL, which counts.
type Record struct {
	LSN     LSN
	Prev    uint32 // offset of the record before; in a file's header record, of the last one in the file before
	Len     uint32 // with its header
	Type    uint32 // 0 without Body
	Txn     uint32 // 0: none, or no Body
	PrevLSN LSN    // of the same transaction; zero: its first
	Body    []byte // whole, decrypted; not to be kept. nil: encrypted, and there is no password
	Raw     []byte // as it stands in the file, header and all; not to be kept

	order   binary.ByteOrder
	version uint32
}

// Next is the LSN just after the record.
func (r *Record) Next() LSN { return LSN{r.LSN.File, r.LSN.Offset + r.Len} }

// The record types that this package understands, as libdb's .src files number them.
const (
	typeRegister      = 2
	typeRegop         = 10
	typeCheckpoint    = 11
	typeChild         = 12
	typePrepare       = 13
	typeRecycle       = 14
	typeFirstPage     = 20 // types of access methods, whose records change pages, are below 100
	typeHashGroup     = 32 // __ham_groupalloc
	typeDebug         = 47
	typeNoop          = 48
	typePageFree      = 50
	typePageFreeData  = 52
	typePageInit      = 60
	typeEndPage       = 100
	typeFileRemove    = 141
	typeMetasub       = 142
	typeCreate        = 143
	typeRemove        = 144
	typeWrite         = 145
	typeRename        = 146
	typeRelink        = 147 // the first of those that came later
	typeMerge         = 148
	typeRenameNoUndo  = 150
	typeHeapTruncMeta = 153
	typeHeapTrunc     = 154 // the last
)

// Log versions from which records look otherwise.
const (
	versionDirname     = 15 // 4.8: __fop records carry the data directory
	versionGlobalID    = 15 // 4.8: __txn_prepare has one global id instead of an XA id
	currentLogVersion  = 19
	recordHead         = 16
	regopCommit        = 1 // TXN_COMMIT
	registerOpMask     = 0xf
	registerBigEndian  = 0x1000
	registerChecksum   = 0x2000
	registerEncryption = 0x4000
)

// OfRecovery reports whether the record is of a kind that a recovery adds to the log: checkpoints, and what goes with them.
func (r *Record) OfRecovery() bool {
	switch r.Type {
	case typeRegister, typeCheckpoint, typeRecycle, typeDebug, typeNoop:
		return true
	}
	return false
}

// Commit is a __txn_regop record: the end of a transaction. Only prepared transactions log their abort.
type Commit struct {
	LSN   LSN
	Txn   uint32
	Time  time.Time // UTC, whole seconds
	Abort bool
}

// Commit decodes a __txn_regop record.
func (r *Record) Commit() (Commit, bool) {
	f, ok := r.fields(typeRegop)
	if !ok {
		return Commit{}, false
	}
	op, at := f.u32(), f.u32()
	return Commit{LSN: r.LSN, Txn: r.Txn, Time: unixTime(at), Abort: op != regopCommit}, f.ok()
}

// Checkpoint is a __txn_ckp record.
type Checkpoint struct {
	LSN     LSN
	CkpLSN  LSN // everything before it is in the files: recovery needs the log from there on
	LastCkp LSN // the checkpoint before; zero: none
	Time    time.Time
}

// Checkpoint decodes a __txn_ckp record.
func (r *Record) Checkpoint() (Checkpoint, bool) {
	f, ok := r.fields(typeCheckpoint)
	if !ok {
		return Checkpoint{}, false
	}
	c := Checkpoint{LSN: r.LSN, CkpLSN: f.lsn(), LastCkp: f.lsn(), Time: unixTime(f.u32())}
	return c, f.ok()
}

// Child is a __txn_child record: a nested transaction ended well. Its fate is from then on that of its parent, the record's own transaction.
type Child struct {
	Child uint32
	Last  LSN // the child's last record
}

// Child decodes a __txn_child record.
func (r *Record) Child() (Child, bool) {
	f, ok := r.fields(typeChild)
	if !ok {
		return Child{}, false
	}
	c := Child{Child: f.u32(), Last: f.lsn()}
	return c, f.ok()
}

// Prepare is a __txn_prepare record: the first half of a two-phase commit. Recovery leaves such a transaction in doubt.
type Prepare struct {
	GlobalID []byte // as the application gave it, 128 bytes (before release 4.8 an XA id)
	Begin    LSN    // the transaction's first record
}

// Prepare decodes a __txn_prepare record.
func (r *Record) Prepare() (Prepare, bool) {
	f, ok := r.fields(typePrepare)
	if !ok {
		return Prepare{}, false
	}
	f.u32() // opcode
	id := f.dbt()
	if r.logVersion() < versionGlobalID {
		f.u32() // format, gtrid and bqual of the XA id
		f.u32()
		f.u32()
	}
	return Prepare{GlobalID: id, Begin: f.lsn()}, f.ok()
}

// Recycle is a __txn_recycle record: transaction ids from Min to Max are given out anew.
type Recycle struct{ Min, Max uint32 }

// Recycle decodes a __txn_recycle record.
func (r *Record) Recycle() (Recycle, bool) {
	f, ok := r.fields(typeRecycle)
	if !ok {
		return Recycle{}, false
	}
	c := Recycle{Min: f.u32(), Max: f.u32()}
	return c, f.ok()
}

// ChangesPages reports whether the record is about the content of a database, and not about files, transactions or checkpoints.
func (r *Record) ChangesPages() bool {
	switch t := r.Type; {
	case t == typeDebug, t == typeNoop, t == typeRenameNoUndo:
		return false
	default:
		return t >= typeFirstPage && t < typeEndPage || t == typeMetasub || t >= typeRelink && t <= typeHeapTrunc
	}
}

func unixTime(seconds uint32) time.Time { return time.Unix(int64(seconds), 0).UTC() }

func (r *Record) logVersion() uint32 {
	if r.version == 0 {
		return currentLogVersion
	}
	return r.version
}

// fields begins reading the type's own fields, if the record is of the type and its body is there.
func (r *Record) fields(kind uint32) (fieldReader, bool) {
	if r.Type != kind || len(r.Body) < recordHead {
		return fieldReader{}, false
	}
	order := r.order
	if order == nil {
		order = binary.LittleEndian
	}
	return fieldReader{rest: r.Body[recordHead:], order: order}, true
}

// fieldReader reads fields one after the other; after one that is not there it only gives zeros.
type fieldReader struct {
	rest  []byte
	order binary.ByteOrder
	short bool
}

func (f *fieldReader) ok() bool { return !f.short }

func (f *fieldReader) take(n uint32) []byte {
	if f.short || uint64(n) > uint64(len(f.rest)) {
		f.short = true
		return nil
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fieldReader) u32() uint32 {
	if b := f.take(4); b != nil {
		return f.order.Uint32(b)
	}
	return 0
}

func (f *fieldReader) lsn() LSN {
	file := f.u32()
	return LSN{file, f.u32()}
}

// dbt reads a length and that many bytes, which stay where they are.
func (f *fieldReader) dbt() []byte { return f.take(f.u32()) }

// name reads a NUL-terminated string; an absent one is empty.
func (f *fieldReader) name() string {
	b := f.dbt()
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// fileID reads a file id; an absent one is zero.
func (f *fieldReader) fileID() (id FileID) {
	b := f.dbt()
	if len(b) != len(id) && len(b) != 0 {
		f.short = true
		return FileID{}
	}
	copy(id[:], b)
	return id
}
