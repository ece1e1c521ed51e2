package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
)

// stage lays down the log for the next recovery, beside the home: what the home has of it, without what recovery appended, and what is new. Whatever
// goes wrong in here leaves the home as it is.
func (c *cycle) stage(ctx context.Context) error {
	if err := c.t.root.RemoveAll(stagedLog); err != nil {
		return err
	}
	if err := c.t.root.Mkdir(stagedLog, 0o700); err != nil {
		return err
	}
	lay, err := c.layout()
	if err != nil {
		return err
	}
	if err := c.checkPassword(lay); err != nil {
		return err
	}
	if err := c.stageOld(lay); err != nil {
		return err
	}
	if err := c.stageNew(ctx); err != nil {
		return err
	}
	return c.t.syncDir(stagedLog)
}

// layout is that of the home.
func (s *Standby) layout() (*layout, error) {
	at, err := resolve(s.opt.To)
	if err != nil {
		return nil, err
	}
	return newLayout(s.files, at, nil)
}

// checkPassword tries the password on the log that is here.
func (c *cycle) checkPassword(lay *layout) error {
	if !c.files.Encrypted {
		return nil
	}
	key := bdb.NewKey(c.opt.Engine.Password)
	if key == nil {
		return ErrPassword
	}
	first, err := readHead(c.t, path.Join(lay.logDir, logName(c.st.End.File)))
	if err == nil {
		_, err = bdb.ParseLogHeader(first, key)
	}
	if errors.Is(err, bdb.ErrPassword) {
		return fmt.Errorf("%w: %w", ErrPassword, err)
	}
	return err
}

func readHead(t *target, name string) ([]byte, error) {
	f, err := t.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	first := make([]byte, bdb.LogHeaderSize)
	n, err := f.ReadAt(first, 0)
	if err == io.EOF {
		err = nil
	}
	return first[:n], err
}

// stageOld takes the log from the home. Whole files are linked; recovery appended to the last one.
func (c *cycle) stageOld(lay *layout) error {
	for n := c.st.Needed.File; n <= c.st.End.File; n++ {
		from, to := path.Join(lay.logDir, logName(n)), path.Join(stagedLog, logName(n))
		var err error
		if n < c.st.End.File {
			err = c.t.root.Link(from, to)
		} else {
			err = c.copyHead(from, to, int64(c.st.End.Offset))
		}
		if err != nil {
			return rebuildf("the log in the home can't be used: %v", err)
		}
	}
	return nil
}

func (c *cycle) copyHead(from, to string, size int64) error {
	in, err := c.t.root.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() // only read
	out, err := c.t.root.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(in, size))
	if err == nil && n < size {
		err = fmt.Errorf("%s ends at %d instead of %d", from, n, size)
	}
	return errors.Join(err, out.Close())
}

// stageNew fetches what continues it.
func (c *cycle) stageNew(ctx context.Context) error {
	plan := &Plan{Environment: c.st.Environment, Backup: c.st.Backup, Timeline: c.st.Timeline}
	plan.Cover.Segments, plan.End = c.news.segments, c.news.end
	var damage damages
	l := &logs{repo: c.repo, plan: plan, t: c.t, dir: stagedLog, key: bdb.NewKey(c.opt.Engine.Password), progress: c.opt.Progress, damage: &damage}
	files := l.files()
	for _, f := range files {
		if err := c.append(ctx, l, f); err != nil {
			return err
		}
	}
	if err := l.checkLinks(files); err != nil {
		return err
	}
	c.result.Segments = len(c.news.segments)
	return damage.err(plan.Backup)
}

// append writes the segments of one log file behind what is there of it.
func (c *cycle) append(ctx context.Context, l *logs, f *logFile) error {
	file, err := l.open(f.number, os.O_CREATE)
	if err != nil {
		return err
	}
	w := &logWriter{ctx: ctx, file: file, hash: blake3.New(), progress: l.progress}
	w.end, err = io.Copy(w.hash, file)
	before := w.end
	for _, s := range f.segments {
		if err == nil {
			f.last, err = l.segment(ctx, w, s)
		}
	}
	c.result.LogBytes += w.end - before
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if _, other := errors.AsType[*otherLogError](err); other && f.number == c.st.End.File {
		return c.otherLog(ctx, err)
	}
	return err
}

// otherLog finds out who is to blame when a segment does not continue the log that is here: if the store's own segments do not fit each other, it
// is the store, and the home stays as it is.
func (c *cycle) otherLog(ctx context.Context, found error) error {
	first := manifest.SegmentName{Timeline: c.st.Timeline, File: c.st.End.File}
	list, err := c.repo.Segments(ctx, c.st.Environment, c.st.Timeline, &first)
	if err != nil {
		return err
	}
	cover := manifest.NewChain(c.st.Timeline, list).Follow(first.File, bdb.LSN{File: first.File, Offset: c.st.End.Offset + 1})
	if !cover.Covers(c.st.End) {
		return found
	}
	file, err := c.t.root.OpenFile(path.Join(stagedLog, "again"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	l := &logs{repo: c.repo, plan: &Plan{Environment: c.st.Environment}, progress: silent{}}
	w := &logWriter{ctx: ctx, file: file, hash: blake3.New(), progress: silent{}}
	for _, s := range cover.Segments {
		if _, err = l.segment(ctx, w, s); err != nil {
			break
		}
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return rebuildf("what is stored does not continue the log of the home: %v", found)
}
