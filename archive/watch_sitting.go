package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/manifest"
	"bdbvault/remote"
)

// sitting is a watch of one environment as it was found, until its log turns out to be another. It holds the log files from the shipped end on, so that
// nobody can take away what is not stored yet.
type sitting struct {
	outer   context.Context // of the watch
	w       *Watcher
	env     *localenv.Env
	st      *state
	log     *localenv.Log
	reading sync.RWMutex  // held for reading while the log is read, for writing while files are taken in or let go
	stirred chan struct{} // the log may have changed

	ship    *shipper       // nil: there is no chain to continue
	why     string         // ship is nil
	regions engine.Regions // as they were when the log was last proved to continue what is stored
	doubt   bool           // the log changed while it was read
	edge    [edgeBytes]byte
	around  around
	shipped time.Time // last
	waiting bool      // for the time when the next ship may be made
	noted   time.Time // the place, in the state
	retry   pause     // of ships
	full    fullState
	removal removal
	held    time.Time // removed files that are held were looked at
}

// edgeBytes is how much is compared before and after the shipped end to see whether anything changed.
const edgeBytes = 64

// notePlace is how often the place is noted in the state. It is found without, at the cost of some requests.
const notePlace = time.Minute

// sit watches until ctx ends, which is no error, or the environment has to be looked at afresh.
func (w *Watcher) sit(ctx context.Context) (err error) {
	env, err := w.open()
	if err == nil {
		err = CheckSource(env)
	}
	if err != nil {
		return err
	}
	s := &sitting{outer: ctx, w: w, env: env, stirred: make(chan struct{}, 1), retry: newPause(w.opt.ShipEvery, maxShipPause), full: newFullState()}
	if s.st, err = openState(w.opt.StateDir, w.repo, w.opt.Env); err != nil {
		return err
	}
	if s.log, err = env.OpenLog(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.log.Close()) }()
	s.log.Limit(maxHeld())
	s.regions = engine.RegionsOf(env.Home)
	w.report.set(func(st *WatchStatus) { st.Home = env.Home })
	w.found = true
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.listen(ctx) })
	group.Go(func() error { return s.run(ctx, group) })
	return group.Wait()
}

// run is the loop of a sitting. Full backups run beside it, in the same group.
func (s *sitting) run(ctx context.Context, group *errgroup.Group) error {
	for ctx.Err() == nil {
		s.round(ctx, group)
		s.state()
		due := time.NewTimer(s.wait())
		select {
		case <-ctx.Done():
		case <-s.stirred:
		case <-due.C:
		case res := <-s.full.done:
			if err := s.fullEnded(ctx, res); err != nil {
				return err
			}
		}
		due.Stop()
	}
	return s.leave(ctx)
}

// wait is for how long there is nothing to do unless something stirs. The wall clock may be set meanwhile, so it is never long.
func (s *sitting) wait() time.Duration {
	wait := max(time.Second, s.w.opt.PollEvery)
	if s.retry.failing() {
		wait = min(wait, s.retry.left())
	}
	if s.waiting {
		wait = min(wait, s.w.opt.ShipEvery-time.Since(s.shipped))
	}
	return max(wait, time.Millisecond)
}

// state says in the status what the watch is about.
func (s *sitting) state() {
	state := WatchIdle
	switch {
	case s.full.running:
		state = WatchBackingUp
	case s.retry.failing() || s.full.retry.failing():
		state = WatchRetrying
	case s.ship == nil:
		state = WatchStarting
	}
	s.reading.RLock()
	files, removed, size := s.log.Held()
	s.reading.RUnlock()
	s.w.report.set(func(st *WatchStatus) {
		st.State, st.Held, st.NextFull = state, HeldLog{files, removed, size}, s.full.next(s.w.opt.Full)
		st.Turned = time.Now().UTC()
	})
}

// round does what is to be done now.
func (s *sitting) round(ctx context.Context, group *errgroup.Group) {
	if s.ship == nil && s.why == "" && s.retry.ready() {
		s.attempt(ctx, s.position)
	}
	if s.ship != nil && s.retry.ready() {
		s.attempt(ctx, s.advance)
	}
	s.startFull(ctx, group)
	s.makeRoom()
	s.removeShipped(ctx)
}

// attempt does something that may fail because of the store or the log, and says what became of it.
func (s *sitting) attempt(ctx context.Context, do func(context.Context) error) {
	err := do(remote.WithRetry(ctx, remote.Retry{For: shipPatience}))
	var broken *ChainError
	switch {
	case ctx.Err() != nil:
		return
	case errors.As(err, &broken):
		s.breakChain(broken.Reason, err)
		err = nil
	case errors.Is(err, ErrNoBackup):
		s.ship, s.why = nil, "there is none yet"
		s.w.report.behind(time.Now())
		err = nil
	case errors.Is(err, errLogMoved):
		s.doubt = true
	}
	s.w.report.attempt(err, &s.retry)
	s.retry.result(err)
}

// breakChain notes that the log does not continue what is stored.
func (s *sitting) breakChain(why string, err error) {
	s.ship, s.why = nil, why
	s.full.retry.result(nil)
	s.w.report.behind(time.Now())
	s.w.report.tell(Event{Kind: EventChainBroken, Text: why, Err: err})
}

// position finds out how far the log is stored, and proves that the local one continues it.
func (s *sitting) position(ctx context.Context) error {
	m, err := loadParent(ctx, s.w.repo, s.st, s.w.opt.Env, s.w.note)
	if err != nil {
		return err
	}
	if m == nil {
		return ErrNoBackup
	}
	s.full.last = m.Started
	s.w.report.set(func(st *WatchStatus) { st.LastFull, st.FullID = m.Started, m.ID })
	sh := newShipper(s.w.repo, s.st, s.env, s.log, ShipOptions{Env: s.w.opt.Env, Lock: s.w.opt.Lock, Progress: shipProgress{s.w}, Step: s.w.opt.Step})
	sh.reading, sh.sure = &s.reading, s.sure
	if s.w.opt.RemoveShippedLogs {
		sh.sealed = func(h *manifest.SegmentHeader, size int64) {
			s.removal.stored(sealedSegment{h.Name(), h.EndHash, size})
		}
	}
	if err := sh.find(ctx, m); err != nil {
		return err
	}
	sh.present = nil // it would grow; names that are taken are found when they are stored again
	sh.stored = s.around.stored
	s.regions = engine.RegionsOf(s.env.Home)
	if err := sh.continues(ctx); err != nil {
		return err
	}
	if sh.noteCommit(sh.cover.LastCommit); sh.last != nil {
		sh.noteCommit(sh.last.LastCommit)
	}
	s.ship, s.why, s.w.established = sh, "", true
	s.around.begin(s.end())
	s.moved()
	s.w.report.tell(Event{Kind: EventStarted, Text: fmt.Sprintf("the log continues timeline %s, which is stored up to LSN %s", sh.timeline, s.end())})
	return nil
}

func (s *sitting) end() bdb.LSN {
	if s.ship.last == nil {
		return bdb.LSN{File: s.ship.first}
	}
	return s.ship.last.EndLSN()
}

// sure makes certain, before log that was read is stored, that the application did not begin anew meanwhile: recovery may have written other records in
// the same place.
func (s *sitting) sure() error {
	if engine.RegionsOf(s.env.Home) != s.regions {
		return errLogMoved
	}
	return nil
}

// advance sends what is new. If there is nothing, and nothing is odd, that takes three system calls.
func (s *sitting) advance(ctx context.Context) error {
	regions := engine.RegionsOf(s.env.Home)
	grown, odd, err := s.look()
	if err != nil {
		return err
	}
	if odd || s.doubt || regions != s.regions {
		if err := s.ship.continues(ctx); err != nil {
			return err
		}
		s.regions, s.doubt = regions, false
	}
	if !grown {
		s.w.report.upTo(time.Time{})
		return nil
	}
	now := time.Now()
	s.w.report.behind(now)
	if s.waiting = now.Sub(s.shipped) < s.w.opt.ShipEvery && !s.retry.failing() && !s.leaving(); s.waiting {
		return nil
	}
	s.shipped = now
	return s.send(ctx, now)
}

// look sees whether the log was written on, and whether what is stored of it looks as it did.
func (s *sitting) look() (grown, odd bool, err error) {
	s.reading.RLock()
	defer s.reading.RUnlock()
	last, files := s.ship.last, s.log.Files()
	if last == nil || files[len(files)-1] > last.File || last.End < edgeBytes {
		return true, false, nil
	}
	var now [2 * edgeBytes]byte
	if err := s.log.Peek(last.File, now[:], int64(last.End)-edgeBytes); err != nil {
		return false, false, err
	}
	return !bdb.IsZero(now[edgeBytes:]), !bytes.Equal(now[:edgeBytes], s.edge[:]), nil
}

// send ships, and moves on. Whatever was written after began is not in the store.
func (s *sitting) send(ctx context.Context, began time.Time) error {
	s.w.report.set(func(st *WatchStatus) {
		if st.State == WatchIdle {
			st.State = WatchShipping
		}
	})
	if err := s.lookAroundNow(ctx); err != nil {
		return err
	}
	s.ship.cautious = s.retry.failing()
	err := s.ship.ship(ctx)
	if res := s.ship.result; res.Segments > 0 {
		s.moved()
		s.w.report.tell(Event{Kind: EventShipped, Ship: &res})
	}
	if err != nil {
		s.whereItEnds(ctx)
		return err
	}
	grown, _, err := s.look()
	s.w.report.set(func(st *WatchStatus) { st.LogEnd, st.NewestCommit = st.ShippedTo, st.ShippedCommit })
	s.waiting = grown
	if grown {
		s.w.report.upTo(began)
	} else {
		s.w.report.upTo(time.Time{})
	}
	return err
}

// whereItEnds tells the status how far the log goes that can't be sent.
func (s *sitting) whereItEnds(ctx context.Context) {
	s.reading.RLock()
	defer s.reading.RUnlock()
	if end, err := s.log.End(ctx); err == nil {
		s.w.report.set(func(st *WatchStatus) { st.LogEnd = end })
	}
}

// moved brings up to date what depends on the shipped end.
func (s *sitting) moved() {
	last := s.ship.last
	s.w.report.set(func(st *WatchStatus) {
		st.Timeline, st.ShippedTo = s.ship.timeline, s.end()
		st.ShippedCommit = s.ship.result.LastCommit
	})
	if last == nil {
		return
	}
	keep := last.File
	if last.Sealed {
		keep++
	}
	s.reading.Lock()
	err := s.log.Release(keep)
	s.reading.Unlock()
	if err != nil {
		s.w.note("release shipped log files: " + err.Error())
	}
	if last.End >= edgeBytes && s.ship.holds(last.File) {
		if err := s.log.Peek(last.File, s.edge[:], int64(last.End)-edgeBytes); err != nil {
			s.w.note("read the end of the log: " + err.Error())
		}
	}
	if time.Since(s.noted) > notePlace {
		s.notePlace()
	}
}

func (s *sitting) notePlace() {
	if s.ship == nil || s.ship.last == nil {
		return
	}
	s.noted = time.Now()
	if err := s.ship.remember(); err != nil {
		s.w.note(err.Error())
	}
}

// leaveWithin bounds the last ship of a watch that is stopped.
const leaveWithin = 5 * time.Second

// leaving reports whether the whole watch ends, not only the sitting.
func (s *sitting) leaving() bool { return s.outer.Err() != nil }

// leave sends what is left and notes the place.
func (s *sitting) leave(ctx context.Context) error {
	if s.ship == nil || !s.leaving() {
		return nil
	}
	ctx, cancel := context.WithTimeout(remote.WithRetry(context.WithoutCancel(ctx), remote.Retry{For: -1}), leaveWithin)
	defer cancel()
	if err := s.advance(ctx); err != nil {
		s.w.report.tell(Event{Kind: EventNote, Text: "the last of the log could not be stored: " + err.Error(), Err: err})
	}
	if s.ship != nil {
		s.notePlace()
	}
	return nil
}

// afresh says why the environment has to be looked at again from the start; false if err is something else.
func afresh(err error) (why string, ok bool) {
	var replaced *localenv.LogReplaced
	var gap *localenv.LogGap
	var home *localenv.HomeError
	switch {
	case errors.As(err, &replaced), errors.As(err, &gap), errors.As(err, &home), errors.Is(err, localenv.ErrNoLog), errors.Is(err, fs.ErrNotExist):
		return err.Error(), true
	}
	return "", false
}
