package restore

import (
	"context"
	"errors"
	"slices"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
)

// news is what the store has that the home has not.
type news struct {
	backup   *manifest.Manifest     // the newest full backup; nil: the one that is known
	looked   manifest.BackupID      // the newest id that was listed
	segments []manifest.SegmentName // that continue the log, in its order
	end      bdb.LSN                // of the log with them
	newest   manifest.SegmentName   // that reaches farthest, behind a gap perhaps
	starts   []uint32               // where the newest segments of end's log file begin
}

const (
	// startsKept is how many of the newest segments are listed again: a shipper merges pieces of a log file that is still open into one that
	// begins with the first of them.
	startsKept = 64
	// nearMost is how many segments one request lists.
	nearMost = 1000
	// idleFar is in which cycles without news the log is followed from the beginning of its file: a piece that merges more than startsKept others,
	// with nothing shipped behind it yet, shows only there.
	idleFar = 30
)

// look finds out what is new, with two requests if nothing is.
func (c *cycle) look(ctx context.Context) error {
	if err := c.lookForBackups(ctx); err != nil {
		return err
	}
	near, err := c.lookNear(ctx)
	if err != nil {
		return err
	}
	if !near || c.idle%idleFar == 1 || c.gap() {
		if err := c.lookFar(ctx); err != nil {
			return err
		}
	}
	gap := c.gap()
	switch b := c.news.backup; {
	case gap && b != nil && c.news.end.Before(b.ConsistentAt):
		return rebuildf("log behind LSN %s is not in the store any more, and backup %s does not need it", c.news.end, b.ID)
	case gap:
		c.note("log is stored up to LSN %s, but a piece behind %s is missing", newestLSN(c.news.newest), c.news.end)
	}
	c.idle++
	if len(c.news.segments) > 0 {
		c.idle = 0
	}
	c.result.Shipped = newestLSN(c.news.newest)
	if t := c.news.newest.LastCommit; t > 0 {
		c.result.ShippedTime = time.Unix(t, 0).UTC()
	}
	c.result.Action = ActionNone
	if c.repaired {
		c.result.Action = ActionRepeats
	}
	return c.step(ctx, stepLooked)
}

// gap reports whether log is stored behind what continues the log that is here.
func (c *cycle) gap() bool { return c.news.end.Before(newestLSN(c.news.newest)) }

func newestLSN(s manifest.SegmentName) bdb.LSN { return bdb.LSN{File: s.File, Offset: s.End} }

// lookForBackups looks for backups that came since it looked last.
func (c *cycle) lookForBackups(ctx context.Context) error {
	list, err := c.repo.Backups(ctx, c.st.Environment, c.st.Looked)
	if err != nil {
		return err
	}
	for _, s := range slices.Backward(list) {
		m, err := c.repo.Manifest(ctx, c.st.Environment, s)
		if err != nil && !c.passOver(s, err) {
			return err
		}
		if err == nil {
			c.news.backup = m
			break
		}
	}
	if len(list) > 0 {
		c.news.looked = list[len(list)-1].ID
	}
	if b := c.news.backup; b != nil && b.Timeline != c.st.Timeline {
		return rebuildf("backup %s began timeline %s (%s)", b.ID, b.Timeline, b.NewTimeline)
	}
	return nil
}

// passOver reports whether a backup that can't be read is no reason to stop.
func (c *cycle) passOver(s repository.Stored, err error) bool {
	var void *repository.VoidError
	ok := errors.As(err, &void) || errors.Is(err, manifest.ErrDamaged) || errors.Is(err, remote.ErrNotFound)
	if ok {
		c.note("backup %s is passed over: %v", s.ID, err)
	}
	return ok
}

// errMany ends a list that is too long to be read to its end.
var errMany = errors.New("many")

// listNear lists the segments that came behind the newest ones that are known. It says false if they are so many that it is better to jump.
func (c *cycle) listNear(ctx context.Context) (list []manifest.SegmentName, ok bool, err error) {
	after := manifest.SegmentName{Timeline: c.st.Timeline, File: c.st.End.File, Start: c.st.End.Offset}
	if len(c.st.Starts) > 0 {
		after.Start = c.st.Starts[0]
	}
	_, err = c.repo.Bucket.List(ctx, manifest.TimelinePrefix(c.st.Environment, c.st.Timeline), after.Key(c.st.Environment), func(i remote.Info) error {
		if s, err := manifest.ParseSegmentKey(c.st.Environment, i.Key); err == nil {
			list = append(list, s)
		}
		if len(list) == nearMost {
			return errMany
		}
		return nil
	})
	if errors.Is(err, errMany) {
		return nil, false, nil
	}
	return list, true, err
}

// lookNear looks for log among the newest segments: one request.
func (c *cycle) lookNear(ctx context.Context) (ok bool, err error) {
	list, ok, err := c.listNear(ctx)
	if err != nil || !ok {
		return ok, err
	}
	end := c.st.End
	here := manifest.SegmentName{Timeline: c.st.Timeline, File: end.File, End: end.Offset}
	here.Sealed = slices.ContainsFunc(list, func(s manifest.SegmentName) bool { return s.File == end.File && s.End == end.Offset && s.Sealed })
	chain := manifest.NewChain(c.st.Timeline, append(list, here))
	c.found(chain.Follow(end.File, bdb.LSN{}))
	newest, _ := chain.Newest()
	c.saw(newest)
	c.news.starts = c.startsOf(list)
	return true, nil
}

// lookFar follows the log from the beginning of the log file of the present end, which finds whatever carries it on.
func (c *cycle) lookFar(ctx context.Context) error {
	piece, err := c.repo.FollowLog(ctx, c.st.Environment, c.st.Timeline, c.st.End.File, nil)
	if err != nil {
		return err
	}
	c.found(piece.Cover())
	for _, s := range piece.Segments {
		c.saw(s.SegmentName)
	}
	if piece.Next != nil {
		c.saw(*piece.Next)
	}
	c.news.starts = nil
	return nil
}

// found takes what of a cover is new.
func (c *cycle) found(cover manifest.Cover) {
	end := c.st.End
	c.news.segments = slices.DeleteFunc(slices.Clone(cover.Segments), func(s manifest.SegmentName) bool { return s.File == end.File && s.End <= end.Offset })
	if c.news.end = cover.End; len(c.news.segments) == 0 {
		c.news.end = end
	}
}

// saw notes the segment that reaches farthest.
func (c *cycle) saw(s manifest.SegmentName) {
	if newestLSN(c.news.newest).Before(newestLSN(s)) {
		c.news.newest = s
	}
}

// startsOf are where the newest known segments of the log file begin in which the log now ends.
func (c *cycle) startsOf(list []manifest.SegmentName) (starts []uint32) {
	if c.news.end.File == c.st.End.File {
		starts = slices.Clone(c.st.Starts)
	}
	for _, s := range list {
		if s.File == c.news.end.File {
			starts = append(starts, s.Start)
		}
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	return starts[max(0, len(starts)-startsKept):]
}
