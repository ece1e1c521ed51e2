package bdb_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bdbvault/localenv/bdb"
)

const password = "correct horse"

// shape is one kind of database file that db_load can make.
type shape struct {
	method    string
	pageSize  int
	protect   string // "plain", "checksum", "encrypted"
	bigEndian bool
}

func (s shape) String() string {
	order := "little"
	if s.bigEndian {
		order = "big"
	}
	return fmt.Sprintf("%s/%d/%s/%s", s.method, s.pageSize, s.protect, order)
}

func (s shape) key() *bdb.Key {
	if s.protect == "encrypted" {
		return bdb.NewKey(password)
	}
	return nil
}

func shapes(pageSizes ...int) (all []shape) {
	for _, method := range []string{"btree", "dup", "hash", "recno", "queue", "extents", "heap"} {
		for _, size := range pageSizes {
			for _, protect := range []string{"plain", "checksum", "encrypted"} {
				for _, big := range []bool{false, true} {
					all = append(all, shape{method, size, protect, big})
				}
			}
		}
	}
	return all
}

// dump is the database in the form that db_load reads: some records per page, and where there can be, long ones and duplicates.
func (s shape) dump() []byte {
	var b bytes.Buffer
	kind := map[string]string{"dup": "btree", "extents": "queue"}[s.method]
	if kind == "" {
		kind = s.method
	}
	fmt.Fprintf(&b, "VERSION=3\nformat=print\ntype=%s\ndb_pagesize=%d\n", kind, s.pageSize)
	if s.protect == "checksum" {
		b.WriteString("chksum=1\n")
	}
	if s.bigEndian {
		b.WriteString("db_lorder=4321\n")
	} else {
		b.WriteString("db_lorder=1234\n")
	}
	switch s.method {
	case "dup":
		b.WriteString("duplicates=1\n")
	case "queue":
		b.WriteString("re_len=100\n")
	case "extents":
		b.WriteString("re_len=100\nextentsize=2\n")
	}
	b.WriteString("HEADER=END\n")
	bytesWanted, record := 6*s.pageSize, 0
	for b.Len() < bytesWanted+2000 {
		value := strings.Repeat(string(rune('a'+record%26)), 80)
		switch {
		case kind == "queue" || kind == "heap" || kind == "recno":
			fmt.Fprintf(&b, " %s%d\n", value, record)
		case s.method == "dup":
			fmt.Fprintf(&b, " key %04d\n %s%d\n", record/40, value, record)
		case record%16 == 3:
			fmt.Fprintf(&b, " key %06d\n %s\n", record, strings.Repeat("long", s.pageSize/3)) // overflow pages
		default:
			fmt.Fprintf(&b, " key %06d\n %s\n", record, value)
		}
		record++
	}
	b.WriteString("DATA=END\n")
	return b.Bytes()
}

// load makes the database and returns the contents of its files by name.
func (s shape) load(t testing.TB, home string) map[string][]byte {
	args := []string{"-h", home}
	if s.protect == "encrypted" {
		args = append(args, "-P", password)
	}
	cmd := exec.Command("db5.3_load", append(args, "a.db")...)
	cmd.Stdin = bytes.NewReader(s.dump())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("db5.3_load %v: %v\n%s", s, err, out)
	}
	files := map[string][]byte{}
	for _, pattern := range []string{"a.db", "__dbq.*"} {
		names, _ := filepath.Glob(filepath.Join(home, pattern))
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files[filepath.Base(name)] = data
		}
	}
	return files
}

// geometry parses the metadata page and the names of queue extents.
func geometry(t testing.TB, files map[string][]byte, key *bdb.Key) map[string]bdb.Meta {
	main, err := bdb.ParseMeta(files["a.db"], key)
	if err != nil {
		t.Fatal(err)
	}
	metas := map[string]bdb.Meta{}
	for name := range files {
		var n uint32
		if _, err := fmt.Sscanf(name, "__dbq.a.db.%d", &n); err != nil {
			metas[name] = main
			continue
		}
		extent, ok := main.Extent(n)
		if !ok {
			t.Fatalf("%s: no geometry", name)
		}
		metas[name] = extent
	}
	return metas
}

// eachPage checks all pages of all files.
func eachPage(files map[string][]byte, metas map[string]bdb.Meta, key *bdb.Key, fn func(m bdb.Meta, pgno uint32, page []byte, lsn bdb.LSN, err error)) {
	for name, data := range files {
		m := metas[name]
		for at := 0; at < len(data); at += m.PageSize {
			pgno := m.FirstPage + uint32(at/m.PageSize)
			page := data[at:min(at+m.PageSize, len(data))]
			lsn, err := m.CheckPage(pgno, page, key)
			fn(m, pgno, page, lsn, err)
		}
	}
}

// TestRealPages has libdb write files of every access method, page size, protection and byte order, and checks every page of them; then flips
// bits all over them.
func TestRealPages(t *testing.T) {
	for _, s := range shapes(512, 1024, 2048, 4096, 8192, 16384, 32768, 65536) {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			files := s.load(t, t.TempDir())
			metas := geometry(t, files, s.key())
			checkMeta(t, s, metas["a.db"])
			if s.method == "extents" && len(files) < 3 {
				t.Errorf("only files %v", slices.Sorted(maps.Keys(files)))
			}
			pages := 0
			eachPage(files, metas, s.key(), func(_ bdb.Meta, pgno uint32, _ []byte, lsn bdb.LSN, err error) {
				pages++
				if err != nil {
					t.Error(err)
				}
				if lsn != bdb.NotLogged && !lsn.IsZero() {
					t.Errorf("page %d has LSN %v outside any environment", pgno, lsn)
				}
			})
			if pages < 3 {
				t.Errorf("only %d pages", pages)
			}
			eachPage(files, metas, nil, func(_ bdb.Meta, _ uint32, _ []byte, _ bdb.LSN, err error) {
				if err != nil {
					t.Errorf("without password: %v", err)
				}
			})
			if s.protect != "plain" {
				flipBits(t, files, metas, s.key())
			}
		})
	}
}

func checkMeta(t *testing.T, s shape, m bdb.Meta) {
	t.Helper()
	kind := map[string]bdb.Kind{"dup": bdb.KindBtree, "recno": bdb.KindBtree, "extents": bdb.KindQueue}[s.method]
	if kind == "" {
		kind = bdb.Kind(s.method)
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if s.bigEndian {
		order = binary.BigEndian
	}
	if m.Kind != kind || m.PageSize != s.pageSize || m.ByteOrder != order {
		t.Errorf("parsed as %s, pages of %d, %v", m.Kind, m.PageSize, m.ByteOrder)
	}
	if m.Encrypted != (s.protect == "encrypted") || m.Checksummed != (s.protect != "plain") {
		t.Errorf("encrypted %v, checksummed %v", m.Encrypted, m.Checksummed)
	}
	if m.FileID.IsZero() || m.FileIDPartial || m.LastPage == 0 && s.method != "queue" && s.method != "extents" {
		t.Errorf("file id %v, last page %d", m.FileID, m.LastPage)
	}
	if kind == bdb.KindQueue && m.RecordLength != 100 || s.method == "extents" && m.PagesPerExtent != 2 {
		t.Errorf("record length %d, %d pages per extent", m.RecordLength, m.PagesPerExtent)
	}
}

// flipBits flips single bits of every page, half of them in the header, and as many as a megabyte of checksums pays for.
func flipBits(t *testing.T, files map[string][]byte, metas map[string]bdb.Meta, key *bdb.Key) {
	seed := uint64(metas["a.db"].PageSize)
	rnd := rand.New(rand.NewPCG(7, seed))
	eachPage(files, metas, key, func(m bdb.Meta, pgno uint32, page []byte, _ bdb.LSN, _ error) {
		covered := len(page)
		if bdb.IsZero(page) {
			return
		}
		if t := page[25]; t >= 8 && t <= 10 || t == 14 {
			covered = bdb.MetaSize // libdb's checksum ends there
		}
		for i := range torture() * max(32, min(500, 1<<20/len(page))) {
			bit := rnd.IntN(covered * 8)
			if i%2 == 0 {
				bit = rnd.IntN(64 * 8)
			}
			page[bit/8] ^= 1 << (bit % 8)
			var bad *bdb.PageError
			if _, err := m.CheckPage(pgno, page, key); !errors.As(err, &bad) || bad.Page != pgno {
				t.Errorf("seed %d, page %d: flip of bit %d of byte %d: %v", seed, pgno, bit%8, bit/8, err)
			}
			page[bit/8] ^= 1 << (bit % 8)
		}
	})
}

// torture is how many times as long tests of chance run.
func torture() int {
	n, err := strconv.Atoi(os.Getenv("BDBVAULT_TORTURE"))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// TestRealPagesElsewhere checks that a page is refused under another number.
func TestRealPagesElsewhere(t *testing.T) {
	for _, s := range shapes(1024) {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			files := s.load(t, t.TempDir())
			eachPage(files, geometry(t, files, s.key()), s.key(), func(m bdb.Meta, pgno uint32, page []byte, _ bdb.LSN, _ error) {
				if _, err := m.CheckPage(pgno+1, page, s.key()); err == nil && !bdb.IsZero(page) {
					t.Errorf("page %d passes as %d", pgno, pgno+1)
				}
			})
		})
	}
}

func TestRealPasswords(t *testing.T) {
	s := shape{"extents", 1024, "encrypted", true}
	files := s.load(t, t.TempDir())
	full, err := bdb.ParseMeta(files["a.db"], s.key())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bdb.ParseMeta(files["a.db"], bdb.NewKey("other")); !errors.Is(err, bdb.ErrPassword) {
		t.Errorf("wrong password: %v", err)
	}
	part, err := bdb.ParseMeta(files["a.db"], nil)
	if err != nil || !part.FileIDPartial || !bytes.Equal(part.FileID[:12], full.FileID[:12]) || part.FileID == full.FileID {
		t.Errorf("without password: %+v, %v", part, err)
	}
	extent, ok := part.Extent(1)
	if !ok || extent.FirstPage != 0 {
		t.Errorf("extent without password: %+v, %v", extent, ok)
	}
	page := files["__dbq.a.db.1"][:1024]
	if _, err := extent.CheckPage(0, page, nil); err != nil {
		t.Errorf("page of that extent: %v", err)
	}
}
