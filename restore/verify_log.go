package restore

import (
	"cmp"
	"slices"
	"sort"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
)

// underWay is how long log that was stored may still be waiting for log before it: segments are sent side by side, each tried for minutes.
const underWay = 10 * time.Minute

// logRow is log without a gap.
type logRow struct {
	from, to bdb.LSN
	sealed   bool
	oldest   int64 // Unix seconds, when the first of its segments was stored
}

// rows are the unbroken rows of a timeline's log, whatever holds it.
func rows(segments []manifest.StoredSegment) (list []logRow) {
	slices.SortFunc(segments, func(a, b manifest.StoredSegment) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End))
	})
	for _, s := range segments {
		begin, end := bdb.LSN{File: s.File, Offset: s.Start}, bdb.LSN{File: s.File, Offset: s.End}
		n := len(list) - 1
		if n < 0 || !list[n].carries(begin) {
			list = append(list, logRow{from: begin, to: end, sealed: s.Sealed, oldest: s.Stored})
			continue
		}
		r := &list[n]
		r.oldest = min(r.oldest, s.Stored)
		switch {
		case r.to.Before(end):
			r.to, r.sealed = end, s.Sealed
		case r.to == end:
			r.sealed = r.sealed || s.Sealed
		}
	}
	return list
}

// carries reports whether a segment that begins there continues the row, or lies within.
func (r *logRow) carries(begin bdb.LSN) bool {
	return !r.to.Before(begin) || r.sealed && begin == (bdb.LSN{File: r.to.File + 1})
}

// findGaps looks for log that is missing between what is stored. Where a prune kept log for one backup only, and went on with the next, a gap is
// as it should be; before what has just been stored, it may be on its way.
func (v *verifier) findGaps() {
	lines := map[manifest.Timeline][]manifest.StoredSegment{}
	for _, s := range v.store.segments {
		lines[s.Timeline] = append(lines[s.Timeline], s)
	}
	for t, segments := range lines {
		list := rows(segments)
		fresh := int64(1<<63 - 1) // when the first of what follows was stored
		for i := len(list) - 1; i > 0; i-- {
			fresh = min(fresh, list[i].oldest)
			gap := Gap{Timeline: t, After: list[i-1].to, Before: list[i].from}
			switch {
			case v.pruned(gap):
				v.note("timeline %s: there is no log from LSN %s to %s: pruned, or lost; backups begin behind it", t, gap.After, gap.Before)
			case !v.store.date.IsZero() && v.store.date.Sub(time.Unix(fresh, 0)) < underWay:
				v.note("timeline %s: the log from LSN %s to %s is not there yet: a ship may be sending it, else the next one does", t, gap.After, gap.Before)
			default:
				v.addGap(gap)
			}
		}
		if !slices.ContainsFunc(v.backups, func(c *checked) bool { return c.Timeline == t }) {
			v.note("timeline %s: there is log up to LSN %s, but no backup that it could be used with", t, list[len(list)-1].to)
		}
	}
}

// pruned reports whether retention explains a gap: log ends where a backup has all that it needs, and goes on where another begins to.
func (v *verifier) pruned(g Gap) bool {
	before, behind := false, false
	for _, c := range v.backups {
		if c.Timeline != g.Timeline {
			continue
		}
		behind = behind || g.Before == (bdb.LSN{File: c.facts.NeededFrom.File})
		if cover := v.chain(c.Timeline).Follow(c.facts.NeededFrom.File, c.ConsistentAt); cover.Covers(c.ConsistentAt) {
			before = before || cover.End == g.After
		}
	}
	return before && behind
}

func (v *verifier) addGap(g Gap) {
	if !slices.ContainsFunc(v.res.Gaps, func(o Gap) bool { return o.Timeline == g.Timeline && o.After == g.After }) {
		v.res.Gaps = append(v.res.Gaps, g)
	}
}

// chain is the log of a timeline.
func (v *verifier) chain(t manifest.Timeline) *manifest.Chain {
	if v.chains == nil {
		v.chains, v.covers = map[manifest.Timeline]*manifest.Chain{}, map[manifest.Timeline][]manifest.Cover{}
		names := map[manifest.Timeline][]manifest.SegmentName{}
		for _, s := range v.store.segments {
			names[s.Timeline] = append(names[s.Timeline], s.SegmentName)
		}
		for t, list := range names {
			v.chains[t] = manifest.NewChain(t, list)
		}
	}
	if v.chains[t] == nil {
		v.chains[t] = manifest.NewChain(t, nil)
	}
	return v.chains[t]
}

// cover is the log from the beginning of a log file on, as a restore would choose it. Which segments hold a log file does not depend on where the log
// begins, so the covers of most backups are parts of one.
func (v *verifier) cover(t manifest.Timeline, first uint32) manifest.Cover {
	chain := v.chain(t)
	for _, c := range v.covers[t] {
		i := sort.Search(len(c.Segments), func(i int) bool { return c.Segments[i].File >= first })
		if i < len(c.Segments) && c.Segments[i].File == first {
			return manifest.Cover{Segments: c.Segments[i:], End: c.End}
		}
	}
	c := chain.Follow(first, bdb.LSN{})
	v.covers[t] = append(v.covers[t], c)
	return c
}

// follow finds out how far whole log carries a backup.
func (v *verifier) follow(c *checked) {
	cover := v.cover(c.Timeline, c.facts.NeededFrom.File)
	if !cover.Covers(c.ConsistentAt) {
		c.State, c.Problem = StateGap, (&manifest.GapError{Timeline: c.Timeline, Have: cover.End, Want: c.ConsistentAt}).Error()
		v.addGap(Gap{Timeline: c.Timeline, After: cover.End, Before: v.goesOn(c, cover.End)})
		return
	}
	c.RestorableTo, c.RestorableTime = bdb.LSN{File: c.facts.NeededFrom.File}, c.ConsistentTime
	for _, s := range cover.Segments {
		if d := v.bad[s.Key(v.opt.Env)]; d != nil {
			d.Backups = append(d.Backups, c.ID)
			if c.RestorableTo.Before(c.ConsistentAt) {
				c.State, c.Problem = StateDamaged, "log that it needs is damaged: "+d.Object
				c.RestorableTo, c.RestorableTime = bdb.LSN{}, time.Time{}
			}
			return
		}
		c.RestorableTo = bdb.LSN{File: s.File, Offset: s.End}
		c.RestorableTime = later(c.RestorableTime, commitTime(s.LastCommit))
	}
}

// goesOn is where log is there again behind the end of what is unbroken, at the latest where the backup is consistent.
func (v *verifier) goesOn(c *checked, end bdb.LSN) bdb.LSN {
	next := c.ConsistentAt
	for _, s := range v.store.segments {
		if at := (bdb.LSN{File: s.File, Offset: s.Start}); s.Timeline == c.Timeline && !at.Before(end) && at.Before(next) {
			next = at
		}
	}
	return next
}

// ranges are what can be restored, each row of log from where the first usable backup in it is consistent.
func (v *verifier) ranges() []Range {
	list := []Range{}
	for _, c := range v.backups {
		if c.State != StateOK || c.ConsistentAt.IsZero() { // a backup without a log is restored as it is
			continue
		}
		i := slices.IndexFunc(list, func(r Range) bool { return r.Timeline == c.Timeline && r.To == c.RestorableTo })
		if i < 0 {
			i = len(list)
			list = append(list, Range{Timeline: c.Timeline, To: c.RestorableTo})
		}
		list[i].add(&StoredBackup{ID: c.ID, ConsistentAt: c.ConsistentAt, ConsistentTime: c.ConsistentTime, RestorableTime: c.RestorableTime})
	}
	return list
}
