package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"bdbvault/archive"
	"bdbvault/cmd/bdbvault/status"
	"bdbvault/remote"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

const (
	// restartPause is how long an environment whose watch can't go on is left alone, if there are others.
	restartPause = time.Minute
	// openPause and maxOpenPause are how long to wait for a store that does not answer when the watch begins.
	openPause    = time.Second
	maxOpenPause = 30 * time.Second
	// historyPause is how often the store's history is read at most, and historyAge how old it gets. The watch knows what it adds itself.
	historyPause = time.Minute
	historyAge   = 6 * time.Hour
	// retryLine is how often there is a line about requests that are repeated.
	retryLine = time.Minute
	// keptEvents is how many events an environment remembers.
	keptEvents = 50
)

// guard keeps one environment under watch.
type guard struct {
	service *service
	spec    *watchSpec
	pulse   *pulse

	mu        sync.Mutex
	before    archive.WatchStatus // as long as there is no watcher
	watcher   *archive.Watcher
	repo      *repository.Repository
	failed    error
	nextTry   time.Time
	events    []status.Event
	history   *restore.History
	historyAt time.Time
	retried   time.Time // the last line about that
	drills    drills

	moved int64 // bytes to and from the store when somebody last asked whether the watch is alive

	stale chan struct{} // the store's history has changed in a way that the watch does not tell
	tally tally
}

func newGuard(s *service, spec *watchSpec) *guard {
	g := &guard{service: s, spec: spec, pulse: newPulse(), stale: make(chan struct{}, 1)}
	g.before = archive.WatchStatus{Environment: spec.name, Home: spec.home, State: archive.WatchStarting, Started: time.Now().UTC()}
	spec.call.progress = newProgress(lineWriter{func(line string) { g.say(levelInfo, line) }}, false, false)
	spec.call.onRetry = g.retrying
	spec.options.Progress = &watchProgress{pulse: g.pulse, say: func(line string) { g.say(levelInfo, line) }}
	spec.options.OnEvent = g.hear
	return g
}

// run watches until ctx ends. A watch that can't go on ends everything if it is the only one; else it is begun again from time to time.
func (g *guard) run(ctx context.Context) error {
	for {
		err := g.watch(ctx)
		if ctx.Err() != nil {
			return err
		}
		if g.service.failed(+1) {
			return err
		}
		g.fail(err, time.Now().Add(restartPause))
		v := judge(ctx, err)
		g.say(levelError, v.text+"; the other environments go on, and this one is tried again in "+duration(restartPause))
		if v.hint != "" {
			g.say(levelError, v.hint)
		}
		g.pulse.rest(ctx, restartPause)
		g.service.failed(-1)
		g.fail(nil, time.Time{})
	}
}

func (g *guard) fail(err error, next time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failed, g.nextTry = err, next
}

func (g *guard) watch(ctx context.Context) error {
	repo, err := g.open(ctx)
	if err != nil {
		return err
	}
	w, err := archive.NewWatcher(repo, g.spec.open, g.spec.options)
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.watcher, g.repo = w, repo
	g.mu.Unlock()
	g.changed()
	return w.Run(ctx)
}

// open opens the repository as soon as the store lets it: a service that is started beside an outage waits for its end.
func (g *guard) open(ctx context.Context) (*repository.Repository, error) {
	c, pause := g.spec.call, openPause
	for {
		repo, err := c.openRepository(ctx)
		if err == nil {
			err = archive.CheckLock(ctx, repo.Bucket, g.spec.options.Lock)
		}
		if err == nil || ctx.Err() != nil || !passes(err) {
			return repo, err
		}
		g.unreached(err)
		g.say(levelWarning, err.Error()+"; trying again in "+duration(pause))
		g.pulse.rest(ctx, pause)
		pause = min(2*pause, maxOpenPause)
	}
}

// unreached notes that the store does not let itself be opened.
func (g *guard) unreached(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now, w := time.Now().UTC(), &g.before
	w.State, w.LastError, w.LastErrorAt = archive.WatchRetrying, err.Error(), now
	if w.RetryingSince.IsZero() {
		w.RetryingSince = now
	}
}

// passes reports whether a store that gave this error may be well again without anybody's changing the settings.
func passes(err error) bool {
	e, ok := errors.AsType[*remote.Error](err)
	if !ok {
		return false
	}
	switch e.Kind {
	case remote.Transient, remote.Unreachable, remote.Expired, remote.ClockSkew:
		return true
	}
	return false
}

// hear takes an event of the watch.
func (g *guard) hear(e archive.Event) {
	g.pulse.beat()
	level, text := eventLine(&e)
	g.service.log.event(g.spec.name, level, text, &e)
	switch e.Kind {
	case archive.EventShipped:
		if line := g.tally.add(&e); line != "" {
			g.service.log.write(g.spec.name, levelInfo, line)
		}
	case archive.EventFullDone, archive.EventStarted:
		g.changed()
	}
	if level > levelDebug {
		g.remember(e.Time, level, text)
	}
}

// say logs and remembers what is not the watch's own event.
func (g *guard) say(level level, text string) {
	g.pulse.beat()
	g.service.log.write(g.spec.name, level, text)
	g.remember(time.Now(), level, text)
}

func (g *guard) remember(at time.Time, level level, text string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.events) >= keptEvents {
		g.events = append(g.events[:0:0], g.events[1:]...)
	}
	g.events = append(g.events, status.Event{Time: at.UTC(), Text: text, Wrong: level >= levelWarning})
}

// retrying is told of every fault of the store that may pass. There is a line of it now and then: an outage has very many.
func (g *guard) retrying(err error, _ time.Duration) {
	g.pulse.beat()
	g.unreached(err) // as long as there is no watch, this is the state
	g.mu.Lock()
	told := time.Since(g.retried) < retryLine
	if !told {
		g.retried = time.Now()
	}
	g.mu.Unlock()
	if !told {
		g.say(levelWarning, err.Error()+"; trying again")
	}
}

// changed has the history read again.
func (g *guard) changed() {
	select {
	case g.stale <- struct{}{}:
	default:
	}
}

// readHistory reads what the store holds, for the page: when the watch begins, after each full backup, and from time to time.
func (g *guard) readHistory(ctx context.Context) error {
	age := time.NewTicker(historyAge)
	defer age.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.stale:
		case <-age.C:
		}
		g.mu.Lock()
		repo := g.repo
		g.mu.Unlock()
		if repo == nil {
			continue
		}
		// An environment that is not in the store yet, and a store that does not answer, leave the page as it is.
		h, err := restore.ReadHistory(ctx, repo, g.spec.name)
		if err != nil {
			continue
		}
		g.mu.Lock()
		g.history, g.historyAt = h, time.Now().UTC()
		g.mu.Unlock()
		g.readDrills(ctx)
		if len(h.Backups) > 0 {
			sleepFor(ctx, historyPause)
		}
	}
}

func (g *guard) snapshot() status.Environment {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := status.Environment{Watch: g.before, MaxLag: g.spec.maxLag, History: g.history, HistoryAt: g.historyAt,
		Events: append([]status.Event{}, g.events...), NextTry: g.nextTry, Drills: g.drills.status(g.spec.drill != nil)}
	if g.watcher != nil {
		e.Watch = g.watcher.Status()
	}
	if g.failed != nil {
		e.Failed = g.failed.Error()
	}
	return e
}

// sleepFor waits, but not longer than ctx lives.
func sleepFor(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
