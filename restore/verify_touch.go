package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"bdbvault/manifest"
	"bdbvault/remote"
)

// mapScans is how many maps are looked through side by side.
const mapScans = 4

// touch finds out what the damage means: which backups have lost something, and of which files.
func (v *verifier) touch(ctx context.Context) error {
	var bad numbers
	for key := range v.bad {
		if i, ok := v.store.find(key); ok {
			bad.add(i)
		}
	}
	v.findGaps()
	for _, c := range v.backups {
		if c.State == StateOK {
			v.follow(c)
		}
		if !c.needs.meets(bad) || c.State == StateVoid {
			continue
		}
		if err := v.losses(ctx, c, bad); err != nil {
			return err
		}
	}
	return nil
}

// losses are those of a backup. One that prune --undo could put back is not looked into.
func (v *verifier) losses(ctx context.Context, c *checked, bad numbers) error {
	if c.State == StatePruned {
		for key, d := range v.bad {
			if i, ok := v.store.find(key); ok && c.needs.has(i) {
				d.Backups, c.Problem = append(d.Backups, c.ID), "what it needs is missing or damaged"
			}
		}
		return nil
	}
	m, err := v.repo.AnyManifest(ctx, v.opt.Env, c.stored)
	if errors.Is(err, remote.ErrNotFound) {
		return nil
	}
	if err != nil && !inStore(err) {
		return err
	}
	if err != nil {
		d := v.fail(manifest.ManifestKey(v.opt.Env, c.ID), KindManifest, err)
		c.State, c.Problem, d.Backups = StateDamaged, d.Problem, []manifest.BackupID{c.ID}
		return nil
	}
	lost := make([]*LostFile, len(m.Files))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(mapScans)
	for i := range m.Files {
		if v.unhurt(m, &m.Files[i]) {
			continue
		}
		g.Go(func() (err error) {
			lost[i], err = v.lost(gctx, c, m, &m.Files[i])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, f := range lost {
		if f != nil {
			c.Lost = append(c.Lost, *f)
		}
	}
	if len(c.Lost) > 0 && c.State == StateOK {
		c.State, c.Problem = StateDamaged, fmt.Sprintf("%d of its %d files can't be brought back whole", len(c.Lost), len(m.Files))
	}
	return nil
}

// unhurt reports whether nothing that a file needs is damaged.
func (v *verifier) unhurt(m *manifest.Manifest, f *manifest.File) bool {
	if v.isBad(manifest.MapKey(v.opt.Env, f.Map)) {
		return false
	}
	return !slices.ContainsFunc(f.Uses, func(u manifest.PackUse) bool { return v.isBad(manifest.PackKey(v.opt.Env, m.Packs[u.Pack].Name)) })
}

func (v *verifier) isBad(key string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.bad[key] != nil
}

// lost is what a backup can't bring back of a file; nil: it is all there.
func (v *verifier) lost(ctx context.Context, c *checked, m *manifest.Manifest, f *manifest.File) (*LostFile, error) {
	l := &LostFile{Path: path.Join(m.Dirs[f.Dir].Name, f.Path), Object: manifest.MapKey(v.opt.Env, f.Map)}
	if v.isBad(l.Object) {
		v.blame(l.Object, c)
		return l, nil
	}
	v.mu.Lock()
	s := v.scans[f.Map]
	v.mu.Unlock()
	if s == nil {
		var err error
		if s, err = v.scan(ctx, f); err != nil && !inStore(err) {
			return nil, err
		}
		if err != nil {
			v.fail(l.Object, KindMap, err).read = true
			v.blame(l.Object, c)
			return l, nil
		}
		v.mu.Lock()
		v.scans[f.Map] = s
		v.mu.Unlock()
	}
	if len(s.pages) == 0 {
		return nil, nil
	}
	for _, key := range s.objects {
		v.blame(key, c)
	}
	l.Pages, l.Object = s.pages, s.objects[0]
	return l, nil
}

// blame notes that a backup has lost something with an object.
func (v *verifier) blame(key string, c *checked) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if d := v.bad[key]; !slices.Contains(d.Backups, c.ID) {
		d.Backups = append(d.Backups, c.ID)
	}
}

// scanned is what damaged packs mean for the file of one map, whichever backups share it.
type scanned struct {
	pages   []PageRange
	objects []string // that have lost some of them
}

// scan looks which blocks of a file are lost with damaged packs: a pack with one bad byte has lost a block or two.
func (v *verifier) scan(ctx context.Context, f *manifest.File) (s *scanned, err error) {
	spool, err := os.CreateTemp("", "bdbvault-map-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, spool.Close()) }()
	if err := os.Remove(spool.Name()); err != nil {
		return nil, err
	}
	size, err := v.repo.CopyMap(ctx, v.opt.Env, f.Map, &limitWriter{w: spool, left: f.MapSize})
	if err != nil {
		return nil, err
	}
	bm, hashes, err := manifest.ReadMap(spool, size)
	if err == nil && (bm.Size != f.Size || bm.BlockSize != f.BlockSize) {
		err = fmt.Errorf("it describes a file of %d bytes in blocks of %d: %w", bm.Size, bm.BlockSize, manifest.ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	d := &dataFile{file: f, path: f.Path, bm: bm, hashes: io.NewSectionReader(spool, hashes, size-hashes)}
	if err := d.index(); err != nil {
		return nil, err
	}
	return v.scanChunks(ctx, d)
}

func (v *verifier) scanChunks(ctx context.Context, d *dataFile) (*scanned, error) {
	dec, err := newDecoder()
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	s := &scanned{}
	for c := range d.bm.Chunks {
		key := manifest.PackKey(v.opt.Env, d.bm.Packs[d.bm.Chunks[c].Pack])
		if !v.isBad(key) {
			continue
		}
		n := len(s.pages)
		if err := v.scanChunk(ctx, d, c, dec, s); err != nil {
			return nil, err
		}
		if len(s.pages) > n && !slices.Contains(s.objects, key) {
			s.objects = append(s.objects, key)
		}
	}
	s.pages = joinPages(s.pages)
	return s, nil
}

// scanChunk notes the pages of a chunk whose blocks can't be had.
func (v *verifier) scanChunk(ctx context.Context, d *dataFile, c int, dec *zstd.Decoder, s *scanned) error {
	chunk := &d.bm.Chunks[c]
	key := manifest.PackKey(v.opt.Env, d.bm.Packs[chunk.Pack])
	packed := make([]byte, chunk.Length)
	err := fmt.Errorf("it is cut short: %w", manifest.ErrDamaged)
	if i, ok := v.store.find(key); ok && chunk.Offset+int64(chunk.Length) <= v.store.sizes[i] {
		err = v.repo.Bucket.ReadRange(ctx, key, packed, chunk.Offset)
	}
	if err != nil && !inStore(err) {
		return err
	}
	var raw []byte
	if err == nil {
		raw, err = dec.DecodeAll(packed, make([]byte, 0, chunk.Raw+decodeSlack))
	}
	readable := err == nil && len(raw) == chunk.Raw
	for _, i := range d.runs(c) {
		r := &d.bm.Runs[i]
		first := int64(d.block[i])
		if !readable {
			s.pages = append(s.pages, d.pages(first, r.Blocks))
			continue
		}
		sums, err := d.readHashes(nil, int64(d.hash[i]), r.Blocks)
		if err != nil {
			return err
		}
		for n := range r.Blocks {
			_, length := d.span(first+n, 1)
			block := raw[(int64(r.Slot)+n)*int64(d.bm.BlockSize):][:length]
			if blockSum(block) != manifest.Hash(sums[n*manifest.HashSize:][:manifest.HashSize]) {
				s.pages = append(s.pages, d.pages(first+n, 1))
			}
		}
	}
	return nil
}

// tell puts the result together.
func (v *verifier) tell() *VerifyResult {
	r := &v.res
	r.Objects, r.Bytes, r.Ranges = v.store.count, v.store.bytes, v.ranges()
	for _, c := range v.backups {
		r.Backups = append(r.Backups, c.VerifiedBackup)
		if c.State == StateOK {
			r.Newest = c.ID
		}
	}
	for _, d := range v.bad {
		slices.Sort(d.Backups)
		r.Damage = append(r.Damage, *d)
	}
	slices.SortFunc(r.Damage, func(a, b DamagedObject) int { return cmp.Compare(a.Object, b.Object) })
	slices.SortFunc(r.Gaps, func(a, b Gap) int {
		return cmp.Or(cmp.Compare(a.Timeline.String(), b.Timeline.String()), a.After.Compare(b.After))
	})
	v.spare()
	slices.Sort(r.Notes)
	return r
}

// spare counts what nobody needs. Beside a backup whose parent is gone it may be what is left of that.
func (v *verifier) spare() {
	var needed numbers
	there := map[manifest.BackupID]bool{}
	for _, c := range v.backups {
		there[c.ID] = true
		needed.addAll(c.needs)
	}
	for i, size := range v.store.sizes {
		if size >= 0 && !needed.has(i) && !v.doomed[v.store.objects[i]] {
			v.res.Spare++
			v.res.SpareBytes += size
		}
	}
	for _, c := range v.backups {
		if v.res.Spare > 0 && c.parent != "" && !there[c.parent] {
			v.note("backup %s, which backup %s was compared with, is not there: pruned, or deleted by somebody", c.parent, c.ID)
		}
	}
}
