package localenv

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bdbvault/localenv/bdb"
)

// read reads a whole file by its Source.
func read(t *testing.T, s *Source) ([]byte, ReadStats) {
	t.Helper()
	buf := make([]byte, 1<<20)
	n, st, err := s.ReadAt(context.Background(), buf, 0)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n], st
}

func TestSourceStats(t *testing.T) {
	data := forgeFile(1024, 6)
	page := func(i int) []byte { return data[i*1024 : (i+1)*1024] }
	forgeHeader(page(1), binary.LittleEndian, 1, 0, 1)
	clear(page(2))
	forgeHeader(page(3), binary.LittleEndian, 3, 7, 99)
	forgeHeader(page(4), binary.LittleEndian, 4, 0, 0)
	s := openForged(t, "a.db", data, nil)
	got, st := read(t, s)
	if !bytes.Equal(got, data) || s.Kind() != bdb.KindBtree || s.PageSize() != 1024 {
		t.Errorf("%s, pages of %d, %d of %d bytes", s.Kind(), s.PageSize(), len(got), len(data))
	}
	if st.Pages != 6 || st.Unlogged != 1 || st.Zero != 1 || st.MaxLSN != (bdb.LSN{File: 7, Offset: 99}) || st.Damaged != 0 || st.Reread != 0 {
		t.Errorf("%+v", st)
	}
}

func TestSourceReportsDamage(t *testing.T) {
	data := forgeFile(512, 300)
	data[512*4+8]++
	s := openForged(t, "a.db", data, nil)
	got, st := read(t, s)
	if !bytes.Equal(got, data) || st.Damaged != 1 || len(st.Bad) != 1 || st.Bad[0].Page != 4 || st.Reread < int64(len(recheckPauses)) {
		t.Errorf("one bad page: %+v", st)
	}
	for i := range 300 {
		data[512*i+8]++
	}
	s = openForged(t, "a.db", data, nil)
	if got, st = read(t, s); !bytes.Equal(got, data) || st.Damaged != 300 || len(st.Bad) != maxBad {
		t.Errorf("all bad: %d damaged, %d named", st.Damaged, len(st.Bad))
	}
	st.Add(st)
	if st.Damaged != 600 || len(st.Bad) != maxBad || st.Pages != 600 {
		t.Errorf("added up: %d damaged, %d named, %d pages", st.Damaged, len(st.Bad), st.Pages)
	}
}

func TestSourceReadsBadPageAgain(t *testing.T) {
	defer func(old []time.Duration) { recheckPauses = old }(recheckPauses)
	recheckPauses = slices.Repeat([]time.Duration{20 * time.Millisecond}, 500)
	data := forgeFile(512, 3)
	good := bytes.Clone(data[1024:])
	data[1024+8]++
	s := openForged(t, "a.db", data, nil)
	repair := time.AfterFunc(50*time.Millisecond, func() { overwrite(t, s.f.Name(), good, 1024) })
	defer repair.Stop()
	got, st := read(t, s)
	if !bytes.Equal(got[1024:], good) || st.Damaged != 0 || st.Reread == 0 {
		t.Errorf("%+v", st)
	}
}

func TestSourceEndsInsidePage(t *testing.T) {
	s := openForged(t, "a.db", forgeFile(512, 3)[:512*2+100], nil)
	got, st := read(t, s)
	if len(got) != 1024 || st.Damaged != 1 || st.Bad[0].Page != 2 || !strings.Contains(st.Bad[0].Problem, "file ends after 100 of its 512 bytes") {
		t.Errorf("%d bytes, %+v", len(got), st)
	}
	if n, st, err := s.ReadAt(context.Background(), make([]byte, 1024), 1<<20); n != 0 || err != nil || st.Damaged != 0 {
		t.Errorf("behind the end: %d, %+v, %v", n, st, err)
	}
}

func TestSourceOfApplicationFile(t *testing.T) {
	content := append(bytes.Repeat([]byte("text"), 2000), make([]byte, 5000)...)
	s := openForged(t, "notes", content, nil)
	got, st := read(t, s)
	if !bytes.Equal(got, content) || s.Kind() != bdb.KindFile || s.Meta() != nil || s.PageSize() != 4096 || st.Pages != 4 || st.Zero != 2 || !st.MaxLSN.IsZero() {
		t.Errorf("%s, %d of %d bytes, %+v", s.Kind(), len(got), len(content), st)
	}
}

func TestSourceInTheMaking(t *testing.T) {
	s := openForged(t, "a.db", nil, nil)
	overwrite(t, s.f.Name(), forgeFile(8192, 3), 0)
	if got, st := read(t, s); len(got) != 0 || st.Pages != 0 {
		t.Errorf("read %d bytes of a file that was empty when opened", len(got))
	}
	if now, err := s.Stat(); err != nil || now.Size != 3*8192 || s.File().Stat.Size != 0 {
		t.Errorf("Stat: %+v, %v; File: %+v", now, err, s.File())
	}
}

func TestSourceWithDamagedMetadata(t *testing.T) {
	data := forgeFile(512, 3)
	data[20] = 77 // page size
	s := openForged(t, "a.db", data, nil)
	got, st := read(t, s)
	if !bytes.Equal(got, data) || s.Kind() != bdb.KindFile || st.Damaged != 1 || !strings.Contains(st.Bad[0].Problem, "damaged metadata page: page size") {
		t.Errorf("%s, %+v", s.Kind(), st)
	}
}

// forgeQueue is the metadata page of a queue with two pages in an extent, and extent 3 of it, big-endian.
func forgeQueue() (queue, extent []byte) {
	queue, extent = make([]byte, 512), make([]byte, 1024)
	forgeMeta(queue, binary.BigEndian, 0x042253, 4, 10)
	binary.BigEndian.PutUint32(queue[92:], 2)
	for i := range uint32(2) {
		page := extent[i*512 : (i+1)*512]
		forgeHeader(page, binary.BigEndian, 7+i, 2, 100+i)
		page[25] = 11
	}
	return queue, extent
}

func TestSourceOfQueueExtent(t *testing.T) {
	queue, extent := forgeQueue()
	s := openForged(t, "__dbq.q.3", extent, map[string][]byte{"q": queue})
	got, st := read(t, s)
	if !bytes.Equal(got, extent) || s.Kind() != bdb.KindQueueExtent || s.PageSize() != 512 || st.Damaged != 0 || st.MaxLSN != (bdb.LSN{File: 2, Offset: 101}) {
		t.Errorf("%s, pages of %d, %+v", s.Kind(), s.PageSize(), st)
	}
	s = openForged(t, "__dbq.q.2", extent, map[string][]byte{"q": queue})
	if _, st := read(t, s); st.Damaged != 2 || st.Bad[0].Page != 5 {
		t.Errorf("under another number: %+v", st)
	}
	for what, more := range map[string]map[string][]byte{
		"no queue": nil, "no database": {"q": []byte("q")}, "no queue's database": {"q": forgeFile(512, 2)},
	} {
		if s := openForged(t, "__dbq.q.3", extent, more); s.Kind() != bdb.KindFile {
			t.Errorf("%s: %s", what, s.Kind())
		}
	}
}

func TestSourceOfEncryptedExtentWithoutPassword(t *testing.T) {
	queue, extent := forgeQueue()
	queue[24] = 1
	for number, want := range map[string]uint32{"0": 1, "1": 7, "2": 7, "3": 7, "4": 0} {
		s := openForged(t, "__dbq.q."+number, extent, map[string][]byte{"q": queue})
		if s.Kind() != bdb.KindQueueExtent || s.Meta().FirstPage != want {
			t.Errorf("extent %s: %s, first page %d, want %d", number, s.Kind(), s.Meta().FirstPage, want)
		}
	}
}

func TestOpenFileRefuses(t *testing.T) {
	dir := t.TempDir()
	e := &Env{Dirs: []Dir{{".", dir}}}
	if _, err := e.OpenFile(File{Path: "gone"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("vanished: %v", err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fifo", "."} {
		if _, err := e.OpenFile(File{Path: name}); err == nil || !strings.Contains(err.Error(), "not a regular file any more") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSourceOutlivesItsName(t *testing.T) {
	data := forgeFile(4096, 10)
	s := openForged(t, "a.db", data, nil)
	if err := os.Remove(s.f.Name()); err != nil {
		t.Fatal(err)
	}
	if got, _ := read(t, s); !bytes.Equal(got, data) {
		t.Error("a removed file reads differently")
	}
}

func TestReadAtArguments(t *testing.T) {
	s := openForged(t, "a.db", forgeFile(4096, 10), nil)
	for _, c := range []struct{ size, off int }{{4096, 512}, {1000, 0}} {
		if _, _, err := s.ReadAt(context.Background(), make([]byte, c.size), int64(c.off)); err == nil {
			t.Errorf("read %d bytes at %d", c.size, c.off)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := s.ReadAt(ctx, make([]byte, 4096), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestReadAtAllocatesNothing(t *testing.T) {
	s := openForged(t, "a.db", forgeFile(4096, 256), nil)
	buf := make([]byte, 1<<20)
	if n := testing.AllocsPerRun(20, func() { s.ReadAt(context.Background(), buf, 0) }); n >= 1 {
		t.Errorf("ReadAt allocates %v times", n)
	}
}
