package localenv

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// forgePage makes buf a page of a plain little-endian btree file, or its metadata page, without touching what a page has besides the header.
func forgePage(buf []byte, pgno uint32) {
	if pgno == 0 {
		clear(buf)
		forgeMeta(buf, binary.LittleEndian, 0x053162, 9, 9)
		return
	}
	forgeHeader(buf, binary.LittleEndian, pgno, 1, 28+pgno)
	buf[25] = 5 // leaf
}

func forgeHeader(buf []byte, order binary.ByteOrder, pgno, lsnFile, lsnOffset uint32) {
	order.PutUint32(buf[0:], lsnFile)
	order.PutUint32(buf[4:], lsnOffset)
	order.PutUint32(buf[8:], pgno)
}

func forgeMeta(buf []byte, order binary.ByteOrder, magic, version uint32, pageType byte) {
	forgeHeader(buf, order, 0, 1, 28)
	order.PutUint32(buf[12:], magic)
	order.PutUint32(buf[16:], version)
	order.PutUint32(buf[20:], uint32(len(buf)))
	buf[25] = pageType
}

// forgeFile is a btree file of so many pages.
func forgeFile(pageSize, count int) []byte {
	data := make([]byte, pageSize*count)
	for i := range count {
		forgePage(data[i*pageSize:(i+1)*pageSize], uint32(i))
	}
	return data
}

// openForged writes files into a new directory and opens the first of them.
func openForged(t *testing.T, name string, data []byte, more map[string][]byte) *Source {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, name), string(data))
	for other, content := range more {
		write(t, filepath.Join(dir, other), string(content))
	}
	s, err := (&Env{Dirs: []Dir{{".", dir}}}).OpenFile(File{Path: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// overwrite changes a file in place.
func overwrite(t *testing.T, path string, data []byte, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(data, off); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
