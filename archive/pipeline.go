package archive

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"bdbvault/localenv"
	"bdbvault/manifest"
)

// extent is one piece of a file between the dispatcher and the sequencer.
type extent struct {
	job    *fileJob
	off    int64
	want   int
	last   bool // of its file
	buf    []byte
	n      int
	blocks []block
	stats  localenv.ReadStats
	known  int // blocks that the parent's file has: places[:known]
	places []place
	old    []byte // hashes that places point into
	done   chan struct{}
}

// block is what a worker found out about one block.
type block struct {
	kind  blockKind
	chunk manifest.Chunk // fromJournal: where it stands; Pack is an ordinal
	at    place          // fromParent
	hash  manifest.Hash
}

type blockKind uint8

const (
	isNew blockKind = iota
	isZero
	fromParent
	fromJournal
)

// chunk is a row of new blocks between the sequencer and the packer.
type chunk struct {
	job   *fileJob
	index int // in job.m.Chunks
	raw   []byte
	n     int
	out   []byte
	rows  []journalRow // which blocks it holds, for the journal
	sums  []byte       // their hashes
	done  chan struct{}
}

// pipeline turns files into chunks, packs and maps.
type pipeline struct {
	b       *backup
	extents pool[*extent]
	chunks  pool[*chunk]
	packs   pool[[]byte]

	spool    *os.File
	hashes   *bufio.Writer
	hashSize int64

	filling *chunk // sequencer's
	cwork   chan *chunk
	corder  chan *chunk
}

func newPipeline(b *backup, spool *os.File) *pipeline {
	n := 2*workers() + 2
	p := &pipeline{b: b, spool: spool, hashes: bufio.NewWriterSize(spool, 256<<10)}
	p.extents = newPool(n, func() *extent {
		return &extent{buf: make([]byte, extentSize), done: make(chan struct{}, 1)}
	})
	p.chunks = newPool(n, func() *chunk {
		return &chunk{raw: make([]byte, extentSize), done: make(chan struct{}, 1)}
	})
	// Pack buffers are made when first needed: a small environment fills none.
	p.packs = newPool(uploads+1, func() []byte { return nil })
	return p
}

// run sends the pages of jobs through the pipeline. It may be called again with more files.
func (p *pipeline) run(ctx context.Context, jobs []*fileJob) error {
	n := cap(p.extents)
	work, order := make(chan *extent, n), make(chan *extent, n)
	p.cwork, p.corder = make(chan *chunk, cap(p.chunks)), make(chan *chunk, cap(p.chunks))
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(work)
		defer close(order)
		return p.dispatch(ctx, jobs, work, order)
	})
	for range workers() {
		g.Go(func() error { return p.readAll(ctx, work) })
		g.Go(func() error { return p.compressAll(ctx) })
	}
	g.Go(func() error {
		defer close(p.cwork)
		defer close(p.corder)
		return p.sequence(ctx, order)
	})
	g.Go(func() error { return p.pack(ctx) })
	if err := g.Wait(); err != nil {
		return err
	}
	return p.hashes.Flush()
}

func (p *pipeline) dispatch(ctx context.Context, jobs []*fileJob, work, order chan<- *extent) error {
	for _, j := range jobs {
		if err := p.b.recall(ctx, j); err != nil {
			return err
		}
		for off := int64(0); ; off += extentSize {
			e, err := p.extents.take(ctx)
			if err != nil {
				return err
			}
			e.job, e.off, e.want = j, off, int(min(extentSize, j.size-off))
			e.last = off+int64(e.want) >= j.size
			last := e.last
			order <- e // both have room for every extent there is
			work <- e
			if last {
				break
			}
		}
	}
	return nil
}

func (p *pipeline) readAll(ctx context.Context, work <-chan *extent) error {
	for e := range work {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := e.read(ctx); err != nil {
			return fmt.Errorf("read %s: %w", e.job.name(), err)
		}
		e.done <- struct{}{}
	}
	return nil
}

// read fills the extent and says of each block whether it is stored already.
func (e *extent) read(ctx context.Context) (err error) {
	j := e.job
	e.n, e.stats = 0, localenv.ReadStats{}
	if e.want > 0 {
		// Whole pages are asked for; what a file has grown by since it was opened is left out.
		pages := (e.want + j.entry.PageSize - 1) &^ (j.entry.PageSize - 1)
		if e.n, e.stats, err = j.src.ReadAt(ctx, e.buf[:pages], e.off); err != nil {
			return err
		}
		e.n = min(e.n, e.want)
	}
	bs := j.entry.BlockSize
	count := (e.n + bs - 1) / bs
	e.blocks = grow(e.blocks, count)
	if e.known, err = e.lookup(count); err != nil {
		return err
	}
	for i := range e.blocks {
		data := e.buf[i*bs : min((i+1)*bs, e.n)]
		b := &e.blocks[i]
		if allZero(data) {
			b.kind = isZero
			continue
		}
		b.kind, b.hash = isNew, blake3.Sum256(data)
		if i < e.known && e.sameAsParent(b, e.places[i]) {
			b.kind, b.at = fromParent, e.places[i]
		} else if c, slot, ok := j.journal.find(e.off/int64(bs)+int64(i), b.hash); ok {
			b.kind, b.chunk, b.at = fromJournal, c, place{slot: slot}
		}
	}
	return nil
}

// lookup asks the parent's map for the extent's blocks.
func (e *extent) lookup(count int) (int, error) {
	if e.job.parent == nil {
		return 0, nil
	}
	e.places, e.old = grow(e.places, count), grow(e.old, count*manifest.HashSize)
	return e.job.parent.lookup(e.off/int64(e.job.entry.BlockSize), e.places, e.old)
}

func (e *extent) sameAsParent(b *block, at place) bool {
	if at.chunk == manifest.Zero || !bytes.Equal(at.hash, b.hash[:]) {
		return false
	}
	return e.job.oldPacks[e.job.parent.m.Chunks[at.chunk].Pack] != noPack
}

func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

var zeros [64 << 10]byte

func allZero(data []byte) bool {
	for len(data) > len(zeros) {
		if !bytes.Equal(data[:len(zeros)], zeros[:]) {
			return false
		}
		data = data[len(zeros):]
	}
	return bytes.Equal(data, zeros[:len(data)])
}

// sequence takes extents in file order, writes the files' maps and fills chunks.
func (p *pipeline) sequence(ctx context.Context, order <-chan *extent) error {
	for e := range order {
		if err := wait(ctx, e.done); err != nil {
			return err
		}
		j, last := e.job, e.last
		if e.off == 0 {
			j.hashAt, j.changed = p.hashSize, j.old == nil
			j.m = manifest.Map{BlockSize: j.entry.BlockSize}
			j.chunks = map[chunkKey]int{}
		}
		if err := p.takeExtent(ctx, e); err != nil {
			return err
		}
		p.extents.put(e)
		if last {
			if err := p.endFile(ctx, j); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

func (p *pipeline) takeExtent(ctx context.Context, e *extent) error {
	j := e.job
	if j.ended {
		return nil
	}
	j.ended = e.n < e.want
	j.read += int64(e.n)
	j.stats.Add(e.stats)
	p.b.progress.Add(int64(e.n))
	bs := j.entry.BlockSize
	for i := 0; i < len(e.blocks); {
		n := 1
		for i+n < len(e.blocks) && e.blocks[i+n].kind == isNew && e.blocks[i].kind == isNew {
			n++
		}
		if err := p.takeBlocks(ctx, e, i, n, bs); err != nil {
			return err
		}
		i += n
	}
	return nil
}

// takeBlocks takes blocks [i, i+n) of the extent: several new ones, or one of another kind.
func (p *pipeline) takeBlocks(ctx context.Context, e *extent, i, n, bs int) error {
	j, b := e.job, &e.blocks[i]
	wasZero := i < e.known && e.places[i].chunk == manifest.Zero
	switch b.kind {
	case isZero:
		j.changed = j.changed || !wasZero
		j.m.Add(1, manifest.Zero, 0)
		return nil
	case fromParent:
		c := j.parent.m.Chunks[b.at.chunk]
		j.m.Add(1, j.oldChunk(j.oldPacks[c.Pack], c), b.at.slot)
	case fromJournal:
		j.changed = true
		j.m.Add(1, j.oldChunk(b.chunk.Pack, b.chunk), b.at.slot)
	default:
		j.changed = true
		if err := p.fill(ctx, e, i, n, bs); err != nil {
			return err
		}
	}
	for k := i; k < i+n; k++ {
		if _, err := p.hashes.Write(e.blocks[k].hash[:]); err != nil {
			return fmt.Errorf("state directory: %w", err)
		}
	}
	p.hashSize += int64(n) * manifest.HashSize
	return nil
}

// fill copies new blocks to the chunk that is being filled; an extent that is new as a whole becomes a chunk without being copied.
func (p *pipeline) fill(ctx context.Context, e *extent, i, n, bs int) error {
	from, to := i*bs, min((i+n)*bs, e.n)
	for from < to {
		c, err := p.chunkFor(ctx, e.job)
		if err != nil {
			return err
		}
		first := from / bs
		size := min(to-from, extentSize-c.n)
		slot := c.n / bs
		if c.n == 0 && from == 0 && size == len(e.buf) {
			c.raw, e.buf = e.buf, c.raw
		} else {
			copy(c.raw[c.n:], e.buf[from:from+size])
		}
		count := (size + bs - 1) / bs
		e.job.m.Add(int64(count), c.index, slot)
		c.note(e, first, count, slot)
		c.n += size
		from += size
		if c.n == extentSize {
			if err := p.flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *pipeline) chunkFor(ctx context.Context, j *fileJob) (*chunk, error) {
	if p.filling != nil {
		return p.filling, nil
	}
	c, err := p.chunks.take(ctx)
	if err != nil {
		return nil, err
	}
	c.job, c.index, c.n, c.rows, c.sums = j, len(j.m.Chunks), 0, c.rows[:0], c.sums[:0]
	j.m.Chunks = append(j.m.Chunks, manifest.Chunk{})
	p.filling = c
	return c, nil
}

// flush sends the chunk that is being filled on its way.
func (p *pipeline) flush(ctx context.Context) error {
	c := p.filling
	if c == nil {
		return nil
	}
	p.filling = nil
	if err := send(ctx, p.corder, c); err != nil {
		return err
	}
	return send(ctx, p.cwork, c)
}

func (p *pipeline) endFile(ctx context.Context, j *fileJob) error {
	if err := p.flush(ctx); err != nil {
		return err
	}
	j.m.Size, j.entry.Size = j.read, j.read
	j.changed = j.changed || j.old.Size != j.read
	p.b.progress.File(j.name())
	return j.letGo()
}

func (p *pipeline) compressAll(ctx context.Context) error {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(extentSize))
	if err != nil {
		return err
	}
	defer enc.Close()
	for c := range p.cwork {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		c.out = enc.EncodeAll(c.raw[:c.n], c.out[:0])
		c.done <- struct{}{}
	}
	return nil
}

// pack appends chunks to packs and hands full ones to uploaders.
func (p *pipeline) pack(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	err := p.fillPacks(ctx, g)
	if werr := g.Wait(); werr != nil {
		return werr
	}
	return err
}

func (p *pipeline) fillPacks(ctx context.Context, g *errgroup.Group) error {
	var open *openPack
	for c := range p.corder {
		if err := wait(ctx, c.done); err != nil {
			return err
		}
		if open == nil {
			buf, err := p.packs.take(ctx)
			if err != nil {
				return err
			}
			if buf == nil {
				buf = make([]byte, 0, packBuffer)
			}
			open = &openPack{w: manifest.NewPackWriter(buf), ordinal: p.b.packs.open()}
		}
		open.add(c)
		p.chunks.put(c)
		if open.w.Size() >= manifest.PackTarget {
			p.upload(ctx, g, open)
			open = nil
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if open != nil {
		p.upload(ctx, g, open)
	}
	return nil
}

// openPack is a pack that is being filled.
type openPack struct {
	w       *manifest.PackWriter
	ordinal int
	entries []journalChunk
}

func (o *openPack) add(c *chunk) {
	at := o.w.Add(c.out)
	c.job.placed = append(c.job.placed, placement{c.index, manifest.Chunk{Pack: o.ordinal, Offset: at, Length: len(c.out), Raw: c.n}})
	o.entries = append(o.entries, c.entry(at))
}

func (p *pipeline) upload(ctx context.Context, g *errgroup.Group, o *openPack) {
	name, data := o.w.Finish()
	g.Go(func() error {
		defer p.packs.put(data[:0])
		// First the journal: whatever ends this run, a pack that the store has is known to the next one.
		if err := p.b.journal.add(name, int64(len(data)), o.entries); err != nil {
			return err
		}
		if err := p.b.putPack(ctx, name, data); err != nil {
			return err
		}
		p.b.packs.finish(o.ordinal, name, int64(len(data)))
		return nil
	})
}

// packTable numbers the packs that a backup refers to: those of its parent, and its own as they are begun.
type packTable struct {
	mu    sync.Mutex
	list  []manifest.Pack
	index map[manifest.Hash]int // of those that were in the store already
}

// noPack stands for a pack that must not be referred to.
const noPack = -1

func (t *packTable) open() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = append(t.list, manifest.Pack{})
	return len(t.list) - 1
}

func (t *packTable) finish(ordinal int, name manifest.Hash, size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list[ordinal].Name, t.list[ordinal].Size = name, size
}

// known returns the ordinal of a pack that is in the store.
func (t *packTable) known(name manifest.Hash, size int64) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i, ok := t.index[name]; ok {
		return i
	}
	if t.index == nil {
		t.index = map[manifest.Hash]int{}
	}
	t.list = append(t.list, manifest.Pack{Name: name, Size: size})
	t.index[name] = len(t.list) - 1
	return len(t.list) - 1
}

// isNew reports whether this run stored the pack.
func (t *packTable) isNew(name manifest.Hash) bool {
	_, known := t.index[name]
	return !known
}
