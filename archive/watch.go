package archive

import (
	"cmp"
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

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
	flag   *flag // nil: the environment is not joined

	found       bool // there was an environment with a log
	established bool // it is the one of the repository
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

// Run watches until ctx ends, and returns nil then, with everything left in order. It returns an error only where it can't go on at all: the home is none
// or a standby, or can't be read when it begins, the name belongs to another environment (*OtherEnvironmentError), or the hot-backup flag is required and can't be had.
func (w *Watcher) Run(ctx context.Context) error {
	w.report.set(func(s *WatchStatus) { s.Started = time.Now().UTC() })
	group, within := errgroup.WithContext(ctx)
	if w.opt.BulkSafe != BulkOff {
		w.flag = newFlag(w)
		group.Go(func() error { return w.flag.run(within) })
	}
	group.Go(func() error { return w.sittings(within) })
	err := group.Wait()
	w.report.set(func(s *WatchStatus) { s.State, s.Flag.Held = WatchStopped, false })
	w.report.tell(Event{Kind: EventStopped, Err: err})
	return err
}

// longSitting is how long a sitting has to last for the next one to begin without a pause.
const longSitting = 10 * time.Second

// sittings begins anew whenever the environment has to be looked at afresh.
func (w *Watcher) sittings(ctx context.Context) error {
	wait := newPause(min(time.Second, w.opt.PollEvery), maxShipPause)
	said := ""
	for {
		began := time.Now()
		err := w.sit(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var other *OtherEnvironmentError
		if errors.As(err, &other) || !w.found && !errors.Is(err, localenv.ErrNoLog) {
			return err
		}
		if time.Since(began) > longSitting {
			wait.result(nil)
			said = ""
		}
		if text := err.Error(); text != said {
			said = text
			w.report.tell(Event{Kind: EventReopened, Err: err, Text: text + "; the environment is looked at afresh"})
		}
		w.report.set(func(s *WatchStatus) { s.State, s.FullSince, s.Turned = WatchRetrying, time.Time{}, time.Now().UTC() })
		w.report.behind(time.Now())
		wait.result(err)
		sleep(ctx, wait.left())
	}
}

// note passes on what a person should know.
func (w *Watcher) note(text string) { w.report.tell(Event{Kind: EventNote, Text: text}) }

func (w *Watcher) step(name string) error {
	if w.opt.Step == nil {
		return nil
	}
	return w.opt.Step(name)
}

// shipProgress hears of the ships of a watch: each segment is a sign of life.
type shipProgress struct{ w *Watcher }

func (p shipProgress) Phase(string, int64) {}
func (p shipProgress) Add(int64) {
	p.w.report.set(func(s *WatchStatus) { s.Turned = time.Now().UTC() })
}
func (p shipProgress) File(string)      {}
func (p shipProgress) Note(text string) { p.w.note(text) }
