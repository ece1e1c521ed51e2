package localenv

import (
	"context"
	"errors"
	"fmt"

	"bdbvault/localenv/bdb"
)

const (
	logUnit   = 4096    // granule of the barrier double read
	logWindow = 1 << 20 // how much of a log file is in memory while it is walked; more when a record is longer
)

// Walk calls fn for each record from the given LSN on, through all files, and returns where the next record will go. from is the LSN of a record,
// or {N,0} for the first one of file N, or an end that was returned before. File headers are not handed to fn, which may be nil; an error
// of fn ends the walk and comes back as it is. The record is valid during the call only.
//
// The log ends where the newest file has no further whole record, also if from is already beyond that; only End tells. A record that can't be
// read in any other file, up to the one that the next file's header calls the last, is a *LogDamage.
func (l *Log) Walk(ctx context.Context, from bdb.LSN, fn func(*bdb.Record) error) (end bdb.LSN, err error) {
	var buf []byte
	for {
		h, next, err := l.find(from.File)
		if err != nil {
			return from, err
		}
		w, err := newLogWalk(h, next, l.key)
		if err != nil {
			return from, err
		}
		w.buf = buf
		if err := w.run(ctx, from.Offset, fn); err != nil {
			return w.lsn(), err
		}
		if next == nil {
			return w.lsn(), nil
		}
		from, buf = bdb.LSN{File: next.Number}, w.buf
	}
}

// End is the LSN that the next record will get.
func (l *Log) End(ctx context.Context) (bdb.LSN, error) {
	files := l.begun()
	h := files[len(files)-1]
	return l.Walk(ctx, bdb.LSN{File: h.Number, Offset: l.startOfSearch(ctx, h)}, nil)
}

// startOfSearch is the last record known in the file, if it still is there: a recovery may have cut the log off before it.
func (l *Log) startOfSearch(ctx context.Context, h *heldLog) uint32 {
	at := h.known.Load()
	w, err := newLogWalk(h, nil, l.key)
	if at == 0 || err != nil {
		return 0
	}
	w.at = at
	if err := w.decode(ctx, true); err != nil {
		return 0
	}
	return at
}

// EndOf is the offset just after the last record of a file.
func (l *Log) EndOf(ctx context.Context, file uint32) (uint32, error) {
	h, next, err := l.find(file)
	if err != nil {
		return 0, err
	}
	w, err := newLogWalk(h, next, l.key)
	if err != nil {
		return 0, err
	}
	start := w.last
	if next == nil {
		start = l.startOfSearch(ctx, h)
	}
	err = w.run(ctx, start, nil)
	return w.at, err
}

// logWalk goes through the records of one log file.
type logWalk struct {
	h       *heldLog
	decoder *bdb.LogDecoder
	sealed  bool
	last    uint32 // sealed: the offset of the last record, as the next file's header has it; 0: it does not say
	size    int64

	at     uint32 // where the walk is
	before uint32 // the record before
	linked bool   // before is known
	record bdb.Record
	window []byte // bytes of the file
	start  int64  // where window begins
	eof    bool   // and it goes to the end of the file
	buf    []byte
}

func newLogWalk(h, next *heldLog, key *bdb.Key) (*logWalk, error) {
	decoder, err := bdb.NewLogDecoder(h.first, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.Path, err)
	}
	stat, err := fstat(h.f)
	if err != nil {
		return nil, err
	}
	w := &logWalk{h: h, decoder: decoder, size: stat.Size}
	if next != nil {
		w.sealed, w.last = true, next.header.Prev
	}
	return w, nil
}

func (w *logWalk) lsn() bdb.LSN { return bdb.LSN{File: w.h.Number, Offset: w.at} }

// run walks from an offset to the end of the file's records, and leaves w.at there.
func (w *logWalk) run(ctx context.Context, from uint32, fn func(*bdb.Record) error) error {
	w.at = from
	if from == 0 {
		w.at, w.linked = w.h.header.Length, true
	}
	if w.done() {
		return w.checkEnd(ctx)
	}
	for !w.done() {
		if err := w.decode(ctx, fn == nil); err != nil {
			return w.finish(err)
		}
		if fn != nil {
			if err := fn(&w.record); err != nil {
				return err
			}
		}
		w.before, w.linked = w.at, true
		w.at += w.record.Len
	}
	if w.before != 0 {
		w.h.known.Store(w.before)
	}
	return nil
}

// done reports that the last record of a sealed file is behind.
func (w *logWalk) done() bool { return w.last != 0 && w.at > w.last }

// checkEnd checks that a walk which begins behind the last record of a sealed file begins at its end.
func (w *logWalk) checkEnd(ctx context.Context) error {
	at := w.at
	w.at = w.last
	if err := w.decode(ctx, true); err != nil {
		return w.finish(err)
	}
	if w.at += w.record.Len; w.at != at {
		return fmt.Errorf("no record begins at %s: log file %d ends at %d", bdb.LSN{File: w.h.Number, Offset: at}, w.h.Number, w.at)
	}
	return nil
}

// errEndOfFile is what decode finds where the walk of a file ends; any *bdb.BadRecord may be that too.
var errEndOfFile = errors.New("no further record")

// finish makes of decode's failure the end of the file's records or damage.
func (w *logWalk) finish(err error) error {
	var bad *bdb.BadRecord
	switch {
	case errors.As(err, &bad):
	case errors.Is(err, errEndOfFile):
	default:
		return err
	}
	if w.before != 0 {
		w.h.known.Store(w.before)
	}
	if !w.sealed || w.last == 0 && bad == nil {
		return nil
	}
	problem := "no record, although later ones were written"
	if bad != nil {
		problem = bad.Problem
	}
	return &LogDamage{LSN: w.lsn(), Problem: problem}
}

// decode reads the record at w.at.
func (w *logWalk) decode(ctx context.Context, bodyless bool) error {
	need := bdb.LogHeaderSize
	for {
		b, err := w.bytes(ctx, need)
		if err != nil {
			return fmt.Errorf("%s: %w", w.h.Path, err)
		}
		if bodyless {
			err = w.decoder.Check(&w.record, w.lsn(), b)
		} else {
			err = w.decoder.Decode(&w.record, w.lsn(), b)
		}
		switch {
		case errors.Is(err, bdb.ErrLogEnd):
			return errEndOfFile
		case err == nil:
			return w.accept(ctx)
		case !errors.Is(err, bdb.ErrShortRecord):
			return err
		case w.record.Len == 0:
			return errEndOfFile
		case int64(w.at)+int64(w.record.Len) > w.size:
			return w.bad("goes beyond the end of the file")
		}
		need = int(w.record.Len)
	}
}

// accept checks how the record hangs together with its neighbours.
func (w *logWalk) accept(ctx context.Context) error {
	if w.linked && w.record.Prev != w.before {
		return w.bad(fmt.Sprintf("previous record at %d, which is at %d", w.record.Prev, w.before))
	}
	if w.last != 0 && w.at < w.last && w.at+w.record.Len > w.last {
		return w.bad(fmt.Sprintf("runs over the file's last record at %d", w.last))
	}
	if w.decoder.Proves() || w.at == w.last {
		return nil
	}
	return w.acceptUnproved(ctx)
}

// acceptUnproved takes a record of an encrypted log, without the password, when the next one links back to it, or when it is the last and was
// written to its end.
func (w *logWalk) acceptUnproved(ctx context.Context) error {
	length := int(w.record.Len)
	b, err := w.bytes(ctx, length+bdb.LogHeaderSize)
	if err != nil {
		return fmt.Errorf("%s: %w", w.h.Path, err)
	}
	w.record.Raw = b[:length:length] // looking ahead may have read the record anew, over the bytes that it had
	var next bdb.Record
	err = w.decoder.Check(&next, w.record.Next(), b[length:])
	isHeader := err == nil || errors.Is(err, bdb.ErrShortRecord) && next.Len != 0
	switch {
	case isHeader && next.Prev == w.at:
		return nil
	case (errors.Is(err, bdb.ErrLogEnd) || len(b) < length+bdb.LogHeaderSize) && bdb.Finished(b[:length]):
		return nil
	}
	return w.bad("the next record does not link back to it")
}

func (w *logWalk) bad(problem string) error { return &bdb.BadRecord{LSN: w.lsn(), Problem: problem} }

// bytes returns what the file has from w.at on: at least need bytes, unless it ends before.
func (w *logWalk) bytes(ctx context.Context, need int) ([]byte, error) {
	off := int64(w.at) - w.start
	if off >= 0 && off <= int64(len(w.window)) && (w.eof || off+int64(need) <= int64(len(w.window))) {
		return w.window[off:], nil
	}
	if len(w.buf) < need {
		w.buf = make([]byte, max(need, int(min(logWindow, w.size))))
	}
	n, _, err := readStable(ctx, w.h.f, w.buf, int64(w.at), logUnit)
	if err != nil {
		return nil, err
	}
	w.window, w.start, w.eof = w.buf[:n], int64(w.at), n < len(w.buf)
	return w.window, nil
}
