package localenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"bdbvault/localenv/bdb"
)

// pieceSize is how much is read and read again at once: small enough that both images and their comparison stay in the processor's
// cache, a multiple of every page size. The scratch buffer of each reader is as large.
const pieceSize = 256 << 10

var scratches = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// seekData is lseek's SEEK_DATA.
const seekData = 3

// patience is how long a unit may go on changing between any two reads of it.
const patience = 30 * time.Second

// errRestless means that a unit never was the same twice.
var errRestless = fmt.Errorf("kept changing for %v while it was read", patience)

// file is what reading needs of an *os.File.
type file interface {
	io.ReaderAt
	io.Seeker
}

// barrier waits until every write to the file that is in flight has ended, because SEEK_DATA takes the inode's lock, and returns where the next data after
// off begin, or -1 if there are none up to the end of the file.
func barrier(f file, off int64) (data int64, err error) {
	data, err = f.Seek(off, seekData)
	switch {
	case errors.Is(err, syscall.ENXIO):
		return -1, nil
	case errors.Is(err, syscall.EINVAL): // a file system without SEEK_DATA: no barrier to be had, and no holes
		return off, nil
	}
	return data, err
}

// pread reads until buf is full or the file ends.
func pread(f file, buf []byte, off int64) (int, error) {
	n, err := f.ReadAt(buf, off)
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// readStable fills buf from off by barrier double read: it reads twice, with the barrier between, and reads units that differ again until two reads in a
// row are equal. No write can then have been in flight in the middle of a unit. A unit's size divides pieceSize; off is a multiple of it. n is
// less than len(buf) only at the end of the file; reread counts the further reads of units.
func readStable(ctx context.Context, f file, buf []byte, off int64, unit int) (n int, reread int64, err error) {
	scratch := scratches.Get().(*[pieceSize]byte)
	defer scratches.Put(scratch)
	for n < len(buf) {
		if err := ctx.Err(); err != nil {
			return n, reread, err
		}
		piece := buf[n:min(len(buf), n+pieceSize)]
		r := stableRead{f: f, off: off + int64(n), unit: unit, image: piece, other: scratch[:len(piece)]}
		got, err := r.read(ctx)
		n += got
		reread += r.reread
		if err != nil || got < len(piece) {
			return n, reread, err
		}
	}
	return n, reread, nil
}

// stableRead is the double read of one piece.
type stableRead struct {
	f            file
	off          int64
	unit         int
	image, other []byte // of the same length
	reread       int64
}

func (r *stableRead) read(ctx context.Context) (n int, err error) {
	first, err := pread(r.f, r.image, r.off)
	if err != nil {
		return 0, err
	}
	data, err := barrier(r.f, r.off)
	if err != nil {
		return 0, err
	}
	if r.isHole(first, data) {
		return first, nil
	}
	second, err := pread(r.f, r.other, r.off)
	if err != nil {
		return 0, err
	}
	if first == second && bytes.Equal(r.image[:first], r.other[:first]) {
		return first, nil
	}
	return r.settle(ctx, first, second)
}

// isHole spares holes the second read. The file system's word alone is not taken for it: some have called data that were still in
// memory a hole.
func (r *stableRead) isHole(n int, data int64) bool {
	hole := data < 0 || data >= r.off+int64(n)
	return hole && n == len(r.image) && allZero(r.image)
}

func allZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), bdb.MaxPageSize)
		if !bdb.IsZero(b[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

// settle goes through the units of which the two images, of first and second bytes, differ. The later image decides where the file ends,
// unless it ends inside a unit and that one has become longer.
func (r *stableRead) settle(ctx context.Context, first, second int) (n int, err error) {
	for at := 0; at < second; at += r.unit {
		end := min(at+r.unit, second)
		if end <= first && bytes.Equal(r.image[at:end], r.other[at:end]) {
			n = end
			continue
		}
		got, err := r.settleUnit(ctx, at, end-at)
		if err != nil {
			return at, err
		}
		if n = at + got; got < r.unit {
			break // the file ends here by now
		}
	}
	return n, nil
}

// settleUnit reads the unit at at until it is the same twice, and leaves it in image. The read before it is in other, had bytes of it.
func (r *stableRead) settleUnit(ctx context.Context, at, had int) (n int, err error) {
	end := min(at+r.unit, len(r.image))
	now, before := r.image[at:end], r.other[at:end]
	var deadline time.Time
	for {
		if _, err := barrier(r.f, r.off+int64(at)); err != nil {
			return 0, err
		}
		if n, err = pread(r.f, now, r.off+int64(at)); err != nil {
			return 0, err
		}
		r.reread++
		if n == had && bytes.Equal(now[:n], before[:n]) {
			copy(r.image[at:], now[:n])
			return n, nil
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if deadline.IsZero() {
			deadline = time.Now().Add(patience)
		} else if time.Now().After(deadline) {
			return 0, errRestless
		}
		now, before, had = before, now, n
	}
}
