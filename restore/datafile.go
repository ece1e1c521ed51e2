package restore

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"bdbvault/manifest"
)

// dataFile is a file on its way back.
type dataFile struct {
	file  *manifest.File
	path  string // in the target
	shown string // the same for a person
	bm    *manifest.Map
	out   *output
	had   int64  // bytes that were there before
	need  bitmap // blocks that have to be fetched; nil: all

	// The map's runs are in file order. To serve a chunk all runs that take from it are needed: order holds the stored runs sorted by chunk, those of chunk c
	// from byChunk[c] to byChunk[c+1].
	order, byChunk []uint32
	block, hash    []uint32 // per run: its first block, and the place of that block's hash
	hashes         *io.SectionReader

	pending atomic.Int64 // chunks not yet written
	bad     atomic.Bool  // something of it can't be brought back
}

// maxIndex bounds block numbers, so that they fit the index. At the largest block size it is four pebibytes.
const maxIndex = 1 << 32

var errLarge = errors.New("more blocks than can be indexed")

// index prepares the tables that lead from a chunk to its runs.
func (d *dataFile) index() error {
	if d.bm.Blocks() >= maxIndex || len(d.bm.Runs) >= maxIndex {
		return fmt.Errorf("%s: %w", d.path, errLarge)
	}
	runs := d.bm.Runs
	d.block, d.hash = make([]uint32, len(runs)), make([]uint32, len(runs))
	d.byChunk = make([]uint32, len(d.bm.Chunks)+2)
	var block, hash, stored uint32
	for i, r := range runs {
		d.block[i], d.hash[i] = block, hash
		block += uint32(r.Blocks)
		if r.Chunk != manifest.Zero {
			hash += uint32(r.Blocks)
			d.byChunk[r.Chunk+2]++
			stored++
		}
	}
	for c := 2; c < len(d.byChunk); c++ {
		d.byChunk[c] += d.byChunk[c-1]
	}
	d.order = make([]uint32, stored)
	for i, r := range runs {
		if r.Chunk != manifest.Zero {
			d.order[d.byChunk[r.Chunk+1]] = uint32(i)
			d.byChunk[r.Chunk+1]++
		}
	}
	d.byChunk = d.byChunk[:len(d.bm.Chunks)+1]
	return nil
}

// runs are the indexes of the runs that take blocks from chunk c, in file order.
func (d *dataFile) runs(c int) []uint32 { return d.order[d.byChunk[c]:d.byChunk[c+1]] }

// wants reports whether chunk c has to be fetched.
func (d *dataFile) wants(c int) bool {
	for _, i := range d.runs(c) {
		if d.need.any(int64(d.block[i]), d.bm.Runs[i].Blocks) {
			return true
		}
	}
	return false
}

// span is the place in the file of n blocks from first on; the last block of the file may be short.
func (d *dataFile) span(first, n int64) (off, length int64) {
	size := int64(d.bm.BlockSize)
	off = first * size
	return off, min(n*size, d.bm.Size-off)
}

// reserve asks for the room that the stored blocks will take, so that a full disk shows before anything is fetched.
func (d *dataFile) reserve() error {
	var first, n int64
	flush := func() error {
		if n == 0 {
			return nil
		}
		off, length := d.span(first, n)
		return d.out.reserve(off, length)
	}
	for i, r := range d.bm.Runs {
		if r.Chunk == manifest.Zero {
			continue
		}
		if at := int64(d.block[i]); at != first+n {
			if err := flush(); err != nil {
				return err
			}
			first, n = at, 0
		}
		n += r.Blocks
	}
	return flush()
}

// readHashes reads n hashes of the map from place first on into buf.
func (d *dataFile) readHashes(buf []byte, first, n int64) ([]byte, error) {
	buf = slices.Grow(buf[:0], int(n)*manifest.HashSize)[:n*manifest.HashSize]
	_, err := d.hashes.ReadAt(buf, first*manifest.HashSize)
	return buf, err
}

// pages turns a row of blocks into a row of pages.
func (d *dataFile) pages(first, n int64) PageRange {
	off, length := d.span(first, n)
	size := int64(d.file.PageSize)
	return PageRange{First: uint32(off / size), Last: uint32((off + length - 1) / size)}
}
