package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"

	"github.com/google/renameio/v2"

	"bdbvault/manifest"
	"bdbvault/remote/repository"
)

// loadParent returns the newest backup of the environment that can be read, nil if there is none. The store's list decides; the state only
// saves the download.
func loadParent(ctx context.Context, repo *repository.Repository, st *state, env string, note func(string)) (*manifest.Manifest, error) {
	list, err := repo.Backups(ctx, env, "")
	if err != nil {
		return nil, err
	}
	for i := len(list) - 1; i >= 0; i-- {
		m, err := loadManifest(ctx, repo, st, env, list[i])
		var void *repository.VoidError
		switch {
		case err == nil:
			return m, nil
		case errors.As(err, &void), errors.Is(err, manifest.ErrDamaged):
			note(fmt.Sprintf("backup %s is passed over: %v", list[i].ID, err))
		default:
			return nil, err
		}
	}
	return nil, nil
}

func loadManifest(ctx context.Context, repo *repository.Repository, st *state, env string, s repository.Stored) (*manifest.Manifest, error) {
	if data, err := os.ReadFile(st.path(stateManifest)); err == nil && int64(len(data)) == s.Size {
		if m, err := repo.CheckManifest(env, s, data); err == nil {
			return m, nil
		}
	}
	m, err := repo.Manifest(ctx, env, s)
	if err != nil {
		return nil, err
	}
	// A cache that can't be written costs a download next time, no more.
	if data, err := m.Encode(); err == nil {
		_ = st.write(stateManifest, data)
	}
	return m, nil
}

// oldFiles finds things in the parent backup. The zero one is empty.
type oldFiles struct {
	byID   map[[partialID]byte][]*manifest.File
	byName map[journalKey]*manifest.File
	packs  map[manifest.Hash]int64 // sizes
}

func indexOld(m *manifest.Manifest) (o oldFiles) {
	if m == nil {
		return o
	}
	o = oldFiles{map[[partialID]byte][]*manifest.File{}, map[journalKey]*manifest.File{}, map[manifest.Hash]int64{}}
	for i := range m.Files {
		f := &m.Files[i]
		o.byName[journalKey{f.Dir, f.Path}] = f
		if !f.FileID.IsZero() {
			id := [partialID]byte(f.FileID[:partialID])
			o.byID[id] = append(o.byID[id], f)
		}
	}
	for _, p := range m.Packs {
		o.packs[p.Name] = p.Size
	}
	return o
}

// find finds a file: a database by its id, wherever it was, anything else by its name. Of several databases of one id, which are copies that
// somebody made, it is the one of that name too.
func (o *oldFiles) find(f *manifest.File) *manifest.File {
	named := o.byName[journalKey{f.Dir, f.Path}]
	if named != nil && sameFileID(named.FileID, named.PartialID, f.FileID, f.PartialID) {
		return named
	}
	if same := o.sameID(f); same != nil {
		return same
	}
	return named
}

// sameID finds a database by its id.
func (o *oldFiles) sameID(f *manifest.File) *manifest.File {
	for _, old := range o.byID[[partialID]byte(f.FileID[:partialID])] {
		if sameFileID(old.FileID, old.PartialID, f.FileID, f.PartialID) {
			return old
		}
	}
	return nil
}

// parentFile answers, for one file of the parent backup, where a block is stored and what its hash is.
type parentFile struct {
	m      *manifest.Map
	hashes io.ReaderAt
	base   int64   // offset of the first hash in hashes
	starts []int64 // first block of each run
	before []int64 // stored blocks before each run
	close  func() error
}

// openParent opens the parent's map of a file from the state, or fetches it there first.
func openParent(ctx context.Context, repo *repository.Repository, st *state, env string, f *manifest.File) (*parentFile, error) {
	file, err := cachedMap(ctx, repo, st, env, f)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	m, base, err := manifest.ReadMap(file, info.Size())
	if err == nil && (m.Size != f.Size || m.BlockSize != f.BlockSize) {
		err = fmt.Errorf("map %s: it is of another file: %w", f.Map, manifest.ErrDamaged)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return newParentFile(m, file, base, file.Close), nil
}

func newParentFile(m *manifest.Map, hashes io.ReaderAt, base int64, close func() error) *parentFile {
	p := &parentFile{m: m, hashes: hashes, base: base, close: close}
	p.starts = make([]int64, len(m.Runs))
	p.before = make([]int64, len(m.Runs))
	var block, stored int64
	for i, r := range m.Runs {
		p.starts[i], p.before[i] = block, stored
		block += r.Blocks
		if r.Chunk != manifest.Zero {
			stored += r.Blocks
		}
	}
	return p
}

func cachedMap(ctx context.Context, repo *repository.Repository, st *state, env string, f *manifest.File) (*os.File, error) {
	if file, err := os.Open(st.mapPath(f.Map)); err == nil {
		if sumIs(file, f.Map) {
			return file, nil
		}
		file.Close()
	}
	t, err := renameio.NewPendingFile(st.mapPath(f.Map), renameio.WithTempDir(st.dir))
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	defer t.Cleanup()
	if _, err := repo.CopyMap(ctx, env, f.Map, t); err != nil {
		return nil, err
	}
	if err := t.CloseAtomicallyReplace(); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	return os.Open(st.mapPath(f.Map))
}

// sumIs guards against a damaged cache: what is compared against decides what is stored.
func sumIs(r io.ReaderAt, want manifest.Hash) bool {
	sum := sha256.New()
	_, err := io.Copy(sum, io.NewSectionReader(r, 0, 1<<62))
	return err == nil && bytes.Equal(sum.Sum(nil), want[:])
}

// place is where the parent stored a block.
type place struct {
	chunk, slot int    // chunk: manifest.Zero for a block of zeros
	hash        []byte // nil for a block of zeros
}

// lookup fills places for the blocks [first, first+len(places)), those that the parent has, and returns how many; buf holds their hashes afterwards.
func (p *parentFile) lookup(first int64, places []place, buf []byte) (int, error) {
	total := p.m.Blocks()
	if first >= total {
		return 0, nil
	}
	n := int(min(int64(len(places)), total-first))
	run := sort.Search(len(p.starts), func(i int) bool { return p.starts[i] > first }) - 1
	stored := 0
	var from int64 = -1
	for i := 0; i < n; run++ {
		r := p.m.Runs[run]
		skip := first + int64(i) - p.starts[run]
		count := int(min(r.Blocks-skip, int64(n-i)))
		for k := 0; k < count; k++ {
			places[i+k] = place{chunk: manifest.Zero}
			if r.Chunk != manifest.Zero {
				places[i+k] = place{chunk: r.Chunk, slot: r.Slot + int(skip) + k, hash: buf[stored*manifest.HashSize:][:manifest.HashSize]}
				stored++
			}
		}
		if from < 0 && r.Chunk != manifest.Zero {
			from = p.before[run] + skip
		}
		i += count
	}
	if stored > 0 {
		if _, err := p.hashes.ReadAt(buf[:stored*manifest.HashSize], p.base+from*manifest.HashSize); err != nil {
			return 0, fmt.Errorf("read cached hashes: %w", err)
		}
	}
	return n, nil
}
