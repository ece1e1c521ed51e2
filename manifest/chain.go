package manifest

import (
	"cmp"
	"fmt"
	"slices"

	"bdbvault/localenv/bdb"
)

// Chain is the log of one timeline as far as segments in the store carry it.
type Chain struct {
	Timeline Timeline
	files    map[uint32][]SegmentName
}

// NewChain sorts the segments of one timeline; those of others are left out.
func NewChain(t Timeline, segments []SegmentName) *Chain {
	c := &Chain{Timeline: t, files: map[uint32][]SegmentName{}}
	for _, s := range segments {
		if s.Timeline == t {
			c.files[s.File] = append(c.files[s.File], s)
		}
	}
	for _, list := range c.files {
		slices.SortFunc(list, func(a, b SegmentName) int {
			// Of two that hold the same, always the same one comes first: the one that knows its commits.
			return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End), cmp.Compare(b.LastCommit, a.LastCommit))
		})
	}
	return c
}

// Cover is the fewest segments that hold the log from the beginning of a file up to End without a gap.
type Cover struct {
	Segments   []SegmentName // in log order; a later one may overlap the one before it
	End        bdb.LSN       // just after the last record covered
	LastCommit int64         // Unix seconds, of the last commit covered whose time is known; 0: none
}

// Covers reports whether the cover reaches lsn.
func (c *Cover) Covers(lsn bdb.LSN) bool { return !c.End.Before(lsn) }

// Follow walks the chain from the beginning of log file first as far as it is unbroken, at most to the segment that reaches limit
// (zero: no limit).
func (c *Chain) Follow(first uint32, limit bdb.LSN) Cover {
	cover := Cover{End: bdb.LSN{File: first}}
	for file := first; ; file++ {
		list, end, sealed := coverFile(c.files[file], file, limit)
		cover.Segments = append(cover.Segments, list...)
		for _, s := range list {
			cover.LastCommit = max(cover.LastCommit, s.LastCommit)
		}
		if end > 0 {
			cover.End = bdb.LSN{File: file, Offset: end}
		}
		if !sealed || (!limit.IsZero() && cover.Covers(limit)) {
			return cover
		}
	}
}

// coverFile picks the fewest segments that hold one log file from its beginning. A sealed segment from 0 is the whole file; tails
// are taken greedily, the farthest reaching first.
func coverFile(list []SegmentName, file uint32, limit bdb.LSN) (picked []SegmentName, end uint32, sealed bool) {
	for {
		best := -1
		for i, s := range list {
			if s.Start <= end && s.End > end && (best < 0 || better(s, list[best])) {
				best = i
			}
		}
		if best < 0 {
			return picked, end, sealed
		}
		picked = append(picked, list[best])
		end, sealed = list[best].End, list[best].Sealed
		if reached := (bdb.LSN{File: file, Offset: end}); sealed || (!limit.IsZero() && !reached.Before(limit)) {
			return picked, end, sealed
		}
	}
}

func better(a, b SegmentName) bool {
	if a.End != b.End {
		return a.End > b.End
	}
	return a.Sealed && !b.Sealed
}

// Newest returns the segment that reaches farthest, however the chain before it looks; false if there is none.
func (c *Chain) Newest() (newest SegmentName, ok bool) {
	for _, list := range c.files {
		for _, s := range list {
			if !ok || s.File > newest.File || (s.File == newest.File && better(s, newest)) {
				newest, ok = s, true
			}
		}
	}
	return newest, ok
}

// GapError says that the stored log does not reach where it has to.
type GapError struct {
	Timeline Timeline
	Have     bdb.LSN // end of the unbroken log
	Want     bdb.LSN
}

func (e *GapError) Error() string {
	return fmt.Sprintf("the stored log of timeline %s is unbroken only up to LSN %s, but %s is needed", e.Timeline, e.Have, e.Want)
}

// CoverBackup returns the segments that a restore of m needs up to target: from the beginning of m's needed-from file to at
// least m's consistent-at. A zero target means as far as the chain goes.
func (c *Chain) CoverBackup(m *Manifest, target bdb.LSN) (Cover, error) {
	if !target.IsZero() && target.Before(m.ConsistentAt) {
		return Cover{}, fmt.Errorf("LSN %s lies before %s, at which backup %s is consistent", target, m.ConsistentAt, m.ID)
	}
	cover := c.Follow(m.NeededFrom.File, target)
	want := m.ConsistentAt
	if !target.IsZero() {
		want = target
	}
	if !cover.Covers(want) {
		return cover, &GapError{Timeline: c.Timeline, Have: cover.End, Want: want}
	}
	return cover, nil
}
