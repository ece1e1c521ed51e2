package bdb

import "bytes"

// RegisterOp says why a __dbreg_register record was written.
type RegisterOp uint32

// The operations of __dbreg_register (DBREG_* in dbinc/log.h).
const (
	RegisterCheckpoint      RegisterOp = 1 // the file was open at a checkpoint
	RegisterClose           RegisterOp = 2
	RegisterOpen            RegisterOp = 3
	RegisterPreopen         RegisterOp = 4
	RegisterRecoveryClose   RegisterOp = 5 // closed at the end of recovery
	RegisterReopen          RegisterOp = 6 // in-memory database
	RegisterCheckpointExcl  RegisterOp = 7
	RegisterOpenExclusive   RegisterOp = 8
	RegisterReopenExclusive RegisterOp = 9 // in-memory database
)

// Register is a __dbreg_register record: it binds the short number by which other records name a database to a file.
type Register struct {
	Op        RegisterOp
	Name      string // as the application opened it; empty: a temporary database
	ID        FileID
	Index     int32  // the short number
	Type      uint32 // DBTYPE: 1 btree, 2 hash, 3 recno, 4 queue, 5 unknown, 6 heap
	MetaPage  uint32 // 0, or where a subdatabase begins
	CreateTxn uint32 // the transaction, a nested one, that made the file; 0: it was there
	BigEndian bool
	Checksum  bool
	Encrypted bool
}

// InMemory reports whether the record is about a database without a file. Where the operation does not tell, the id does: libdb makes it of
// four random bytes and the beginning of the name.
func (g *Register) InMemory() bool {
	switch {
	case g.Name == "", g.Op == RegisterPreopen, g.Op == RegisterReopen, g.Op == RegisterReopenExclusive:
		return true
	}
	var id FileID
	copy(id[4:], g.Name)
	return bytes.Equal(id[4:], g.ID[4:])
}

// Register decodes a __dbreg_register record.
func (r *Record) Register() (Register, bool) {
	f, ok := r.fields(typeRegister)
	if !ok {
		return Register{}, false
	}
	op := f.u32()
	g := Register{
		Op:        RegisterOp(op & registerOpMask),
		BigEndian: op&registerBigEndian != 0,
		Checksum:  op&registerChecksum != 0,
		Encrypted: op&registerEncryption != 0,
		Name:      f.name(),
		ID:        f.fileID(),
		Index:     int32(f.u32()),
		Type:      f.u32(),
		MetaPage:  f.u32(),
		CreateTxn: f.u32(),
	}
	return g, f.ok()
}

// FileName is where an __fop record looks for a file: below a data directory, unless the name is absolute.
type FileName struct {
	Name string
	Dir  string // the data directory, as DB_CONFIG spelled it; empty: home, or the record does not say
	App  uint32 // APPNAME: 1 data file
}

// AppData is the FileName.App of databases.
const AppData = 1

// FileCreate is an __fop_create record.
type FileCreate struct {
	FileName
	Mode uint32
}

// FileCreate decodes an __fop_create record.
func (r *Record) FileCreate() (FileCreate, bool) {
	f, ok := r.fields(typeCreate)
	if !ok {
		return FileCreate{}, false
	}
	c := FileCreate{FileName: FileName{Name: f.name(), Dir: f.dirname(r)}}
	c.App, c.Mode = f.u32(), f.u32()
	return c, f.ok()
}

// FileWrite is an __fop_write record: bytes written to a file that is being made.
type FileWrite struct {
	FileName
	PageSize, Page, Offset uint32
	Data                   []byte // part of the record's Body
}

// FileWrite decodes an __fop_write record.
func (r *Record) FileWrite() (FileWrite, bool) {
	f, ok := r.fields(typeWrite)
	if !ok {
		return FileWrite{}, false
	}
	w := FileWrite{FileName: FileName{Name: f.name(), Dir: f.dirname(r)}}
	w.App = f.u32()
	w.PageSize, w.Page, w.Offset = f.u32(), f.u32(), f.u32()
	w.Data = f.dbt()
	return w, f.ok()
}

// FileRename is an __fop_rename or __fop_rename_noundo record.
type FileRename struct {
	From, To string
	Dir      string
	ID       FileID
	App      uint32
	NoUndo   bool // a placeholder goes to the name that became free; recovery does not take it back
}

// FileRename decodes an __fop_rename or __fop_rename_noundo record.
func (r *Record) FileRename() (FileRename, bool) {
	f, ok := r.fields(typeRename)
	if !ok {
		if f, ok = r.fields(typeRenameNoUndo); !ok {
			return FileRename{}, false
		}
	}
	n := FileRename{From: f.name(), To: f.name(), Dir: f.dirname(r), ID: f.fileID(), NoUndo: r.Type == typeRenameNoUndo}
	n.App = f.u32()
	return n, f.ok()
}

// FileRemove is an __fop_remove record: the file goes when the transaction commits.
type FileRemove struct {
	Name string
	ID   FileID // zero: not known
	App  uint32
}

// FileRemove decodes an __fop_remove record.
func (r *Record) FileRemove() (FileRemove, bool) {
	f, ok := r.fields(typeRemove)
	if !ok {
		return FileRemove{}, false
	}
	m := FileRemove{Name: f.name(), ID: f.fileID(), App: f.u32()}
	return m, f.ok()
}

// FileVacated is an __fop_file_remove record. In spite of that name it ends every rename, the one inside a remove too: the nested
// transaction Child moved the file Real away from Name and left the placeholder there, which goes when the transaction commits.
type FileVacated struct {
	Real, Placeholder FileID
	Name              string
	App               uint32
	Child             uint32
}

// FileVacated decodes an __fop_file_remove record.
func (r *Record) FileVacated() (FileVacated, bool) {
	f, ok := r.fields(typeFileRemove)
	if !ok {
		return FileVacated{}, false
	}
	v := FileVacated{Real: f.fileID(), Placeholder: f.fileID(), Name: f.name(), App: f.u32(), Child: f.u32()}
	return v, f.ok()
}

// dirname reads the data directory, which older logs don't have.
func (f *fieldReader) dirname(r *Record) string {
	if r.logVersion() < versionDirname {
		return ""
	}
	return f.name()
}
