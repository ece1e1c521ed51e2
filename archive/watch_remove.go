package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/zeebo/blake3"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
)

// maxSealed bounds what is remembered of sealed segments. Of those beyond, the store is asked.
const maxSealed = 4096

// removalPause is how long removal rests after it could not go on.
const removalPause = time.Minute

// removal is what a sitting knows for removing log files that are stored.
type removal struct {
	sealed map[uint32]sealedSegment // whole log files that this watch stored and that are still here
	ckp    bdb.Checkpoint           // up to which log was removed
	looked bool                     // for the last checkpoint before the watch
	rest   time.Time                // until then
	said   string
}

// sealedSegment is a whole log file in the store.
type sealedSegment struct {
	name manifest.SegmentName
	hash manifest.Hash // BLAKE3 of the log file up to its end
	size int64         // of the object
}

// stored remembers a whole log file.
func (r *removal) stored(seg sealedSegment) {
	if r.sealed == nil {
		r.sealed = map[uint32]sealedSegment{}
	}
	if len(r.sealed) < maxSealed {
		r.sealed[seg.name.File] = seg
	}
}

// removeShipped removes from the source the log files that nobody needs there: recovery begins behind them, and they are in the store, whole. Not while a
// full backup runs, which may want to send some of it again.
func (s *sitting) removeShipped(ctx context.Context) {
	r := &s.removal
	if !s.w.opt.RemoveShippedLogs || s.ship == nil || s.ship.last == nil || s.full.running || ctx.Err() != nil || time.Now().Before(r.rest) {
		return
	}
	ckp, err := s.lastCheckpoint(ctx)
	if err == nil && ckp.CkpLSN.File > r.ckp.CkpLSN.File {
		err = s.removeBefore(ctx, ckp)
	}
	if err != nil && ctx.Err() == nil {
		r.rest = time.Now().Add(removalPause)
		s.keepLog(err)
	}
}

// keepLog says once why nothing is removed.
func (s *sitting) keepLog(err error) {
	if text := err.Error(); text != s.removal.said {
		s.removal.said = text
		s.w.report.tell(Event{Kind: EventLogKept, Text: text, Err: err})
	}
}

// lastCheckpoint is the newest that is stored; before one was, it is looked for in the log.
func (s *sitting) lastCheckpoint(ctx context.Context) (bdb.Checkpoint, error) {
	if !s.ship.ckp.LSN.IsZero() || s.removal.looked {
		return s.ship.ckp, nil
	}
	log, err := s.env.OpenLog(ctx)
	if err != nil {
		return bdb.Checkpoint{}, err
	}
	ckp, found, err := log.LastCheckpoint(ctx)
	err = errors.Join(err, log.Close())
	if errors.Is(err, bdb.ErrPassword) {
		return ckp, fmt.Errorf("no log file is removed, because checkpoints can't be read: %w", err)
	}
	if err == nil {
		s.removal.looked = true
		if found && ckp.LSN.Before(s.end()) {
			s.ship.ckp = ckp
		}
	}
	return s.ship.ckp, err
}

// removeBefore removes the log files before the one that recovery from ckp would begin with, from the oldest on: a row of log files has no gaps.
func (s *sitting) removeBefore(ctx context.Context, ckp bdb.Checkpoint) error {
	if name, err := replicated(s.env); err != nil {
		return err
	} else if name != "" {
		return fmt.Errorf("no log file is removed, because the environment belongs to a replication group (%s), whose other sites may need more", name)
	}
	files, err := s.env.LogFiles()
	if err != nil {
		return err
	}
	limit := min(ckp.CkpLSN.File, s.end().File)
	if len(files) == 0 || files[0].Number >= limit {
		s.removal.ckp = ckp
		return nil
	}
	// A checkpoint that a power failure could take back is none to rely on.
	if err := syncLog(files, ckp.LSN.File); err != nil {
		return err
	}
	for _, f := range files {
		if f.Number >= limit {
			break
		}
		if err := s.removeLog(ctx, f); err != nil {
			return err
		}
	}
	s.removal.ckp, s.removal.said = ckp, ""
	return nil
}

// removeLog removes a log file if the store has all of it.
func (s *sitting) removeLog(ctx context.Context, f localenv.LogFile) error {
	if err := s.w.step("remove-log"); err != nil {
		return err
	}
	if err := s.isStored(ctx, f); err != nil {
		return fmt.Errorf("log file %d is not removed: %w", f.Number, err)
	}
	if err := os.Remove(f.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	delete(s.removal.sealed, f.Number)
	s.w.report.tell(Event{Kind: EventLogRemoved, LogFile: f.Number, Bytes: f.Stat.Size,
		Text: fmt.Sprintf("log file %d is stored, and recovery no longer needs it: removed", f.Number)})
	return nil
}

// isStored makes certain that these very bytes are in the store now.
func (s *sitting) isStored(ctx context.Context, f localenv.LogFile) error {
	ctx = remote.WithRetry(ctx, remote.Retry{For: shipPatience})
	seg, known := s.removal.sealed[f.Number]
	same := known && isFile(f.Path, seg)
	if !same { // stored before this watch began, or by another environment in this place
		var err error
		if seg, err = s.readSealed(ctx, f.Number); err != nil {
			return err
		}
		same = isFile(f.Path, seg)
	}
	if !same {
		return errors.New("it differs from what is stored of it")
	}
	info, err := s.w.repo.Bucket.Stat(ctx, seg.name.Key(s.w.opt.Env))
	if err != nil {
		return err
	}
	if info.Size != seg.size {
		return fmt.Errorf("object %s has %d bytes, and %d were stored", info.Key, info.Size, seg.size)
	}
	return nil
}

var errFound = errors.New("found")

// readSealed finds a log file that was stored before this watch began, and reads it back.
func (s *sitting) readSealed(ctx context.Context, file uint32) (seg sealedSegment, err error) {
	env := s.w.opt.Env
	whole := fmt.Sprintf("%s%010d/%010d-", manifest.TimelinePrefix(env, s.ship.timeline), file, 0)
	_, err = s.w.repo.Bucket.List(ctx, whole, "", func(i remote.Info) error {
		n, err := manifest.ParseSegmentKey(env, i.Key)
		if err != nil || !n.Sealed {
			return nil
		}
		seg.name, seg.size = n, i.Size
		return errFound
	})
	if err == nil {
		return seg, fmt.Errorf("it is not in the repository on timeline %s, and it can be removed by hand (db_archive -d)", s.ship.timeline)
	}
	if !errors.Is(err, errFound) {
		return seg, err
	}
	sum := blake3.New()
	if _, err := s.w.repo.CopySegment(ctx, env, seg.name, sum); err != nil {
		return seg, err
	}
	sum.Sum(seg.hash[:0])
	s.removal.stored(seg)
	return seg, nil
}

// isFile reports whether a log file has the bytes of a segment.
func isFile(path string, seg sealedSegment) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	h := blake3.New()
	n, err := io.Copy(h, io.LimitReader(f, int64(seg.name.End)))
	return err == nil && n == int64(seg.name.End) && manifest.Hash(h.Sum(nil)) == seg.hash
}

func syncLog(files []localenv.LogFile, number uint32) error {
	for _, f := range files {
		if f.Number != number {
			continue
		}
		file, err := os.Open(f.Path)
		if err != nil {
			return err
		}
		return errors.Join(file.Sync(), file.Close())
	}
	return fmt.Errorf("log file %d, which has the last checkpoint, is gone", number)
}

// replicated is the name of a file by which a replication group is known; "" where there is none.
func replicated(env *localenv.Env) (string, error) {
	entries, err := os.ReadDir(env.Home)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "__db.rep") {
			return e.Name(), nil
		}
	}
	return "", nil
}
