package restore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote/repository"
)

// TxnID is the id of a transaction, written in hexadecimal as db_printlog does. Ids come again after every recovery of an environment.
type TxnID uint32

// ParseTxnID reads what String writes, with or without 0x before it.
func ParseTxnID(s string) (TxnID, error) {
	digits := strings.TrimPrefix(strings.ToLower(s), "0x")
	n, err := strconv.ParseUint(digits, 16, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("transaction id %q: want hexadecimal digits, as db_printlog prints them: 80000a1f", s)
	}
	return TxnID(n), nil
}

func (id TxnID) String() string { return fmt.Sprintf("%x", uint32(id)) }

// MarshalText writes the form of String.
func (id TxnID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// CommitPoint is a commit in the log.
type CommitPoint struct {
	LSN  bdb.LSN   `json:"lsn"`
	Txn  TxnID     `json:"txn"`
	Time time.Time `json:"time"`

	next bdb.LSN // just after the record
}

// commitOf is the commit that a record is, if it is one.
func commitOf(r *bdb.Record) (CommitPoint, bool) {
	c, ok := r.Commit()
	return CommitPoint{LSN: c.LSN, Txn: TxnID(c.Txn), Time: c.Time, next: r.Next()}, ok && !c.Abort
}

// logScan reads records out of stored segments.
type logScan struct {
	repo     *repository.Repository
	env      string
	key      *bdb.Key
	segments []repository.Segment // an unbroken piece of log

	mu    sync.Mutex
	heads map[uint32][]byte // what log files begin with, as far as it was needed
	read  map[int]*datedView
}

// each calls fn with every record of a segment. What fn was told counts only if there is no error: the checksum stands at the end.
func (s *logScan) each(ctx context.Context, i int, fn func(*bdb.Record) error) error {
	n := s.segments[i].SegmentName
	w := &recordWriter{ctx: ctx, file: n.File, at: n.Start, end: n.End, key: s.key, fn: fn}
	if n.Start > 0 {
		head, err := s.head(ctx, n.File)
		if err == nil {
			err = w.open(head)
		}
		if err != nil {
			return fmt.Errorf("log file %d: %w", n.File, err)
		}
	}
	_, err := s.repo.CopySegment(ctx, s.env, n, w)
	if err == nil {
		err = w.finish()
	}
	return err
}

// head is what a log file begins with: records cannot be read without knowing its version and, if it is encrypted, whether the password is right.
func (s *logScan) head(ctx context.Context, file uint32) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.heads[file]; h != nil {
		return h, nil
	}
	for _, n := range s.segments {
		if n.File != file || n.Start != 0 {
			continue
		}
		w := &headWriter{most: bdb.LogHeaderSize}
		if _, err := s.repo.CopySegment(ctx, s.env, n.SegmentName, w); err != nil && !errors.Is(err, errEnough) {
			return nil, err
		}
		if s.heads == nil {
			s.heads = map[uint32][]byte{}
		}
		s.heads[file] = w.head
		return w.head, nil
	}
	return nil, fmt.Errorf("no segment holds its beginning: %w", manifest.ErrDamaged)
}

// recordWriter takes the records that are written to it apart. It holds no more than one record and what came with its end.
type recordWriter struct {
	ctx     context.Context
	file    uint32
	at, end uint32 // of what is in rest, and of the segment
	key     *bdb.Key
	decoder *bdb.LogDecoder
	rest    []byte
	fn      func(*bdb.Record) error
}

func (w *recordWriter) open(head []byte) (err error) {
	w.decoder, err = bdb.NewLogDecoder(head, w.key)
	switch {
	case errors.Is(err, bdb.ErrPassword):
		return fmt.Errorf("%w: %w", ErrPassword, err)
	case err != nil:
		return fmt.Errorf("%w: %w", err, manifest.ErrDamaged)
	case w.decoder.Header().Encrypted && w.key == nil:
		return ErrPassword
	}
	return nil
}

func (w *recordWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	w.rest = append(w.rest, p...)
	if w.decoder == nil {
		if len(w.rest) < bdb.LogHeaderSize && uint64(w.at)+uint64(len(w.rest)) < uint64(w.end) {
			return len(p), nil
		}
		if err := w.open(w.rest); err != nil {
			return 0, err
		}
		w.skip(w.decoder.Header().Length)
	}
	var r bdb.Record
	for len(w.rest) > 0 {
		err := w.decoder.Decode(&r, bdb.LSN{File: w.file, Offset: w.at}, w.rest)
		if errors.Is(err, bdb.ErrShortRecord) && uint64(w.at)+uint64(r.Len) <= uint64(w.end) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("LSN %s: %w: %w", bdb.LSN{File: w.file, Offset: w.at}, err, manifest.ErrDamaged)
		}
		if err := w.fn(&r); err != nil {
			return 0, err
		}
		w.skip(r.Len)
	}
	return len(p), nil
}

func (w *recordWriter) skip(n uint32) {
	n = min(n, uint32(len(w.rest)))
	w.rest, w.at = w.rest[n:], w.at+n
}

// finish checks that the segment ended with a record.
func (w *recordWriter) finish() error {
	if len(w.rest) > 0 {
		return fmt.Errorf("LSN %s: the segment ends inside a record: %w", bdb.LSN{File: w.file, Offset: w.at}, manifest.ErrDamaged)
	}
	return nil
}

// datedView is what a segment holds around a moment.
type datedView struct {
	before *CommitPoint // the last commit of that moment or earlier
	after  *CommitPoint // the first later one behind that
	first  *CommitPoint // the first later one of all
	newest time.Time    // of the later ones before before
	latest time.Time    // of all commits
	last   time.Time    // of the last commit
	later  int          // how many later ones stand before before
}

// dated reads a segment, once.
func (s *logScan) dated(ctx context.Context, i int, at time.Time) (*datedView, error) {
	if v := s.read[i]; v != nil {
		return v, nil
	}
	v := &datedView{}
	var count int
	var newest time.Time
	err := s.each(ctx, i, func(r *bdb.Record) error {
		c, ok := commitOf(r)
		if !ok {
			return nil
		}
		if v.last = c.Time; c.Time.After(v.latest) {
			v.latest = c.Time
		}
		if !c.Time.After(at) {
			v.before, v.after, v.later, v.newest = &c, nil, count, newest
			return nil
		}
		if newest = later(newest, c.Time); v.first == nil {
			v.first = &c
		}
		if count++; v.after == nil {
			v.after = &c
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if s.read == nil {
		s.read = map[int]*datedView{}
	}
	s.read[i] = v
	return v, nil
}
