package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
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
	// shipBatch is how many log files are sent before the place is noted.
	shipBatch = 16
)

// logRange is a row of whole records of one log file that makes one segment.
type logRange struct {
	header manifest.SegmentHeader
	before *blake3.Hasher // of the log file's bytes before it
	near   mark           // shortly before its end
	ckp    bdb.Checkpoint // newest inside
	size   int64          // of the stored segment
	stored bool
}

// ship sends everything between s.last and the end of the log.
func (s *shipper) ship(ctx context.Context) error {
	s.result = ShipResult{Timeline: s.timeline, From: bdb.LSN{File: s.first}, LastCommit: s.result.LastCommit}
	if s.last != nil {
		s.result.From = s.last.EndLSN()
		s.noteCommit(s.last.LastCommit)
	}
	s.noteCommit(s.cover.LastCommit)
	s.result.To = s.result.From
	if err := s.sealVanished(ctx); err != nil {
		return err
	}
	for more := true; more; {
		var ranges []*logRange
		var err error
		if ranges, more, err = s.ranges(ctx); err != nil {
			return err
		}
		s.sayStrays()
		if err := s.storeAll(ctx, ranges); err != nil {
			return err
		}
		s.cautious = false
	}
	if s.last == nil {
		return errors.New("the log has no record yet")
	}
	return s.at("shipped")
}

// storeAll stores segments side by side, and moves on as far as they are stored without a gap.
func (s *shipper) storeAll(ctx context.Context, ranges []*logRange) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(segmentUploads)
	for _, r := range ranges {
		g.Go(func() error { return s.store(gctx, r) })
	}
	err := g.Wait()
	for _, r := range ranges {
		if !r.stored {
			break
		}
		s.count(r)
	}
	return err
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
	if h.Start == 0 {
		s.tail = tail{}
	}
	s.tail.add(part{h.Start, h.End, r.before}, r.near)
	if !r.ckp.LSN.IsZero() {
		s.ckp = r.ckp
	}
	if h.Sealed && s.sealed != nil && r.size > 0 {
		s.sealed(h, r.size)
	}
	if s.stored != nil {
		s.stored(h.Name())
	}
	s.result.To = h.EndLSN()
	s.noteCommit(h.LastCommit)
	if s.present[h.Name()] {
		return
	}
	s.result.Segments++
	s.result.LogBytes += int64(h.End - h.Start)
	s.result.StoredBytes += r.size
	s.result.Records += h.Records
	s.result.Commits += h.Commits
	s.progress.File(h.Name().String())
}

// ranges cuts what is not shipped yet into segments: every sealed file as a whole, and what is new of the last one, with what is to be merged with it.
func (s *shipper) ranges(ctx context.Context) (list []*logRange, more bool, err error) {
	s.reading.RLock()
	defer s.reading.RUnlock()
	from := s.first
	if s.last != nil {
		from = s.last.File
		if s.last.Sealed {
			from++
		}
	}
	files := s.log.Files()
	if oldest := files[0]; oldest > from {
		return nil, false, &ChainError{Timeline: s.timeline, Shipped: s.result.To, Reason: fmt.Sprintf(
			"log file %d was removed before it was shipped (DB_LOG_AUTOREMOVE, db_archive -d?)", from)}
	}
	for _, file := range files {
		if file < from {
			continue
		}
		if len(list) == shipBatch || s.cautious && len(list) == 1 {
			return list, true, nil
		}
		start := fileStart()
		sealed := s.log.Sealed(file)
		if s.known(file) && !sealed {
			start = s.tail.next()
		}
		r, err := s.scan(ctx, file, start, sealed)
		if err != nil {
			return nil, false, err
		}
		if r != nil {
			list = append(list, r)
		}
	}
	return list, false, nil
}

// known reports whether the stored log ends in this file.
func (s *shipper) known(file uint32) bool { return s.last != nil && s.last.File == file }

var errNextFile = errors.New("next file")

// scan walks one log file's records and describes those from start on; nil if there are none. A file that has its header only counts: its end is a
// place in the log. On its way it comes by the end of what is stored, if that is in this file, and proves that what follows continues it.
func (s *shipper) scan(ctx context.Context, file uint32, start mark, sealed bool) (*logRange, error) {
	lh, err := s.log.Header(file)
	if errors.Is(err, bdb.ErrNoHeader) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("log file %d: %w", file, err)
	}
	c := &scanner{stray: s.noteStrays, r: &logRange{header: manifest.SegmentHeader{
		Environment: s.env, Timeline: s.timeline, File: file, Start: start.at, Sealed: sealed,
		LogVersion: lh.Version, LogFileSize: lh.Size, Encrypted: lh.Encrypted, Home: s.home,
	}}}
	c.r.header.Host, _ = os.Hostname()
	if s.known(file) {
		c.last = s.last
	}
	from := start
	if from.sum == nil {
		from = s.tail.near
	}
	if from.sum == nil || from.at > start.at {
		from = fileStart()
	}
	if err := c.run(ctx, s.log, from); err != nil {
		return nil, err
	}
	if !c.proved() {
		return nil, s.broken("log file %d no longer has what was shipped of it: the environment was restored, made anew, or lost its newest records in a crash", file)
	}
	if h := &c.r.header; h.End <= h.Start || !sealed && c.last != nil && h.End <= c.last.End {
		return nil, nil
	}
	return c.r, nil
}

// scanner is a walk through one log file.
type scanner struct {
	r    *logRange
	last *manifest.SegmentHeader // with which the stored log ends in this file; nil: it doesn't
	sum  *prover
	same bool // what is stored was come by

	stray func(*bdb.Record) // hears of the records that are new
}

func (c *scanner) run(ctx context.Context, log *localenv.Log, from mark) error {
	h := &c.r.header
	c.sum = newProver(from)
	if from.at == 0 {
		lh, err := log.Header(h.File)
		if err != nil {
			return err
		}
		head := make([]byte, lh.Length)
		if _, err := log.ReadAt(ctx, h.File, head, 0); err != nil {
			return err
		}
		c.pass()
		c.sum.bytes(head)
	}
	_, err := log.Walk(ctx, bdb.LSN{File: h.File, Offset: from.at}, c.record)
	if err != nil && !errors.Is(err, errNextFile) {
		return fmt.Errorf("walk log file %d: %w", h.File, err)
	}
	c.pass()
	h.End, h.EndHash, c.r.near = c.sum.at, c.sum.hash(), c.sum.near
	return nil
}

func (c *scanner) record(rec *bdb.Record) error {
	h := &c.r.header
	if rec.LSN.File != h.File {
		return errNextFile
	}
	c.pass()
	c.sum.record(rec)
	h.LastRecord = rec.LSN.Offset
	if c.last == nil || rec.LSN.Offset >= c.last.End {
		c.stray(rec)
	}
	if rec.LSN.Offset < h.Start {
		return nil
	}
	h.Records++
	if m, ok := rec.Commit(); ok && !m.Abort {
		h.Commits++
		h.LastCommit = max(h.LastCommit, m.Time.Unix())
	}
	if ckp, ok := rec.Checkpoint(); ok {
		c.r.ckp = ckp
	}
	return nil
}

// pass looks whether the walk has come to a place that matters.
func (c *scanner) pass() {
	if c.sum.at == c.r.header.Start {
		c.r.before, c.r.header.StartHash = c.sum.sum.Clone(), c.sum.hash()
	}
	if c.last != nil && c.sum.at == c.last.End {
		c.same = c.sum.hash() == c.last.EndHash
	}
}

// proved reports whether the walk came by its start and, in the same bytes, by what is stored.
func (c *scanner) proved() bool {
	return c.r.before != nil && (c.last == nil || c.same)
}

// store writes a segment and puts it under its name. A segment of that name that is there already has to hold the same records.
func (s *shipper) store(ctx context.Context, r *logRange) (err error) {
	h := &r.header
	if s.present[h.Name()] {
		err = s.sameSegment(ctx, h)
		r.stored = err == nil
		return err
	}
	if err := s.at("segment"); err != nil {
		return err
	}
	body, err := s.build(ctx, r)
	if err != nil {
		return err
	}
	defer body.close()
	if s.sure != nil {
		if err := s.sure(); err != nil {
			return err
		}
	}
	there, err := s.put(ctx, h, body)
	if err != nil {
		return err
	}
	if r.stored = true; !there {
		r.size = body.size
	}
	s.progress.Add(int64(h.End - h.Start))
	return s.at("segment-stored")
}

// errLogMoved says that log which was read before is no longer the same.
var errLogMoved = errors.New("the log changed while it was read")

// build makes the segment of r. Its bytes are those that were walked.
func (s *shipper) build(ctx context.Context, r *logRange) (*spooled, error) {
	s.reading.RLock()
	defer s.reading.RUnlock()
	h := &r.header
	sum := r.before.Clone()
	records := io.NewSectionReader(&logReader{ctx: ctx, log: s.log, file: h.File}, int64(h.Start), int64(h.End-h.Start))
	body := s.spool()
	if err := manifest.WriteSegment(body, h, io.TeeReader(records, sum)); err != nil {
		body.close()
		return nil, fmt.Errorf("segment %s: %w", h.Name(), err)
	}
	if !bytes.Equal(sum.Sum(nil), h.EndHash[:]) {
		body.close()
		return nil, fmt.Errorf("segment %s: %w", h.Name(), errLogMoved)
	}
	return body, nil
}

// put stores a segment that is ready, unless it is there.
func (s *shipper) put(ctx context.Context, h *manifest.SegmentHeader, body *spooled) (there bool, err error) {
	key := h.Name().Key(s.env)
	opt := remote.PutOptions{IfAbsent: true, SHA256: body.hash(), HasSHA256: true, Retain: s.lock.from(time.Now())}
	err = s.repo.Bucket.Put(ctx, key, body.reader(), body.size, opt)
	if errors.Is(err, remote.ErrExists) {
		// Another run shipped the same records in this moment, or an earlier one lost the answer.
		return true, s.sameSegment(ctx, h)
	}
	if err != nil {
		return false, fmt.Errorf("store log segment: %w", err)
	}
	if s.locked != nil {
		s.locked.add(key)
	}
	return false, nil
}

// sameSegment checks that the stored segment of h's name holds h's records.
func (s *shipper) sameSegment(ctx context.Context, h *manifest.SegmentHeader) error {
	stored, err := s.repo.SegmentHeader(ctx, s.env, h.Name())
	if err != nil {
		return err
	}
	if stored.EndHash != h.EndHash || stored.StartHash != h.StartHash {
		return s.mixed(bdb.LSN{File: h.File, Offset: h.Start}, stored)
	}
	if s.lock.asked() { // whoever stored it may not have
		_, err = s.repo.Bucket.ExtendRetention(ctx, h.Name().Key(s.env), s.lock.from(time.Now()))
	}
	return err
}

// sealVanished completes a log file that is gone here although its last segment is not marked as sealed: the next file's first record has
// proved that all of it is in the store. It is put together from there.
func (s *shipper) sealVanished(ctx context.Context) error {
	if s.last == nil || s.last.Sealed || s.holds(s.last.File) {
		return nil
	}
	chain, err := s.repo.Segments(ctx, s.env, s.timeline, &manifest.SegmentName{Timeline: s.timeline, File: s.last.File})
	if err != nil {
		return err
	}
	body := s.spool()
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
	sealed := s.spool()
	defer sealed.close()
	if err := manifest.WriteSegment(sealed, &h, io.NewSectionReader(body.reader(), 0, body.size)); err != nil {
		return fmt.Errorf("segment %s: %w", h.Name(), err)
	}
	if _, err := s.put(ctx, &h, sealed); err != nil {
		return err
	}
	s.last = &h
	return nil
}

func (s *shipper) holds(file uint32) bool {
	s.reading.RLock()
	defer s.reading.RUnlock()
	return slices.Contains(s.log.Files(), file)
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
	sum  hash.Hash // SHA-256
	mem  []byte
	file *os.File
	size int64
}

func (s *shipper) spool() *spooled { return &spooled{st: s.st, sum: sha256.New()} }

func (s *spooled) hash() (h [32]byte) {
	s.sum.Sum(h[:0])
	return h
}

func (s *spooled) Write(p []byte) (int, error) {
	s.sum.Write(p)
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
