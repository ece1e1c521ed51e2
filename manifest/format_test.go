package manifest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"bdbvault/localenv/bdb"
)

// sample is one small valid object of each format, and the decoder that must take it and nothing near it.
type sample struct {
	name   string
	data   []byte
	decode func([]byte) (any, error)
}

func samples(t testing.TB) []sample {
	t.Helper()
	must := func(data []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	when := time.Date(2026, 11, 20, 5, 30, 12, 0, time.UTC)
	return []sample{
		{"repository", must(NewRepository(when, "bdbvault test").Encode()), func(b []byte) (any, error) { return DecodeRepository(b) }},
		{"manifest", must(sampleManifest(when).Encode()), func(b []byte) (any, error) { return DecodeManifest(b) }},
		{"condemned", must(sampleCondemned(when).Encode()), func(b []byte) (any, error) { return DecodeCondemned(b) }},
		{"hold", must(sampleHold(when).Encode()), func(b []byte) (any, error) { return DecodeHold(b) }},
		{"drill", must(sampleDrill(when).Encode()), func(b []byte) (any, error) { return DecodeDrill(b) }},
		{"segment", sampleSegment(t), decodeSegment},
	}
}

func sampleManifest(when time.Time) *Manifest {
	m := New("mail", "20261120T053012Z-4f3a")
	m.Timeline, m.Started, m.Finished, m.Look = Timeline{7}, when, when, when
	m.Dirs = []Dir{{Name: ".", Mode: 0o700}, {Name: "data", Mode: 0o750}}
	m.Folders = []Folder{{Dir: 1, Path: "sub", Mode: 0o700}}
	m.Packs = []Pack{{Name: Hash{9}, Size: 100, Live: 90}}
	m.Files = []File{{Dir: 1, Path: "sub/a.db", Kind: bdb.KindBtree, Size: 8192, PageSize: 4096, BlockSize: 4096, FileID: bdb.FileID{1},
		Map: Hash{3}, MapSize: 10, Uses: []PackUse{{0, 90}}}}
	m.NeededFrom, m.ConsistentAt = bdb.LSN{File: 1, Offset: 28}, bdb.LSN{File: 2, Offset: 77}
	return m
}

// TestLockNeedsVersion2: programs that don't know locks read manifests without any, and are told of a newer format otherwise.
func TestLockNeedsVersion2(t *testing.T) {
	m := sampleManifest(time.Now().UTC())
	for _, lock := range []*Lock{nil, {Mode: LockCompliance, Until: time.Date(2026, 12, 20, 0, 0, 0, 0, time.UTC)}} {
		m.Lock = lock
		data, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		var newer *FormatError
		if err := unseal("manifest", 1, data, new(Manifest)); errors.As(err, &newer) != (lock != nil) {
			t.Errorf("version 1 reads the lock %v: %v", lock, err)
		}
		if got, err := DecodeManifest(data); err != nil || !reflect.DeepEqual(got.Lock, lock) {
			t.Errorf("%v became %v, %v", lock, got.Lock, err)
		}
	}
	m.Lock.Mode = "none"
	if _, err := m.Encode(); err == nil {
		t.Error("wrote a mode that there is not")
	}
}

func sampleCondemned(when time.Time) *Condemned {
	c := NewCondemned("mail", "20261120T060000Z-91bd")
	c.Created, c.Tool, c.Policy = when, "bdbvault test", "--keep-last 1"
	c.Packs, c.Maps = []Hash{{1}}, []Hash{{2}}
	c.Segments = []string{SegmentName{Timeline: Timeline{7}, File: 3, End: 77, Sealed: true}.String()}
	c.Manifests = []*Manifest{sampleManifest(when)}
	return c
}

func sampleHold(when time.Time) *Hold {
	h := NewHold("mail", "20261120T053012Z-4f3a")
	h.Created, h.Host, h.Tool = when, "db1", "bdbvault test"
	return h
}

func sampleDrill(when time.Time) *Drill {
	d := NewDrill("mail", "20261121T040000Z-77ac")
	d.Repository, d.Started, d.Finished, d.Host, d.Tool = Timeline{9}, when, when.Add(time.Minute), "db2", "bdbvault test"
	d.Backup, d.BackupSHA256, d.Timeline, d.End, d.EndTime = "20261120T053012Z-4f3a", &Hash{1}, Timeline{7}, bdb.LSN{File: 2, Offset: 77}, when
	d.Phases = []DrillPhase{{Name: "plan", Seconds: 0.5, Requests: 4}}
	d.Verified, d.Pages, d.DatabaseCount, d.Databases = 1, 2, 1, []DrillDatabase{{Path: "a.db", Kind: bdb.KindBtree, Pages: 2}}
	d.Result = DrillPassed
	return d
}

func sampleSegment(t testing.TB) []byte {
	t.Helper()
	records := bytes.Repeat([]byte("record "), 30)
	h := &SegmentHeader{Environment: "mail", Timeline: Timeline{7}, File: 3, Start: 28, End: 28 + uint32(len(records)), Records: 2}
	var buf bytes.Buffer
	if err := WriteSegment(&buf, h, bytes.NewReader(records)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func decodeSegment(b []byte) (any, error) {
	s, err := NewSegmentReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	defer s.Close()
	records, err := io.ReadAll(s)
	return struct {
		H SegmentHeader
		R string
	}{*s.Header, string(records)}, err
}

// TestEveryPrefixAndEveryBit: what is cut short or has one bit flipped is refused, as damage or as a newer format, never taken for
// something else.
func TestEveryPrefixAndEveryBit(t *testing.T) {
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			if _, err := s.decode(s.data); err != nil {
				t.Fatalf("whole: %v", err)
			}
			for n := range s.data {
				if _, err := s.decode(s.data[:n]); !errors.Is(err, ErrDamaged) {
					t.Fatalf("first %d bytes: %v", n, err)
				}
			}
			for i := range s.data {
				for bit := range 8 {
					b := bytes.Clone(s.data)
					b[i] ^= 1 << bit
					var newer *FormatError
					if v, err := s.decode(b); !errors.Is(err, ErrDamaged) && !errors.As(err, &newer) {
						t.Fatalf("bit %d of byte %d flipped: %v, %v", bit, i, v, err)
					}
				}
			}
		})
	}
}

// Maps are checked against their name by whoever reads them; on its own a flipped bit must only never lead out of bounds.
func TestMapPrefixesAndBits(t *testing.T) {
	data := sampleMap(t)
	m, at, err := ReadMap(bytes.NewReader(data), int64(len(data)))
	if err != nil || m.Blocks() != 6 || m.Hashes() != 4 || int64(len(data))-at != 4*HashSize {
		t.Fatalf("%+v %d %v", m, at, err)
	}
	for n := range data {
		if _, _, err := ReadMap(bytes.NewReader(data[:n]), int64(n)); !errors.Is(err, ErrDamaged) {
			t.Fatalf("first %d bytes: %v", n, err)
		}
	}
	for i := 0; i < int(at)*8; i++ {
		b := bytes.Clone(data)
		b[i/8] ^= 1 << (i % 8)
		if m, _, err := ReadMap(bytes.NewReader(b), int64(len(b))); err == nil && m.check() != nil {
			t.Fatalf("bit %d flipped: %v", i, m.check())
		}
	}
}

func sampleMap(t testing.TB) []byte {
	t.Helper()
	m := &Map{BlockSize: 4096, Size: 5*4096 + 512, Packs: []Hash{{1}, {2}},
		Chunks: []Chunk{{Pack: 0, Offset: 24, Length: 100, Raw: 3 * 4096}, {Pack: 1, Offset: 500, Length: 77, Raw: 4096 + 512}}}
	m.Add(1, 0, 1)
	m.Add(1, 0, 2)
	m.Add(2, Zero, 0)
	m.Add(2, 1, 0)
	if len(m.Runs) != 3 {
		t.Fatalf("blocks that follow on are not joined: %+v", m.Runs)
	}
	head, err := m.Head()
	if err != nil {
		t.Fatal(err)
	}
	return append(head, make([]byte, 4*HashSize)...)
}

func TestNewerFormatsAreNamed(t *testing.T) {
	for _, s := range samples(t)[:5] {
		inner := fmt.Sprintf(`{"format":9,"unknown":true}`)
		data := fmt.Appendf(nil, "{\"sha256\":\"%x\",\"%s\":%s}\n", sha256.Sum256([]byte(inner)), s.name, inner)
		_, err := s.decode(data)
		var newer *FormatError
		if !errors.As(err, &newer) || newer.Found != 9 || !strings.Contains(err.Error(), s.name) {
			t.Errorf("%s: %v", s.name, err)
		}
	}
	for magic, decode := range map[string]func([]byte) error{
		"BDBVSEG2": func(b []byte) error { _, err := decodeSegment(b); return err },
		"BDBVMAP3": func(b []byte) error { _, _, err := ReadMap(bytes.NewReader(b), int64(len(b))); return err },
	} {
		var newer *FormatError
		if err := decode(append([]byte(magic), make([]byte, 64)...)); !errors.As(err, &newer) {
			t.Errorf("%s: %v", magic, err)
		}
	}
}

func TestManifestRefusesWhatLeavesItsDirectory(t *testing.T) {
	for name, change := range map[string]func(*Manifest){
		"parent":    func(m *Manifest) { m.Files[0].Path = "../a.db" },
		"absolute":  func(m *Manifest) { m.Files[0].Path = "/etc/passwd" },
		"inside":    func(m *Manifest) { m.Files[0].Path = "a/../../b" },
		"itself":    func(m *Manifest) { m.Files[0].Path = "." },
		"nul":       func(m *Manifest) { m.Files[0].Path = "a\x00b" },
		"folder":    func(m *Manifest) { m.Folders[0].Path = ".." },
		"directory": func(m *Manifest) { m.Files[0].Dir = 2 },
		"pack":      func(m *Manifest) { m.Files[0].Uses[0].Pack = 1 },
		"mode":      func(m *Manifest) { m.Files[0].Mode = 1 << 20 },
		"size":      func(m *Manifest) { m.Files[0].Size = 1<<63 - 1 },
		"below a file": func(m *Manifest) {
			m.Files = append(m.Files, m.Files[0])
			m.Files[1].Path += "/b.db"
		},
		"file and folder": func(m *Manifest) { m.Folders[0].Path = m.Files[0].Path },
		"no log":          func(m *Manifest) { m.NeededFrom = bdb.LSN{} },
		"log backwards":   func(m *Manifest) { m.ConsistentAt = bdb.LSN{File: 1} },
		"begun too late":  func(m *Manifest) { m.BegunAt = bdb.LSN{File: 3} },
		"twice":           func(m *Manifest) { m.Files = append(m.Files, m.Files[0]) },
		"blocks":          func(m *Manifest) { m.Files[0].BlockSize = 2048 },
		"name":            func(m *Manifest) { m.Environment = "a/b" },
	} {
		m := sampleManifest(time.Now())
		change(m)
		if data, err := m.Encode(); err == nil {
			t.Errorf("%s: encoded: %s", name, data)
		}
		// And a manifest that somebody else wrote so, checksum and all.
		data, err := seal("manifest", m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeManifest(data); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: decoded: %v", name, err)
		}
	}
}

func TestCondemnedRefusesWhatCannotBe(t *testing.T) {
	for name, change := range map[string]func(*Condemned){
		"id":              func(c *Condemned) { c.ID = "../x" },
		"environment":     func(c *Condemned) { c.Environment = "a/b" },
		"segment":         func(c *Condemned) { c.Segments[0] = "../../backups/x" },
		"no manifest":     func(c *Condemned) { c.Manifests[0] = nil },
		"other's backup":  func(c *Condemned) { c.Manifests[0].Environment = "news" },
		"twice":           func(c *Condemned) { c.Manifests = append(c.Manifests, c.Manifests[0]) },
		"its name leaves": func(c *Condemned) { c.Manifests[0].Files[0].Path = "../a.db" },
	} {
		c := sampleCondemned(time.Now())
		change(c)
		if data, err := c.Encode(); err == nil {
			t.Errorf("%s: encoded: %s", name, data)
		}
		data, err := seal("condemned", c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeCondemned(data); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: decoded: %v", name, err)
		}
	}
}

func TestDrillRefusesWhatCannotBe(t *testing.T) {
	for name, change := range map[string]func(*Drill){
		"id":                       func(d *Drill) { d.ID = "../x" },
		"environment":              func(d *Drill) { d.Environment = "a/b" },
		"backup":                   func(d *Drill) { d.Backup = "x" },
		"no result":                func(d *Drill) { d.Result = "" },
		"passed with an error":     func(d *Drill) { d.Error = "no" },
		"passed without an end":    func(d *Drill) { d.End = bdb.LSN{} },
		"an end without a log":     func(d *Drill) { d.NoLog = true },
		"failed without an error":  func(d *Drill) { d.Result = DrillFailed },
		"damaged without an error": func(d *Drill) { d.Result = DrillDamaged },
	} {
		d := sampleDrill(time.Now())
		change(d)
		if data, err := d.Encode(); err == nil {
			t.Errorf("%s: encoded: %s", name, data)
		}
		data, err := seal("drill", d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeDrill(data); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: decoded: %v", name, err)
		}
	}
	if id, err := ParseDrillKey("mail", DrillKey("mail", "20261121T040000Z-77ac")); err != nil || id != "20261121T040000Z-77ac" {
		t.Errorf("%s, %v", id, err)
	}
}

func TestVoid(t *testing.T) {
	m := &Manifest{Look: time.Unix(1000, 0)}
	if m.Void(time.Unix(1000+1800, 0), time.Hour) || !m.Void(time.Unix(1000+1801, 0), time.Hour) {
		t.Error("void is what was stored more than half the grace period after its look")
	}
}

func TestRetire(t *testing.T) {
	packs := []Pack{{Hash{1}, 124, 49}, {Hash{2}, 124, 10}, {Hash{3}, 124, 50}, {Hash{4}, 1000, 900}, {Hash{5}, 100, 60}}
	if got := Retire(packs); !reflect.DeepEqual(got, []Hash{{2}, {1}}) {
		t.Errorf("worst first, while a tenth of what is in use allows: %v", got)
	}
	packs[3].Live = 300
	packs[3].Size = 310
	if got := Retire(packs); !reflect.DeepEqual(got, []Hash{{2}}) {
		t.Errorf("no more than a tenth: %v", got)
	}
	if got := Retire([]Pack{{Hash{1}, 124, 40}}); len(got) != 1 {
		t.Errorf("one pack may always go: %v", got)
	}
	if got := Retire([]Pack{{Hash{1}, int64(PackHeader) + 13, 13}}); len(got) != 0 {
		t.Errorf("a tiny pack of which all is in use would be stored anew for ever: %v", got)
	}
}

func TestNextBlockSize(t *testing.T) {
	for _, c := range []struct {
		size int64
		page int
		want int
	}{{0, 512, 512}, {512 << 20, 512, 512}, {512<<20 + 1, 512, 1024}, {8 << 30, 8192, 8192}, {64 << 30, 4096, 65536}, {1 << 50, 512, MaxChunk}} {
		if got := NextBlockSize(c.size, c.page); got != c.want {
			t.Errorf("NextBlockSize(%d, %d) = %d, want %d", c.size, c.page, got, c.want)
		}
	}
}
