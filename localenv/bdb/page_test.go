package bdb

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"
)

// forge is a page of a plain btree file with pages of 512 bytes.
func forge(number uint32, kind byte, lsn LSN) []byte {
	page := make([]byte, 512)
	binary.LittleEndian.PutUint32(page, lsn.File)
	binary.LittleEndian.PutUint32(page[4:], lsn.Offset)
	binary.LittleEndian.PutUint32(page[pageNumber:], number)
	page[pageType] = kind
	page[300] = 1
	return page
}

func TestCheckPage(t *testing.T) {
	m := Meta{Kind: KindBtree, PageSize: 512, ByteOrder: binary.LittleEndian}
	heap := Meta{Kind: KindHeap, PageSize: 512, ByteOrder: binary.LittleEndian}
	unplaced := Meta{Kind: KindQueueExtent, PageSize: 512, ByteOrder: binary.LittleEndian, Encrypted: true, Checksummed: true}
	logged := LSN{2, 28}
	for _, c := range []struct {
		what    string
		meta    Meta
		page    []byte
		lsn     LSN
		problem string
	}{
		{"leaf", m, forge(7, typeBtreeLeaf, logged), logged, ""},
		{"not logged", m, forge(7, typeOverflow, NotLogged), NotLogged, ""},
		{"free", m, forge(7, typeInvalid, logged), logged, ""},
		{"zeros", m, make([]byte, 512), LSN{}, ""},
		{"hash page without a number", m, forge(0, typeHash, logged), logged, ""},
		{"subdatabase", m, forge(7, typeHashMeta, logged), logged, ""},
		{"extent at an unknown place", unplaced, forge(7000, typeQueueData, logged), logged, ""},
		{"another's number", m, forge(8, typeBtreeLeaf, logged), LSN{}, "has number 8"},
		{"leaf without a number", m, forge(0, typeBtreeLeaf, logged), LSN{}, "has number 0"},
		{"queue page in a btree", m, forge(7, typeQueueData, logged), LSN{}, "page type 11"},
		{"unknown type", m, forge(7, 200, logged), LSN{}, "page type 200"},
		{"leaf in a heap", heap, forge(7, typeBtreeLeaf, logged), LSN{}, "page type 5"},
		{"LSN", m, forge(7, typeBtreeLeaf, LSN{0, 2}), LSN{}, "impossible LSN 0/2"},
		{"short", m, forge(7, typeBtreeLeaf, logged)[:511], LSN{}, "has 511 bytes"},
	} {
		lsn, err := c.meta.CheckPage(7, c.page, nil)
		if (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), "page 7: "+c.problem) || lsn != c.lsn {
			t.Errorf("%s: %v, %v", c.what, lsn, err)
		}
	}
}

func TestCheckMetaPage(t *testing.T) {
	m, err := ParseMeta(queuePage(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what    string
		edit    func(page []byte)
		problem string
	}{
		{"untouched", func([]byte) {}, ""},
		{"empty", func(p []byte) { clear(p) }, "empty"},
		{"of another access method", func(p []byte) { p[pageType] = typeBtreeMeta }, "not the metadata page"},
		{"of another page size", func(p []byte) { binary.BigEndian.PutUint32(p[metaPageSize:], 4096) }, "page size changed from 1024 to 4096"},
		{"of another number", func(p []byte) { p[pageNumber] = 1 }, "has number"},
	} {
		page := queuePage(t)
		c.edit(page)
		lsn, err := m.CheckPage(0, page, nil)
		if (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) || err == nil && lsn != (LSN{3, 4711}) {
			t.Errorf("%s: %v, %v", c.what, lsn, err)
		}
	}
}

func TestCheckPageAllocatesNothing(t *testing.T) {
	m := Meta{Kind: KindBtree, PageSize: 512, ByteOrder: binary.LittleEndian, Encrypted: true, Checksummed: true}
	key, page := NewKey("secret"), forge(7, typeBtreeLeaf, LSN{1, 28})
	mac := key.MAC(page[:pageSum], zeros[:MACSize], page[pageSum+MACSize:])
	copy(page[pageSum:], mac[:])
	if n := testing.AllocsPerRun(100, func() {
		if _, err := m.CheckPage(7, page, key); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("CheckPage allocates %v times", n)
	}
}

func BenchmarkCheckPage(b *testing.B) {
	m := Meta{Kind: KindBtree, PageSize: 4096, ByteOrder: binary.LittleEndian}
	page := make([]byte, 4096)
	copy(page, forge(7, typeBtreeLeaf, LSN{1, 28}))
	copy(page[512:], randomBytes(rand.New(rand.NewPCG(1, 1)), 4096-512))
	b.SetBytes(4096)
	for b.Loop() {
		m.CheckPage(7, page, nil)
	}
}
