package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/cmd/bdbvault/status"
	"bdbvault/localenv/envtest"
)

// gong is a driller whose clock goes only as far as it sleeps and drills.
type gong struct {
	driller
	clock   time.Time
	end     time.Time
	cancel  context.CancelFunc
	stored  time.Time   // when the newest drill in the store began
	began   []time.Time // of those that the driller did
	takes   time.Duration
	records bool // a drill leaves a record
	down    bool // the store can't be read
	backup  time.Time
	looks   int
}

func newGong(schedule archive.Schedule, start time.Time, length time.Duration) *gong {
	g := &gong{clock: start, end: start.Add(length), takes: time.Hour, records: true}
	g.driller = driller{
		schedule: schedule,
		now:      func() time.Time { return g.clock },
		sleep:    func(_ context.Context, d time.Duration) { g.pass(d) },
		ready:    func() bool { return !g.clock.Before(g.backup) },
		told:     func(time.Time) {},
		last: func(context.Context) (time.Time, error) {
			g.looks++
			if g.down {
				return time.Time{}, errors.New("down")
			}
			return g.stored, nil
		},
		do: func(context.Context) {
			began := g.clock
			g.began = append(g.began, began)
			g.pass(g.takes)
			if g.records {
				g.stored = began
			}
		},
	}
	return g
}

func (g *gong) pass(d time.Duration) {
	if d <= 0 {
		d = time.Millisecond // time always goes on
	}
	if g.clock = g.clock.Add(d); !g.clock.Before(g.end) {
		g.cancel()
	}
}

// rings runs until the end, and returns when drills began, in hours since the start.
func (g *gong) rings() (hours []int) {
	start := g.clock
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	g.run(ctx)
	for _, t := range g.began {
		hours = append(hours, int(t.Sub(start).Hours()))
	}
	return hours
}

// TestDrillSchedule: drills come when they are due, by what the store knows; never two at a time, never one without something to restore.
func TestDrillSchedule(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	defer func() { time.Local = local }()
	sunday, err := parseCron("0 4 * * 0", flagDrillCron, flagDrillEvery)
	if err != nil {
		t.Fatal(err)
	}
	const day, week = 24 * time.Hour, 7 * 24 * time.Hour
	start := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) // a Friday; Sunday at four is 40 hours later
	for name, c := range map[string]struct {
		schedule archive.Schedule
		change   func(*gong)
		want     []int
	}{
		"the first is due at once":           {archive.Every(week), nil, []int{0, 168, 336}},
		"but not before there is a backup":   {archive.Every(week), func(g *gong) { g.backup = start.Add(5 * time.Hour) }, []int{5, 173, 341}},
		"a restart goes on":                  {archive.Every(week), func(g *gong) { g.stored = start.Add(-6 * day) }, []int{24, 192, 360}},
		"what was missed is done once":       {archive.Every(week), func(g *gong) { g.stored = start.Add(-300 * day) }, []int{0, 168, 336}},
		"a time of day comes":                {sunday, nil, []int{40, 208, 376}},
		"or was missed while nobody watched": {sunday, func(g *gong) { g.stored = start.Add(-week) }, []int{0, 40, 208, 376}},
		"longer than the interval":           {archive.Every(day), func(g *gong) { g.takes = 150 * time.Hour }, []int{0, 150, 300}},
		"nothing stored: later, and rarer":   {archive.Every(week), func(g *gong) { g.records, g.end = false, start.Add(day) }, []int{0, 1, 2, 4, 7, 12, 19}},
	} {
		g := newGong(c.schedule, start, 400*time.Hour)
		if c.change != nil {
			c.change(g)
		}
		if got := g.rings(); !slices.Equal(got, c.want) {
			t.Errorf("%s: drills began after hours %v, want %v", name, got, c.want)
		}
		if g.looks > 3*len(g.began)+3 {
			t.Errorf("%s: the store was asked %d times for %d drills", name, g.looks, len(g.began))
		}
	}
}

// TestDrillByHand: a drill that somebody did counts, and a store that can't be reached is asked ever more rarely.
func TestDrillByHand(t *testing.T) {
	start := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	g := newGong(archive.Every(7*24*time.Hour), start, 400*time.Hour)
	g.stored = start.Add(-6 * 24 * time.Hour)
	ready := g.ready
	g.ready = func() bool {
		if g.clock.Sub(start) > 23*time.Hour && g.stored.Before(start) {
			g.stored = start.Add(22 * time.Hour) // by hand
		}
		return ready()
	}
	if got, want := g.rings(), []int{22 + 168, 22 + 336}; !slices.Equal(got, want) {
		t.Errorf("drills began after hours %v, want %v", got, want)
	}
	g = newGong(archive.Every(time.Hour), start, 48*time.Hour)
	g.down = true
	if got := g.rings(); len(got) > 0 || g.looks < 5 || g.looks > 15 {
		t.Errorf("with the store down drills began after hours %v, and it was asked %d times", got, g.looks)
	}
}

// TestWatchDrills: a watch of an encrypted environment drills beside its ships, with the password that it was given, and goes on shipping when what is stored
// gets damaged and drills fail. It ends in order, in the middle of a drill or not, and leaves nothing behind.
func TestWatchDrills(t *testing.T) {
	cleanSettings(t)
	url, home, scratch := makeRepository(t), filepath.Join(t.TempDir(), "bank"), t.TempDir()
	load := envtest.StartBank(t, envtest.Create(t, home, envtest.Spec{Password: "hush", LogFileSize: 1 << 20,
		Databases: []envtest.Database{{File: "b.db", Method: "btree", Records: 500}}, Bank: &envtest.Bank{Accounts: 20}}), envtest.BankOptions{Processes: 1, Rate: 100})
	r := startWatch(t, []string{"BDBVAULT_DB_PASSWORD=hush", "BDBVAULT_DRILL_EVERY=1s", "BDBVAULT_AT=yesterday"}, "-r", url, "-h", home, "--ship-every", "200ms",
		"--drill-scratch", scratch, "--json")
	drills := func() status.Drills { return r.status().Environments[0].Drills }
	until(t, "a drill has passed", func() bool { return drills().Passed > 0 })
	until(t, "the page knows", func() bool { d := drills(); return d.History != nil && d.History.LastPassed != nil && !d.Next.IsZero() })
	_, metrics := r.get("metrics")
	for _, line := range []string{`bdbvault_last_drill_success{environment="bank"} 1`, `bdbvault_last_successful_drill_bytes{environment="bank"} `,
		`bdbvault_last_successful_drill_timestamp_seconds{environment="bank"} `, `bdbvault_drill_failures_total{environment="bank"} 0`} {
		if !strings.Contains(metrics, "\n"+line) {
			t.Errorf("metrics have no %s", line)
		}
	}

	packs, err := filepath.Glob(filepath.Join(strings.TrimPrefix(url, "file://"), "bank/packs/*/*"))
	if err != nil || len(packs) == 0 {
		t.Fatalf("%d packs, %v", len(packs), err)
	}
	for _, p := range packs {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "a drill has failed", func() bool { d := drills(); return d.Failed > 0 && d.History.Last != nil && !d.History.Last.Passed() })
	ships := r.status().Environments[0].Watch.Counters.Ships
	until(t, "log is shipped on", func() bool { return r.status().Environments[0].Watch.Counters.Ships > ships+2 })
	if _, page := r.get(""); !strings.Contains(page, "failed in phase data") || !strings.Contains(page, "bank is protected") {
		t.Errorf("the page says nothing of it: %s", page)
	}
	if err := load.Stop(); err != nil {
		t.Fatal(err)
	}
	if code := r.stop(syscall.SIGTERM); code != exitDone {
		t.Errorf("exit code %d", code)
	}
	seen := map[archive.EventKind]int{}
	for line := range bytes.Lines(r.out.Bytes()) {
		var e eventObject
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		seen[e.Event]++
		if e.Event == eventDrillPassed && (e.Drill == nil || e.Drill.Verified < 2) || e.Event == eventDrillFailed && e.Error == "" {
			t.Errorf("lacks what it is about: %s", line)
		}
	}
	if seen[eventDrillBegun] < 2 || seen[eventDrillPassed] == 0 || seen[eventDrillFailed] == 0 || strings.Contains(r.said(), "hush") {
		t.Errorf("events %v; it said %s", seen, r.said())
	}
	until(t, "nothing is left of drills", func() bool { left, err := os.ReadDir(scratch); return err == nil && len(left) == 0 })
}
