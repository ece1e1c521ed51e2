package restore

import (
	"encoding/binary"
	"errors"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/zeebo/blake3"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
)

func TestSpans(t *testing.T) {
	const k = 1 << 10
	ref := func(pack int32, offset int64, length int32, chunk int32) chunkRef {
		return chunkRef{pack: pack, offset: offset, length: length, chunk: chunk}
	}
	refs := []chunkRef{
		ref(1, 24, 100*k, 0), ref(1, 24+100*k, 100*k, 1), // neighbours, and most of their pack
		ref(0, 24, 100*k, 2), ref(0, 400*k, 100*k, 3), // a gap that is cheaper to read
		ref(0, 2000*k, 100*k, 4),                               // one that isn't
		ref(0, 2000*k, 100*k, 5),                               // the same chunk for another file
		ref(0, 10000*k, 5000*k, 6), ref(0, 15000*k, 5000*k, 7), // too long together
	}
	got := spans(refs, []int64{80000 * k, 201 * k})
	want := []struct {
		start, end, size int64
		chunks           []int32
	}{
		{24, 500 * k, 0, []int32{2, 3}},
		{2000 * k, 2100 * k, 0, []int32{4, 5}},
		{10000 * k, 15000 * k, 0, []int32{6}},
		{15000 * k, 20000 * k, 0, []int32{7}},
		{0, 201 * k, 201 * k, []int32{0, 1}},
	}
	if len(got) != len(want) {
		t.Fatalf("%d spans, want %d", len(got), len(want))
	}
	for i, w := range want {
		var chunks []int32
		for _, r := range got[i].refs {
			chunks = append(chunks, r.chunk)
		}
		slices.Sort(chunks)
		if got[i].start != w.start || got[i].end != w.end || got[i].size != w.size || !slices.Equal(chunks, w.chunks) {
			t.Errorf("span %d is %d-%d of %d with chunks %v, want %v", i, got[i].start, got[i].end, got[i].size, chunks, w)
		}
	}
}

func TestLayout(t *testing.T) {
	for _, c := range []struct {
		config string
		line   int // that is refused; 0: none
	}{
		{"set_data_dir data\nset_lg_dir log\nset_tmp_dir tmp\n", 0},
		{"set_cachesize 0 1000 1\n# set_data_dir /x\nset_data_dir a/../b\n", 0},
		{"set_cachesize 0 1000 1\nset_data_dir /srv/data\n", 2},
		{"set_data_dir data\nset_lg_dir ../log\n", 2},
		{"set_tmp_dir /tmp\n", 1},
		{"add_data_dir a/../../b\n", 1},
		{"db_log_dir /x\n", 1},
		{"\n\nset_data_dir m\nset_metadata_dir /m\n", 4},
	} {
		m := &manifest.Manifest{DBConfig: &c.config, Dirs: []manifest.Dir{{Name: "."}}, LogDir: "."}
		_, err := newLayout(m, nil, nil)
		var refused *ConfigError
		if errors.As(err, &refused) != (c.line > 0) || refused != nil && refused.Line != c.line {
			t.Errorf("%q: %v, want line %d refused", c.config, err, c.line)
		}
	}
	for _, dir := range []string{"/etc", "..", "x/../../y"} {
		m := &manifest.Manifest{Dirs: []manifest.Dir{{Name: "."}, {Name: dir}}, LogDir: "."}
		if _, err := newLayout(m, nil, nil); err == nil {
			t.Errorf("data directory %s was taken", dir)
		}
		m = &manifest.Manifest{Dirs: []manifest.Dir{{Name: "."}}, LogDir: dir}
		if _, err := newLayout(m, nil, nil); err == nil {
			t.Errorf("log directory %s was taken", dir)
		}
	}
}

func TestNamesOfTheLog(t *testing.T) {
	s := newStory(place{"/srv/to", "/mnt/to"}, &manifest.Manifest{Home: "/srv/home"})
	for _, c := range []struct {
		dir, name string
		ok        bool
	}{
		{"", "a.db", true}, {"data", "sub/a.db", true}, {"./data", "a.db", true}, {"", "..a", true},
		{"", "/srv/to/abs/a.db", true}, {"/mnt/to/dir", "a.db", true}, {"", "/srv/total/a.db", false},
		{"", "/srv/home/a.db", false}, {"/srv/data", "a.db", false}, {"", "../a.db", false}, {"..", "a.db", false}, {"data", "x/../../a.db", false},
	} {
		err := s.made(bdb.LSN{File: 1, Offset: 28}, bdb.FileID{1}, c.dir, c.name)
		var name *NameError
		if (err == nil) != c.ok || errors.As(err, &name) == c.ok {
			t.Errorf("%q in %q: %v", c.name, c.dir, err)
		}
	}
	if want := map[string]bool{".": true, "data": true, "data/sub": true, "abs": true, "dir": true}; !reflect.DeepEqual(s.folders, want) {
		t.Errorf("folders %v, want %v", s.folders, want)
	}
}

func TestSearchDirs(t *testing.T) {
	id := func(b byte) bdb.FileID { return bdb.FileID{b} }
	s := newStory(nil, &manifest.Manifest{})
	s.dirs = map[string]bool{"made": true, "./data": true}
	s.names = map[bdb.FileID][]string{id(1): {"a.db"}, id(2): {"b.db", "b2.db"}, id(3): {"sub/c.db"}}
	m := &manifest.Manifest{Files: []manifest.File{
		{Path: "data/a.db", FileID: id(1)}, {Path: "unsaid/b2.db", FileID: id(2)}, {Path: "sub/c.db", FileID: id(3)}, {Path: "copy/d.db", FileID: id(4)},
	}}
	lay := &layout{dirs: []string{"."}, search: []string{".", "data"}}
	got := s.searchDirs(lay, m)
	if want := []string{".", "data", "made", "unsaid"}; !slices.Equal(got, want) {
		t.Errorf("search %v, want %v", got, want)
	}
}

func TestJoinPages(t *testing.T) {
	got := joinPages([]PageRange{{7, 9}, {0, 1}, {2, 3}, {9, 12}, {20, 20}})
	if want := []PageRange{{0, 3}, {7, 12}, {20, 20}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestBatches(t *testing.T) {
	files := func(n int, size int64) (list []manifest.File) {
		for range n {
			list = append(list, manifest.File{Size: size, BlockSize: 4096})
		}
		return list
	}
	for _, c := range []struct {
		files []manifest.File
		want  int
	}{
		{files(10, 4096), 10},
		{files(1000, 4096), batchFiles},
		{files(5, batchBlocks*4096/3), 2},
		{files(5, batchBlocks*4096*2), 1},
	} {
		if got := batchLen(c.files); got != c.want {
			t.Errorf("%d files of %d bytes: batch of %d, want %d", len(c.files), c.files[0].Size, got, c.want)
		}
	}
}

func TestBlockSum(t *testing.T) {
	b := make([]byte, 128<<10)
	for i := range b {
		b[i] = byte(i*i>>7 + i)
	}
	for _, n := range []int{0, 1, 100, 512, 8192, wide - 1, wide, wide + 1, len(b)} {
		if got, want := blockSum(b[:n]), manifest.Hash(blake3.Sum256(b[:n])); got != want {
			t.Errorf("%d bytes: %s, want %s", n, got, want)
		}
	}
}

// TestUndoNeeded looks at pages that an aborted transaction had made the metadata page of a subdatabase.
func TestUndoNeeded(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var b []byte
	for _, at := range []uint32{99, 100, 300, 301} {
		page := make([]byte, 512)
		binary.BigEndian.PutUint32(page, 7)
		binary.BigEndian.PutUint32(page[4:], at)
		b = append(b, page...)
	}
	if err := os.WriteFile(dir+"/a.db", b, 0o600); err != nil {
		t.Fatal(err)
	}
	id := bdb.FileID{1}
	h := &home{
		byID: map[bdb.FileID][]string{id: {"a.db"}},
		at:   map[string]homeFile{"a.db": {path: "a.db", pageSize: 512, size: int64(len(b)), order: binary.BigEndian}},
	}
	r := &restorer{t: &target{root: &roots{Root: root}}}
	for page, want := range []bool{false, true, true, false, false} {
		u := bdb.PageUndo{LSN: bdb.LSN{File: 7, Offset: 100}, Last: bdb.LSN{File: 7, Offset: 300}, File: id, Page: uint32(page), Meta: true}
		if got, err := r.undoNeeded(h, &u); got != want || err != nil {
			t.Errorf("page %d: %t, %v", page, got, err)
		}
	}
}
