package manifest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bdbvault/localenv/bdb"
)

// line is the timeline of most tests.
var line = Timeline{1}

// fulls are usable backups at moments in UTC, "2026-11-20 05:30", one log file each.
func fulls(t *testing.T, moments ...string) (list []Full) {
	t.Helper()
	for i, m := range moments {
		at, err := time.Parse("2006-01-02 15:04", m)
		if err != nil {
			t.Fatal(err)
		}
		lsn := bdb.LSN{File: uint32(i + 1), Offset: 500}
		list = append(list, Full{ID: BackupID(at.Format(backupTime) + fmt.Sprintf("-%04x", i)), Timeline: line, Usable: true,
			NeededFrom: bdb.LSN{File: lsn.File, Offset: 28}, ConsistentAt: lsn, ConsistentTime: at, Finished: at})
	}
	return list
}

// sealed is the log of the backups of fulls: whole files, the last commit of each an hour after its backup.
func sealed(list []Full) (log []StoredSegment) {
	for i, f := range list {
		log = append(log, StoredSegment{SegmentName{line, uint32(i + 1), 0, 1000, f.ConsistentTime.Unix() + 3600, i < len(list)-1}, 10, f.ConsistentTime.Unix() + 3600})
	}
	return log
}

// kept says which backups stay, as their places in the list.
func kept(d Decision) (list []int) {
	for i, v := range d.Fulls {
		if v.Keep {
			list = append(list, i)
		}
	}
	return list
}

func TestPolicyKeepsFulls(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	week := []string{"2026-11-13 10:00", "2026-11-14 10:00", "2026-11-15 10:00", "2026-11-16 10:00", "2026-11-16 22:30", "2026-11-16 23:30", "2026-11-20 10:00"}
	for _, c := range []struct {
		name    string
		policy  Policy
		moments []string
		bad     []int // can't be restored
		zone    *time.Location
		want    []int
	}{
		{"last", Policy{Last: 2}, week, nil, time.UTC, []int{5, 6}},
		{"all of them", Policy{Last: Unlimited}, week, nil, time.UTC, []int{0, 1, 2, 3, 4, 5, 6}},
		{"the newest of each hour", Policy{Hourly: 2}, []string{"2026-11-20 09:50", "2026-11-20 10:00", "2026-11-20 10:59"}, nil, time.UTC, []int{0, 2}},
		{"days that have none do not count", Policy{Daily: 2}, week, nil, time.UTC, []int{5, 6}},
		{"a day ends at local midnight", Policy{Daily: 3}, week, nil, berlin, []int{4, 5, 6}},
		{"a week begins on Monday", Policy{Weekly: 2}, append([]string{"2026-11-08 10:00"}, week...), nil, time.UTC, []int{3, 7}},
		{"the oldest stays while there are too few", Policy{Weekly: 4}, week, nil, time.UTC, []int{0, 2, 6}},
		{"months and years", Policy{Monthly: 2, Yearly: 2}, []string{"2024-01-05 00:00", "2025-01-05 00:00", "2025-12-31 00:00", "2026-10-01 00:00", "2026-10-02 00:00", "2026-11-20 10:00"},
			nil, time.UTC, []int{2, 4, 5}},
		{"within", Policy{Within: Span{Days: 4, Hours: 1}}, week, nil, time.UTC, []int{3, 4, 5, 6}},
		{"the limit itself is outside", Policy{Within: Span{Days: 4}}, week, nil, time.UTC, []int{4, 5, 6}},
		{"a backup from the future moves no limit and stays", Policy{Within: Span{Days: 1}}, append(slices.Clone(week), "2031-01-01 00:00"), nil, time.UTC, []int{6, 7}},
		{"rules add up", Policy{Last: 1, Within: Span{Hours: 1}, Yearly: 1}, week, nil, time.UTC, []int{6}},
		{"what can't be restored takes nobody's place", Policy{Last: 2}, week, []int{4, 6}, time.UTC, []int{3, 5, 6}},
		{"the window keeps backups where no rule does", Policy{Window: &Span{Days: 1}}, week, nil, time.UTC, []int{5, 6}},
		{"and the newest before it where one does", Policy{Last: 1, Window: &Span{Days: 5}}, week, nil, time.UTC, []int{2, 6}},
		{"alone, it keeps all backups in it", Policy{Window: &Span{Days: 5}}, week, nil, time.UTC, []int{2, 3, 4, 5, 6}},
		{"no window", Policy{Last: 1, Window: &Span{}}, week, nil, time.UTC, []int{6}},
	} {
		list := fulls(t, c.moments...)
		for _, i := range c.bad {
			list[i].Usable = false
		}
		h := &History{Fulls: list, Segments: sealed(list), Now: time.Date(2026, 11, 20, 12, 0, 0, 0, c.zone)}
		if got := kept(c.policy.Decide(h)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %s keeps %v, want %v", c.name, c.policy.String(), got, c.want)
		}
	}
}

func TestHeldAndNewestStay(t *testing.T) {
	list := fulls(t, "2026-11-17 10:00", "2026-11-18 10:00", "2026-11-19 10:00", "2026-11-20 10:00")
	list[0].Keep, list[3].Usable = "held", false
	h := &History{Fulls: list, Segments: sealed(list), Now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	d := (&Policy{Last: 1}).Decide(h)
	if got := kept(d); !slices.Equal(got, []int{0, 2, 3}) {
		t.Errorf("kept: %v", got)
	}
	if !reflect.DeepEqual(d.Fulls[0].Why, []string{"held"}) || !reflect.DeepEqual(d.Fulls[2].Why, []string{"last", "newest"}) {
		t.Errorf("%+v", d.Fulls)
	}
}

// TestLockedStay: what the store keeps in any case can be restored as long.
func TestLockedStay(t *testing.T) {
	list := fulls(t, "2026-11-17 10:00", "2026-11-18 10:00", "2026-11-19 10:00", "2026-11-20 10:00")
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	list[0].LockedUntil, list[1].LockedUntil = now.Add(time.Hour), now
	d := (&Policy{Last: 1}).Decide(&History{Fulls: list, Segments: sealed(list), Now: now})
	if got := kept(d); !slices.Equal(got, []int{0, 3}) || !reflect.DeepEqual(d.Fulls[0].Why, []string{"locked until 2026-11-20 13:00 UTC"}) {
		t.Errorf("kept: %v, %+v", got, d.Fulls)
	}
}

// TestPolicyKeepsLog: which of ten log files stay. A backup is taken in the middle of each of files 1 to 9 at ten o'clock on the tenth to the
// eighteenth; each file's last commit is at eleven.
func TestPolicyKeepsLog(t *testing.T) {
	var moments []string
	for day := range 9 {
		moments = append(moments, fmt.Sprintf("2026-11-%d 10:00", 10+day))
	}
	for _, c := range []struct {
		name   string
		policy Policy
		change func(*History)
		want   string // a letter for each segment: needed, follows, window, beyond, young, superseded, unneeded
	}{
		{"without a window all log behind the oldest kept backup stays", Policy{Last: 3}, nil, "uuuuuuffff"},
		{"an empty window leaves what backups need, and what is behind the newest", Policy{Last: 3, Window: &Span{}}, nil, "uuuuuunnff"},
		// The newest commit is of the 19th at eleven, so the window begins on the 17th at eleven, just after backup 8 and not before.
		{"a window begins with the newest backup before it", Policy{Last: 1, Window: &Span{Days: 2}}, nil, "uuuuuuuwww"},
		{"kept backups before it", Policy{Last: 1, Window: &Span{Days: 2}}, func(h *History) { h.Fulls[1].Keep = "held" }, "unuuuuuwww"},
		{"a recovery that needs more", Policy{Last: 1, Window: &Span{Days: 2}}, func(h *History) { h.Fulls[7].NeededFrom.File = 6 }, "uuuuuwwwww"},
		{"the clock was set back: late commits lie early", Policy{Last: 1, Window: &Span{Days: 2}}, func(h *History) {
			h.Segments[4].LastCommit = h.Segments[8].LastCommit
		}, "uuuuwwwwww"},
		{"a gap: the next backup behind it is the way to go on", Policy{Last: 1, Window: &Span{Days: 5}}, func(h *History) {
			h.Segments = slices.Delete(h.Segments, 6, 7)
			h.Fulls[6].Usable = false
		}, "uuuuwwwww"},
		{"a commit from the future moves no window", Policy{Last: 1, Window: &Span{Days: 2}}, func(h *History) {
			h.Segments[8].LastCommit = h.Now.AddDate(1, 0, 0).Unix()
		}, "uuuuuuuwww"},
		{"an environment that nobody writes to", Policy{Last: 1, Window: &Span{Days: 2}}, func(h *History) {
			for i := range h.Segments {
				h.Segments[i].LastCommit = h.Fulls[0].ID.Time().Unix() - 3600
			}
			for i := range h.Fulls {
				h.Fulls[i].ConsistentTime = h.Fulls[0].ID.Time().Add(-time.Hour)
			}
		}, "uuuuuuuuww"},
		{"without the password: no time of any commit is known", Policy{Last: 1, Window: &Span{Days: 2}}, func(h *History) {
			for i := range h.Segments {
				h.Segments[i].LastCommit = 0
			}
			for i := range h.Fulls {
				h.Fulls[i].ConsistentTime = time.Time{}
			}
		}, "uuuuuwwwww"},
		{"nor on another timeline, which was shipped to in the window", Policy{Last: 1, Window: &Span{Days: 2}}, func(h *History) {
			other := h.Fulls[0]
			other.Timeline = Timeline{2}
			h.Fulls = append([]Full{other}, h.Fulls...)
			h.Segments = append(h.Segments, StoredSegment{SegmentName{Timeline{2}, 1, 0, 600, 0, false}, 10, h.Now.AddDate(0, 0, -1).Unix()})
		}, "uuuuuuuwwww"},
		{"a backup that can't be restored begins no window", Policy{Last: 1, Window: &Span{Days: 2}}, func(h *History) { h.Fulls[7].Usable = false }, "uuuuuuwwww"},
		{"nor does it carry log", Policy{Last: 1}, func(h *History) { h.Fulls[4].Usable, h.Fulls[4].Keep = false, "held" }, "uuuunuuuff"},
		{"the newest backup that can be restored lies before the window", Policy{Last: 1, Window: &Span{Hours: 1}}, func(h *History) {
			lost := h.Fulls[8]
			lost.ID, lost.Timeline, lost.Usable = "20261120T110000Z-0009", Timeline{2}, false
			h.Fulls = append(h.Fulls, lost)
		}, "uuuuuuuuww"},
		{"a gap, without a window: the next kept backup", Policy{Last: 5}, func(h *History) {
			h.Segments = slices.Delete(h.Segments, 6, 7)
			h.Fulls[6].Usable = false
		}, "uuuffffff"},
		{"what is left of a backup's log may be completed", Policy{Last: 1}, func(h *History) {
			h.Segments = slices.Delete(h.Segments, 3, 4)
			h.Fulls[4].Usable, h.Fulls[4].Keep, h.Fulls[4].NeededFrom.File = false, "held", 3
		}, "uunnuuuff"},
		{"a tail across two others", Policy{Last: 1}, func(h *History) {
			h.Segments[9].End = 600
			h.Segments = append(h.Segments, StoredSegment{SegmentName{line, 10, 600, 1000, 0, false}, 10, 0}, StoredSegment{SegmentName{line, 10, 500, 700, 0, false}, 10, 0})
		}, "uuuuuuuufffs"},
		{"a gap that may be filled", Policy{Last: 1}, func(h *History) {
			h.Segments = append(h.Segments, StoredSegment{SegmentName{line, 12, 0, 10, 0, true}, 10, 0})
		}, "uuuuuuuuffb"},
		{"tails", Policy{Last: 1}, func(h *History) {
			h.Segments = append(h.Segments, StoredSegment{SegmentName{line, 10, 0, 600, 0, false}, 10, 0}, StoredSegment{SegmentName{line, 10, 600, 1000, 0, false}, 10, 0},
				StoredSegment{SegmentName{line, 10, 900, 1100, 0, false}, 10, 0})
		}, "uuuuuuuuffssf"},
		{"another timeline", Policy{Last: 1}, func(h *History) {
			now := h.Now.Unix()
			h.Segments = append(h.Segments, StoredSegment{SegmentName{Timeline{2}, 1, 0, 600, 0, false}, 10, now - 7200}, StoredSegment{SegmentName{Timeline{2}, 1, 600, 700, 0, false}, 10, now - 60})
		}, "uuuuuuuuffuy"},
	} {
		list := fulls(t, moments...)
		log := append(sealed(list), StoredSegment{SegmentName{line, 10, 0, 1000, list[8].ConsistentTime.Unix() + 25*3600, false}, 10, 0})
		log[8].Sealed = true
		h := &History{Fulls: list, Segments: log, Now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), Young: time.Hour}
		if c.change != nil {
			c.change(h)
		}
		var got strings.Builder
		for _, why := range c.policy.Decide(h).Segments {
			got.WriteByte("usnfwby"[why])
		}
		if got.String() != c.want {
			t.Errorf("%s: %s, want %s", c.name, got.String(), c.want)
		}
	}
}

// TestDecideRandom holds decisions on random histories against what they promise.
func TestDecideRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("BDBVAULT_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("BDBVAULT_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		h := randomHistory(rng)
		p := Policy{Last: rng.IntN(3), Daily: rng.IntN(3), Weekly: rng.IntN(2)}
		if rng.IntN(2) == 0 {
			p.Window = &Span{Hours: rng.IntN(100)}
		}
		if p.Check() != nil {
			continue
		}
		if problem := promises(h, &p, p.Decide(h)); problem != "" {
			t.Fatalf("%s: %s\n%+v", p.String(), problem, h)
		}
	}
}

// randomHistory has timelines of log files in tails and whole, some lost, and backups on them.
func randomHistory(rng *rand.Rand) *History {
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	h := &History{Young: time.Hour}
	for line := range 1 + rng.IntN(3) {
		t := Timeline{byte(line + 1)}
		for file := uint32(1); file <= uint32(2+rng.IntN(6)); file++ {
			end := uint32(0)
			for range 1 + rng.IntN(3) {
				at = at.Add(time.Duration(rng.IntN(10)-1) * time.Hour)
				start := end
				end += 1 + uint32(rng.IntN(100))
				if rng.IntN(12) > 0 {
					h.Segments = append(h.Segments, StoredSegment{SegmentName{t, file, start, end, at.Unix(), false}, 1, at.Unix()})
				}
			}
			if rng.IntN(3) == 0 {
				f := Full{ID: NewBackupID(at.Add(time.Duration(len(h.Fulls)) * time.Second)), Timeline: t, ConsistentTime: at, Finished: at, Keep: []string{"held", "", "", "", "", ""}[rng.IntN(6)],
					NeededFrom: bdb.LSN{File: max(1, file-uint32(rng.IntN(2)))}, ConsistentAt: bdb.LSN{File: file, Offset: end}}
				h.Fulls = append(h.Fulls, f)
			}
			if rng.IntN(8) > 0 {
				h.Segments = append(h.Segments, StoredSegment{SegmentName{t, file, 0, end, at.Unix(), true}, 1, at.Unix()})
			}
		}
	}
	slices.SortFunc(h.Fulls, func(a, b Full) int { return strings.Compare(string(a.ID), string(b.ID)) })
	for i := range h.Fulls {
		h.Fulls[i].Usable = reaches(h.Segments, &h.Fulls[i], h.Fulls[i].ConsistentAt)
	}
	h.Now = at.Add(time.Hour)
	return h
}

// reaches is a slow and simple account of whether segments carry a backup to a place: mark one byte after the other.
func reaches(segments []StoredSegment, f *Full, to bdb.LSN) bool {
	at := bdb.LSN{File: f.NeededFrom.File}
	for moved := true; moved && at.Before(to); {
		moved = false
		for _, s := range segments {
			if s.Timeline == f.Timeline && s.File == at.File && s.Start <= at.Offset && (s.End > at.Offset || s.Sealed && s.End == at.Offset) {
				if at, moved = (bdb.LSN{File: s.File, Offset: s.End}), true; s.Sealed && at.Before(to) {
					at = bdb.LSN{File: s.File + 1}
				}
				break
			}
		}
	}
	return !at.Before(to)
}

func promises(h *History, p *Policy, d Decision) string {
	var left []StoredSegment
	for i, s := range h.Segments {
		if d.Segments[i].Keep() {
			left = append(left, s)
		}
	}
	usable := 0
	for i := range h.Fulls {
		f := &h.Fulls[i]
		switch {
		case f.Keep != "" && !d.Fulls[i].Keep:
			return "a held backup goes: " + string(f.ID)
		case f.Usable && d.Fulls[i].Keep && !reaches(left, f, f.ConsistentAt):
			return "a kept backup loses its log: " + string(f.ID)
		case f.Usable && d.Fulls[i].Keep:
			usable++
		}
	}
	if newest := h.newestUsable(); newest >= 0 && usable == 0 {
		return "no usable backup stays"
	}
	return unreached(h, p, d, left)
}

// unreached looks for a place in the log at the end of a segment that could be reached, must be kept, and can't be reached any more.
func unreached(h *History, p *Policy, d Decision, left []StoredSegment) string {
	for i, s := range h.Segments {
		place := bdb.LSN{File: s.File, Offset: s.End}
		if p.Window == nil || p.Window.IsZero() || time.Unix(s.LastCommit, 0).Before(p.windowStart(h)) {
			continue
		}
		could, can := false, false
		for k := range h.Fulls {
			if f := &h.Fulls[k]; f.Timeline == s.Timeline && f.Usable && !place.Before(f.ConsistentAt) {
				could = could || reaches(h.Segments, f, place)
				can = can || d.Fulls[k].Keep && reaches(left, f, place)
			}
		}
		if could && !can {
			return fmt.Sprintf("the end of segment %d, %s, could be reached and can't be now", i, s.SegmentName)
		}
	}
	return ""
}

func TestPolicyCheck(t *testing.T) {
	for _, p := range []Policy{{}, {Within: Span{}}} {
		if err := p.Check(); !errors.Is(err, ErrNoPolicy) {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if err := (&Policy{Daily: -2}).Check(); err == nil || errors.Is(err, ErrNoPolicy) {
		t.Error(err)
	}
	p := Policy{Last: 3, Daily: Unlimited, Within: Span{Months: 2, Days: 5}, Window: &Span{Days: 14}}
	if got, want := p.String(), "--keep-last 3 --keep-daily unlimited --keep-within 2m5d --recovery-window 14d"; got != want || p.Check() != nil {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestSpan(t *testing.T) {
	for text, want := range map[string]Span{"1y5m7d2h": {1, 5, 7, 2}, "30d": {Days: 30}, "0h": {}, "12h": {Hours: 12}, "2m": {Months: 2}} {
		if got, err := ParseSpan(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1", "d", "1w", "30min", "1h2d", "-1d", "1.5d", "1d ", "9999999d"} {
		if got, err := ParseSpan(text); err == nil {
			t.Errorf("%q is taken for %s", text, got)
		}
	}
	at := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
	if got, want := (Span{Years: 1, Days: 1, Hours: 13}).Before(at), time.Date(2025, 3, 29, 23, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("%v, want %v", got, want)
	}
}
