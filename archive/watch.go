package archive

import (
	"cmp"
	"context"
	"errors"
	"time"

	"bdbvault/localenv"
	"bdbvault/manifest"
	"bdbvault/remote/repository"
)

// Watcher keeps an environment protected: it sends the log as it grows, and takes full backups when they are due.
type Watcher struct {
	repo   *repository.Repository
	open   func() (*localenv.Env, error)
	opt    WatchOptions
	report report
}

// NewWatcher makes a watch that does nothing yet. Open finds out what environment there is; it is called again whenever that may have changed.
func NewWatcher(repo *repository.Repository, open func() (*localenv.Env, error), opt WatchOptions) (*Watcher, error) {
	if err := manifest.CheckEnv(opt.Env); err != nil {
		return nil, err
	}
	opt.ShipEvery = cmp.Or(opt.ShipEvery, time.Second)
	opt.PollEvery = cmp.Or(opt.PollEvery, opt.ShipEvery)
	opt.BulkSafe = cmp.Or(opt.BulkSafe, BulkAuto)
	if opt.Progress == nil {
		opt.Progress = silent{}
	}
	w := &Watcher{repo: repo, open: open, opt: opt, report: report{repo: repo, hear: opt.OnEvent}}
	w.report.s = WatchStatus{Environment: opt.Env, State: WatchStarting, Flag: FlagStatus{Asked: opt.BulkSafe}}
	return w, nil
}

// Status may be called at any time and from any goroutine.
func (w *Watcher) Status() WatchStatus { return w.report.get() }

// Run watches until ctx ends, and returns nil then, with everything left in order. It returns an error only where it can't go on at all.
func (w *Watcher) Run(ctx context.Context) error {
	w.report.set(func(s *WatchStatus) { s.Started = time.Now().UTC() })
	tick := time.NewTicker(w.opt.ShipEvery)
	defer tick.Stop()
	for {
		if err := w.round(ctx); err != nil && ctx.Err() == nil {
			w.report.tell(Event{Kind: EventRetrying, Text: err.Error(), Err: err})
		}
		select {
		case <-ctx.Done():
			w.report.set(func(s *WatchStatus) { s.State = WatchStopped })
			w.report.tell(Event{Kind: EventStopped})
			return nil
		case <-tick.C:
		}
	}
}

// round sends what is new, after a full backup where the log has nothing to continue.
func (w *Watcher) round(ctx context.Context) error {
	env, err := w.open()
	if err != nil {
		return err
	}
	w.report.set(func(s *WatchStatus) { s.Home, s.State = env.Home, WatchShipping })
	res, err := Ship(ctx, w.repo, env, ShipOptions{Env: w.opt.Env, StateDir: w.opt.StateDir, Step: w.opt.Step})
	var broken *ChainError
	switch {
	case errors.As(err, &broken):
		w.report.tell(Event{Kind: EventChainBroken, Text: broken.Reason, Err: err})
		return w.full(ctx, env, broken.Reason)
	case errors.Is(err, ErrNoBackup):
		return w.full(ctx, env, "there is none yet")
	case err != nil:
		return err
	}
	w.report.set(func(s *WatchStatus) {
		s.State, s.Timeline, s.ShippedTo, s.LogEnd, s.ShippedCommit = WatchIdle, res.Timeline, res.To, res.To, res.LastCommit
	})
	if res.Segments > 0 {
		w.report.tell(Event{Kind: EventShipped, Ship: res})
	}
	last := w.Status().LastFull
	if w.opt.Full != nil && !last.IsZero() && !time.Now().Before(w.opt.Full.Next(last)) {
		return w.full(ctx, env, "it is due")
	}
	return nil
}

// full takes a full backup.
func (w *Watcher) full(ctx context.Context, env *localenv.Env, why string) error {
	w.report.set(func(s *WatchStatus) { s.State, s.FullSince = WatchBackingUp, time.Now().UTC() })
	defer w.report.set(func(s *WatchStatus) { s.FullSince = time.Time{} })
	w.report.tell(Event{Kind: EventFullBegun, Text: why})
	res, err := Backup(ctx, w.repo, env, BackupOptions{Env: w.opt.Env, StateDir: w.opt.StateDir, Tool: w.opt.Tool, BulkSafe: BulkOff,
		ReadAll: w.opt.ReadAll, AllowDamaged: w.opt.AllowDamaged, Progress: w.opt.Progress, Step: w.opt.Step})
	if err != nil {
		w.report.tell(Event{Kind: EventFullFailed, Text: err.Error(), Err: err})
		return err
	}
	w.report.tell(Event{Kind: EventFullDone, Full: res})
	return nil
}
