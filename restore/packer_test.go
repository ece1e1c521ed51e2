package restore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/file"
	"bdbvault/remote/repository"
)

// packer makes a repository of an environment that is at rest: as simply as can be, and with its own idea of the format.
type packer struct {
	t        testing.TB
	dir      string // of the store
	repo     *repository.Repository
	env      string // its name
	timeline manifest.Timeline
	key      *bdb.Key
	shipped  map[uint32]*manifest.SegmentHeader // last segment of each log file
	enc      *zstd.Encoder
	backups  int

	encrypted bool // whether or not the packer has the password

	chunkBlocks int // blocks in a chunk
	packChunks  int // chunks in a pack
}

const envName = "test"

func newPacker(t testing.TB, password string) *packer {
	t.Helper()
	dir := t.TempDir()
	p := &packer{t: t, dir: dir, env: envName, timeline: manifest.NewTimeline(), key: bdb.NewKey(password), shipped: map[uint32]*manifest.SegmentHeader{}, encrypted: password != "", chunkBlocks: 8, packChunks: 6}
	driver, err := file.New(dir)
	p.must(err)
	p.repo, err = repository.Init(t.Context(), remote.New(driver, remote.Options{RetryFor: -1}), "test")
	p.must(err)
	p.enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	p.must(err)
	return p
}

func (p *packer) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *packer) put(key string, data []byte) {
	p.t.Helper()
	p.must(repository.PutOnce(context.Background(), p.repo.Bucket, key, data))
}

// full stores a full backup of home, which nobody writes to, and ships its log. Change may alter the manifest.
func (p *packer) full(home string, change func(*manifest.Manifest)) *manifest.Manifest {
	p.t.Helper()
	ctx := context.Background()
	env, err := localenv.Open(home, p.key)
	p.must(err)
	p.backups++ // ids have whole seconds
	id := manifest.NewBackupID(time.Now().Add(time.Duration(p.backups) * time.Second))
	m := manifest.New(p.env, id)
	m.Timeline, m.Started, m.Finished, m.Look, m.Home, m.Tool = p.timeline, time.Now(), time.Now(), time.Now(), home, "test"
	m.BulkSafe.Asked = "off"
	m.Encrypted = p.encrypted
	if env.Config.Present {
		m.DBConfig = &env.Config.Text
	}
	p.start(env, m)
	listing, err := env.List(ctx)
	p.must(err)
	for _, d := range env.Dirs {
		m.Dirs = append(m.Dirs, manifest.Dir{Name: d.Name, Mode: 0o750})
	}
	for _, d := range listing.Dirs {
		if d.Path != "." {
			m.Folders = append(m.Folders, manifest.Folder{Dir: d.Dir, Path: d.Path, Mode: d.Stat.Mode & 0o7777, UID: d.Stat.UID, GID: d.Stat.GID})
		}
	}
	m.LogDir = env.LogDir.Name
	p.files(env, listing, m)
	m.ConsistentAt = p.ship(home)
	if change != nil {
		change(m)
	}
	data, err := m.Encode()
	p.must(err)
	p.put(manifest.ManifestKey(p.env, m.ID), data)
	return m
}

func (p *packer) start(env *localenv.Env, m *manifest.Manifest) {
	p.t.Helper()
	log, err := env.OpenLog(context.Background())
	p.must(err)
	defer log.Close()
	m.LogVersion = log.Version()
	m.BegunAt, err = log.End(context.Background())
	p.must(err)
	c, ok, err := log.LastCheckpoint(context.Background())
	if !errors.Is(err, bdb.ErrPassword) {
		p.must(err)
	}
	m.NeededFrom = bdb.LSN{File: log.Files()[0]}
	if ok {
		m.NeededFrom = c.CkpLSN
	}
}

func (p *packer) files(env *localenv.Env, listing localenv.Listing, m *manifest.Manifest) {
	p.t.Helper()
	w := &packWriter{p: p, m: m}
	for _, f := range listing.Files {
		m.Files = append(m.Files, p.file(env, f, w))
	}
	w.flush()
	for i := range m.Files {
		head, hashes := w.maps[i].bm, w.maps[i].hashes
		for c := range head.Chunks {
			head.Chunks[c].Pack = 0
		}
		w.resolve(i)
		data, err := head.Head()
		p.must(err)
		data = append(data, hashes...)
		name := manifest.Hash(sha256.Sum256(data))
		p.put(manifest.MapKey(p.env, name), data)
		m.Files[i].Map, m.Files[i].MapSize = name, int64(len(data))
	}
}

func (p *packer) file(env *localenv.Env, f localenv.File, w *packWriter) manifest.File {
	p.t.Helper()
	ctx := context.Background()
	src, err := env.OpenFile(f)
	p.must(err)
	defer src.Close()
	size := src.File().Stat.Size
	data := make([]byte, size)
	if size > 0 {
		unit := int64(src.PageSize())
		whole := make([]byte, (size+unit-1)/unit*unit)
		n, st, err := src.ReadAt(ctx, whole, 0)
		copy(data, whole)
		p.must(err)
		if int64(n) != size || len(st.Bad) > 0 {
			p.t.Fatalf("%s: read %d of %d bytes, bad pages %v", f.Path, n, size, st.Bad)
		}
		if w.m.MaxPageLSN.Before(st.MaxLSN) {
			w.m.MaxPageLSN = st.MaxLSN
		}
	}
	s := src.File().Stat
	out := manifest.File{Dir: f.Dir, Path: f.Path, Kind: src.Kind(), Size: size, PageSize: src.PageSize(), Mode: s.Mode & 0o7777, UID: s.UID, GID: s.GID,
		Stat: manifest.Stat{Device: s.Device, Inode: s.Inode, Mtime: s.Mtime, Ctime: s.Ctime}, BlockSize: manifest.NextBlockSize(size, src.PageSize())}
	if meta := src.Meta(); meta != nil && src.Kind() != bdb.KindQueueExtent {
		out.FileID, out.PartialID, out.Encrypted, out.Checksummed = meta.FileID, meta.FileIDPartial, meta.Encrypted, meta.Checksummed
	}
	w.add(data, out.BlockSize, size)
	return out
}

// packWriter lays chunks of all files into packs.
type packWriter struct {
	p     *packer
	m     *manifest.Manifest
	pack  *manifest.PackWriter
	count int
	maps  []*packedMap
	names []manifest.Hash
}

type packedMap struct {
	bm     *manifest.Map
	hashes []byte
	packs  []int // of each chunk, index in names
}

func (w *packWriter) add(data []byte, blockSize int, size int64) {
	pm := &packedMap{bm: &manifest.Map{BlockSize: blockSize, Size: size}}
	w.maps = append(w.maps, pm)
	var raw []byte
	slots := 0
	flush := func() {
		if slots > 0 {
			w.chunk(pm, raw)
			raw, slots = nil, 0
		}
	}
	for off := 0; off < len(data); off += blockSize {
		block := data[off:min(off+blockSize, len(data))]
		if len(bytes.Trim(block, "\x00")) == 0 {
			flush()
			pm.bm.Add(1, manifest.Zero, 0)
			continue
		}
		sum := blake3.Sum256(block)
		pm.hashes = append(pm.hashes, sum[:]...)
		pm.bm.Add(1, len(pm.bm.Chunks), slots)
		raw = append(raw, block...)
		if slots++; slots == w.p.chunkBlocks {
			flush()
		}
	}
	flush()
}

func (w *packWriter) chunk(pm *packedMap, raw []byte) {
	if w.pack == nil {
		w.pack = manifest.NewPackWriter(nil)
	}
	frame := w.p.enc.EncodeAll(raw, nil)
	pm.bm.Chunks = append(pm.bm.Chunks, manifest.Chunk{Offset: w.pack.Add(frame), Length: len(frame), Raw: len(raw)})
	pm.packs = append(pm.packs, len(w.names))
	if w.count++; w.count == w.p.packChunks {
		w.flush()
	}
}

func (w *packWriter) flush() {
	if w.pack == nil {
		return
	}
	name, data := w.pack.Finish()
	w.p.put(manifest.PackKey(w.p.env, name), data)
	w.names = append(w.names, name)
	w.m.Packs = append(w.m.Packs, manifest.Pack{Name: name, Size: int64(len(data)), Live: int64(len(data))})
	w.pack, w.count = nil, 0
}

// resolve gives the chunks of a map their packs.
func (w *packWriter) resolve(i int) {
	pm := w.maps[i]
	index := map[int]int{}
	for c, pack := range pm.packs {
		at, ok := index[pack]
		if !ok {
			at = len(pm.bm.Packs)
			index[pack] = at
			pm.bm.Packs = append(pm.bm.Packs, w.names[pack])
			w.m.Files[i].Uses = append(w.m.Files[i].Uses, manifest.PackUse{Pack: pack})
		}
		pm.bm.Chunks[c].Pack = at
	}
}

// ship stores the log from where it was shipped to and returns its end.
func (p *packer) ship(home string) bdb.LSN {
	p.t.Helper()
	ctx := context.Background()
	env, err := localenv.Open(home, p.key)
	p.must(err)
	log, err := env.OpenLog(ctx)
	p.must(err)
	defer log.Close()
	for _, n := range log.Files() {
		end, err := log.EndOf(ctx, n)
		p.must(err)
		start := uint32(0)
		if h := p.shipped[n]; h != nil {
			start = h.End
			if h.Sealed || start == end && !log.Sealed(n) {
				continue
			}
		}
		if log.Sealed(n) {
			start = 0
		}
		p.segment(log, n, start, end)
	}
	end, err := log.End(ctx)
	p.must(err)
	return end
}

func (p *packer) segment(log *localenv.Log, n, start, end uint32) {
	p.t.Helper()
	ctx := context.Background()
	lh, err := log.Header(n)
	p.must(err)
	data := make([]byte, end)
	_, err = log.ReadAt(ctx, n, data, 0)
	p.must(err)
	h := &manifest.SegmentHeader{Environment: p.env, Timeline: p.timeline, File: n, Start: start, End: end, Sealed: log.Sealed(n),
		StartHash: blake3.Sum256(data[:start]), EndHash: blake3.Sum256(data), LogVersion: lh.Version, LogFileSize: lh.Size, Encrypted: lh.Encrypted}
	_, err = log.Walk(ctx, bdb.LSN{File: n}, func(r *bdb.Record) error {
		if r.LSN.File != n || r.LSN.Offset >= end {
			return fs.SkipAll
		}
		if h.LastRecord = r.LSN.Offset; r.LSN.Offset < start {
			return nil
		}
		h.Records++
		if c, ok := r.Commit(); ok && !c.Abort {
			h.Commits++
			h.LastCommit = c.Time.Unix()
		}
		return nil
	})
	if err != fs.SkipAll {
		p.must(err)
	}
	var b bytes.Buffer
	p.must(manifest.WriteSegment(&b, h, bytes.NewReader(data[start:])))
	p.put(h.Name().Key(p.env), b.Bytes())
	p.shipped[n] = h
}

// objects lists the keys of everything stored under a prefix.
func (p *packer) objects(prefix string) (keys []string) {
	p.t.Helper()
	_, err := p.repo.Bucket.List(context.Background(), prefix, "", func(i remote.Info) error {
		keys = append(keys, i.Key)
		return nil
	})
	p.must(err)
	return keys
}

// path is where the store keeps an object.
func (p *packer) path(key string) string { return filepath.Join(p.dir, filepath.FromSlash(key)) }

func (p *packer) flip(key string, bit int64) {
	p.t.Helper()
	f, err := os.OpenFile(p.path(key), os.O_RDWR, 0)
	p.must(err)
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], bit/8)
	if err != io.EOF {
		p.must(err)
	}
	b[0] ^= 1 << (bit % 8)
	_, err = f.WriteAt(b[:], bit/8)
	p.must(err)
}
