package bdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// fileLog writes the records that libdb writes for what is done to files.
type fileLog struct {
	*logWriter
	t    *testing.T
	last map[uint32]LSN // of each transaction
	next uint32
}

func newFileLog(t *testing.T) *fileLog {
	return &fileLog{logWriter: newLogWriter(binary.LittleEndian, 19, nil), t: t, last: map[uint32]LSN{}, next: 0x80000001}
}

func (l *fileLog) begin() uint32 {
	l.next++
	return l.next
}

func (l *fileLog) log(txn, kind uint32, fields ...any) LSN {
	at := l.record(kind, txn, l.last[txn], fields...)
	l.last[txn] = at
	return at
}

func (l *fileLog) commit(txn uint32) LSN {
	return l.log(txn, typeRegop, uint32(regopCommit), uint32(0), uint32(0), []byte{})
}

func (l *fileLog) child(txn, child uint32) { l.log(txn, typeChild, child, l.last[child]) }

func (l *fileLog) create(txn uint32, name string, id FileID) {
	child := l.begin()
	tmp := fmt.Sprintf("__db.%x.%x", txn, child)
	l.log(child, typeCreate, tmp, "", uint32(AppData), uint32(0o600))
	l.log(child, typeWrite, tmp, "", uint32(AppData), uint32(512), uint32(0), uint32(0), make([]byte, 512), uint32(1))
	l.log(child, typeRename, tmp, name, "", id, uint32(AppData))
	l.child(txn, child)
	l.log(txn, typeRegister, uint32(RegisterOpen), name, id, uint32(0), uint32(1), uint32(0), child)
}

func (l *fileLog) rename(txn uint32, from, to string, id FileID) {
	child := l.begin()
	tmp, placeholder := fmt.Sprintf("__db.%x.%x", child, child), FileID{0: 0xff, 1: byte(child)}
	l.log(child, typeCreate, tmp, "", uint32(AppData), uint32(0o600))
	l.log(child, typeWrite, tmp, "", uint32(AppData), uint32(0), uint32(0), uint32(0), make([]byte, 512), uint32(1))
	l.log(child, typeRename, from, to, "", id, uint32(AppData))
	l.log(child, typeRenameNoUndo, tmp, from, "", placeholder, uint32(AppData))
	l.child(txn, child)
	l.log(txn, typeFileRemove, id, placeholder, from, uint32(AppData), child)
}

func (l *fileLog) remove(txn uint32, name string, id FileID) {
	tmp := fmt.Sprintf("__db.%x.%x", txn, l.begin())
	l.rename(txn, name, tmp, id)
	l.log(txn, typeRemove, tmp, id, uint32(AppData))
}

func (l *fileLog) end() LSN { return LSN{1, uint32(len(l.buf))} }

func (l *fileLog) history() *History {
	h := NewHistory()
	err := walkLog(l.buf, nil, func(_ *LogDecoder, r *Record) {
		if err := h.Add(r); err != nil {
			l.t.Fatal(err)
		}
	})
	if !errors.Is(err, ErrShortRecord) {
		l.t.Fatal(err)
	}
	return h
}

// outcome is what Files says of each file, by the first byte of its id.
func outcome(h *History) map[byte]string {
	got := map[byte]string{}
	for _, f := range h.Files() {
		got[f.ID[0]] = fmt.Sprint(f.State, " ", f.Name)
	}
	return got
}

func TestHistoryFiles(t *testing.T) {
	l := newFileLog(t)
	l.record(typeRegister, 0, LSN{}, uint32(RegisterCheckpoint), "old.db", FileID{1}, uint32(0), uint32(1), uint32(0), uint32(0))
	txn := l.begin()
	l.create(txn, "made.db", FileID{2})
	l.rename(txn, "made.db", "swapped.db", FileID{2})
	l.commit(txn)
	txn = l.begin()
	l.create(txn, "removed.db", FileID{3})
	l.commit(txn)
	txn = l.begin()
	l.remove(txn, "removed.db", FileID{3})
	l.commit(txn)
	l.create(l.begin(), "aborted.db", FileID{4})
	txn = l.begin()
	l.rename(txn, "old.db", "prepared.db", FileID{1})
	l.log(txn, typePrepare, uint32(2), []byte("gid"), LSN{}, []byte{})
	l.record(typeRegister, 0, LSN{}, uint32(RegisterCheckpoint), "inmem", FileID{5, 0, 0, 0, 'i', 'n', 'm', 'e', 'm'}, uint32(0), uint32(1), uint32(0), uint32(0))
	got := outcome(l.history())
	want := map[byte]string{1: "in doubt old.db", 2: "exists swapped.db", 3: "removed removed.db", 4: "undone aborted.db"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestHistoryOfTheAborted: what a transaction made before the log added begins may be gone by an abort that the log tells nothing of.
func TestHistoryOfTheAborted(t *testing.T) {
	l := newFileLog(t)
	for i, r := range []struct {
		op        RegisterOp
		createTxn uint32
	}{{RegisterClose, 0}, {RegisterOpen, 0x80000001}, {RegisterOpen, 0}, {RegisterCheckpoint, 0}} {
		l.record(typeRegister, 0, LSN{}, uint32(r.op), "a.db", FileID{byte(i), 1}, uint32(0), uint32(1), uint32(0), r.createTxn)
		l.record(typeRegister, 0, LSN{}, uint32(RegisterClose), "a.db", FileID{byte(i), 1}, uint32(0), uint32(1), uint32(0), uint32(0))
	}
	if got, want := outcome(l.history()), (map[byte]string{2: "exists a.db", 3: "exists a.db"}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestHistoryReusedTransaction(t *testing.T) {
	l := newFileLog(t)
	txn := l.begin()
	l.create(txn, "a.db", FileID{1})
	l.record(typeRecycle, 0, LSN{}, uint32(0x80000000), uint32(0xffffffff))
	l.record(typeRegop, txn, LSN{1, 1}, uint32(regopCommit), uint32(0), uint32(0), []byte{})
	txn = l.begin()
	l.create(txn, "b.db", FileID{2})
	l.last[txn] = LSN{} // another transaction with the same id: its first record
	l.commit(txn)
	if got, want := outcome(l.history()), (map[byte]string{1: "undone a.db", 2: "undone b.db"}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestHistoryOfHalfTransactions: what an aborted transaction did before the log added begins is not known. It may have made the file, or renamed it.
func TestHistoryOfHalfTransactions(t *testing.T) {
	l := newFileLog(t)
	before := LSN{0, 99}
	txn := l.begin()
	l.last[txn] = before
	l.rename(txn, "inside.db", "again.db", FileID{1})
	l.record(typeRegister, txn, l.last[txn], uint32(RegisterOpen), "again.db", FileID{1}, uint32(0), uint32(1), uint32(0), uint32(0))
	txn = l.begin()
	l.last[txn] = before
	l.rename(txn, "inside.db", "again.db", FileID{2})
	txn = l.begin()
	l.rename(txn, "p.db", "q.db", FileID{2})
	commit := l.commit(txn)
	h := l.history()
	if got, want := outcome(h), (map[byte]string{2: "exists q.db"}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, c := range []struct {
		needed LSN
		want   string
	}{{LSN{1, 28}, "p.db"}, {commit, "q.db"}} { // the commit where the checkpoint says that recovery has to begin is in the files
		stages, err := h.Replay(c.needed, l.end())
		if got := places(t, stages, map[string]FileID{"q.db": {2}})[0]["q.db"]; got != c.want || err != nil {
			t.Errorf("needed from %s: %s, %v; want %s", c.needed, got, err, c.want)
		}
	}
}

// places is where the stages of a replay put files that are found under these names.
func places(t *testing.T, stages []*Replay, found map[string]FileID) (all []map[string]string) {
	for _, p := range stages {
		places := map[string]string{}
		for name, id := range found {
			if to, ok := p.Place(name, id); ok {
				places[name] = to
			}
		}
		all = append(all, places)
	}
	return all
}

func TestReplay(t *testing.T) {
	l := newFileLog(t)
	needed := l.end()
	txn := l.begin()
	l.rename(txn, "p.db", "q.db", FileID{1})
	before := l.commit(txn)
	begun := l.end()
	txn = l.begin()
	l.rename(txn, "q.db", "r.db", FileID{1})
	l.create(txn, "q.db", FileID{2})
	l.commit(txn)
	l.remove(l.begin(), "r.db", FileID{1})
	h := l.history()
	stages, err := h.Replay(needed, begun)
	if err != nil || len(stages) != 1 || !stages[0].Until.IsZero() {
		t.Fatalf("%d stages, %v", len(stages), err)
	}
	found := map[string]FileID{"r.db": {1}, "q.db": {2}, "text": {}, "other.db": {9}, "sub/r.db": {1}, "copy of r.db": {1}}
	want := map[string]string{"r.db": "p.db", "text": "text", "other.db": "other.db", "sub/r.db": "sub/p.db", "copy of r.db": "copy of r.db"}
	if got := places(t, stages, found)[0]; !reflect.DeepEqual(got, want) {
		t.Errorf("files go to %v, want %v", got, want)
	}
	counts := map[AmendmentKind]int{}
	for _, a := range stages[0].Amendments {
		counts[a.Kind]++
	}
	if counts[AmendRedo] != 2 || counts[AmendSkip] != 6 { // the removal, which was never committed, has six records
		t.Errorf("amendments %v", counts)
	}
	stages, _ = h.Replay(begun, begun)
	if want["r.db"], want["sub/r.db"] = "q.db", "sub/q.db"; !reflect.DeepEqual(places(t, stages, found)[0], want) {
		t.Errorf("as of %s files go to %v, want %v", begun, places(t, stages, found)[0], want)
	}
	if i := slices.IndexFunc(h.Files(), func(f HistoryFile) bool { return f.ID == FileID{2} }); !h.Files()[i].Remade(begun) || h.Files()[i].Remade(l.end()) || begun.Before(before) {
		t.Error("whether q.db is made anew")
	}
}

// TestReplayMadeMeanwhile: a file that was made just before the copies were begun stays what it is, unless its name would be in the way.
func TestReplayMadeMeanwhile(t *testing.T) {
	for _, name := range []string{"new.db", "p.db"} {
		l := newFileLog(t)
		needed := l.end()
		txn := l.begin()
		l.rename(txn, "p.db", "q.db", FileID{1})
		l.create(txn, name, FileID{2})
		l.commit(txn)
		stages, err := l.history().Replay(needed, l.end())
		want := map[string]string{"q.db": "p.db", "new.db": "new.db"}
		if name == "p.db" {
			want = map[string]string{"q.db": "q.db", "p.db": "p.db"}
		}
		if got := places(t, stages, map[string]FileID{"q.db": {1}, name: {2}}); err != nil || !reflect.DeepEqual(got[0], want) {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
	}
}

func TestReplayQueues(t *testing.T) {
	l := newFileLog(t)
	queue := FileID{1, 8: 5, 9: 6}
	extent := FileID{4: 3, 8: 5, 9: 6}
	txn := l.begin()
	first := l.log(txn, typeRename, "./__dbq.q.db.3", "./__dbq.r.db.3", "", extent, uint32(AppData))
	l.rename(txn, "q.db", "r.db", queue)
	l.commit(txn)
	stages, err := l.history().Replay(LSN{}, LSN{})
	if err != nil || len(stages) != 2 || stages[0].Until != first {
		t.Fatalf("%v, %v", stages, err)
	}
	got := places(t, stages, map[string]FileID{"q.db": queue, "__dbq.q.db.3": {}})
	want := []map[string]string{{"q.db": "q.db", "__dbq.q.db.3": "__dbq.q.db.3"}, {"q.db": "r.db", "__dbq.q.db.3": "__dbq.r.db.3"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("files go to %v, want %v", got, want)
	}

	l = newFileLog(t)
	txn = l.begin()
	l.create(txn, "q.db", queue)
	l.log(txn, typeRename, "./__dbq.q.db.3", "./__dbq.r.db.3", "", extent, uint32(AppData))
	l.rename(txn, "q.db", "r.db", queue)
	l.commit(txn)
	var bad *QueueError
	if _, err := l.history().Replay(LSN{}, LSN{}); !errors.As(err, &bad) || bad.Name != "q.db" {
		t.Errorf("made and renamed in one transaction: %v", err)
	}
}

func TestRespell(t *testing.T) {
	for _, c := range []struct{ found, first, to, want string }{
		{"b.db", "a.db", "b.db", "b.db"},
		{"a.db", "data/a.db", "data/b.db", "b.db"},
		{"sub/a.db", "a.db", "b.db", "sub/b.db"},
		{"sub/a.db", "./sub/a.db", "./sub/b.db", "sub/b.db"},
		{"sub/a.db", "sub/a.db", "other/b.db", "other/b.db"},
		{"a.db", "/home/a.db", "/home/b.db", "b.db"},
	} {
		f := LaidFile{Name: c.to, names: []string{c.first, c.to}}
		if got := f.respell(c.found); got != c.want {
			t.Errorf("%s, %s -> %s: %s, want %s", c.found, c.first, c.to, got, c.want)
		}
	}
}

func TestAmend(t *testing.T) {
	for _, key := range []*Key{nil, NewKey("secret")} {
		w := newLogWriter(binary.LittleEndian, 19, key)
		at := w.record(typeFileRemove, 5, LSN{1, 28}, FileID{1}, FileID{2}, "a.db", uint32(AppData), uint32(0x80000005))
		d, err := NewLogDecoder(w.buf, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Amend(Amendment{at, AmendRedo}, w.buf[at.Offset:]); err != nil {
			t.Fatal(err)
		}
		var r Record
		if err := d.Decode(&r, at, w.buf[at.Offset:]); err != nil {
			t.Fatal(err)
		}
		if v, ok := r.FileVacated(); !ok || v.Child != noTxn || v.Name != "a.db" {
			t.Errorf("redone: %+v", v)
		}
		if err := d.Amend(Amendment{at, AmendSkip}, w.buf[at.Offset:]); err != nil {
			t.Fatal(err)
		}
		if err := d.Decode(&r, at, w.buf[at.Offset:]); err != nil || r.Type != typeFileRemove|debugFlag || r.PrevLSN != (LSN{1, 28}) {
			t.Errorf("skipped: %+v, %v", r, err)
		}
		if err := d.Amend(Amendment{at, AmendRedo}, w.buf[at.Offset:]); err == nil {
			t.Error("a record that is skipped is redone")
		}
	}
}

// TestSkipPages skips what changes pages, in a log that comes in pieces, and nothing else.
func TestSkipPages(t *testing.T) {
	const split, curadj, cksum, pgAlloc = 62, 64, 51, 49
	for _, key := range []*Key{nil, NewKey("secret")} {
		w := smallLog(binary.LittleEndian, 19, key)
		want := map[LSN]uint32{}
		for _, kind := range []uint32{split, typeRename, curadj, typeDebug, cksum, typeNoop, pgAlloc, typeMetasub, typeRenameNoUndo, typeHeapTrunc, typeRegop, 10001} {
			at := w.record(kind, 5, LSN{}, make([]byte, 100))
			if want[at] = kind; slices.Contains([]uint32{split, curadj, cksum, pgAlloc, typeMetasub, typeHeapTrunc}, kind) {
				want[at] |= debugFlag
			}
		}
		d, err := NewLogDecoder(w.buf, key)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(w.buf); {
			n, err := d.SkipPages(w.buf[at:min(at+600, len(w.buf))], LSN{1, uint32(at)}, nil)
			if err != nil {
				t.Fatalf("at %d: %v", at, err)
			}
			at += n
		}
		if _, err := d.SkipPages(w.buf[:20], LSN{1, 0}, nil); !errors.Is(err, ErrShortRecord) {
			t.Errorf("not one whole record: %v", err)
		}
		err = walkLog(w.buf, key, func(_ *LogDecoder, r *Record) {
			if kind, ok := want[r.LSN]; ok && r.Type != kind {
				t.Errorf("type %#x, want %#x", r.Type, kind)
			}
			delete(want, r.LSN)
		})
		if !errors.Is(err, ErrShortRecord) || len(want) > 0 { // there is nothing behind the last one
			t.Errorf("%v; records lost: %v", err, want)
		}
	}
}

func TestRespellRecord(t *testing.T) {
	spell := func(name string) (string, error) {
		if name == "" {
			return "", errors.New("asked for nothing")
		}
		return strings.Replace(name, "/srv/x", "0/////", 1), nil
	}
	for _, key := range []*Key{nil, NewKey("secret")} {
		w := newLogWriter(binary.LittleEndian, 19, key)
		create := w.record(typeCreate, 5, LSN{1, 28}, "a.db\x00", "/srv/x/y\x00", uint32(AppData), uint32(0o600))
		register := w.record(typeRegister, 5, LSN{1, 28}, uint32(RegisterOpen), "/srv/x/a.db\x00", FileID{1}, uint32(1), uint32(1), uint32(0), uint32(0))
		d, err := NewLogDecoder(w.buf, key)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []LSN{create, register} {
			if err := d.Respell(at, w.buf[at.Offset:], spell); err != nil {
				t.Fatal(err)
			}
		}
		var r Record
		if err := d.Decode(&r, create, w.buf[create.Offset:]); err != nil {
			t.Fatal(err)
		}
		if c, ok := r.FileCreate(); !ok || c.Name != "a.db" || c.Dir != "0//////y" || c.Mode != 0o600 {
			t.Errorf("created: %+v", c)
		}
		if err := d.Decode(&r, register, w.buf[register.Offset:]); err != nil {
			t.Fatal(err)
		}
		if g, ok := r.Register(); !ok || g.Name != "0//////a.db" || g.ID != (FileID{1}) {
			t.Errorf("registered: %+v", g)
		}
		longer := func(name string) (string, error) { return name + "x", nil }
		if err := d.Respell(create, w.buf[create.Offset:], longer); err == nil {
			t.Error("a longer name was taken")
		}
	}
}

func TestHistoryWithoutPassword(t *testing.T) {
	h := NewHistory()
	_ = walkLog(smallLog(binary.LittleEndian, 19, NewKey("secret")).buf, nil, func(_ *LogDecoder, r *Record) { _ = h.Add(r) })
	if !h.Unreadable() || len(h.Files()) != 0 {
		t.Error("a history of what can't be read")
	}
}

// TestAmendMerge: only the moving of an empty page of 64 KiB is amended, where it is redone.
func TestAmendMerge(t *testing.T) {
	l := newFileLog(t)
	merge := func(size int, whole uint32) LSN {
		return l.log(l.begin(), typeMerge, uint32(0), uint32(3), LSN{1, 28}, uint32(5), LSN{1, 28}, make([]byte, 32), make([]byte, size), whole)
	}
	merge(1<<16, 1)
	needed := l.end()
	merge(100, 1)
	at := merge(1<<16, 1)
	merge(1<<16, 0)
	stages, err := l.history().Replay(needed, needed)
	if err != nil || !slices.Equal(stages[0].Amendments, []Amendment{{at, AmendMerge}}) {
		t.Fatalf("%+v, %v", stages[0].Amendments, err)
	}
	d, err := NewLogDecoder(l.buf, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Amend(stages[0].Amendments[0], l.buf[at.Offset:]); err != nil {
		t.Fatal(err)
	}
	var r Record
	if err := d.Decode(&r, at, l.buf[at.Offset:]); err != nil {
		t.Fatal(err)
	}
	if page, to, ok := r.emptyPageMoved(); !ok || to != 3 || page[pageNumberAt] != 3 {
		t.Errorf("page %d, %t", to, ok)
	}
}

// TestUndos follows the emptying of pages to the fate of its transaction.
func TestUndos(t *testing.T) {
	l := newFileLog(t)
	a := FileID{1}
	l.log(l.begin(), typeRegister, uint32(RegisterOpen), "a.db", a, uint32(7), uint32(1), uint32(0), uint32(0))
	empty := func(txn, page uint32) LSN { return l.log(txn, typePageInit, uint32(7), page, []byte{}, []byte{}) }
	done, open, again := l.begin(), l.begin(), l.begin()
	empty(done, 3)
	aborted := empty(again, 4)
	child := l.begin()
	empty(child, 5)
	l.child(done, child)
	l.commit(done)
	l.last[again] = LSN{} // its id is given out once more
	l.commit(again)
	under := empty(open, 6)
	meta := l.log(open, typeMetasub, uint32(7), uint32(8), []byte{}, uint32(0), uint32(0))
	prepared := l.begin()
	empty(prepared, 9)
	l.log(prepared, typePrepare, uint32(0), make([]byte, 128), LSN{})
	want := []PageUndo{{aborted, a, 4, false, aborted}, {under, a, 6, false, meta}, {meta, a, 8, true, meta}}
	if got := l.history().Undos(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	u := PageUndo{LSN: LSN{2, 100}, Meta: true, Last: LSN{2, 300}}
	for lsn, want := range map[LSN]bool{{2, 99}: false, {2, 100}: true, {2, 300}: true, {2, 301}: false} {
		if got := u.Needed(lsn, true); got != want {
			t.Errorf("page at %v has to be given back: %t", lsn, got)
		}
	}
}

// TestFreedSubdatabases finds where subdatabases began that recovery opens before it frees their pages.
func TestFreedSubdatabases(t *testing.T) {
	l := newFileLog(t)
	a, b := FileID{1}, FileID{2}
	open := func(number uint32, id FileID, page uint32) {
		l.log(0, typeRegister, uint32(RegisterOpen), "a.db", id, number, uint32(1), page, uint32(0))
	}
	free := func(kind, number, page uint32) LSN {
		return l.log(l.begin(), kind, number, page, LSN{}, uint32(0), []byte{}, uint32(0), uint32(page))
	}
	open(1, a, 0)
	open(2, a, 4)
	open(3, a, 9)
	open(4, b, 6)
	before := free(typePageFree, 4, 6)
	free(typePageFree, 1, 4)
	needed := free(typePageFree, 2, 7) // no subdatabase begins there
	first := free(typePageFree, 1, 4)
	free(typePageFree, 1, 4)
	open(1, b, 0) // the number is another file's now
	free(typePageFreeData, 1, 9)
	if got, want := l.history().FreedSubdatabases(needed), (map[FileID][]FreedPage{a: {{4, first}}}); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := l.history().FreedSubdatabases(before); len(got) != 2 || len(got[a]) != 1 || !slices.Equal(got[b], []FreedPage{{6, before}}) {
		t.Errorf("%v", got)
	}
}

// TestGroups finds the growth of hash subdatabases that is redone.
func TestGroups(t *testing.T) {
	l := newFileLog(t)
	a := FileID{1}
	l.log(0, typeRegister, uint32(RegisterOpen), "a.db", a, uint32(7), uint32(2), uint32(3), uint32(0))
	grow := func(txn, start, count uint32) LSN {
		return l.log(txn, typeHashGroup, uint32(7), LSN{1, 30}, start, count, uint32(0), start-1)
	}
	done, open, aborted, child := l.begin(), l.begin(), l.begin(), l.begin()
	grow(open, 10, 2)
	at := grow(child, 12, 26)
	grow(aborted, 40, 4)
	l.child(done, child)
	l.commit(done)
	l.last[aborted] = LSN{} // its id is given out once more
	l.commit(aborted)
	got := l.history().Groups()
	if want := []PageGroup{{at, a, 37}}; !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
	for _, c := range []struct {
		meta LSN
		last uint32
		cut  bool
	}{{LSN{}, 11, false}, {at, 37, false}, {at, 36, true}, {LSN{at.File + 1, 30}, 50, false}, {LSN{at.File + 1, 30}, 20, true}} {
		if got[0].Cut(c.meta, c.last) != c.cut {
			t.Errorf("metadata page at %v with %d pages: cut is not %t", c.meta, c.last, c.cut)
		}
	}
}
