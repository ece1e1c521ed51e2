package archive

import (
	"slices"
	"sync"
	"time"

	"bdbvault/remote/repository"
)

// maxHistory bounds what a watch remembers of what it stored: a day of minutes, and full backups.
const maxHistory = 1500

// report is what a watch says of itself. Its methods may be called from any goroutine.
type report struct {
	repo *repository.Repository
	hear func(Event)

	telling sync.Mutex // one event at a time
	mu      sync.Mutex
	s       WatchStatus
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
	if !s.LagSince.IsZero() {
		s.LagSeconds = max(0, time.Since(s.LagSince).Seconds())
	}
	return s
}

// tell notes an event and passes it on.
func (r *report) tell(e Event) {
	e.Time = time.Now()
	r.set(func(s *WatchStatus) { s.note(&e) })
	if r.hear == nil {
		return
	}
	r.telling.Lock()
	defer r.telling.Unlock()
	r.hear(e)
}

// note takes an event into the status.
func (s *WatchStatus) note(e *Event) {
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
		s.sample(now, e.Ship)
	case EventFullDone:
		c.Fulls++
		c.FullBytes += e.Full.NewPackBytes + e.Full.NewMapBytes
		s.LastFull, s.FullID = e.Full.Manifest.Started, e.Full.Manifest.ID
		s.remember(Sample{Time: now, Full: true, Count: 1, Bytes: e.Full.Manifest.Bytes(), Stored: e.Full.NewPackBytes + e.Full.NewMapBytes})
	case EventFullFailed:
		c.FullFailures++
	case EventChainBroken:
		c.ChainBreaks++
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
func (s *WatchStatus) sample(now time.Time, res *ShipResult) {
	minute := now.Truncate(time.Minute)
	lag := 0.0
	if !s.LagSince.IsZero() {
		lag = max(0, now.Sub(s.LagSince).Seconds())
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
