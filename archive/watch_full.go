package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"bdbvault/localenv"
	"bdbvault/remote"
)

// fullState is what a sitting knows of full backups.
type fullState struct {
	last    time.Time // when the newest one began; zero: none, or not known
	running bool
	done    chan fullResult
	retry   pause
	anew    bool // the next one begins a new environment beside the history of the old one
}

type fullResult struct {
	res *BackupResult
	err error
}

func newFullState() fullState {
	return fullState{done: make(chan fullResult, 1), retry: newPause(firstFullPause, maxFullPause)}
}

// next is when the next full backup is due; zero: never. A backup from the future, taken before the clock was set back, counts as taken now.
func (f *fullState) next(schedule Schedule) time.Time {
	if schedule == nil || f.last.IsZero() {
		return time.Time{}
	}
	last := f.last
	if now := time.Now(); last.After(now) {
		last = now
	}
	return schedule.Next(last.Local()).UTC()
}

// startFull begins a full backup if one is due. Log is sent on meanwhile: the backup continues the same timeline, and what both send is the same.
func (s *sitting) startFull(ctx context.Context, group *errgroup.Group) {
	why := s.why
	if next := s.full.next(s.w.opt.Full); why == "" && s.ship != nil && !next.IsZero() && !time.Now().Before(next) {
		why = "it is due"
	}
	if why == "" || s.full.running || !s.full.retry.ready() || ctx.Err() != nil {
		return
	}
	env, err := s.w.open()
	if err != nil {
		s.full.done <- fullResult{nil, err}
		s.full.running = true
		return
	}
	s.full.running = true
	s.w.report.set(func(st *WatchStatus) { st.FullSince = time.Now().UTC() })
	s.w.report.tell(Event{Kind: EventFullBegun, Text: why})
	anew := s.full.anew
	group.Go(func() error {
		res, err := s.w.backup(ctx, env, anew)
		s.full.done <- fullResult{res, err}
		return nil
	})
}

func (w *Watcher) backup(ctx context.Context, env *localenv.Env, anew bool) (*BackupResult, error) {
	opt := BackupOptions{Env: w.opt.Env, NewEnvironment: anew, StateDir: w.opt.StateDir, Tool: w.opt.Tool, Checkpoint: w.opt.Checkpoint,
		BulkSafe: w.opt.BulkSafe, ReadAll: w.opt.ReadAll, Lock: w.opt.Lock, AllowDamaged: w.opt.AllowDamaged, Progress: w.opt.Progress, Step: w.opt.Step}
	switch {
	case w.flag != nil:
		w.flag.wait(ctx)
		opt.Engine = w.flag
	case w.opt.Checkpoint && w.opt.Engine != nil:
		client, err := w.startEngine(ctx, env)
		if err != nil {
			return nil, err
		}
		defer client.Close() // its errors are those of the checkpoint, which are reported
		opt.Engine = client
	}
	ctx = remote.WithRetry(ctx, remote.Retry{On: func(err error, _ time.Duration) { w.report.fault(err) }})
	return Backup(ctx, w.repo, env, opt)
}

// fullEnded takes in what became of a full backup.
func (s *sitting) fullEnded(ctx context.Context, r fullResult) error {
	s.full.running = false
	s.w.report.set(func(st *WatchStatus) { st.FullSince = time.Time{} })
	var other *OtherEnvironmentError
	switch {
	case r.err == nil:
		s.fullDone(r.res)
		return nil
	case ctx.Err() != nil:
		return nil
	case errors.As(r.err, &other) && !s.w.established:
		return r.err
	}
	s.full.retry.result(r.err)
	if s.full.anew = other != nil; s.full.anew {
		s.replaced(other)
		return nil
	}
	s.w.report.tell(Event{Kind: EventFullFailed, Text: r.err.Error(), Err: r.err})
	return nil
}

// replaced begins a history beside the old one: a home that was watched and now holds another environment was made anew under the watch. Or something else was
// mounted there, which nobody here can tell; so it is said as loudly as can be.
func (s *sitting) replaced(err error) {
	s.full.retry.result(nil)
	s.w.report.tell(Event{Kind: EventReplaced, Err: err, Text: fmt.Sprintf(
		"another environment lies in %s now: it was made anew, or something else is mounted there; its history begins beside the old one's, under the same name", s.env.Home)})
}

func (s *sitting) fullDone(res *BackupResult) {
	s.full.retry.result(nil)
	s.full.anew = false
	s.full.last = res.Manifest.Started
	s.w.report.tell(Event{Kind: EventFullDone, Full: res})
	if s.ship == nil || s.ship.timeline != res.Manifest.Timeline {
		s.ship, s.why = nil, ""
	}
}
