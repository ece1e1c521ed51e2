package archive

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/google/renameio/v2"
	"golang.org/x/sync/errgroup"

	"bdbvault/manifest"
	"bdbvault/remote"
)

// mapUploads is how many maps are under way at once. They are small: it is round trips that take the time.
const mapUploads = 8

// storeMaps stores the maps of the files that changed and completes the manifest's list of files and packs.
func (b *backup) storeMaps(ctx context.Context) error {
	if err := b.step("maps"); err != nil {
		return err
	}
	b.finishPacks()
	b.progress.Phase(PhaseMaps, 0)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(mapUploads)
	for _, j := range b.jobs {
		if j.unread || !j.changed {
			continue
		}
		b.result.NewMaps++
		g.Go(func() error { return b.storeMap(gctx, j) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, j := range b.jobs {
		b.maps[j.entry.Map] = j.entry.MapSize
		if j.changed && !j.unread {
			b.result.NewMapBytes += j.entry.MapSize
		}
		b.m.Files = append(b.m.Files, j.entry)
	}
	slices.SortFunc(b.m.Files, func(x, y manifest.File) int {
		return cmp.Or(cmp.Compare(x.Dir, y.Dir), cmp.Compare(x.Path, y.Path))
	})
	return nil
}

// finishPacks puts the places of new chunks into the maps, and lists the packs that are in use, with how much.
func (b *backup) finishPacks() {
	live := map[int]int64{} // by ordinal
	perFile := make([]map[int]int64, len(b.jobs))
	for i, j := range b.jobs {
		perFile[i] = b.fileUses(j)
		for ordinal, n := range perFile[i] {
			live[ordinal] += n
		}
	}
	index := map[int]int{} // ordinal → index in the manifest
	for ordinal, p := range b.packs.list {
		if n, used := live[ordinal]; used {
			index[ordinal] = len(b.m.Packs)
			b.m.Packs = append(b.m.Packs, manifest.Pack{Name: p.Name, Size: p.Size, Live: n})
		}
	}
	for i, j := range b.jobs {
		j.entry.Uses = nil
		for ordinal, n := range perFile[i] {
			j.entry.Uses = append(j.entry.Uses, manifest.PackUse{Pack: index[ordinal], Live: n})
		}
		slices.SortFunc(j.entry.Uses, func(x, y manifest.PackUse) int { return cmp.Compare(x.Pack, y.Pack) })
	}
}

// fileUses says how much of which pack (by ordinal) the file takes; its map's new chunks are in place afterwards.
func (b *backup) fileUses(j *fileJob) map[int]int64 {
	if !j.unread && j.changed {
		for _, p := range j.placed {
			j.m.Chunks[p.index] = p.chunk
		}
		return uses(&j.m)
	}
	live := map[int]int64{}
	for _, u := range j.old.Uses {
		live[b.packOrdinal(b.parent.Packs[u.Pack])] = u.Live
	}
	j.entry.Map, j.entry.MapSize = j.old.Map, j.old.MapSize
	return live
}

// storeMap encodes a map, stores it under the hash of its bytes, and keeps a copy in the state for the next backup.
func (b *backup) storeMap(ctx context.Context, j *fileJob) error {
	if err := b.step("map"); err != nil {
		return err
	}
	head, err := b.packNames(&j.m).Head()
	if err != nil {
		return fmt.Errorf("%s: %w", j.name(), err)
	}
	hashes := j.m.Hashes() * manifest.HashSize
	body := &joined{head: head, tail: io.NewSectionReader(b.pipe.spool, j.hashAt, hashes)}
	size := int64(len(head)) + hashes
	sum := sha256.New()
	t, err := renameio.NewPendingFile(b.st.path("map"), renameio.WithTempDir(b.st.dir))
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	defer t.Cleanup()
	if _, err := io.Copy(io.MultiWriter(sum, t), io.NewSectionReader(body, 0, size)); err != nil {
		return fmt.Errorf("%s: hashes: %w", j.name(), err)
	}
	name := manifest.Hash(sum.Sum(nil))
	key := manifest.MapKey(b.opt.Env, name)
	err = b.repo.Bucket.Put(ctx, key, body, size, remote.PutOptions{IfAbsent: true, SHA256: name, HasSHA256: true, Retain: b.lock})
	if err != nil {
		return fmt.Errorf("store the map of %s: %w", j.name(), err)
	}
	b.locked.add(key)
	j.entry.Map, j.entry.MapSize = name, size
	return b.st.adopt(t, name)
}

// packNames turns ordinals of the pack table into names, as a stored map has them.
func (b *backup) packNames(m *manifest.Map) *manifest.Map {
	stored := &manifest.Map{BlockSize: m.BlockSize, Size: m.Size, Runs: m.Runs, Chunks: make([]manifest.Chunk, len(m.Chunks))}
	index := map[int]int{}
	for i, c := range m.Chunks {
		k, ok := index[c.Pack]
		if !ok {
			k = len(stored.Packs)
			index[c.Pack] = k
			stored.Packs = append(stored.Packs, b.packs.list[c.Pack].Name)
		}
		c.Pack = k
		stored.Chunks[i] = c
	}
	return stored
}

// joined reads as head and then tail, at any offset.
type joined struct {
	head []byte
	tail *io.SectionReader
}

func (j *joined) ReadAt(p []byte, off int64) (n int, err error) {
	if off < int64(len(j.head)) {
		n = copy(p, j.head[off:])
		off += int64(n)
	}
	if n == len(p) {
		return n, nil
	}
	k, err := j.tail.ReadAt(p[n:], off-int64(len(j.head)))
	if errors.Is(err, io.EOF) && n+k == len(p) {
		err = nil
	}
	return n + k, err
}
