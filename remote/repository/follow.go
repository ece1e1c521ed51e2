package repository

import (
	"context"
	"errors"
	"math"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
)

// Shipping every second leaves tens of thousands of segments of each log file, nearly all of them superseded by others that begin earlier or reach
// farther. Their keys sort by log file, beginning and end. So the log is followed by jumps: what matters at a place are the
// segments that begin there, and those come first in a list that starts at the place; then on from the end of the one that reaches farthest.
// The requests are as many as the segments that a restore needs, at most, and not as all that were ever shipped.

// Tests make them smaller.
var (
	// listPage is how many keys a store gives in one answer.
	listPage = 1000
	// lookBackLists bounds the requests for segments that begin before the end of the log and reach beyond it. Only two hosts that ship the
	// same environment in turn make such, and they lie right before the end.
	lookBackLists = 8
)

// Segment is a stored segment.
type Segment struct {
	manifest.SegmentName
	Size int64 // of the object, in bytes
}

// EndLSN is just after the segment's last record.
func (s *Segment) EndLSN() bdb.LSN { return bdb.LSN{File: s.File, Offset: s.SegmentName.End} }

// LogPiece is a piece of a timeline's log that is stored without a gap.
type LogPiece struct {
	Start    bdb.LSN
	Segments []Segment             // that hold it, in log order; a later one may overlap the one before it
	Next     *manifest.SegmentName // the first one behind the gap at which the piece ends; nil: no further log is stored, or nobody looked
	cover    manifest.Cover        // the same in manifest's words
}

// Cover is the piece as manifest has it.
func (p *LogPiece) Cover() manifest.Cover { return p.cover }

// End is just after the last record.
func (p *LogPiece) End() bdb.LSN { return p.cover.End }

func newPiece(start bdb.LSN) *LogPiece {
	return &LogPiece{Start: start, cover: manifest.Cover{End: start}}
}

func (p *LogPiece) add(s Segment) {
	p.Segments = append(p.Segments, s)
	p.cover.Segments = append(p.cover.Segments, s.SegmentName)
	p.cover.End = s.EndLSN()
	p.cover.LastCommit = max(p.cover.LastCommit, s.LastCommit)
}

// FollowLog follows the log of a timeline from the beginning of log file first as far as it is unbroken, or until stop says so of a segment, which then is the
// last (nil: never). It reaches as far as manifest.Chain.Follow over all segments, but reads only the parts of the list that it needs.
func (r *Repository) FollowLog(ctx context.Context, env string, t manifest.Timeline, first uint32, stop func(Segment) bool) (*LogPiece, error) {
	w := &logWalk{r: r, ctx: ctx, env: env, timeline: t, stop: stop}
	w.begin(bdb.LSN{File: first})
	w.page = listing{more: true, last: manifest.SegmentName{Timeline: t, File: first}.Key(env)}
	return w.piece, w.run()
}

// FollowBackup follows the log of a backup, from where recovery needs it on and at least to where the backup is consistent. *manifest.GapError, beside the
// piece that there is: it does not even reach that far.
func (r *Repository) FollowBackup(ctx context.Context, m *manifest.Manifest, stop func(Segment) bool) (*LogPiece, error) {
	early := func(s Segment) bool { return stop != nil && !s.EndLSN().Before(m.ConsistentAt) && stop(s) }
	piece, err := r.FollowLog(ctx, m.Environment, m.Timeline, m.NeededFrom.File, early)
	if err == nil && piece.End().Before(m.ConsistentAt) {
		err = &manifest.GapError{Timeline: m.Timeline, Have: piece.End(), Want: m.ConsistentAt}
	}
	return piece, err
}

// LogPieces finds the unbroken pieces of a timeline's log from log file first on (0: all), with at most so many requests (0: no limit). whole: there are no others.
func (r *Repository) LogPieces(ctx context.Context, env string, t manifest.Timeline, first uint32, most int) (pieces []*LogPiece, whole bool, err error) {
	w := &logWalk{r: r, ctx: ctx, env: env, timeline: t, most: most}
	w.page = listing{more: true, last: manifest.SegmentName{Timeline: t, File: first}.Key(env)}
	for {
		s, err := w.peek()
		if s == nil || err != nil {
			return pieces, err == nil, bounded(err)
		}
		w.begin(bdb.LSN{File: s.File, Offset: s.Start})
		err = w.run()
		if pieces = append(pieces, w.piece); err != nil {
			return pieces, false, bounded(err)
		}
	}
}

// bounded forgives that there were enough requests.
func bounded(err error) error {
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// LogFrom lists all segments that begin at a place in the log or behind it, superseded ones too, with at most so many requests.
func (r *Repository) LogFrom(ctx context.Context, env string, t manifest.Timeline, at bdb.LSN, most int) (list []Segment, err error) {
	page := listing{more: true, last: manifest.SegmentName{Timeline: t, File: at.File, Start: at.Offset}.Key(env)}
	for ; page.more && most > 0; most-- {
		if page, err = r.list(ctx, env, t, page.last); err != nil {
			return list, err
		}
		list = append(list, page.segments...)
	}
	return list, nil
}

// NewestLog is where the stored log of a timeline ends, whatever gaps there are before. known is any segment of it. The number of requests grows with the
// logarithm of the number of log files.
func (r *Repository) NewestLog(ctx context.Context, env string, t manifest.Timeline, known manifest.SegmentName) (bdb.LSN, error) {
	from := func(file uint64) (*Segment, error) {
		page, err := r.list(ctx, env, t, manifest.SegmentName{Timeline: t, File: uint32(file)}.Key(env))
		if err != nil || len(page.segments) == 0 {
			return nil, err
		}
		return &page.segments[0], nil
	}
	there, gone := uint64(known.File), uint64(math.MaxUint32)+1
	for step := uint64(1); there+1 < gone; {
		probe := min(there+step, (there+gone)/2)
		switch s, err := from(probe); {
		case err != nil:
			return bdb.LSN{}, err
		case s == nil:
			gone, step = probe, math.MaxUint32
		default:
			there, step = uint64(s.File), min(2*step, math.MaxUint32)
		}
	}
	pieces, _, err := r.LogPieces(ctx, env, t, uint32(there), 0)
	if err != nil || len(pieces) == 0 {
		return bdb.LSN{File: known.File, Offset: known.End}, err
	}
	return pieces[len(pieces)-1].End(), nil
}

// Timelines lists the timelines of which an environment has log: one request for each, and one more.
func (r *Repository) Timelines(ctx context.Context, env string) (list []manifest.Timeline, err error) {
	after := ""
	for {
		var found manifest.SegmentName
		_, err := r.Bucket.List(ctx, manifest.LogsPrefix(env), after, func(i remote.Info) (err error) {
			if found, err = manifest.ParseSegmentKey(env, i.Key); err != nil {
				return nil // not ours
			}
			return errEnough
		})
		if err == nil {
			return list, nil
		}
		if !errors.Is(err, errEnough) {
			return list, err
		}
		list = append(list, found.Timeline)
		after = manifest.TimelinePrefix(env, found.Timeline) + "~" // behind everything that begins with a digit
	}
}

// listing is one answer of the store.
type listing struct {
	segments []Segment
	last     string // key of the last object in it
	more     bool   // there may be others behind it
}

func (r *Repository) list(ctx context.Context, env string, t manifest.Timeline, after string) (l listing, err error) {
	l.last = after
	n := 0
	_, err = r.Bucket.List(ctx, manifest.TimelinePrefix(env, t), after, func(i remote.Info) error {
		l.last = i.Key
		if s, err := manifest.ParseSegmentKey(env, i.Key); err == nil {
			l.segments = append(l.segments, Segment{s, i.Size})
		}
		if n++; n == listPage {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		l.more, err = true, nil
	}
	return l, err
}

// logWalk follows the log by jumps.
type logWalk struct {
	r        *Repository
	ctx      context.Context
	env      string
	timeline manifest.Timeline
	stop     func(Segment) bool
	most     int // requests; 0: no limit

	piece   *LogPiece
	file    uint32
	end     uint32 // in that file
	sealed  bool   // that is the file's end
	best    *Segment
	skipped []span // of segments of that file that were jumped over
	again   bool   // its segments were listed a second time, because the log seems to end here

	page  listing
	at    int // in its segments
	lists int // requests so far
}

// span are the segments of one file that begin from one offset on and before another.
type span struct{ from, to uint32 }

func (w *logWalk) begin(at bdb.LSN) {
	w.piece = newPiece(at)
	w.enter(at.File, at.Offset)
}

func (w *logWalk) enter(file, offset uint32) {
	w.file, w.end, w.sealed, w.best, w.skipped, w.again = file, offset, false, nil, nil, false
}

// run follows one piece to its end.
func (w *logWalk) run() error {
	for {
		s, err := w.peek()
		if err != nil {
			return err
		}
		switch {
		case s != nil && w.sealed && s.File <= w.file:
			w.at++ // superseded
		case s != nil && w.sealed && s.File == w.file+1:
			w.enter(s.File, 0)
		case s != nil && !w.sealed && s.File == w.file && s.Start <= w.end:
			w.consider(*s)
			w.at++
		case w.best != nil:
			if last := w.take(); w.stop != nil && w.stop(last) {
				return nil
			}
		case s != nil && !w.again:
			if err := w.lookAgain(); err != nil {
				return err
			}
		default:
			if found, err := w.lookBack(s != nil); err != nil || !found {
				if s != nil {
					w.piece.Next = &s.SegmentName
				}
				return err
			}
		}
	}
}

// consider keeps s if it reaches farther than what is known. The whole file before a tail that ends there as well.
func (w *logWalk) consider(s Segment) {
	end, sealed := w.end, w.sealed
	if w.best != nil {
		end, sealed = w.best.End, w.best.Sealed
	}
	if s.End > end || (s.End == end && s.Sealed && !sealed) {
		w.best = &s
	}
}

// take makes the best segment the next of the piece.
func (w *logWalk) take() Segment {
	s := *w.best
	w.piece.add(s)
	w.end, w.sealed, w.best, w.again = s.End, s.Sealed, nil, false
	return s
}

// lookAgain begins anew with the segments from which the log could go on, because others lie behind a gap. What was listed may be older than what lies
// behind: somebody ships on, and what closes the gap was stored under a name that the list had passed, such as the whole of a log file beside its tails.
func (w *logWalk) lookAgain() (err error) {
	at := bdb.LSN{File: w.file}
	switch {
	case w.sealed:
		at.File++
	case w.piece.Start.File == w.file:
		at.Offset = w.piece.Start.Offset
	}
	w.again, w.skipped, w.at = true, nil, 0
	w.page, err = w.list(manifest.SegmentName{Timeline: w.timeline, File: at.File, Start: at.Offset}.Key(w.env))
	return err
}

// peek is the next segment in the list, nil at its end. At the end of an answer it jumps.
func (w *logWalk) peek() (*Segment, error) {
	for w.at == len(w.page.segments) {
		if !w.page.more {
			return nil, nil
		}
		after := max(w.page.last, w.jump())
		page, err := w.list(after)
		if err != nil {
			return nil, err
		}
		w.page, w.at = page, 0
	}
	return &w.page.segments[w.at], nil
}

func (w *logWalk) list(after string) (listing, error) {
	if w.lists++; w.most > 0 && w.lists > w.most {
		return listing{}, errEnough
	}
	return w.r.list(w.ctx, w.env, w.timeline, after)
}

// jump is the key behind which everything lies that can carry the log on.
func (w *logWalk) jump() string {
	if w.piece == nil {
		return ""
	}
	to := manifest.SegmentName{Timeline: w.timeline, File: w.file, Start: w.end}
	if w.sealed {
		to.File, to.Start = w.file+1, 0
	} else if n := len(w.page.segments); n > 0 && w.page.segments[n-1].File == w.file && w.page.segments[n-1].Start < w.end {
		w.skipped = append(w.skipped, span{w.page.segments[n-1].Start, w.end})
	}
	return to.Key(w.env)
}

// lookBack looks where the log seems to end at what was jumped over, the nearest first. If more is stored behind, which makes it a gap, at all of it.
func (w *logWalk) lookBack(more bool) (found bool, err error) {
	lists := 0
	for n := len(w.skipped) - 1; n >= 0; n-- {
		s := w.skipped[n]
		page := listing{more: true, last: manifest.SegmentName{Timeline: w.timeline, File: w.file, Start: s.from}.Key(w.env)}
		for from := s.from; page.more && from < s.to; lists++ {
			if lists == lookBackLists && !more {
				return false, nil
			}
			if page, err = w.list(page.last); err != nil {
				return false, err
			}
			for _, c := range page.segments {
				if from = c.Start; c.File != w.file {
					from = math.MaxUint32
					break
				}
				if c.Start <= w.end {
					w.consider(c)
				}
			}
		}
		if w.skipped = w.skipped[:n]; w.best != nil {
			return true, nil
		}
	}
	return false, nil
}
