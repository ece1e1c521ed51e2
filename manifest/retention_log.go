package manifest

import (
	"slices"
	"time"

	"bdbvault/localenv/bdb"
)

// chooseLog decides on the segments of one timeline, after the rules about full backups. The recovery window keeps those backups besides without
// which its commits could not be reached.
func (p *Policy) chooseLog(h *History, l *timeline, d *Decision) {
	k := &logKeeper{h: h, l: l, d: d}
	switch first := l.firstKept(h, d); {
	case p.Window == nil:
		for at := first; at >= 0; {
			end := k.follow(at, LogFollows)
			at = k.nextBehind(end, func(i int) bool { return d.Fulls[i].Keep })
		}
	case p.Window.IsZero():
		if l.newest >= 0 {
			k.follow(l.newest, LogFollows)
		}
	default:
		if since := p.windowStart(h); l.newest >= 0 || !l.last.Before(since) {
			k.window(since)
		}
	}
	for _, i := range l.fulls {
		if d.Fulls[i].Keep {
			k.need(i)
		}
	}
	k.rest()
}

// firstKept is the usable backup on the timeline that stays and lies first in the log; -1: none.
func (l *timeline) firstKept(h *History, d *Decision) int {
	for _, i := range l.fulls {
		if d.Fulls[i].Keep && h.Fulls[i].Usable {
			return i
		}
	}
	return -1
}

// logKeeper marks the segments of a timeline that stay.
type logKeeper struct {
	h    *History
	l    *timeline
	d    *Decision
	open bool    // the log behind some backup stays, as far as it goes
	end  bdb.LSN // how far that is
}

func (k *logKeeper) mark(list []SegmentName, why LogReason) {
	for _, s := range list {
		if i := k.l.index[s]; k.d.Segments[i] < why {
			k.d.Segments[i] = why
		}
	}
}

// follow keeps all unbroken log behind a backup, and returns where that ends.
func (k *logKeeper) follow(full int, why LogReason) bdb.LSN {
	cover := k.l.chain.Follow(k.h.Fulls[full].NeededFrom.File, bdb.LSN{})
	k.mark(cover.Segments, why)
	k.open, k.end = true, cover.End
	return cover.End
}

// window keeps every commit since a moment reachable: the newest backup before it, and, if log is missing further on, the next one behind each gap.
func (k *logKeeper) window(since time.Time) {
	at := -1
	for _, i := range slices.Backward(k.l.fulls) {
		if f := &k.h.Fulls[i]; f.Usable {
			at = i
			if k.before(f, since) {
				break
			}
		}
	}
	for at >= 0 {
		k.d.Fulls[at].keep("recovery window")
		end := k.follow(at, LogWindow)
		at = k.nextBehind(end, func(int) bool { return true })
	}
}

// before reports whether no commit since the moment lies before the place at which a backup is consistent. All log before that place is asked,
// because clocks are set back.
func (k *logKeeper) before(f *Full, since time.Time) bool {
	if !f.settled().Before(since) {
		return false
	}
	for s, i := range k.l.index {
		if end := (bdb.LSN{File: s.File, Offset: s.End}); !f.ConsistentAt.Before(end) && s.LastCommit != 0 && !k.h.Segments[i].time().Before(since) {
			return false
		}
	}
	return true
}

// nextBehind is the first usable backup that is consistent only behind a place in the log, of those that will do; -1: none.
func (k *logKeeper) nextBehind(end bdb.LSN, do func(full int) bool) int {
	for _, i := range k.l.fulls {
		if f := &k.h.Fulls[i]; f.Usable && end.Before(f.ConsistentAt) && do(i) {
			return i
		}
	}
	return -1
}

// need keeps the log without which a backup can't be restored. Of one that can't, everything in that range: what is missing may turn up.
func (k *logKeeper) need(full int) {
	f := &k.h.Fulls[full]
	k.mark(k.l.chain.Follow(f.NeededFrom.File, f.ConsistentAt).Segments, LogNeeded)
	if f.Usable {
		return
	}
	for s := range k.l.index {
		if s.File >= f.NeededFrom.File && s.File <= f.ConsistentAt.File {
			k.mark([]SegmentName{s}, LogNeeded)
		}
	}
}

// rest decides on what nobody has asked for yet.
func (k *logKeeper) rest() {
	held := k.ranges()
	for s, i := range k.l.index {
		seg := &k.h.Segments[i]
		switch why := &k.d.Segments[i]; {
		case why.Keep():
		case held.cover(s):
			*why = LogSuperseded
		case k.open && k.end.Before(bdb.LSN{File: s.File, Offset: s.End}):
			*why = LogBeyond
		case k.h.Now.Sub(time.Unix(seg.Stored, 0)) <= k.h.Young:
			*why = LogYoung
		}
	}
}

// ranges of log by file, each from the start of the file or of a segment.
type ranges map[uint32][]SegmentName

// ranges are those of the segments that stay, joined where they touch.
func (k *logKeeper) ranges() ranges {
	r := ranges{}
	for file, list := range k.l.chain.files {
		for _, s := range list { // by start
			if !k.d.Segments[k.l.index[s]].Keep() {
				continue
			}
			if n := len(r[file]); n > 0 && s.Start <= r[file][n-1].End {
				last := &r[file][n-1]
				last.Sealed = last.Sealed && last.End >= s.End || s.Sealed && s.End >= last.End
				last.End = max(last.End, s.End)
				continue
			}
			r[file] = append(r[file], s)
		}
	}
	return r
}

// cover reports whether the ranges hold all that a segment does. That its log file is sealed is one thing that it tells.
func (r ranges) cover(s SegmentName) bool {
	for _, have := range r[s.File] {
		if have.Start <= s.Start && s.End <= have.End {
			return !s.Sealed || have.Sealed
		}
	}
	return false
}
