package bdb

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

// TestPinned: a file in which something is to be undone, and that changes its name, lies under the last name and is found by all.
func TestPinned(t *testing.T) {
	for name, c := range map[string]struct {
		history func(l *fileLog, a FileID)
		place   string
		links   []string
	}{
		"undone and renamed": {func(l *fileLog, a FileID) {
			l.change(l.begin(), 1)
			l.renamed("a.db", "b.db", a)
			l.change(l.begin(), 1)
			l.renamed("b.db", "c.db", a)
		}, "c.db", []string{"a.db", "b.db"}},
		"renamed only": {func(l *fileLog, a FileID) {
			txn := l.begin()
			l.change(txn, 1)
			l.commit(txn)
			l.renamed("a.db", "b.db", a)
		}, "a.db", nil},
		"undone at the end by a nested one": {func(l *fileLog, a FileID) {
			parent, child := l.begin(), l.begin()
			l.change(child, 1)
			l.child(parent, child)
			l.renamed("a.db", "b.db", a)
		}, "b.db", []string{"a.db"}},
		"after more transactions than are kept": {func(l *fileLog, a FileID) {
			for range maxTouched + 10 {
				l.change(l.begin(), 2)
			}
			l.change(l.begin(), 1)
			l.renamed("a.db", "b.db", a)
		}, "b.db", []string{"a.db"}},
		"undone only":          {func(l *fileLog, a FileID) { l.change(l.begin(), 1) }, "a.db", nil},
		"under way at the end": {func(l *fileLog, a FileID) { l.renamed("a.db", "b.db", a); l.change(l.begin(), 1) }, "b.db", []string{"a.db"}},
		"another has the name": {func(l *fileLog, a FileID) {
			l.change(l.begin(), 1)
			l.renamed("a.db", "b.db", a)
			txn := l.begin()
			l.create(txn, "a.db", FileID{2})
			l.commit(txn)
		}, "a.db", nil},
		"prepared": {func(l *fileLog, a FileID) {
			l.change(l.begin(), 1)
			txn := l.begin()
			l.rename(txn, "a.db", "b.db", a)
			l.log(txn, typePrepare, uint32(2), []byte("gid"), LSN{}, []byte{})
		}, "a.db", nil},
		"removed": {func(l *fileLog, a FileID) {
			l.change(l.begin(), 1)
			l.renamed("a.db", "b.db", a)
			txn := l.begin()
			l.remove(txn, "b.db", a)
			l.commit(txn)
		}, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			l, a := newFileLog(t), FileID{1}
			begun := l.log(0, typeRegister, uint32(RegisterOpen), "a.db", a, uint32(1), uint32(1), uint32(0), uint32(0))
			c.history(l, a)
			h := l.history()
			stages, err := h.Replay(begun, begun)
			if err != nil {
				t.Fatal(err)
			}
			place, _ := stages[0].Place("a.db", a)
			if links := stages[0].Links("a.db", a); place != c.place || !slices.Equal(slices.Sorted(slices.Values(links)), c.links) {
				t.Errorf("lies at %q with links %q, want %q and %q", place, links, c.place, c.links)
			}
			if links := stages[0].Links("copy.db", a); links != nil {
				t.Errorf("a copy of the application's gets links %q", links)
			}
		})
	}
}

// change logs a change to a page of the database with the short number.
func (l *fileLog) change(txn, number uint32) {
	l.log(txn, 55, number, uint32(3), LSN{}, uint32(0), uint32(0), uint32(0)) // __bam_adj
}

func (l *fileLog) renamed(from, to string, id FileID) {
	txn := l.begin()
	l.rename(txn, from, to, id)
	l.commit(txn)
}

// TestHeapCut finds the first truncation of a heap that is redone.
func TestHeapCut(t *testing.T) {
	l, a := newFileLog(t), FileID{1}
	l.log(0, typeRegister, uint32(RegisterOpen), "a.db", a, uint32(7), uint32(6), uint32(0), uint32(0))
	cut := func(txn uint32, image byte) LSN {
		for page := uint32(1); page < 3; page++ {
			l.log(txn, typeHeapTrunc, uint32(7), page, bytes.Repeat([]byte{image}, 512), uint32(0), LSN{})
		}
		return l.log(txn, typeHeapTruncMeta, uint32(7), uint32(0), uint32(2), uint32(0), uint32(0), uint32(1), uint32(1), LSN{})
	}
	before := cut(l.begin(), 1) // never committed
	txn, child := l.begin(), l.begin()
	first := cut(child, 2)
	l.child(txn, child)
	l.commit(txn)
	txn = l.begin()
	second := cut(txn, 3)
	l.commit(txn)
	h := l.history()
	for meta, want := range map[LSN]LSN{{}: first, before: first, first: second} {
		if got := h.HeapCut(a, meta); got == nil || got.LSN != want || len(got.Pages) != 2 || got.Pages[1].Number != 2 {
			t.Errorf("over a metadata page of %v: %v, want %v", meta, got, want)
		}
	}
	if got := h.HeapCut(a, second); got != nil {
		t.Errorf("cut again at %v", got.LSN)
	}
	if got := h.HeapCut(FileID{2}, LSN{}); got != nil {
		t.Errorf("another file is cut at %v", got.LSN)
	}
	at := h.HeapCut(a, LSN{}).Pages[0].LSN
	found := false
	walkLog(l.buf, nil, func(_ *LogDecoder, r *Record) {
		if r.LSN == at {
			page, ok := r.HeapPage()
			found = ok && bytes.Equal(page, bytes.Repeat([]byte{2}, 512))
		}
	})
	if !found {
		t.Error("the page as it was is not found")
	}
}

// TestSeal: pages that are sealed are found to be right, and those that are changed then are not.
func TestSeal(t *testing.T) {
	key := NewKey("secret")
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, m := range []Meta{{}, {Checksummed: true}, {Checksummed: true, Encrypted: true}} {
			m.Kind, m.PageSize, m.ByteOrder = KindHeap, 1024, order
			page := make([]byte, m.PageSize)
			order.PutUint32(page, 1)
			order.PutUint32(page[pageNumber:], 5)
			page[pageType] = typeHeap
			copy(page[100:], "text")
			if err := m.Seal(page, key); err != nil {
				t.Fatal(err)
			}
			if _, err := m.CheckPage(5, page, key); err != nil {
				t.Error(err)
			}
			if m.Encrypted == bytes.Contains(page, []byte("text")) {
				t.Errorf("encrypted is %t, but not the page", m.Encrypted)
			}
			page[100] ^= 1
			if _, err := m.CheckPage(5, page, key); (err == nil) == m.Checksummed {
				t.Errorf("checksummed %t: %v", m.Checksummed, err)
			}
		}
	}
	if err := (&Meta{Encrypted: true}).Seal(make([]byte, 512), nil); err != ErrPassword {
		t.Errorf("without the password: %v", err)
	}
}

// TestSurrogate: what takes a subdatabase's place is a metadata page of the same file, but for its number and LSN.
func TestSurrogate(t *testing.T) {
	key, order := NewKey("secret"), binary.LittleEndian
	page := make([]byte, MetaSize)
	order.PutUint32(page, 3)
	order.PutUint32(page[metaMagic:], 0x053162)
	order.PutUint32(page[metaVersion:], 9)
	order.PutUint32(page[metaPageSize:], MetaSize)
	page[metaEncryption], page[pageType], page[metaFlags] = cipherAES, typeBtreeMeta, flagChecksum
	copy(page[metaFileID:], "twenty bytes of name")
	order.PutUint32(page[metaCryptoMagic:], 0x053162)
	if err := encryptMeta(page, key); err != nil {
		t.Fatal(err)
	}
	m, err := ParseMeta(page, key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Surrogate(page, 7, key)
	if err != nil {
		t.Fatal(err)
	}
	if lsn, err := m.CheckPage(7, got, key); err != nil || !lsn.IsZero() {
		t.Errorf("LSN %v, %v", lsn, err)
	}
	if other, err := ParseMeta(got, key); err != nil || other.FileID != m.FileID {
		t.Errorf("%+v, %v", other, err)
	}
	for _, wrong := range []*Key{nil, NewKey("other")} {
		if _, err := Surrogate(page, 7, wrong); err != ErrPassword {
			t.Errorf("with another password: %v", err)
		}
	}
	page[metaEncryption] = 0
	if _, err := Surrogate(page, 7, key); err != ErrNotDatabase {
		t.Errorf("of a plain file: %v", err)
	}
}
