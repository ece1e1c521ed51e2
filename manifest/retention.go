package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bdbvault/localenv/bdb"
)

// Unlimited is a number of backups to keep that no history reaches.
const Unlimited = -1

// Policy says which full backups a prune keeps, and how much log. A backup stays if any one rule keeps it.
type Policy struct {
	Last                                   int // so many of the newest; Unlimited: all
	Hourly, Daily, Weekly, Monthly, Yearly int // the newest of each of so many hours, days, … that have a backup at all
	Within                                 Span
	Window                                 *Span // recovery window of the log; nil: all log stays that a kept backup can be followed with
}

// ErrNoPolicy says that a policy has no rule, by which everything would go.
var ErrNoPolicy = errors.New("no policy: nothing says what to keep")

// Check refuses a policy without a rule, and numbers that are none.
func (p *Policy) Check() error {
	for _, n := range []int{p.Last, p.Hourly, p.Daily, p.Weekly, p.Monthly, p.Yearly} {
		if n < Unlimited {
			return fmt.Errorf("policy: %d is no number of backups to keep", n)
		}
	}
	if !p.choosesFulls() && p.Window == nil {
		return ErrNoPolicy
	}
	return nil
}

func (p *Policy) choosesFulls() bool {
	return p.Last != 0 || p.Hourly != 0 || p.Daily != 0 || p.Weekly != 0 || p.Monthly != 0 || p.Yearly != 0 || !p.Within.IsZero()
}

// String is the policy as flags.
func (p *Policy) String() string {
	var b strings.Builder
	for _, r := range p.counters() {
		switch {
		case r.left == Unlimited:
			fmt.Fprintf(&b, " --keep-%s unlimited", r.name)
		case r.left > 0:
			fmt.Fprintf(&b, " --keep-%s %d", r.name, r.left)
		}
	}
	if !p.Within.IsZero() {
		fmt.Fprintf(&b, " --keep-within %s", p.Within)
	}
	if p.Window != nil {
		fmt.Fprintf(&b, " --recovery-window %s", p.Window)
	}
	return strings.TrimPrefix(b.String(), " ")
}

// Full is what retention has to know of a full backup.
type Full struct {
	ID             BackupID
	Timeline       Timeline
	NeededFrom     bdb.LSN
	ConsistentAt   bdb.LSN
	ConsistentTime time.Time // of the last commit before ConsistentAt; zero: not known
	Finished       time.Time
	Usable         bool      // everything that it names is there, and its log is unbroken up to ConsistentAt
	LockedUntil    time.Time // zero: it is not
	Keep           string    // why it stays whatever the policy says; empty: it may go
}

// FactsOf takes from a manifest what retention has to know.
func FactsOf(m *Manifest) Full {
	f := Full{ID: m.ID, Timeline: m.Timeline, NeededFrom: m.NeededFrom, ConsistentAt: m.ConsistentAt, ConsistentTime: m.ConsistentTime, Finished: m.Finished}
	if m.Lock != nil {
		f.LockedUntil = m.Lock.Until
	}
	return f
}

// StoredSegment is a segment in the store.
type StoredSegment struct {
	SegmentName
	Size   int64
	Stored int64 // Unix seconds, by the store's clock
}

// time is the latest that a commit inside can have. Where it is not known, the segment was at least stored after it.
func (s *StoredSegment) time() time.Time {
	if s.LastCommit != 0 {
		return time.Unix(s.LastCommit, 0)
	}
	return time.Unix(s.Stored, 0)
}

// History is what there is of one environment. Void backups are none.
type History struct {
	Fulls    []Full          // oldest first
	Segments []StoredSegment // in the order of their names
	Now      time.Time       // by the store's clock; its location is the calendar of hours, days, weeks, …
	Young    time.Duration   // segments stored within it may belong to a run that has not come to its commit
}

// Verdict says whether something stays, and why. A full backup that goes has no reason.
type Verdict struct {
	Keep bool
	Why  []string
}

func (v *Verdict) keep(why string) {
	v.Keep = true
	if !slices.Contains(v.Why, why) {
		v.Why = append(v.Why, why)
	}
}

// LogReason says why a segment stays or goes.
type LogReason int

// Reasons, the first ones to go.
const (
	LogUnneeded   LogReason = iota // no backup that stays can use it
	LogSuperseded                  // other segments, which stay, hold the same records
	LogNeeded                      // a backup that stays is consistent only with it
	LogFollows                     // it carries a backup that stays further
	LogWindow                      // it is in the recovery window
	LogBeyond                      // a gap before it may still be filled
	LogYoung                       // a run that goes on may have stored it
)

// Keep reports whether the segment stays.
func (r LogReason) Keep() bool { return r >= LogNeeded }

func (r LogReason) String() string {
	return [...]string{
		"no kept backup needs it", "superseded", "a kept backup needs it", "follows a kept backup", "recovery window",
		"behind a gap that may be filled", "too young",
	}[r]
}

// MarshalText writes String.
func (r LogReason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Decision is what a policy comes to.
type Decision struct {
	Fulls    []Verdict   // as History.Fulls
	Segments []LogReason // as History.Segments
}

// Decide applies the policy. The newest usable backup stays in any case, and the log behind it.
func (p *Policy) Decide(h *History) Decision {
	d := Decision{Fulls: make([]Verdict, len(h.Fulls)), Segments: make([]LogReason, len(h.Segments))}
	p.chooseFulls(h, d.Fulls)
	newest := h.newestUsable()
	if newest >= 0 {
		d.Fulls[newest].keep("newest")
	}
	for _, l := range h.timelines() {
		if newest >= 0 && h.Fulls[newest].Timeline == l.chain.Timeline {
			l.newest = newest
		}
		p.chooseLog(h, l, &d)
	}
	return d
}

func (h *History) newestUsable() int {
	for i := len(h.Fulls) - 1; i >= 0; i-- {
		if h.Fulls[i].Usable {
			return i
		}
	}
	return -1
}

// counter is one of the rules that count backups or the periods in which there is one.
type counter struct {
	name   string
	left   int
	period func(time.Time) string // nil: each backup is one of its own
	last   string
}

func (p *Policy) counters() []counter {
	form := func(layout string) func(time.Time) string {
		return func(t time.Time) string { return t.Format(layout) }
	}
	week := func(t time.Time) string {
		year, week := t.ISOWeek()
		return fmt.Sprint(year, week)
	}
	return []counter{
		{name: "last", left: p.Last}, {name: "hourly", left: p.Hourly, period: form("2006010215")}, {name: "daily", left: p.Daily, period: form("20060102")},
		{name: "weekly", left: p.Weekly, period: week}, {name: "monthly", left: p.Monthly, period: form("200601")}, {name: "yearly", left: p.Yearly, period: form("2006")},
	}
}

// chooseFulls applies the rules that are about full backups. One that can't be restored takes nobody's place: it stays as long as it would
// if it were good.
func (p *Policy) chooseFulls(h *History, verdicts []Verdict) {
	var usable, all []int
	for i := range h.Fulls {
		all = append(all, i)
		if h.Fulls[i].Usable {
			usable = append(usable, i)
		}
	}
	for _, i := range all {
		// The store keeps its bytes that long in any case: without the manifest they could only not be restored.
		if until := h.Fulls[i].LockedUntil; h.Now.Before(until) {
			verdicts[i].keep("locked until " + until.In(h.Now.Location()).Format("2006-01-02 15:04 MST"))
		}
		if why := h.Fulls[i].Keep; why != "" {
			verdicts[i].keep(why)
		}
	}
	p.count(h, usable, func(i int, why string) { verdicts[i].keep(why) })
	p.count(h, all, func(i int, why string) {
		if !h.Fulls[i].Usable {
			verdicts[i].keep(why)
		}
	})
}

func (p *Policy) count(h *History, list []int, keep func(i int, why string)) {
	if len(list) == 0 {
		return
	}
	within, why := p.Within, "within "+p.Within.String()
	if !p.choosesFulls() {
		within, why = *p.Window, "recovery window" // nothing else is said about fulls
	}
	if !within.IsZero() {
		since := within.Before(h.latest(list))
		for _, i := range list {
			if h.time(i).After(since) {
				keep(i, why)
			}
		}
	}
	for _, c := range p.counters() {
		for k := len(list) - 1; k >= 0 && c.left != 0; k-- {
			if name, ok := c.takes(h.time(list[k]), k == 0); ok {
				keep(list[k], name)
			}
		}
	}
}

// takes reports whether the rule keeps a backup, the next older one, and as what. While there are fewer periods than asked for, the oldest
// backup stays too: history is kept as long as possible from the beginning.
func (c *counter) takes(t time.Time, oldest bool) (as string, ok bool) {
	as = c.name
	if c.period != nil {
		now := c.period(t)
		switch {
		case now != c.last:
		case !oldest:
			return "", false
		default:
			as = "oldest " + c.name
		}
		c.last = now
	}
	if c.left > 0 {
		c.left--
	}
	return as, true
}

// time is when a backup began, in the calendar that counts. Ids are in order even where a clock was set back.
func (h *History) time(i int) time.Time { return h.Fulls[i].ID.Time().In(h.Now.Location()) }

// latest is when the newest of some backups began. Such as lie in the future, by the store's clock, move no limit.
func (h *History) latest(list []int) (t time.Time) {
	for _, i := range list {
		if at := h.time(i); !at.After(h.Now) {
			t = at
		}
	}
	return t
}

// windowStart is where the recovery window begins: so long before the newest that is known to have happened, of commits and backups.
func (p *Policy) windowStart(h *History) time.Time {
	var t time.Time
	later := func(at time.Time) {
		if at.After(t) && !at.After(h.Now) {
			t = at
		}
	}
	for i := range h.Fulls {
		later(h.time(i))
	}
	for i := range h.Segments {
		later(time.Unix(h.Segments[i].LastCommit, 0))
	}
	return p.Window.Before(t.In(h.Now.Location()))
}

// timeline is one timeline's part of a history.
type timeline struct {
	chain  *Chain
	index  map[SegmentName]int // in History.Segments
	fulls  []int               // in History.Fulls
	last   time.Time           // nothing on it is later
	end    bdb.LSN             // of its last segment, gaps or not
	newest int                 // the newest usable backup of all, if it is on this one; else -1
}

// timelines takes a history apart.
func (h *History) timelines() []*timeline {
	byName := map[Timeline]*timeline{}
	var list []*timeline
	of := func(t Timeline) *timeline {
		if byName[t] == nil {
			byName[t] = &timeline{chain: NewChain(t, nil), index: map[SegmentName]int{}, newest: -1}
			list = append(list, byName[t])
		}
		return byName[t]
	}
	for i := range h.Segments {
		s := &h.Segments[i]
		l := of(s.Timeline)
		l.index[s.SegmentName] = i
		l.later(s.time(), bdb.LSN{File: s.File, Offset: s.End})
	}
	for i := range h.Fulls {
		f := &h.Fulls[i]
		l := of(f.Timeline)
		l.fulls = append(l.fulls, i)
		l.later(f.settled(), f.ConsistentAt)
	}
	for _, l := range list {
		names := make([]SegmentName, 0, len(l.index))
		for n := range l.index {
			names = append(names, n)
		}
		l.chain = NewChain(l.chain.Timeline, names)
		slices.SortFunc(l.fulls, func(a, b int) int { // by place in the log
			return cmp.Or(h.Fulls[a].ConsistentAt.Compare(h.Fulls[b].ConsistentAt), cmp.Compare(a, b))
		})
	}
	return list
}

func (l *timeline) later(t time.Time, end bdb.LSN) {
	if t.After(l.last) {
		l.last = t
	}
	if l.end.Before(end) {
		l.end = end
	}
}

// settled is the latest that a commit in the backup can have.
func (f *Full) settled() time.Time {
	if f.ConsistentTime.IsZero() {
		return f.Finished
	}
	return f.ConsistentTime
}
