package bdb

import (
	"encoding/binary"
	"reflect"
	"testing"
)

// decodeOne writes one record in a log of that version and reads it back.
func decodeOne(t *testing.T, version uint32, kind uint32, fields ...any) *Record {
	t.Helper()
	w := newLogWriter(binary.LittleEndian, version, nil)
	w.record(kind, 0x80000009, LSN{1, 28}, fields...)
	var found *Record
	_ = walkLog(w.buf, nil, func(_ *LogDecoder, r *Record) { c := *r; found = &c })
	if found == nil || found.Txn != 0x80000009 || found.PrevLSN != (LSN{1, 28}) {
		t.Fatalf("type %d: %+v", kind, found)
	}
	return found
}

func TestRecordBodies(t *testing.T) {
	id, other := FileID{7}, FileID{8}
	same := func(got any, ok bool, want any) {
		t.Helper()
		if !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v; want %+v", got, ok, want)
		}
	}
	for _, version := range []uint32{19, 14} { // 14: before records had data directories
		var dir []any
		where := ""
		if version >= versionDirname {
			dir, where = []any{"data"}, "data"
		}
		with := func(before []any, after ...any) []any { return append(append(before, dir...), after...) }
		r := decodeOne(t, version, typeCreate, with([]any{"a.db"}, uint32(AppData), uint32(0o644))...)
		create, ok := r.FileCreate()
		same(create, ok, FileCreate{FileName{"a.db", where, AppData}, 0o644})
		r = decodeOne(t, version, typeWrite, with([]any{"a.db"}, uint32(AppData), uint32(512), uint32(1), uint32(0), []byte("page"), uint32(1))...)
		write, ok := r.FileWrite()
		same(write, ok, FileWrite{FileName{"a.db", where, AppData}, 512, 1, 0, []byte("page")})
		r = decodeOne(t, version, typeRenameNoUndo, with([]any{"a.db", "b.db"}, id, uint32(AppData))...)
		rename, ok := r.FileRename()
		same(rename, ok, FileRename{"a.db", "b.db", where, id, AppData, true})
	}
	r := decodeOne(t, 19, typeRemove, "a.db", id, uint32(AppData))
	remove, ok := r.FileRemove()
	same(remove, ok, FileRemove{"a.db", id, AppData})
	r = decodeOne(t, 19, typeFileRemove, id, other, "a.db", uint32(AppData), uint32(0x80000005))
	vacated, ok := r.FileVacated()
	same(vacated, ok, FileVacated{id, other, "a.db", AppData, 0x80000005})
	r = decodeOne(t, 19, typeChild, uint32(0x80000005), LSN{2, 3})
	child, ok := r.Child()
	same(child, ok, Child{0x80000005, LSN{2, 3}})
	r = decodeOne(t, 19, typeRecycle, uint32(1), uint32(2))
	recycle, ok := r.Recycle()
	same(recycle, ok, Recycle{1, 2})
	r = decodeOne(t, 19, typePrepare, uint32(2), []byte("global id"), LSN{4, 5}, []byte{})
	prepare, ok := r.Prepare()
	same(prepare, ok, Prepare{[]byte("global id"), LSN{4, 5}})
	r = decodeOne(t, 14, typePrepare, uint32(2), []byte("xid"), uint32(1), uint32(2), uint32(3), LSN{4, 5}, []byte{})
	prepare, ok = r.Prepare()
	same(prepare, ok, Prepare{[]byte("xid"), LSN{4, 5}})
	if _, ok := r.Commit(); ok {
		t.Error("a prepare is a commit")
	}
}

func TestInMemory(t *testing.T) {
	named := Register{Op: RegisterCheckpoint, Name: "inmem", ID: FileID{1, 2, 3, 4, 'i', 'n', 'm', 'e', 'm'}}
	file := Register{Op: RegisterCheckpoint, Name: "a.db", ID: FileID{1, 2, 3, 4, 5}}
	if !named.InMemory() || file.InMemory() || !(&Register{Op: RegisterOpen}).InMemory() {
		t.Error("in-memory databases and files are mixed up")
	}
}

// FuzzRecord: no body makes anything panic, and all names and files come out of the body's own bytes.
func FuzzRecord(f *testing.F) {
	w := smallLog(binary.LittleEndian, 19, nil)
	w.record(typeCreate, 1, LSN{}, "a", "d", uint32(1), uint32(2))
	w.record(typeRename, 1, LSN{1, 1}, "a", "b", "d", FileID{1}, uint32(1))
	w.record(typeFileRemove, 1, LSN{1, 1}, FileID{1}, FileID{2}, "a", uint32(1), uint32(3))
	w.record(typePrepare, 1, LSN{1, 1}, uint32(2), []byte("gid"), LSN{}, []byte{})
	_ = walkLog(w.buf, nil, func(_ *LogDecoder, r *Record) {
		f.Add(r.Type, r.Txn, r.Body[min(recordHead, len(r.Body)):], uint32(19))
	})
	f.Fuzz(func(t *testing.T, kind, txn uint32, rest []byte, version uint32) {
		w := newLogWriter(binary.LittleEndian, version, nil)
		w.put(append(w.words(kind, txn, 0, 0), rest...))
		h := NewHistory()
		err := walkLog(w.buf, nil, func(_ *LogDecoder, r *Record) {
			r.Commit()
			r.Checkpoint()
			if c, ok := r.FileCreate(); ok && len(c.Name)+len(c.Dir) > len(rest) {
				t.Error("names longer than the record")
			}
			_ = h.Add(r)
		})
		if err == nil {
			t.Error("a log without end")
		}
		h.Files()
		_, _ = h.Replay(LSN{}, LSN{2, 0})
	})
}
