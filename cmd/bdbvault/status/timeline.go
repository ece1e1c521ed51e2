package status

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bdbvault/archive"
	"bdbvault/restore"
)

// stretch is a piece of time and what it is to a restore.
type stretch struct {
	from, to time.Time
	timeline string
}

// timeline is the picture of what can be restored.
type timeline struct {
	Name  string
	Held  []block
	Lost  []block
	Late  *block // what is not in the store yet
	Fulls []mark
	Shape string // of a full backup's mark
	Ticks []tick
	Now   string
	Desc  string // the picture in words
	Since string
}

type block struct{ X, Width, Title string }

type mark struct{ X, Class, Title string }

// crowd is how many full backups are marked by large marks.
const crowd = 20

// slimmest is the least width, in per cent, at which something can still be seen.
const slimmest = 0.5

func (a axis) block(from, to time.Time, title string) block {
	x, end := a.at(from), a.at(to)
	if end-x < slimmest {
		x = max(edge, end-slimmest)
		end = x + slimmest
	}
	return block{X: percent(x), Width: percent(end - x), Title: title}
}

// drawTimeline draws what the store holds, as far as it was read, and what the watch has added since. Nil: there is nothing to draw yet.
func drawTimeline(e *Environment, now time.Time) *timeline {
	held := heldStretches(e, now)
	fulls := fullMarks(e)
	if len(held) == 0 && len(fulls) == 0 {
		return nil
	}
	a := axis{from: beginning(held, fulls), to: now}
	if now.Sub(a.from) < 10*time.Minute {
		a.from = now.Add(-10 * time.Minute)
	}
	t := &timeline{Name: e.Watch.Environment, Ticks: a.ticks(), Now: percent(a.at(now))}
	for i, s := range held {
		if i > 0 && s.from.After(held[i-1].to) {
			t.Lost = append(t.Lost, a.block(held[i-1].to, s.from, fmt.Sprintf("not restorable: %s to %s", moment(held[i-1].to), moment(s.from))))
		}
		t.Held = append(t.Held, a.block(s.from, s.to, fmt.Sprintf("any commit from %s to %s, timeline %s", moment(s.from), moment(s.to), s.timeline)))
	}
	if n := len(held); n > 0 && now.Sub(held[n-1].to) > 2*time.Second {
		b := a.block(held[n-1].to, now, "not in the store yet: commits after "+moment(held[n-1].to))
		t.Late = &b
	}
	t.Shape = "M0-7 7 0 0 7-7 0Z"
	if len(fulls) > crowd {
		t.Shape = "M0-4.5 4.5 0 0 4.5-4.5 0Z"
	}
	for _, f := range fulls {
		t.Fulls = append(t.Fulls, f.mark(a))
	}
	t.Desc, t.Since = t.words(held, now)
	return t
}

func beginning(held []stretch, fulls []fullMark) time.Time {
	var first time.Time
	earlier := func(t time.Time) {
		if first.IsZero() || t.Before(first) {
			first = t
		}
	}
	for _, s := range held {
		earlier(s.from)
	}
	for _, f := range fulls {
		earlier(f.at)
	}
	return first
}

// words say what the picture shows.
func (t *timeline) words(held []stretch, now time.Time) (desc, since string) {
	if len(held) == 0 {
		return "Nothing can be restored.", ""
	}
	first, last := held[0].from, held[len(held)-1].to
	since = moment(first)
	var b strings.Builder
	fmt.Fprintf(&b, "Commits from %s to %s can be restored", moment(first), moment(last))
	switch len(t.Lost) {
	case 0:
		b.WriteString(", without a gap")
	case 1:
		b.WriteString(", with one gap")
	default:
		fmt.Fprintf(&b, ", with %d gaps", len(t.Lost))
	}
	fmt.Fprintf(&b, ". %s.", plural(len(t.Fulls), "full backup"))
	if t.Late != nil {
		fmt.Fprintf(&b, " The last %s are not in the store yet.", about(now.Sub(last)))
	}
	return b.String(), since
}

// heldStretches are the times of which every commit can be restored, in order: each begins with a full backup and goes on as long as the log
// behind it is unbroken.
func heldStretches(e *Environment, now time.Time) []stretch {
	var list []stretch
	current := -1
	if e.History != nil {
		for _, r := range e.History.Ranges {
			if r.Timeline == e.Watch.Timeline {
				current = len(list) // the last of several is the one that grows
			}
			list = append(list, newStretch(e.History, r))
		}
	}
	switch {
	case current >= 0:
		list[current].to = latest(list[current].to, reached(e, now))
	case e.Watch.FullID != "":
		list = append(list, stretch{from: e.Watch.LastFull, to: latest(e.Watch.LastFull, reached(e, now)), timeline: e.Watch.Timeline.String()})
	}
	slices.SortFunc(list, func(a, b stretch) int { return a.from.Compare(b.from) })
	return list
}

// newStretch is a range in time. Where no commit tells when that was, the backup that it begins with does.
func newStretch(h *restore.History, r restore.Range) stretch {
	s := stretch{from: r.FromTime, to: r.ToTime, timeline: r.Timeline.String()}
	for i := range h.Backups {
		if b := &h.Backups[i]; s.from.IsZero() && slices.Contains(r.Backups, b.ID) {
			s.from = b.Started
		}
	}
	s.to = latest(s.from, s.to)
	return s
}

// consistent is the moment whose state a full backup holds.
func consistent(f *restore.StoredBackup) time.Time {
	if f.ConsistentTime.IsZero() {
		return f.Started
	}
	return f.ConsistentTime
}

// reached is the moment up to which every commit is in the store: an environment in which nothing happens is held up to now.
func reached(e *Environment, now time.Time) time.Time {
	w := &e.Watch
	if e.Failed != "" || w.State == archive.WatchStarting || w.State == archive.WatchStopped {
		return latest(w.ShippedCommit, w.LastShip)
	}
	return latest(now.Add(-e.lag()), w.ShippedCommit)
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// fullMark is a full backup on the time line.
type fullMark struct {
	at    time.Time
	bad   bool
	title string
}

func fullMarks(e *Environment) (list []fullMark) {
	known := false
	if e.History != nil {
		for i := range e.History.Backups {
			f := &e.History.Backups[i]
			known = known || f.ID == e.Watch.FullID
			title := fmt.Sprintf("full backup %s of %s, %s", f.ID, moment(consistent(f)), bytesOf(f.Bytes))
			if f.State != restore.StateOK {
				title += ": " + f.State
			}
			list = append(list, fullMark{at: consistent(f), bad: f.State != restore.StateOK, title: title})
		}
	}
	if !known && e.Watch.FullID != "" {
		list = append(list, fullMark{at: e.Watch.LastFull, title: fmt.Sprintf("full backup %s of %s", e.Watch.FullID, moment(e.Watch.LastFull))})
	}
	return list
}

func (f fullMark) mark(a axis) mark {
	m := mark{X: percent(a.at(f.at)), Title: f.title}
	if f.bad {
		m.Class = "spoilt"
	}
	return m
}
