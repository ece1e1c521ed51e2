package restore

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote/repository"
)

const (
	// clockSlack is how far a source's clock may have been set back for commits that were dated before a target to be found behind it.
	clockSlack = 3 * time.Hour
	// jitter is by how much commits of several processes are out of order by themselves: each takes its time before it gets its place in the log.
	jitter = 2 * time.Second
	// stepReads bounds how many segments are read where the clock was set back.
	stepReads = 8
)

// cut is where the restored log ends.
type cut struct {
	end    bdb.LSN
	commit *CommitPoint // the last one before end; nil: not known
	time   time.Time    // of the last commit before end, as far as it is known
	notes  []string
}

func (c *cut) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

// at makes the cut just after a commit.
func (c *cut) at(p *CommitPoint) { c.end, c.commit, c.time = p.next, p, p.Time }

// errTooEarly says that a target lies before the state that a backup holds; an older one may do.
var errTooEarly = errors.New("the target lies before the moment at which the backup is consistent")

// cutter finds where the log of one backup has to end.
type cutter struct {
	m     *manifest.Manifest
	piece *repository.LogPiece
	scan  *logScan
}

func (c *cutter) segments() []repository.Segment { return c.piece.Segments }

// readable reports whether log can be read: whether it is not encrypted, or the password is there.
func (c *cutter) readable() bool { return !c.m.Encrypted || c.scan.key != nil }

// latest is everything there is.
func (c *cutter) latest() *cut {
	return &cut{end: c.piece.End(), time: later(c.m.ConsistentTime, commitTime(c.piece.Cover().LastCommit))}
}

// missing says why the log ends before a target: because there is no more, or (*manifest.GapError) because some is missing.
func (c *cutter) missing(want bdb.LSN) error {
	if c.piece.Next == nil {
		return nil
	}
	if want.IsZero() {
		want = bdb.LSN{File: c.piece.Next.File, Offset: c.piece.Next.Start}
	}
	return &manifest.GapError{Timeline: c.m.Timeline, Have: c.piece.End(), Want: want}
}

// lsn is the cut just before the record at an LSN.
func (c *cutter) lsn(ctx context.Context, lsn bdb.LSN) (*cut, error) {
	if lsn.Before(c.m.ConsistentAt) {
		return nil, &LogEndError{End: lsn, ConsistentAt: c.m.ConsistentAt, MaxPageLSN: c.m.MaxPageLSN}
	}
	end := c.piece.End()
	if end.Before(lsn) {
		if last := c.segments()[len(c.segments())-1]; !last.Sealed || lsn != (bdb.LSN{File: end.File + 1}) {
			return nil, &UnreachableError{Err: c.missing(lsn)}
		}
		lsn = end // the beginning of a file is the end of the one before
	}
	x := &cut{end: lsn, time: c.m.ConsistentTime}
	i := sort.Search(len(c.segments()), func(i int) bool { return !c.segments()[i].EndLSN().Before(lsn) })
	for _, s := range c.segments()[:i] {
		x.time = later(x.time, commitTime(s.LastCommit))
	}
	if !c.readable() {
		return x, nil
	}
	return x, c.readBorder(ctx, x, i)
}

// readBorder finds out what is the last commit before the cut, and whether a record begins there. The commit may stand in the segment before.
func (c *cutter) readBorder(ctx context.Context, x *cut, i int) error {
	var last *CommitPoint
	inside := x.end
	read := func(r *bdb.Record) error {
		if r.LSN.Before(x.end) && x.end.Before(r.Next()) {
			inside = r.LSN
		} else if p, ok := commitOf(r); ok && !x.end.Before(p.next) {
			last = &p
		}
		return nil
	}
	if err := c.scan.each(ctx, i, read); err != nil {
		return err
	}
	if last == nil && i > 0 {
		if err := c.scan.each(ctx, i-1, read); err != nil {
			return err
		}
	}
	if inside != x.end {
		x.note("no record begins at LSN %s; the restore ends at %s, before the record that holds it", x.end, inside)
		x.end = inside
	}
	if last != nil {
		x.commit, x.time = last, last.Time
	}
	return nil
}

// until is the cut behind the last commit of a moment or earlier. proved reports whether a backup that was begun after the moment proves that
// all commits up to there are stored.
func (c *cutter) until(ctx context.Context, at time.Time, proved func() (bool, error)) (*cut, error) {
	if !c.readable() {
		return nil, ErrPassword
	}
	first, err := c.firstLater(ctx, at)
	if err != nil {
		return nil, err
	}
	if first < 0 && c.begunBefore(at) {
		ok, err := proved()
		if err == nil && !ok {
			err = &UnreachableError{Err: c.missing(bdb.LSN{})}
		}
		return c.latest(), err
	}
	x := &cut{}
	if first >= 0 {
		if x, err = c.lastBefore(ctx, at, first); err != nil {
			return nil, err
		}
	}
	if x.end.IsZero() && !c.begunBefore(at) {
		return nil, errTooEarly
	}
	if !x.end.Before(c.m.ConsistentAt) {
		return x, nil
	}
	return c.notBefore(ctx, x)
}

// begunBefore reports whether anything shows that the moment does not lie before all that the backup holds: the backup was begun before it, or a commit was made.
func (c *cutter) begunBefore(at time.Time) bool {
	seen := !at.Before(c.m.Started.Truncate(time.Second))
	for _, s := range c.segments() {
		t := commitTime(s.LastCommit)
		seen = seen || !t.IsZero() && !t.After(at)
	}
	for _, v := range c.scan.read {
		seen = seen || v.before != nil
	}
	return seen
}

// firstLater is the first segment with a commit after a moment; -1: there is none. Names tell, but not those of an encrypted log that was
// shipped without the password: there a few segments are read, on the assumption that time goes on in the log.
func (c *cutter) firstLater(ctx context.Context, at time.Time) (int, error) {
	unknown := false
	found, high := -1, len(c.segments())
	for i, s := range c.segments() {
		unknown = unknown || s.LastCommit == 0 && c.m.Encrypted
		if commitTime(s.LastCommit).After(at) {
			found, high = i, i
			break
		}
	}
	for low := 0; unknown && low < high; {
		mid := (low + high) / 2
		i, newest, err := c.nextCommits(ctx, mid, high, at)
		switch {
		case err != nil:
			return -1, err
		case newest.IsZero():
			high = mid
		case newest.After(at):
			found, high = i, mid
		default:
			low = i + 1
		}
	}
	return found, nil
}

// nextCommits is the first segment with commits from one on and before another, and the newest of them; zero: there is none.
func (c *cutter) nextCommits(ctx context.Context, from, to int, at time.Time) (i int, newest time.Time, err error) {
	for i = from; i < to; i++ {
		if newest = commitTime(c.segments()[i].LastCommit); newest.IsZero() {
			v, err := c.scan.dated(ctx, i, at)
			if err != nil {
				return i, newest, err
			}
			newest = v.latest
		}
		if !newest.IsZero() {
			return i, newest, nil
		}
	}
	return i, newest, nil
}

// lastBefore looks for the last commit of a moment or earlier. In most cases it stands in the first segment that also has later ones, or right
// before it. Where the clock was set back, it may stand behind: then names that go back in time show where.
func (c *cutter) lastBefore(ctx context.Context, at time.Time, first int) (*cut, error) {
	x := &cut{}
	segments := c.segments()
	from := first
	for i := first; i < len(segments); i++ {
		if t := commitTime(segments[i].LastCommit); !t.IsZero() && !t.After(at) {
			from = i // all of it is from before
		}
	}
	for _, i := range c.suspects(from) {
		v, err := c.scan.dated(ctx, i, at)
		if err != nil {
			return nil, err
		}
		if v.before != nil {
			x.at(v.before)
			return x, c.noteStep(ctx, x, at, first)
		}
	}
	// It is the last commit of the segments before.
	if from > 0 {
		x.end = segments[from-1].EndLSN()
		x.time = c.m.ConsistentTime
		for _, s := range segments[:from] {
			x.time = later(x.time, commitTime(s.LastCommit))
		}
		if v, err := c.scan.dated(ctx, from-1, at); err != nil {
			return nil, err
		} else if v.before != nil {
			x.commit, x.time = v.before, v.before.Time
		}
	}
	return x, nil
}

// suspects are the segments that may hold the last commit of a moment, the last first: the first that has later ones, the one behind it, and those between
// which time goes back.
func (c *cutter) suspects(from int) []int {
	segments := c.segments()
	list := []int{from}
	if from+1 < len(segments) {
		list = append(list, from+1)
	}
	for i := from + 1; i < len(segments) && len(list) < stepReads; i++ {
		a, b := segments[i-1].LastCommit, segments[i].LastCommit
		if a != 0 && b != 0 && time.Duration(a-b)*time.Second > jitter {
			for _, s := range []int{i - 1, i} {
				if s > list[len(list)-1] {
					list = append(list, s)
				}
			}
		}
	}
	for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
		list[i], list[j] = list[j], list[i]
	}
	return list
}

// noteStep says what a restore to a moment includes besides, because the clock was set back.
func (c *cutter) noteStep(ctx context.Context, x *cut, at time.Time, first int) error {
	v, err := c.scan.dated(ctx, first, at)
	if err != nil || v.first == nil || !v.first.LSN.Before(x.end) {
		return err
	}
	newest := v.first.Time
	for _, s := range c.segments()[first:] {
		if s.EndLSN().Before(x.end) {
			newest = later(newest, commitTime(s.LastCommit))
		}
	}
	if v.before != nil && v.before.LSN == x.commit.LSN {
		newest = later(newest, v.newest)
	}
	x.note("the source's clock went back: commits dated later than the target, up to %s, stand before its last commit and are restored too; LSN %s is before the first of them",
		newest.Format(time.RFC3339), v.first.LSN)
	return nil
}

// notBefore is for a cut that came to lie before the state that the backup holds. If no commit lies between, it is the same.
func (c *cutter) notBefore(ctx context.Context, x *cut) (*cut, error) {
	to := c.m.ConsistentAt
	for i, s := range c.segments() {
		if !x.end.Before(s.EndLSN()) {
			continue
		}
		if start := (bdb.LSN{File: s.File, Offset: s.Start}); !start.Before(to) {
			break
		}
		err := c.scan.each(ctx, i, func(r *bdb.Record) error {
			if p, ok := commitOf(r); ok && !p.LSN.Before(x.end) && p.LSN.Before(to) {
				return errTooEarly
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	x.end = to
	return x, nil
}
