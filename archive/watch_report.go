package archive

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/remote"
	"bdbvault/remote/repository"
)

// maxHistory bounds what a watch remembers of what it stored: a day of minutes, and full backups.
const maxHistory = 1500

// report is what a watch says of itself. Its methods may be called from any goroutine.
type report struct {
	repo *repository.Repository
	hear func(Event)

	telling sync.Mutex  // one event at a time
	kind    remote.Kind // of the last ship's failure

	mu      sync.Mutex
	s       WatchStatus
	lag     time.Time // since when there is log that is not stored, by a clock that nobody sets; zero: there is none
	faulted time.Time // a fault was told
}

// set changes the status.
func (r *report) set(change func(*WatchStatus)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.s)
}

// get is a copy of the status.
func (r *report) get() WatchStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.s
	s.History = slices.Clone(r.s.History)
	s.Store = r.repo.Bucket.Stats()
	if !r.lag.IsZero() {
		s.LagSince, s.LagSeconds = r.lag.UTC(), time.Since(r.lag).Seconds()
	}
	return s
}

// logEnd is where the source's log was last seen to end.
func (r *report) logEnd() bdb.LSN {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.s.LogEnd
}

// tell notes an event and passes it on.
func (r *report) tell(e Event) {
	e.Time = time.Now()
	r.set(func(s *WatchStatus) { s.note(&e, r.lag) })
	if r.hear == nil {
		return
	}
	r.telling.Lock()
	defer r.telling.Unlock()
	r.hear(e)
}

// note takes an event into the status.
func (s *WatchStatus) note(e *Event, lag time.Time) {
	now, c := e.Time.UTC(), &s.Counters
	switch e.Kind {
	case EventShipped:
		s.LastShip = now
		c.Ships++
		c.Segments += int64(e.Ship.Segments)
		c.LogBytes += e.Ship.LogBytes
		c.StoredBytes += e.Ship.StoredBytes
		c.Records += e.Ship.Records
		c.Commits += e.Ship.Commits
		s.sample(now, e.Ship, lag)
	case EventFullDone:
		c.Fulls++
		c.FullBytes += e.Full.NewPackBytes + e.Full.NewMapBytes
		s.LastFull, s.FullID = e.Full.Manifest.Started, e.Full.Manifest.ID
		s.remember(Sample{Time: now, Full: true, Count: 1, Bytes: e.Full.Manifest.Bytes(), Stored: e.Full.NewPackBytes + e.Full.NewMapBytes})
	case EventFullFailed:
		c.FullFailures++
	case EventChainBroken:
		c.ChainBreaks++
		s.Broken = Break{At: now, Why: e.Text}
	case EventReplaced:
		s.Broken = Break{At: now, Why: e.Text, Replaced: true}
	case EventReopened:
		c.Reopened++
	case EventLogRemoved:
		c.LogsRemoved++
		c.LogBytesRemoved += e.Bytes
	case EventLogLetGo:
		c.LogsLetGo++
	}
	if e.Err != nil {
		s.LastError, s.LastErrorAt = e.Err.Error(), now
	}
}

// sample adds a ship to its minute.
func (s *WatchStatus) sample(now time.Time, res *ShipResult, since time.Time) {
	minute := now.Truncate(time.Minute)
	lag := 0.0
	if !since.IsZero() {
		lag = time.Since(since).Seconds()
	}
	for i := len(s.History) - 1; i >= 0 && !s.History[i].Time.Before(minute); i-- {
		if h := &s.History[i]; !h.Full && h.Time.Equal(minute) {
			h.Count++
			h.Bytes += res.LogBytes
			h.Stored += res.StoredBytes
			h.MaxLag = max(h.MaxLag, lag)
			return
		}
	}
	s.remember(Sample{Time: minute, Count: 1, Bytes: res.LogBytes, Stored: res.StoredBytes, MaxLag: lag})
}

func (s *WatchStatus) remember(sample Sample) {
	if len(s.History) >= maxHistory {
		s.History = slices.Delete(s.History, 0, len(s.History)-maxHistory+1)
	}
	s.History = append(s.History, sample)
}

// behind notes that there is log which is not stored, if that is not known yet.
func (r *report) behind(since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lag.IsZero() {
		r.lag = since
	}
}

// upTo notes that all log is stored that was written before a moment; the zero time: all there is.
func (r *report) upTo(t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lag = t
}

// attempt takes in what became of a ship. Only the first failure in a row, and one of another kind, are events.
func (r *report) attempt(err error, p *pause) {
	failing := p.failing()
	if err == nil {
		if failing {
			since := p.since
			r.set(func(s *WatchStatus) { s.RetryingSince = time.Time{} })
			r.tell(Event{Kind: EventRecovered, Text: fmt.Sprintf("the log is stored again, after %v", time.Since(since).Round(time.Second))})
		}
		return
	}
	kind := remote.KindOf(err)
	r.set(func(s *WatchStatus) {
		s.Counters.ShipFailures++
		s.LastError, s.LastErrorAt = err.Error(), time.Now().UTC()
		if s.RetryingSince.IsZero() {
			s.RetryingSince = time.Now().UTC()
		}
	})
	r.behind(time.Now())
	if !failing || kind != r.kind {
		r.tell(Event{Kind: EventRetrying, Text: "the log is not stored: " + err.Error(), Err: err})
	}
	r.kind = kind
}

// faultEvery is how often faults during a full backup are told.
const faultEvery = time.Minute

// fault takes in a fault that a full backup has met with, and that may pass.
func (r *report) fault(err error) {
	now := time.Now()
	r.mu.Lock()
	tell := now.Sub(r.faulted) > faultEvery
	if tell {
		r.faulted = now
	}
	r.s.LastError, r.s.LastErrorAt = err.Error(), now.UTC()
	r.mu.Unlock()
	if tell {
		r.tell(Event{Kind: EventRetrying, Text: "the full backup waits: " + err.Error(), Err: err})
	}
}
