package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"bdbvault/archive"
	"bdbvault/cmd/bdbvault/status"
	"bdbvault/manifest"
	"bdbvault/restore"
)

// Names of watch's flags about drills.
const (
	flagDrillEvery   = "drill-every"
	flagDrillCron    = "drill-cron"
	flagDrillScratch = "drill-scratch"
)

// Events of drills beside archive's own.
const (
	eventDrillBegun  archive.EventKind = "drill begun"
	eventDrillPassed archive.EventKind = "drill passed"
	eventDrillFailed archive.EventKind = "drill failed"
)

const (
	// drillLook is how long a schedule sleeps at most: clocks are set, and hosts put to sleep.
	drillLook = time.Minute
	// drillPause and maxDrillPause are how long after a drill of which nothing was stored, because the store was out of reach, say, it is tried again.
	drillPause    = 15 * time.Minute
	maxDrillPause = 6 * time.Hour
)

func watchDrillFlags() []cli.Flag {
	return []cli.Flag{
		&cli.DurationFlag{Name: flagDrillEvery, Category: inSchedule, EnvVars: variables(flagDrillEvery),
			Usage: "`DURATION` between two drills; 0: none (default)"},
		stringFlag(inSchedule, flagDrillCron, "`EXPRESSION` of when drills are due, as in crontab: \"0 4 * * 0\" is Sundays at four"),
		stringFlag(inSchedule, flagDrillScratch, "`DIRECTORY` with room for a restore, for drills (default: drill in the state directory)"),
	}
}

// driller does an environment's drills when they are due, one after the other. What has been done it learns from the store: so it goes on where it was after
// a restart, and knows of drills that somebody did by hand.
type driller struct {
	schedule archive.Schedule
	now      func() time.Time
	sleep    func(context.Context, time.Duration)
	ready    func() bool                              // there is something to restore
	last     func(context.Context) (time.Time, error) // when the newest stored drill began; zero: there is none
	do       func(context.Context)                    // one drill
	told     func(next time.Time)                     // hears when the next one is due

	started  time.Time     // the driller
	newest   time.Time     // the newest drill that is known
	notUntil time.Time     // the next try, after one that left no record
	pause    time.Duration // that was waited for it
}

// run goes on until ctx ends.
func (d *driller) run(ctx context.Context) {
	d.started = d.now()
	for known := false; ctx.Err() == nil; {
		if !d.ready() {
			d.sleep(ctx, time.Second)
			continue
		}
		if !known && !d.now().Before(d.notUntil) {
			known = d.look(ctx)
		}
		next := d.next()
		d.told(next)
		if wait := next.Sub(d.now()); !known || wait > 0 {
			d.sleep(ctx, min(max(wait, time.Second), drillLook))
			continue
		}
		d.try(ctx)
	}
}

// look asks the store for the newest drill.
func (d *driller) look(ctx context.Context) bool {
	at, err := d.last(ctx)
	if err != nil {
		d.wait()
		return false
	}
	d.newest = at
	return true
}

// next is when the next drill is due. Where there was none yet, an interval is over at once, and a time of day comes.
func (d *driller) next() time.Time {
	from := d.newest
	if _, interval := d.schedule.(archive.Every); from.IsZero() && !interval {
		from = d.started
	}
	next := d.started
	if !from.IsZero() {
		next = d.schedule.Next(from.Local()).UTC()
	}
	if next.Before(d.notUntil) {
		return d.notUntil
	}
	return next
}

// try drills, unless somebody else did meanwhile.
func (d *driller) try(ctx context.Context) {
	before := d.newest
	if !d.look(ctx) || d.newest.After(before) {
		return
	}
	d.do(ctx)
	if ctx.Err() == nil && d.look(ctx) && !d.newest.After(before) {
		d.wait()
	} else if d.newest.After(before) {
		d.pause = 0
	}
}

// wait puts the next try off.
func (d *driller) wait() {
	d.pause = min(max(2*d.pause, drillPause), maxDrillPause)
	d.notUntil = d.now().Add(d.pause)
}

// drills are what a guard knows of its environment's drills.
type drills struct {
	next, since    time.Time
	passed, failed int64
	problem        string // of the last one, if it left no record
	history        *restore.DrillHistory
}

// drill does the environment's drills when they are due, until ctx ends.
func (g *guard) drill(ctx context.Context) error {
	d := &driller{schedule: g.spec.drill, now: time.Now, sleep: sleepFor, ready: g.restorable, last: g.lastDrill, do: g.drillOnce, told: g.drillDue}
	d.run(ctx)
	return nil
}

// restorable reports whether there is a full backup.
func (g *guard) restorable() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.watcher != nil && g.watcher.Status().FullID != ""
}

func (g *guard) lastDrill(ctx context.Context) (time.Time, error) {
	g.mu.Lock()
	repo := g.repo
	g.mu.Unlock()
	list, _, err := repo.Drills(ctx, g.spec.name, "")
	if err != nil || len(list) == 0 {
		return time.Time{}, err
	}
	return list[len(list)-1].ID.Time(), nil
}

func (g *guard) drillDue(next time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drills.next = next
}

// drillOnce drills, and tells of it. Environments take turns.
func (g *guard) drillOnce(ctx context.Context) {
	select {
	case g.service.drilling <- struct{}{}:
		defer func() { <-g.service.drilling }()
	case <-ctx.Done():
		return
	}
	g.mu.Lock()
	g.drills.since = time.Now().UTC()
	g.mu.Unlock()
	g.tellDrill(eventDrillBegun, levelInfo, "a drill begins: a restore to "+g.spec.scratch, nil, "")
	entry, problem := g.spec.runDrill(ctx)
	g.mu.Lock()
	g.drills.since = time.Time{}
	g.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	g.drilled(entry, problem)
	g.readDrills(ctx)
}

// drilled takes the outcome of a drill.
func (g *guard) drilled(entry *drillEntry, problem string) {
	g.mu.Lock()
	failed := entry == nil || entry.Result != manifest.DrillPassed || problem != ""
	if failed {
		g.drills.failed++
	} else {
		g.drills.passed++
	}
	g.drills.problem = ""
	if entry == nil || entry.SHA256 == nil {
		g.drills.problem = problem
	}
	g.mu.Unlock()
	if failed {
		g.tellDrill(eventDrillFailed, levelError, "the drill failed: "+problem, entry, problem)
		return
	}
	g.tellDrill(eventDrillPassed, levelInfo, "drill "+string(entry.ID)+" passed in "+duration(entry.Duration())+": restored to "+
		moment(entry.End, entry.EndTime)+", "+count(entry.Verified, "database")+" verified", entry, "")
}

// tellDrill writes a line, and an object with --json.
func (g *guard) tellDrill(kind archive.EventKind, l level, text string, entry *drillEntry, problem string) {
	g.say(l, text)
	o := eventObject{Time: time.Now().UTC(), Environment: g.spec.name, Event: kind, Text: text, Error: problem}
	if entry != nil {
		o.Drill = &drillObject{ID: string(entry.ID), Result: string(entry.Result), Seconds: entry.Duration().Seconds(), Backup: string(entry.Backup),
			End: entry.End.String(), EndTime: entry.EndTime, Verified: entry.Verified, Bytes: entry.Bytes + entry.LogBytes}
	}
	g.service.log.object(o)
}

// readDrills reads what the store has of drills. If that fails, what was known stays.
func (g *guard) readDrills(ctx context.Context) {
	g.mu.Lock()
	repo := g.repo
	g.mu.Unlock()
	h, err := restore.ReadDrills(ctx, repo, g.spec.name)
	if err != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drills.history = h
}

// status is what there is to see of them.
func (d *drills) status(scheduled bool) status.Drills {
	return status.Drills{Scheduled: scheduled, Next: d.next, Since: d.since, Passed: d.passed, Failed: d.failed, Problem: d.problem, History: d.history}
}
