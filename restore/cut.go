package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote/repository"
)

const (
	// clockSlack is how far a source's clock may have been set back for commits that were dated before a target to be found behind it.
	clockSlack = 3 * time.Hour
	// stepLists bounds the requests for names that go back in time: an hour of shipping every second.
	stepLists = 4
	// stepReads bounds how many segments are read there.
	stepReads = 8
	// jitter is by how much commits of several processes are out of order by themselves: each takes its time before it gets its place in the log.
	jitter = 2 * time.Second
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
			err = &UnreachableError{Newest: c.latest().time, Err: c.missing(bdb.LSN{})}
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

// lastBefore looks for the last commit of a moment or earlier, given the first segment that has later ones. It stands in there, or is the last one before.
func (c *cutter) lastBefore(ctx context.Context, at time.Time, first int) (*cut, error) {
	x := &cut{}
	if err := c.lookIn(ctx, x, at, first); err != nil {
		return nil, err
	}
	if x.commit == nil && first > 0 {
		if err := c.lookIn(ctx, x, at, first-1); err != nil {
			return nil, err
		}
		x.end = c.segments()[first-1].EndLSN()
		x.time = later(x.time, commitTime(c.segments()[first-1].LastCommit))
	}
	again, err := c.clockWentBack(ctx, x.end, at)
	for n := 0; n < len(again) && n < stepReads && err == nil; n++ {
		before := x.end
		if err = c.lookIn(ctx, x, at, again[n]); x.end != before {
			break
		}
	}
	if err == nil {
		err = c.noteStep(ctx, x, at, first)
	}
	return x, err
}

// lookIn moves the cut to the last commit of a moment or earlier in a segment; in those behind it, while they end before that moment is over.
func (c *cutter) lookIn(ctx context.Context, x *cut, at time.Time, i int) error {
	for ; i < len(c.segments()); i++ {
		v, err := c.scan.dated(ctx, i, at)
		if err != nil || v.before == nil {
			return err
		}
		if v.before.next.Before(x.end) {
			return nil
		}
		if x.at(v.before); v.last.After(at) {
			return nil
		}
	}
	return nil
}

// clockWentBack looks for commits of a moment or earlier behind where the log passed it, which are there if the source's clock was set back: in the names of all
// segments, because those of the tails that were shipped one by one, and superseded since, tell times more finely. It returns the segments that may hold the last of
// them, the likeliest first.
func (c *cutter) clockWentBack(ctx context.Context, from bdb.LSN, at time.Time) (suspects []int, err error) {
	list, err := c.scan.repo.LogFrom(ctx, c.m.Environment, c.m.Timeline, from, stepLists)
	var before *repository.Segment
	for i := range list {
		s := &list[i]
		t, start := commitTime(s.LastCommit), bdb.LSN{File: s.File, Offset: s.Start}
		if t.IsZero() {
			continue
		}
		if !t.After(at) {
			suspects = append(suspects, c.holds(s.EndLSN()))
		}
		if before != nil && start.Before(before.EndLSN()) {
			continue // superseded, or what supersedes
		}
		if before != nil && commitTime(before.LastCommit).Sub(t) > jitter {
			suspects = append(suspects, c.holds(start))
		}
		before = s
	}
	slices.Sort(suspects)
	suspects = slices.Compact(suspects)
	slices.Reverse(suspects)
	return suspects, err
}

// holds is the segment with the record before an LSN, or the one before, if a log file begins there.
func (c *cutter) holds(lsn bdb.LSN) int {
	i := sort.Search(len(c.segments()), func(i int) bool { return !c.segments()[i].EndLSN().Before(lsn) })
	if lsn.Offset == 0 {
		i--
	}
	return max(0, i)
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
