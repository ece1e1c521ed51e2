package archive

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
)

const (
	// flagLook is how often a flag that is held is looked after.
	flagLook      = time.Second / 4
	maxFlagPause  = 10 * time.Minute
	firstFlagTry  = 10 * time.Second // how long the first full backup waits for it
	flagSettle    = 2 * time.Second  // for how long regions have to be the same before they are joined
	flagGiveUp    = time.Minute      // regions of which the log tells nothing are joined after so long
	flagLookAgain = 100 * time.Millisecond
)

// flag holds hot-backup-in-progress for as long as a watch runs, in a child that joins the environment once. An application that restarts with recovery makes
// its regions anew, and the flag is gone: then another child joins the new ones, as soon as recovery is over. It is the engine of the watch's full
// backups.
type flag struct {
	w     *Watcher
	tried chan struct{} // closed after the first try
	once  sync.Once

	mu      sync.Mutex
	client  *engine.Client // has joined; nil: none
	home    string
	regions engine.Regions
	end     bdb.LSN // of the log, when the regions were last seen to be the same
	turn    int     // counts how often the flag was set
	version string
	why     error // it is not held
}

func newFlag(w *Watcher) *flag {
	return &flag{w: w, tried: make(chan struct{}), why: errors.New("not tried yet")}
}

// run holds the flag until ctx ends. Where it is required, not to get it at all is an error.
func (f *flag) run(ctx context.Context) error {
	wait := newPause(flagLook, maxFlagPause)
	for first := true; ctx.Err() == nil; first = false {
		f.settle(ctx, first)
		regions, lost, err := f.hold(ctx)
		f.once.Do(func() { close(f.tried) })
		if ctx.Err() != nil {
			return nil
		}
		if lost {
			wait.result(nil)
			f.w.flagLost(err)
			continue
		}
		if f.w.opt.BulkSafe == BulkRequire && first {
			return fmt.Errorf("hold the hot-backup flag: %w", err)
		}
		f.w.flagMissing(err)
		wait.result(err)
		f.rest(ctx, wait.left(), regions)
	}
	return nil
}

// settle waits, when the flag was lost, until the application's recovery is over: it ends with a checkpoint, so the log goes on.
func (f *flag) settle(ctx context.Context, first bool) {
	f.mu.Lock()
	home, regions, end := f.home, f.regions, f.end
	f.mu.Unlock()
	if first || home == "" {
		return
	}
	began := time.Now()
	for since := began; ctx.Err() == nil; sleep(ctx, flagLookAgain) {
		if now := engine.RegionsOf(home); now != regions {
			regions, since = now, time.Now()
		}
		quiet := time.Since(since) >= flagSettle && regions != engine.Regions{}
		if quiet && (f.w.report.logEnd() != end || time.Since(began) > flagGiveUp) {
			return
		}
		if time.Since(began) > flagGiveUp && regions == (engine.Regions{}) {
			return // nobody has it open; hold says so
		}
	}
}

// rest waits before the next try, unless the regions become others.
func (f *flag) rest(ctx context.Context, d time.Duration, regions engine.Regions) {
	f.mu.Lock()
	home := f.home
	f.mu.Unlock()
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; sleep(ctx, min(flagLook, d)) {
		if home != "" && engine.RegionsOf(home) != regions {
			return
		}
	}
}

// hold joins the environment and holds the flag until it is lost or ctx ends.
func (f *flag) hold(ctx context.Context) (regions engine.Regions, lost bool, err error) {
	if f.w.opt.Engine == nil {
		return regions, false, fmt.Errorf("no engine: %w", engine.ErrNotSupported)
	}
	env, err := f.w.open()
	if err != nil {
		return regions, false, err
	}
	regions = engine.RegionsOf(env.Home)
	f.mu.Lock()
	f.home, f.regions = env.Home, regions
	f.mu.Unlock()
	client, err := f.w.startEngine(ctx, env)
	if err != nil {
		return regions, false, err
	}
	err = client.HotBackup(ctx, func(ctx context.Context) error {
		lost = true
		f.gained(client)
		defer f.gone()
		return f.keep(ctx, client, env.Home, regions)
	})
	closed := client.Close()
	if errors.Is(err, engine.ErrFlagLost) {
		return regions, lost, engine.ErrFlagLost // what the child says of regions that are gone means nothing
	}
	return regions, lost, errors.Join(err, closed)
}

// keep returns when the flag is no longer held for certain.
func (f *flag) keep(ctx context.Context, client *engine.Client, home string, regions engine.Regions) error {
	tick := time.NewTicker(flagLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-client.Gone():
			return nil // its death is HotBackup's error
		case <-tick.C:
			if engine.RegionsOf(home) != regions {
				return engine.ErrFlagLost
			}
			f.mu.Lock()
			f.end = f.w.report.logEnd()
			f.mu.Unlock()
		}
	}
}

func (f *flag) gained(client *engine.Client) {
	f.mu.Lock()
	f.client, f.why, f.version = client, nil, client.Version()
	f.turn++
	f.mu.Unlock()
	f.once.Do(func() { close(f.tried) })
	f.w.report.set(func(s *WatchStatus) { s.Flag.Held, s.Flag.Since, s.Flag.Why = true, time.Now().UTC(), "" })
	f.w.report.tell(Event{Kind: EventFlagHeld, Text: "hot-backup-in-progress is set in the environment"})
}

func (f *flag) gone() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.client, f.why = nil, engine.ErrFlagLost
}

// wait waits for the first try to be over, for a while.
func (f *flag) wait(ctx context.Context) {
	t := time.NewTimer(firstFlagTry)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-f.tried:
	case <-t.C:
	}
}

// Version implements engine.Engine.
func (f *flag) Version() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.version
}

// now is which time the flag is held; an error if it isn't.
func (f *flag) now() (turn int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.client == nil && f.why != nil:
		return 0, &engine.EngineError{Op: "hold the hot-backup flag", Kind: engine.ErrNotJoinable, Text: []string{f.why.Error()}}
	case engine.RegionsOf(f.home) != f.regions:
		return 0, engine.ErrFlagLost
	}
	return f.turn, nil
}

// HotBackup implements engine.Engine: fn runs if the flag is held, and if it was not held to the end without a break, that is ErrFlagLost.
func (f *flag) HotBackup(ctx context.Context, fn func(context.Context) error) error {
	turn, err := f.now()
	if err != nil {
		return err
	}
	err = fn(ctx)
	if again, lost := f.now(); lost != nil || again != turn {
		return errors.Join(err, &engine.EngineError{Op: "hold the hot-backup flag", Kind: engine.ErrFlagLost})
	}
	return err
}

// Checkpoint implements engine.Engine.
func (f *flag) Checkpoint(ctx context.Context) error {
	f.mu.Lock()
	client, why := f.client, f.why
	f.mu.Unlock()
	if client == nil {
		return &engine.EngineError{Op: "checkpoint", Kind: engine.ErrNotJoinable, Text: []string{why.Error()}}
	}
	return client.Checkpoint(ctx)
}

// Recover and Verify are not for a live environment.
func (f *flag) Recover(context.Context, string, engine.RecoverOptions) error {
	return fmt.Errorf("recover: %w", engine.ErrNotSupported)
}

// Verify implements engine.Engine.
func (f *flag) Verify(context.Context, string, string) error {
	return fmt.Errorf("verify: %w", engine.ErrNotSupported)
}

// startEngine starts a child that may join env.
func (w *Watcher) startEngine(ctx context.Context, env *localenv.Env) (*engine.Client, error) {
	opt := *w.opt.Engine
	opt.Home = env.Home
	opt.LogEnd = func(ctx context.Context) (end bdb.LSN, err error) {
		log, err := env.OpenLog(ctx)
		if err != nil {
			return end, err
		}
		end, err = log.End(ctx)
		return end, errors.Join(err, log.Close())
	}
	return engine.Start(ctx, opt)
}

func (w *Watcher) flagLost(err error) {
	now := time.Now().UTC()
	w.report.set(func(s *WatchStatus) {
		s.Flag.Held, s.Flag.Since, s.Flag.Gap, s.Flag.Why = false, now, now, err.Error()
		s.Flag.Lost++
	})
	w.report.tell(Event{Kind: EventFlagLost, Err: err, Text: "the hot-backup flag was lost: what bulk transactions wrote since is not in the log, until the flag is set again"})
}

// flagMissing says why the flag can't be set, once.
func (w *Watcher) flagMissing(err error) {
	text := err.Error()
	if w.Status().Flag.Why == text {
		return
	}
	w.report.set(func(s *WatchStatus) {
		if s.Flag.Held || s.Flag.Since.IsZero() {
			s.Flag.Since = time.Now().UTC()
		}
		s.Flag.Held, s.Flag.Why = false, text
	})
	w.report.tell(Event{Kind: EventFlagMissing, Err: err, Text: "the hot-backup flag is not held, so bulk transactions may be missing from the log: " + text})
}
