package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
)

const (
	// segmentUploads is how many segments are compressed and sent at once.
	segmentUploads = 3
	// memorySegment is how long a stored segment may get before it goes to disk. libdb's default log file is 10 MiB.
	memorySegment = 8 << 20
)

// logRange is a row of whole records of one log file that makes one segment.
type logRange struct {
	header manifest.SegmentHeader
	last   int64 // size of the stored segment, once stored
}

// ship sends everything between s.last and the end of the log.
func (s *shipper) ship(ctx context.Context) error {
	s.result.Timeline = s.timeline
	s.result.From = bdb.LSN{File: s.first}
	if s.last != nil {
		s.result.From = s.last.EndLSN()
		s.noteCommit(s.last.LastCommit)
	}
	s.noteCommit(s.cover.LastCommit)
	s.result.To = s.result.From
	if err := s.sealVanished(ctx); err != nil {
		return err
	}
	ranges, err := s.ranges(ctx)
	if err != nil {
		return err
	}
	s.sayStrays()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(segmentUploads)
	for _, r := range ranges {
		g.Go(func() error { return s.store(gctx, r) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, r := range ranges {
		s.count(r)
	}
	if s.last == nil {
		return errors.New("the log has no record yet")
	}
	if err := s.at("shipped"); err != nil {
		return err
	}
	return s.remember()
}

func (s *shipper) remember() error {
	return s.st.save(stateShipped, shipped{Timeline: s.timeline, First: s.first, Header: s.last})
}

func (s *shipper) noteCommit(seconds int64) {
	if t := unixTime(seconds); t.After(s.result.LastCommit) {
		s.result.LastCommit = t
	}
}

func (s *shipper) count(r *logRange) {
	h := &r.header
	s.last = h
	s.result.To = h.EndLSN()
	s.noteCommit(h.LastCommit)
	if s.present[h.Name()] {
		return
	}
	s.result.Segments++
	s.result.LogBytes += int64(h.End - h.Start)
	s.result.StoredBytes += r.last
	s.result.Records += h.Records
	s.result.Commits += h.Commits
	s.progress.File(h.Name().String())
}

// ranges cuts what is not shipped yet into segments: every sealed file as a whole, and what is new of the last one.
func (s *shipper) ranges(ctx context.Context) ([]*logRange, error) {
	var list []*logRange
	files := s.log.Files()
	from := s.first
	if s.last != nil {
		from = s.last.File
		if s.last.Sealed {
			from++
		}
	}
	for _, file := range files {
		if file < from {
			continue
		}
		start := uint32(0)
		sealed := s.log.Sealed(file)
		if s.last != nil && file == s.last.File && !sealed {
			start = s.last.End
		}
		r, err := s.scan(ctx, file, start, sealed)
		if err != nil {
			return nil, err
		}
		if r != nil {
			list = append(list, r)
		}
	}
	return list, nil
}

var errNextFile = errors.New("next file")

// scan walks one log file's records from start and describes them; nil if there are none. A file that has its header only counts: its end is a
// place in the log.
func (s *shipper) scan(ctx context.Context, file, start uint32, sealed bool) (*logRange, error) {
	lh, err := s.log.Header(file)
	if errors.Is(err, bdb.ErrNoHeader) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("log file %d: %w", file, err)
	}
	r := &logRange{header: manifest.SegmentHeader{
		Environment: s.env, Timeline: s.timeline, File: file, Start: start, Sealed: sealed,
		LogVersion: lh.Version, LogFileSize: lh.Size, Encrypted: lh.Encrypted, Home: s.home,
	}}
	h := &r.header
	h.Host, _ = os.Hostname()
	_, err = s.log.Walk(ctx, bdb.LSN{File: file, Offset: start}, func(rec *bdb.Record) error {
		if rec.LSN.File != file {
			return errNextFile
		}
		s.noteStrays(rec)
		h.Records++
		h.LastRecord = rec.LSN.Offset
		if c, ok := rec.Commit(); ok && !c.Abort {
			h.Commits++
			h.LastCommit = max(h.LastCommit, c.Time.Unix())
		}
		h.End = rec.Next().Offset
		return nil
	})
	if err != nil && !errors.Is(err, errNextFile) {
		return nil, fmt.Errorf("walk log file %d: %w", file, err)
	}
	if h.End == 0 && start == 0 {
		h.End = lh.Length
	}
	if h.End <= start {
		return nil, nil
	}
	return r, nil
}

// store writes a segment and puts it under its name. A segment of that name that is there already has to hold the same records.
func (s *shipper) store(ctx context.Context, r *logRange) error {
	h := &r.header
	prefix := newPrefixHash(s.log, h.File)
	var err error
	if h.StartHash, err = prefix.upTo(ctx, h.Start); err != nil {
		return err
	}
	if h.EndHash, err = prefix.upTo(ctx, h.End); err != nil {
		return err
	}
	if s.present[h.Name()] {
		return s.sameSegment(ctx, h)
	}
	if err := s.at("segment"); err != nil {
		return err
	}
	records := io.NewSectionReader(&logReader{ctx: ctx, log: s.log, file: h.File}, int64(h.Start), int64(h.End-h.Start))
	if r.last, err = s.put(ctx, h, records); err != nil {
		return err
	}
	s.progress.Add(int64(h.End - h.Start))
	return s.at("segment-stored")
}

func (s *shipper) put(ctx context.Context, h *manifest.SegmentHeader, records io.Reader) (int64, error) {
	body := &spooled{st: s.st}
	defer body.close()
	sum := sha256.New()
	if err := manifest.WriteSegment(io.MultiWriter(body, sum), h, records); err != nil {
		return 0, fmt.Errorf("segment %s: %w", h.Name(), err)
	}
	opt := remote.PutOptions{IfAbsent: true, SHA256: [32]byte(sum.Sum(nil)), HasSHA256: true}
	err := s.repo.Bucket.Put(ctx, h.Name().Key(s.env), body.reader(), body.size, opt)
	if errors.Is(err, remote.ErrExists) {
		// Another run shipped the same records in this moment, or an earlier one lost the answer.
		return body.size, s.sameSegment(ctx, h)
	}
	if err != nil {
		return 0, fmt.Errorf("store log segment: %w", err)
	}
	return body.size, nil
}

// sameSegment checks that the stored segment of h's name holds h's records.
func (s *shipper) sameSegment(ctx context.Context, h *manifest.SegmentHeader) error {
	stored, err := s.repo.SegmentHeader(ctx, s.env, h.Name())
	if err != nil {
		return err
	}
	if stored.EndHash != h.EndHash || stored.StartHash != h.StartHash {
		return &ChainError{Timeline: s.timeline, Shipped: bdb.LSN{File: h.File, Offset: h.Start},
			Reason: fmt.Sprintf("other records are stored as %s: a copy of this environment ships to the same timeline", h.Name())}
	}
	return nil
}

// sealVanished completes a log file that is gone here although its last segment is not marked as sealed: the next file's first record has
// proved that all of it is in the store. It is put together from there.
func (s *shipper) sealVanished(ctx context.Context) error {
	if s.last == nil || s.last.Sealed || slices.Contains(s.log.Files(), s.last.File) {
		return nil
	}
	chain, err := s.repo.Segments(ctx, s.env, s.timeline, &manifest.SegmentName{Timeline: s.timeline, File: s.last.File})
	if err != nil {
		return err
	}
	body := &spooled{st: s.st}
	defer body.close()
	h := *s.last
	h.Start, h.Sealed, h.Records, h.Commits, h.StartHash = 0, true, 0, 0, manifest.Hash(blake3.Sum256(nil))
	for _, n := range manifest.NewChain(s.timeline, chain).Follow(s.last.File, s.last.EndLSN()).Segments {
		skip := &skipWriter{w: body, skip: body.size - int64(n.Start)}
		part, err := s.repo.CopySegment(ctx, s.env, n, skip)
		if err != nil {
			return err
		}
		h.Records += part.Records
		h.Commits += part.Commits
		h.LastCommit = max(h.LastCommit, part.LastCommit)
	}
	sum := blake3.New()
	if _, err := io.Copy(sum, io.NewSectionReader(body.reader(), 0, body.size)); err != nil {
		return err
	}
	if body.size != int64(h.End) || !bytes.Equal(sum.Sum(nil), h.EndHash[:]) {
		return s.broken("what is stored of log file %d is incomplete, and the file is gone here", h.File)
	}
	if _, err := s.put(ctx, &h, io.NewSectionReader(body.reader(), 0, body.size)); err != nil {
		return err
	}
	s.last = &h
	return nil
}

// skipWriter drops the first bytes.
type skipWriter struct {
	w    io.Writer
	skip int64
}

func (w *skipWriter) Write(p []byte) (int, error) {
	n := int(min(w.skip, int64(len(p))))
	w.skip -= int64(n)
	k, err := w.w.Write(p[n:])
	return n + k, err
}

// logReader reads one log file as an io.ReaderAt.
type logReader struct {
	ctx  context.Context
	log  *localenv.Log
	file uint32
}

func (r *logReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.log.ReadAt(r.ctx, r.file, p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// prefixHash hashes a log file from its beginning, further and further.
type prefixHash struct {
	r   *logReader
	h   *blake3.Hasher
	at  uint32
	buf []byte
}

func newPrefixHash(log *localenv.Log, file uint32) *prefixHash {
	return &prefixHash{r: &logReader{log: log, file: file}, h: blake3.New()}
}

// upTo returns the hash of the file's bytes from 0 to end, which may not be less than the time before.
func (p *prefixHash) upTo(ctx context.Context, end uint32) (sum manifest.Hash, err error) {
	p.r.ctx = ctx
	section := io.NewSectionReader(p.r, int64(p.at), int64(end-p.at))
	if p.buf == nil {
		p.buf = make([]byte, 256<<10)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{p.h}, section, p.buf)
	if err == nil && n != int64(end-p.at) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return sum, fmt.Errorf("read log file %d: %w", p.r.file, err)
	}
	p.at = end
	p.h.Sum(sum[:0])
	return sum, nil
}

// spooled keeps what is written to it in memory up to memorySegment, and on disk beyond that.
type spooled struct {
	st   *state
	mem  []byte
	file *os.File
	size int64
}

func (s *spooled) Write(p []byte) (int, error) {
	if s.file == nil && len(s.mem)+len(p) > memorySegment {
		f, err := s.st.spool()
		if err != nil {
			return 0, err
		}
		s.file = f
		if _, err := f.Write(s.mem); err != nil {
			return 0, err
		}
		s.mem = nil
	}
	s.size += int64(len(p))
	if s.file != nil {
		return s.file.Write(p)
	}
	s.mem = append(s.mem, p...)
	return len(p), nil
}

func (s *spooled) reader() io.ReaderAt {
	if s.file != nil {
		return s.file
	}
	return bytes.NewReader(s.mem)
}

func (s *spooled) close() {
	if s.file != nil {
		s.file.Close()
	}
}

// unixTime is the moment of a commit; 0 is none.
func unixTime(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}
