package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"bdbvault/manifest"
	"bdbvault/remote/repository"
)

const (
	// batchBlocks and batchFiles bound what is worked on at a time, and so the memory for maps (some 40 bytes a block at worst) and the open
	// files (two each). Files of a batch share their reads, so that a thousand small files don't cost a thousand requests.
	batchBlocks = 1 << 20
	batchFiles  = 256
	// mapFetches is how many maps are fetched side by side.
	mapFetches = 8
)

// data brings back the files of a manifest.
type data struct {
	repo     *repository.Repository
	m        *manifest.Manifest
	t        *target
	lay      *layout
	progress Progress
	step     func(string) error
	damage   *damages
	sizes    map[manifest.Hash]int64 // of the packs

	stepping    sync.Mutex
	reused      atomic.Int64 // files that were right already
	reusedBytes atomic.Int64 // bytes that were, in these and others
}

// run brings back all files, as far as the store has them.
func (d *data) run(ctx context.Context) error {
	d.sizes = make(map[manifest.Hash]int64, len(d.m.Packs))
	for i := range d.m.Packs {
		d.sizes[d.m.Packs[i].Name] = d.m.Packs[i].Size
	}
	for files := d.m.Files; len(files) > 0; {
		n := batchLen(files)
		if err := d.batch(ctx, files[:n]); err != nil {
			return err
		}
		files = files[n:]
	}
	return d.damage.err(d.m.ID)
}

// batchLen is how many of the next files make a batch.
func batchLen(files []manifest.File) int {
	var blocks int64
	for i := range files {
		f := &files[i]
		blocks += f.Size/int64(f.BlockSize) + 1
		if i > 0 && (i == batchFiles || blocks > batchBlocks) {
			return i
		}
	}
	return len(files)
}

// batch is a row of files that are fetched together.
type batch struct {
	*data
	files []*dataFile
	packs []manifest.Hash
}

func (d *data) batch(ctx context.Context, files []manifest.File) (err error) {
	b := &batch{data: d}
	defer func() {
		for _, f := range b.files {
			if f.out != nil {
				err = errors.Join(err, f.out.close())
			}
		}
	}()
	spool, err := b.maps(ctx, files)
	if err != nil {
		return err
	}
	defer spool.Close() // has no name, and nothing reads it again
	if err := b.open(ctx); err != nil {
		return err
	}
	return b.fetch(ctx, b.plan())
}

func (b *batch) key(pack int32) string { return manifest.PackKey(b.m.Environment, b.packs[pack]) }

// maps fetches the maps of files into a file without a name, because their hashes are a few permille of the data.
func (b *batch) maps(ctx context.Context, files []manifest.File) (*os.File, error) {
	spool, err := b.t.root.OpenFile(spoolName, os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := b.t.root.Remove(spoolName); err != nil {
		return nil, errors.Join(err, spool.Close())
	}
	list := make([]*dataFile, len(files))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(mapFetches)
	at := int64(0)
	for i := range files {
		begin, file := at, &files[i]
		at += file.MapSize
		group.Go(func() (err error) {
			list[i], err = b.loadMap(ctx, spool, begin, file)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, errors.Join(err, spool.Close())
	}
	for _, f := range list {
		if f != nil {
			b.files = append(b.files, f)
		}
	}
	return spool, nil
}

// loadMap fetches one map; nil if it can't be had.
func (b *batch) loadMap(ctx context.Context, spool *os.File, at int64, file *manifest.File) (*dataFile, error) {
	f := &dataFile{file: file, path: b.lay.file(file)}
	f.shown = b.t.shown(f.path)
	err := b.readMap(ctx, f, spool, at)
	if err != nil && b.stored(err) {
		b.damage.whole(f.shown, manifest.MapKey(b.m.Environment, file.Map), err)
		return nil, nil
	}
	return f, err
}

func (b *batch) readMap(ctx context.Context, f *dataFile, spool *os.File, at int64) error {
	w := &limitWriter{w: io.NewOffsetWriter(spool, at), left: f.file.MapSize}
	size, err := b.repo.CopyMap(ctx, b.m.Environment, f.file.Map, w)
	if err != nil {
		return err
	}
	bm, hashes, err := manifest.ReadMap(io.NewSectionReader(spool, at, size), size)
	if err == nil && (bm.Size != f.file.Size || bm.BlockSize != f.file.BlockSize) {
		err = fmt.Errorf("it describes a file of %d bytes in blocks of %d: %w", bm.Size, bm.BlockSize, manifest.ErrDamaged)
	}
	if err != nil {
		return fmt.Errorf("object %s: %w", manifest.MapKey(b.m.Environment, f.file.Map), err)
	}
	f.bm, f.hashes = bm, io.NewSectionReader(spool, at+hashes, size-hashes)
	return f.index()
}

// limitWriter refuses to write more than was announced.
type limitWriter struct {
	w    io.Writer
	left int64
}

func (l *limitWriter) Write(p []byte) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		return 0, fmt.Errorf("larger than its manifest says: %w", manifest.ErrDamaged)
	}
	return l.w.Write(p)
}

// open opens the files, and finds out what is right of what is there already.
func (b *batch) open(ctx context.Context) error {
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(workers / 2)
	for _, f := range b.files {
		group.Go(func() (err error) {
			if f.out, f.had, err = openOutput(b.t.root, f.path, f.file.Size); err != nil {
				return err
			}
			if f.had == 0 {
				return errors.Join(gctx.Err(), f.reserve())
			}
			return gctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return b.compare(ctx)
}

// plan lists the reads. Packs are taken in the order in which the files first need them, which is the order in which they were written.
func (b *batch) plan() []span {
	var refs []chunkRef
	index := map[manifest.Hash]int32{}
	for n, f := range b.files {
		wanted := len(refs)
		for c := range f.bm.Chunks {
			if !f.wants(c) {
				continue
			}
			chunk := &f.bm.Chunks[c]
			name := f.bm.Packs[chunk.Pack]
			pack, ok := index[name]
			if !ok {
				pack = int32(len(b.packs))
				index[name] = pack
				b.packs = append(b.packs, name)
			}
			refs = append(refs, chunkRef{offset: chunk.Offset, length: int32(chunk.Length), pack: pack, file: int32(n), chunk: int32(c)})
		}
		f.pending.Store(int64(len(refs) - wanted))
	}
	sizes := make([]int64, len(b.packs))
	for i, name := range b.packs {
		sizes[i] = b.sizes[name]
	}
	return spans(refs, sizes)
}

func (b *batch) fetch(ctx context.Context, list []span) error {
	if err := b.closeRight(ctx); err != nil {
		return err
	}
	crew, err := newCrew(b, min(workers, len(list)))
	if err != nil {
		return err
	}
	todo := make(chan span)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(todo)
		for _, s := range list {
			select {
			case todo <- s:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for _, w := range crew {
		group.Go(func() error { return w.serve(ctx, todo) })
	}
	return group.Wait()
}

// closeRight closes the files of which nothing has to be fetched.
func (b *batch) closeRight(ctx context.Context) error {
	for _, f := range b.files {
		if f.pending.Load() > 0 {
			continue
		}
		if b.t.reuse || f.had > 0 {
			b.reused.Add(1)
		}
		if err := b.close(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// done counts a chunk of a file as served; with the last one the file is finished.
func (b *batch) done(ctx context.Context, f *dataFile) error {
	if f.pending.Add(-1) > 0 {
		return nil
	}
	return b.close(ctx, f)
}

func (b *batch) close(ctx context.Context, f *dataFile) error {
	out := f.out
	f.out = nil
	if err := out.close(); err != nil {
		return err
	}
	b.addZeros(f)
	if f.bad.Load() {
		return ctx.Err()
	}
	when := time.Unix(0, f.file.Stat.Mtime)
	if err := b.t.root.Chtimes(f.path, when, when); err != nil {
		return err
	}
	b.progress.File(f.shown)
	b.stepping.Lock()
	defer b.stepping.Unlock()
	return errors.Join(ctx.Err(), b.step(stepFile))
}

// addZeros counts what had not to be fetched.
func (b *batch) addZeros(f *dataFile) {
	for i, r := range f.bm.Runs {
		if r.Chunk == manifest.Zero {
			_, length := f.span(int64(f.block[i]), r.Blocks)
			b.progress.Add(length)
		}
	}
}
