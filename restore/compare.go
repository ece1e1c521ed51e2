package restore

import (
	"bytes"
	"context"
	"slices"

	"golang.org/x/sync/errgroup"

	"bdbvault/manifest"
)

// compareStep is about how many bytes of a file one worker compares at a time, so that a single large file keeps all of them busy.
const compareStep = 16 << 20

// piece is a row of blocks of one file that are held against its map.
type piece struct {
	f        *dataFile
	first, n int64
}

// pieces cuts what was in the file before into rows for the workers, and notes that whatever lies beyond has to be fetched. Rows begin where
// words of the bitmap do, so that no two workers write to the same.
func (d *dataFile) pieces() (list []piece) {
	blocks, size := d.bm.Blocks(), int64(d.bm.BlockSize)
	had := min((d.had+size-1)/size, blocks)
	d.need = newBitmap(blocks)
	for i := had; i < blocks; i++ {
		d.need.add(i)
	}
	step := (compareStep/size + 63) &^ 63
	for first := int64(0); first < had; first += step {
		list = append(list, piece{d, first, min(step, had-first)})
	}
	return list
}

// compare finds out which blocks are right already. Of each file need holds the others afterwards.
func (b *batch) compare(ctx context.Context) error {
	var list []piece
	for _, f := range b.files {
		if f.had > 0 {
			list = append(list, f.pieces()...)
		}
	}
	todo := make(chan piece)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(todo)
		for _, p := range list {
			select {
			case todo <- p:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range min(workers, len(list)) {
		group.Go(func() error { return b.compareAll(ctx, todo) })
	}
	return group.Wait()
}

func (b *batch) compareAll(ctx context.Context, todo <-chan piece) error {
	c := &comparer{ctx: ctx, buf: make([]byte, manifest.MaxChunk)}
	for p := range todo {
		c.right = 0
		if err := c.piece(p); err != nil {
			return err
		}
		b.reusedBytes.Add(c.right)
		b.progress.Add(c.right)
	}
	return nil
}

// comparer is one worker.
type comparer struct {
	ctx   context.Context
	buf   []byte
	sums  []byte
	right int64 // bytes of blocks that need not be fetched
}

func (c *comparer) piece(p piece) error {
	d := p.f
	i, ok := slices.BinarySearch(d.block, uint32(p.first))
	if !ok {
		i-- // the run that begins before and reaches into the piece
	}
	for end := p.first + p.n; i < len(d.bm.Runs) && int64(d.block[i]) < end; i++ {
		from := max(p.first, int64(d.block[i]))
		n := min(end, int64(d.block[i])+d.bm.Runs[i].Blocks) - from
		err := error(nil)
		if d.bm.Runs[i].Chunk == manifest.Zero {
			err = c.zeros(d, from, n)
		} else {
			err = c.blocks(d, from, n, int64(d.hash[i])+from-int64(d.block[i]))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// zeros makes n blocks a hole. Where the file system can't, they are read, and written only if they are something else.
func (c *comparer) zeros(d *dataFile, first, n int64) error {
	off, length := d.span(first, n)
	if d.out.punch(off, length) {
		return c.ctx.Err()
	}
	return c.each(d, first, n, func(b []byte, first int64) error {
		if len(bytes.TrimLeft(b, "\x00")) == 0 {
			return nil
		}
		off, _ := d.span(first, 1)
		return d.out.zero(off, int64(len(b)))
	})
}

// blocks compares n blocks, whose hashes are in the map from place hash on.
func (c *comparer) blocks(d *dataFile, first, n, hash int64) error {
	return c.each(d, first, n, func(b []byte, at int64) (err error) {
		count := (len(b) + d.bm.BlockSize - 1) / d.bm.BlockSize
		if c.sums, err = d.readHashes(c.sums, hash+at-first, int64(count)); err != nil {
			return err
		}
		for i := range count {
			block := b[i*d.bm.BlockSize : min((i+1)*d.bm.BlockSize, len(b))]
			if blockSum(block) == manifest.Hash(c.sums[i*manifest.HashSize:][:manifest.HashSize]) {
				c.right += int64(len(block))
			} else {
				d.need.add(at + int64(i))
			}
		}
		return nil
	})
}

// each reads n blocks, as many at a time as fit the buffer.
func (c *comparer) each(d *dataFile, first, n int64, do func(b []byte, first int64) error) error {
	per := int64(len(c.buf) / d.bm.BlockSize)
	for done := int64(0); done < n; done += per {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		off, length := d.span(first+done, min(per, n-done))
		if _, err := d.out.file.ReadAt(c.buf[:length], off); err != nil {
			return err
		}
		if err := do(c.buf[:length], first+done); err != nil {
			return err
		}
	}
	return nil
}
