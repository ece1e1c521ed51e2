package bdb

import (
	"encoding/binary"
	"errors"
	"testing"
)

// forgeMeta is a plausible metadata page.
func forgeMeta(how method, order binary.ByteOrder, pageSize int) []byte {
	page := make([]byte, pageSize)
	order.PutUint32(page[0:], 3)
	order.PutUint32(page[4:], 4711)
	order.PutUint32(page[metaMagic:], how.magic)
	order.PutUint32(page[metaVersion:], how.oldest+2)
	order.PutUint32(page[metaPageSize:], uint32(pageSize))
	page[pageType] = how.pageType
	order.PutUint32(page[metaLastPage:], 99)
	for i := range len(FileID{}) {
		page[metaFileID+i] = byte(i + 1)
	}
	order.PutUint32(page[metaRecordLength:], 80)
	order.PutUint32(page[metaExtent:], 16)
	return page
}

func queuePage(t testing.TB) []byte {
	for _, how := range methods {
		if how.kind == KindQueue {
			return forgeMeta(how, binary.BigEndian, 1024)
		}
	}
	t.Fatal("no queue")
	return nil
}

func TestParseMeta(t *testing.T) {
	for _, how := range methods {
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			m, err := ParseMeta(forgeMeta(how, order, 8192)[:MetaSize], nil)
			if err != nil {
				t.Fatal(err)
			}
			if m.Kind != how.kind || m.ByteOrder != order || m.PageSize != 8192 || m.LastPage != 99 || m.LSN != (LSN{3, 4711}) || m.FileID[19] != 20 {
				t.Errorf("%s, %v: %+v", how.kind, order, m)
			}
			if queue := how.kind == KindQueue; queue != (m.PagesPerExtent == 16) || queue != (m.RecordLength == 80) {
				t.Errorf("%s: extents of %d, records of %d", how.kind, m.PagesPerExtent, m.RecordLength)
			}
		}
	}
}

func TestParseMetaRefuses(t *testing.T) {
	for n := range MetaSize {
		if _, err := ParseMeta(queuePage(t)[:n], nil); err != ErrNotDatabase {
			t.Fatalf("first %d bytes: %v", n, err)
		}
	}
	for _, c := range []struct {
		what string
		want error
		edit func(page []byte)
	}{
		{"zeros", ErrNotDatabase, func(p []byte) { clear(p) }},
		{"version before 3.0", ErrNotDatabase, func(p []byte) { binary.BigEndian.PutUint32(p[metaVersion:], 0) }},
		{"page size 1000", &MetaError{}, func(p []byte) { binary.BigEndian.PutUint32(p[metaPageSize:], 1000) }},
		{"page size 256", &MetaError{}, func(p []byte) { binary.BigEndian.PutUint32(p[metaPageSize:], 256) }},
		{"page size 128 KiB", &MetaError{}, func(p []byte) { binary.BigEndian.PutUint32(p[metaPageSize:], 1<<17) }},
		{"page type", &MetaError{}, func(p []byte) { p[pageType] = typeBtreeMeta }},
		{"encryption", &MetaError{}, func(p []byte) { p[metaEncryption] = 7 }},
	} {
		page := queuePage(t)
		c.edit(page)
		_, err := ParseMeta(page, nil)
		var damaged *MetaError
		if !errors.Is(err, c.want) && !(errors.As(c.want, &damaged) && errors.As(err, &damaged)) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

func TestExtent(t *testing.T) {
	queue, err := ParseMeta(queuePage(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	extent, ok := queue.Extent(3)
	if !ok || extent.Kind != KindQueueExtent || extent.FirstPage != 49 || extent.PageSize != 1024 || !extent.FileID.IsZero() {
		t.Errorf("extent 3: %+v, %v", extent, ok)
	}
	if _, ok := queue.Extent(1 << 30); ok {
		t.Error("an extent beyond the last page number")
	}
	queue.PagesPerExtent = 0
	if _, ok := queue.Extent(0); ok {
		t.Error("an extent of a queue without extents")
	}
}

func FuzzParseMeta(f *testing.F) {
	for _, how := range methods {
		f.Add(forgeMeta(how, binary.LittleEndian, 512))
		f.Add(forgeMeta(how, binary.BigEndian, 512))
	}
	key := NewKey("secret")
	f.Fuzz(func(t *testing.T, first []byte) {
		m, err := ParseMeta(first, nil)
		if _, err := ParseMeta(first, key); err == nil && m.Encrypted {
			t.Log("decrypted") // one in 2^32
		}
		if err != nil {
			return
		}
		if m.PageSize < MinPageSize || m.PageSize > MaxPageSize || m.ByteOrder == nil || allowedTypes(m.Kind) == 0 {
			t.Errorf("parsed as %+v", m)
		}
		page := make([]byte, m.PageSize)
		copy(page, first)
		m.CheckPage(0, page, key)
		m.Extent(binary.LittleEndian.Uint32(first))
	})
}
