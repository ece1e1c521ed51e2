package localenv

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"bdbvault/localenv/bdb"
)

// maxBad is how many bad pages ReadStats names; Damaged counts on.
const maxBad = 100

// maxPatient is how many bad pages of a file are read again before they are given up; a file full of damage would take too long.
const maxPatient = 20

// recheckPauses are the pauses before a page that fails its check is read again. What the barrier lets through is on the disk that way,
// but not all file systems have the barrier.
var recheckPauses = []time.Duration{time.Millisecond, 2 * time.Millisecond, 4 * time.Millisecond, 8 * time.Millisecond, 16 * time.Millisecond}

// ReadStats is what was seen while reading.
type ReadStats struct {
	Pages    int64 // checked; in files without pages, blocks of 4096 bytes
	Reread   int64 // further reads of pages that changed while they were read or failed their check
	Unlogged int64 // pages written without logging
	Zero     int64 // pages of zeros
	Damaged  int64 // pages that fail their check on the disk
	MaxLSN   bdb.LSN
	Bad      []bdb.PageError // the first hundred of the damaged
}

// Add adds what was seen elsewhere.
func (st *ReadStats) Add(o ReadStats) {
	st.Pages += o.Pages
	st.Reread += o.Reread
	st.Unlogged += o.Unlogged
	st.Zero += o.Zero
	st.Damaged += o.Damaged
	if st.MaxLSN.Before(o.MaxLSN) {
		st.MaxLSN = o.MaxLSN
	}
	st.Bad = append(st.Bad, o.Bad[:min(len(o.Bad), maxBad-len(st.Bad))]...)
}

func (st *ReadStats) bad(err *bdb.PageError) {
	st.Damaged++
	if len(st.Bad) < maxBad {
		st.Bad = append(st.Bad, *err)
	}
}

// failureCount counts the pages of a file that were given up.
type failureCount struct{ n atomic.Int32 }

// pause waits before try number try of a bad page. It reports false if the page is to be given up.
func (c *failureCount) pause(ctx context.Context, try int) bool {
	if try == len(recheckPauses) || c.n.Load() >= maxPatient || ctx.Err() != nil {
		c.n.Add(1)
		return false
	}
	select {
	case <-ctx.Done():
	case <-time.After(recheckPauses[try]):
	}
	return true
}

// ReadAt fills buf with whole pages from off, each of them as one write left it, and checks them. off and len(buf) are multiples of the page size. n is
// less than len(buf) only at the end of the file, without an error; it is a whole number of pages unless the file has none. Of a database that ends
// inside a page, that page is left out and reported as bad. A page that fails its check again and again is reported as bad, and its
// bytes are returned as they are on the disk.
func (s *Source) ReadAt(ctx context.Context, buf []byte, off int64) (n int, st ReadStats, err error) {
	size := s.PageSize()
	if off%int64(size) != 0 || len(buf)%size != 0 {
		return 0, st, fmt.Errorf("read %s: %d bytes at %d are not whole pages of %d", s, len(buf), off, size)
	}
	for n < len(buf) {
		piece := buf[n:min(len(buf), n+pieceSize)]
		got, err := s.readPiece(ctx, piece, off+int64(n), &st)
		n += got
		if err != nil {
			return n, st, fmt.Errorf("read %s: %w", s, err)
		}
		if got < len(piece) {
			break
		}
	}
	return n, st, nil
}

// readPiece reads at most pieceSize bytes, so that they are still in the processor's cache when they are checked.
func (s *Source) readPiece(ctx context.Context, piece []byte, off int64, st *ReadStats) (int, error) {
	if s.pace != nil {
		if err := s.pace(ctx, len(s.within(piece, off))); err != nil {
			return 0, err
		}
	}
	n, reread, err := readStable(ctx, s.f, s.within(piece, off), off, min(s.unit, pieceSize))
	st.Reread += reread
	if errors.Is(err, errRestless) && s.meta == nil { // an application that never rests gets what any copy would
		n, err = pread(s.f, s.within(piece, off), off)
	}
	if err != nil {
		return 0, err
	}
	if s.meta == nil {
		s.countBlocks(piece[:n], off, st)
		return n, nil
	}
	return s.checkPages(ctx, piece[:n], off, st)
}

// within cuts off what is beyond the limit.
func (s *Source) within(piece []byte, off int64) []byte {
	if s.limit < 0 {
		return piece
	}
	return piece[:max(0, min(int64(len(piece)), s.limit-off))]
}

// countBlocks counts the blocks of a file without pages, and reports a metadata page that hides what the file is.
func (s *Source) countBlocks(data []byte, off int64, st *ReadStats) {
	if off == 0 && s.problem != "" {
		st.bad(&bdb.PageError{Page: 0, Problem: (&bdb.MetaError{Problem: s.problem}).Error()})
	}
	for len(data) > 0 {
		block := data[:min(len(data), plainPageSize)]
		st.Pages++
		if bdb.IsZero(block) {
			st.Zero++
		}
		data = data[len(block):]
	}
}

// checkPages checks all pages of data, in place, and returns how much of it is whole pages.
func (s *Source) checkPages(ctx context.Context, data []byte, off int64, st *ReadStats) (int, error) {
	size := s.meta.PageSize
	pgno := s.meta.FirstPage + uint32(off/int64(size))
	at := 0
	for ; at+size <= len(data); at += size {
		lsn, err := s.checkPage(ctx, pgno, data[at:at+size], off+int64(at), st)
		if err != nil {
			return at, err
		}
		st.Pages++
		switch {
		case lsn == bdb.NotLogged:
			st.Unlogged++
		case lsn.IsZero() && bdb.IsZero(data[at:at+size]):
			st.Zero++
		case st.MaxLSN.Before(lsn):
			st.MaxLSN = lsn
		}
		pgno++
	}
	if at < len(data) {
		st.bad(&bdb.PageError{Page: pgno, Problem: fmt.Sprintf("file ends after %d of its %d bytes", len(data)-at, size)})
	}
	return at, nil
}

// checkPage checks one page, and reads it again while it is bad. A page that stays bad is no error.
func (s *Source) checkPage(ctx context.Context, pgno uint32, page []byte, off int64, st *ReadStats) (bdb.LSN, error) {
	lsn, err := s.meta.CheckPage(pgno, page, s.key)
	for try := 0; err != nil; try++ {
		if !s.failures.pause(ctx, try) {
			st.bad(err.(*bdb.PageError))
			return lsn, ctx.Err()
		}
		n, reread, readErr := readStable(ctx, s.f, page, off, len(page))
		st.Reread += 1 + reread
		if readErr != nil || n < len(page) { // cut off meanwhile: what was read stays
			st.bad(err.(*bdb.PageError))
			return lsn, readErr
		}
		lsn, err = s.meta.CheckPage(pgno, page, s.key)
	}
	return lsn, nil
}
