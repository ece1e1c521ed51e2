package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
)

// logFetches is how many log files are fetched side by side.
const logFetches = 3

// logName is the name of a log file.
func logName(file uint32) string { return fmt.Sprintf("log.%010d", file) }

// logs lays down the log.
type logs struct {
	repo     *repository.Repository
	plan     *Plan
	t        *target
	dir      string // in the target
	key      *bdb.Key
	progress Progress
	damage   *damages
}

// logFile is one log file in the making.
type logFile struct {
	number   uint32
	segments []manifest.SegmentName
	last     *manifest.SegmentHeader // of the last segment, once laid down
}

// run lays down all segments of the plan, checks that they are one log, and cuts it at the plan's end.
func (l *logs) run(ctx context.Context) error {
	files := l.files()
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(logFetches)
	for _, f := range files {
		group.Go(func() error { return l.lay(gctx, f) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := l.err(); err != nil {
		return err
	}
	if err := l.checkLinks(files); err != nil {
		return err
	}
	if err := l.err(); err != nil {
		return err
	}
	return l.t.syncDir(l.dir)
}

// err is the damage that was found. Where the log ends before the backup is consistent, that end is no place to restore to.
func (l *logs) err() error {
	err := l.damage.err(l.plan.Backup)
	if e, ok := errors.AsType[*DamageError](err); ok && (l.plan.Manifest == nil || e.LogGood.Before(l.plan.Manifest.ConsistentAt)) {
		e.LogGood = bdb.LSN{}
	}
	return err
}

func (l *logs) files() (files []*logFile) {
	for _, s := range l.plan.Cover.Segments {
		if n := len(files); n == 0 || files[n-1].number != s.File {
			files = append(files, &logFile{number: s.File})
		}
		f := files[len(files)-1]
		f.segments = append(f.segments, s)
	}
	return files
}

func (l *logs) open(number uint32, flags int) (*os.File, error) {
	return l.t.root.OpenFile(path.Join(l.dir, logName(number)), os.O_RDWR|unix.O_NOFOLLOW|flags, 0o600)
}

// lay writes one log file from its segments.
func (l *logs) lay(ctx context.Context, f *logFile) error {
	file, err := l.open(f.number, os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	w := &logWriter{ctx: ctx, file: file, hash: blake3.New(), progress: l.progress}
	good := l.endBefore(f.number)
	for _, s := range f.segments {
		if f.last, err = l.segment(ctx, w, s); err != nil {
			break
		}
		good = bdb.LSN{File: s.File, Offset: s.End}
	}
	if err == nil {
		if err = l.checkBackup(f, file); err != nil {
			good = bdb.LSN{}
		}
	}
	if err == nil && l.plan.End.File == f.number {
		err = file.Truncate(int64(l.plan.End.Offset))
	}
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		l.progress.File(l.t.shown(path.Join(l.dir, logName(f.number))))
	}
	if damagedLog(err) {
		l.damage.log(f.segments[0].Key(l.plan.Environment), err)
		l.damage.logEnds(good)
		return nil
	}
	return err
}

// endBefore is where the log ends before a log file.
func (l *logs) endBefore(file uint32) (end bdb.LSN) {
	for _, s := range l.plan.Cover.Segments {
		if s.File >= file {
			break
		}
		end = bdb.LSN{File: s.File, Offset: s.End}
	}
	return end
}

// checkBackup makes sure that a log file is the one beside which the backup's pages were copied, and not that of a copy of the environment that went its own
// way: recovery would write one's changes into the other's pages.
func (l *logs) checkBackup(f *logFile, file *os.File) error {
	m := l.plan.Manifest
	if m == nil || m.ConsistentHash == (manifest.Hash{}) || f.number != m.ConsistentAt.File {
		return nil
	}
	sum := blake3.New()
	if _, err := io.Copy(sum, io.NewSectionReader(file, 0, int64(m.ConsistentAt.Offset))); err != nil {
		return err
	}
	if !bytes.Equal(sum.Sum(nil), m.ConsistentHash[:]) {
		return fmt.Errorf("log file %d up to %s: %w", f.number, m.ConsistentAt, &otherLogError{errOtherBackup})
	}
	return nil
}

// damagedLog reports whether an error is about what is stored.
func damagedLog(err error) bool {
	return errors.Is(err, manifest.ErrDamaged) || errors.Is(err, remote.ErrNotFound) || errors.Is(err, remote.ErrOutOfRange)
}

// segment writes one segment behind, or partly over, those before it, and holds it against them.
func (l *logs) segment(ctx context.Context, w *logWriter, s manifest.SegmentName) (*manifest.SegmentHeader, error) {
	env := l.plan.Environment
	if err := w.begin(s); err != nil {
		return nil, fmt.Errorf("object %s: %w", s.Key(env), err)
	}
	h, err := l.repo.CopySegment(ctx, env, s, w)
	if err != nil {
		return nil, err
	}
	if err := w.check(h); err != nil {
		return nil, fmt.Errorf("object %s: %w", s.Key(env), &otherLogError{err})
	}
	return h, nil
}

// logWriter appends records to a log file. Where a segment begins before the end of what is there, it must say the same.
type logWriter struct {
	ctx      context.Context
	file     *os.File
	hash     *blake3.Hasher // of the file up to end
	end      int64          // of the file
	at       int64          // where the next byte of the segment goes
	start    manifest.Hash  // of the file up to the beginning of the segment
	progress Progress
	differs  bool // the segment is not what stands in the file already
}

var errOtherBackup = errors.New("it is not the log beside which the backup was taken: two logs are mixed")

var errOverlap = errors.New("it holds other records than the segment before it: two logs are mixed")

// otherLogError is a segment that is whole, but does not belong to what it was laid behind.
type otherLogError struct{ err error }

func (e *otherLogError) Error() string   { return fmt.Sprintf("%v: %v", e.err, manifest.ErrDamaged) }
func (e *otherLogError) Unwrap() []error { return []error{e.err, manifest.ErrDamaged} }

// begin sets the writer to the beginning of a segment.
func (w *logWriter) begin(s manifest.SegmentName) error {
	w.at, w.differs = int64(s.Start), false
	sum := w.hash
	if w.at < w.end {
		sum = blake3.New()
		if _, err := io.Copy(sum, io.NewSectionReader(w.file, 0, w.at)); err != nil {
			return err
		}
	}
	sum.Sum(w.start[:0])
	return nil
}

func (w *logWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	total := len(p)
	if over := min(w.end-w.at, int64(len(p))); over > 0 {
		if err := w.compare(p[:over]); err != nil {
			return 0, err
		}
		p = p[over:]
	}
	n, err := w.file.WriteAt(p, w.at)
	w.hash.Write(p[:n])
	w.at += int64(n)
	w.end = max(w.end, w.at)
	w.progress.Add(int64(n))
	if err != nil {
		return 0, err
	}
	return total, nil
}

func (w *logWriter) compare(p []byte) error {
	old := make([]byte, len(p))
	if _, err := w.file.ReadAt(old, w.at); err != nil {
		return err
	}
	w.differs = w.differs || !bytes.Equal(old, p)
	w.at += int64(len(p))
	return nil
}

// check holds a whole segment against the file that it is now part of.
func (w *logWriter) check(h *manifest.SegmentHeader) error {
	var end manifest.Hash
	w.hash.Sum(end[:0])
	switch {
	case w.differs:
		return errOverlap
	case h.StartHash != w.start:
		return errors.New("it does not continue the records before it")
	case h.EndHash != end:
		return errors.New("its records and those before it do not have the hash that it names")
	}
	return nil
}

// checkLinks checks that each log file names the last record of the one before.
func (l *logs) checkLinks(files []*logFile) error {
	for i := 1; i < len(files); i++ {
		header, err := l.header(files[i].number)
		if err != nil {
			return err
		}
		if before := files[i-1]; header.Prev != before.last.LastRecord {
			s := files[i].segments[0]
			l.damage.logEnds(bdb.LSN{File: before.number, Offset: before.segments[len(before.segments)-1].End})
			l.damage.log(s.Key(l.plan.Environment), fmt.Errorf("object %s: it follows a record at %s, but the log before it ends with one at %s: %w",
				s.Key(l.plan.Environment), bdb.LSN{File: before.number, Offset: header.Prev},
				bdb.LSN{File: before.number, Offset: before.last.LastRecord}, manifest.ErrDamaged))
		}
	}
	return nil
}

func (l *logs) header(number uint32) (bdb.LogHeader, error) {
	file, err := l.open(number, 0)
	if err != nil {
		return bdb.LogHeader{}, err
	}
	defer file.Close() // only read
	first := make([]byte, bdb.LogHeaderSize)
	n, err := file.ReadAt(first, 0)
	if err != nil && err != io.EOF {
		return bdb.LogHeader{}, err
	}
	header, err := bdb.ParseLogHeader(first[:n], l.key)
	if err != nil {
		l.damage.log(logName(number), fmt.Errorf("log file %d: %w: %w", number, err, manifest.ErrDamaged))
	}
	return header, nil
}

var errEnough = errors.New("enough")

// firstRecord fetches the beginning of the first log file: the smallest thing that proves a password.
func (l *logs) firstRecord(ctx context.Context) ([]byte, error) {
	w := &headWriter{most: bdb.LogHeaderSize}
	_, err := l.repo.CopySegment(ctx, l.plan.Environment, l.plan.Cover.Segments[0], w)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return w.head, err
}

// checkFirst reads all of what firstRecord read the beginning of, up to the checksum at its end.
func (l *logs) checkFirst(ctx context.Context) error {
	_, err := l.repo.CopySegment(ctx, l.plan.Environment, l.plan.Cover.Segments[0], io.Discard)
	return err
}

// first is the key of that segment.
func (l *logs) first() string { return l.plan.Cover.Segments[0].Key(l.plan.Environment) }

type headWriter struct {
	head []byte
	most int
}

func (w *headWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.most-len(w.head))
	w.head = append(w.head, p[:n]...)
	if len(w.head) == w.most {
		return n, errEnough
	}
	return n, nil
}
