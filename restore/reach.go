package restore

import (
	"context"
	"errors"
	"slices"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
)

// History is what the store holds of one environment: its full backups, and the log that carries them on.
type History struct {
	Environment string         `json:"name"`
	Backups     []StoredBackup `json:"backups"`   // in the order of their ids
	Timelines   []*TimelineLog `json:"timelines"` // the one with the latest commit last
	Ranges      []Range        `json:"ranges"`    // what can be restored, timelines in the same order
}

// States of a stored backup.
const (
	StateOK      = "ok"
	StateVoid    = "void"         // committed too late; it may lack what a prune deleted
	StateDamaged = "damaged"      // the manifest is not what was stored
	StateNewer   = "newer format" // only a newer bdbvault can read it
	StateGap     = "gap in log"   // the store lacks log that it needs
)

// StoredBackup is a full backup, whether it can be used or not.
type StoredBackup struct {
	ID             manifest.BackupID `json:"id"`
	State          string            `json:"state"`
	Problem        string            `json:"problem,omitempty"`
	Started        time.Time         `json:"started"`
	Finished       time.Time         `json:"finished,omitzero"`
	Host           string            `json:"host,omitempty"`
	Home           string            `json:"home,omitempty"`
	Files          int               `json:"files"`
	Bytes          int64             `json:"bytes"`
	StoredBytes    int64             `json:"storedBytes"`             // of all packs and maps that it needs
	UploadedBytes  *int64            `json:"uploadedBytes,omitempty"` // of those that its parent does not need; absent if the parent is gone
	ConsistentAt   bdb.LSN           `json:"consistentAt,omitzero"`
	ConsistentTime time.Time         `json:"consistentTime,omitzero"`
	RestorableTo   bdb.LSN           `json:"restorableTo,omitzero"` // as far as the shipped log carries it
	RestorableTime time.Time         `json:"restorableTime,omitzero"`
	NoLog          bool              `json:"noLog,omitempty"` // the environment had none: the backup can be restored as it is
	Timeline       manifest.Timeline `json:"timeline,omitzero"`
	Parent         manifest.BackupID `json:"parent,omitempty"`
	Encrypted      bool              `json:"encrypted"`
	BulkSafe       bool              `json:"bulkSafe"`
	Lock           *manifest.Lock    `json:"lock,omitempty"`
	Err            error             `json:"-"` // why State is not StateOK
}

// TimelineLog is the stored log of one timeline. Segments that others supersede are not counted.
type TimelineLog struct {
	Timeline   manifest.Timeline `json:"timeline"`
	Segments   int               `json:"segments"`
	Bytes      int64             `json:"storedBytes"`
	From       bdb.LSN           `json:"from"`
	To         bdb.LSN           `json:"to"`                // newest shipped
	PartedAt   bdb.LSN           `json:"partedAt,omitzero"` // behind it two environments have shipped; Log has that piece only up to there
	LastCommit time.Time         `json:"lastCommit,omitzero"`
	Log        []LogRange        `json:"log"` // without gaps each, in order
}

// LogRange is log without a gap.
type LogRange struct {
	From        bdb.LSN   `json:"from"`
	To          bdb.LSN   `json:"to"`
	FirstTime   time.Time `json:"firstTime,omitzero"` // of the last commit in the first segment
	LastTime    time.Time `json:"lastTime,omitzero"`  // of the newest commit
	Segments    int       `json:"segments"`
	LogBytes    int64     `json:"logBytes"`
	StoredBytes int64     `json:"storedBytes"`
}

// Range says that the state after every commit from From on and before To can be restored. Times are of the last commits before the two, as far as they are known.
type Range struct {
	Timeline manifest.Timeline   `json:"timeline"`
	From     bdb.LSN             `json:"from"`
	To       bdb.LSN             `json:"to"`
	FromTime time.Time           `json:"fromTime,omitzero"`
	ToTime   time.Time           `json:"toTime,omitzero"`
	Backups  []manifest.BackupID `json:"backups"` // with which restores can begin, oldest first
}

// Gap is log that the store lacks between two pieces of a timeline. Before is where the next piece begins.
type Gap struct {
	Timeline manifest.Timeline `json:"timeline"`
	After    bdb.LSN           `json:"after"`
	Before   bdb.LSN           `json:"before"`
}

// Gaps are what lies between the pieces of the log.
func (t *TimelineLog) Gaps() (gaps []Gap) {
	for i := 1; i < len(t.Log); i++ {
		gaps = append(gaps, Gap{Timeline: t.Timeline, After: t.Log[i-1].To, Before: t.Log[i].From})
	}
	return gaps
}

// ReadHistory reads all manifests of an environment, and of the list of its log what is needed to follow it. An empty env is the only environment in the repository.
func ReadHistory(ctx context.Context, repo *repository.Repository, env string) (*History, error) {
	env, err := resolveEnvironment(ctx, repo, env)
	if err != nil {
		return nil, err
	}
	h := &History{Environment: env, Backups: []StoredBackup{}, Timelines: []*TimelineLog{}, Ranges: []Range{}}
	stored, err := repo.Backups(ctx, env, "")
	if err != nil {
		return nil, err
	}
	// Log is listed after the backups: what a backup needs is in the store before it is.
	if err := h.readLog(ctx, repo); err != nil {
		return nil, err
	}
	if err := h.readBackups(ctx, repo, stored); err != nil {
		return nil, err
	}
	h.findRanges()
	return h, nil
}

func (h *History) readLog(ctx context.Context, repo *repository.Repository) error {
	lines, err := repo.Timelines(ctx, h.Environment)
	if err != nil {
		return err
	}
	for _, t := range lines {
		pieces, _, err := repo.LogPieces(ctx, h.Environment, t, 0, 0)
		if err != nil {
			return err
		}
		if len(pieces) == 0 {
			continue
		}
		l := newTimelineLog(t, pieces)
		if err := l.findParting(ctx, repo, h.Environment, pieces); err != nil {
			return err
		}
		h.Timelines = append(h.Timelines, l)
	}
	slices.SortStableFunc(h.Timelines, func(a, b *TimelineLog) int { return a.LastCommit.Compare(b.LastCommit) })
	return nil
}

func newTimelineLog(t manifest.Timeline, pieces []*repository.LogPiece) *TimelineLog {
	l := &TimelineLog{Timeline: t, From: pieces[0].Start}
	for _, p := range pieces {
		r := newLogRange(p)
		l.Segments += r.Segments
		l.Bytes += r.StoredBytes
		l.To = r.To
		l.LastCommit = later(l.LastCommit, r.LastTime)
		l.Log = append(l.Log, r)
	}
	return l
}

// findParting looks whether the log is that of two environments, and ends what can be restored of it there.
func (l *TimelineLog) findParting(ctx context.Context, repo *repository.Repository, env string, pieces []*repository.LogPiece) error {
	for i, p := range pieces {
		end, err := partedAt(ctx, repo, env, p.Cover().Segments)
		if err != nil {
			return err
		}
		if end.IsZero() {
			continue
		}
		if l.PartedAt.IsZero() {
			l.PartedAt = end
		}
		r := &l.Log[i]
		r.To, r.LastTime = end, time.Time{}
		for _, s := range p.Segments {
			if !end.Before(s.EndLSN()) {
				r.LastTime = later(r.LastTime, commitTime(s.LastCommit))
			}
		}
	}
	return nil
}

func newLogRange(p *repository.LogPiece) LogRange {
	r := LogRange{From: p.Start, To: p.End(), Segments: len(p.Segments), LastTime: commitTime(p.Cover().LastCommit)}
	for i := range p.Segments {
		s := &p.Segments[i]
		if r.FirstTime.IsZero() {
			r.FirstTime = commitTime(s.LastCommit)
		}
		r.LogBytes += int64(s.SegmentName.End - s.Start)
		r.StoredBytes += s.Size
	}
	return r
}

// commitTime is the moment of a commit in the name of a segment; 0 is none.
func commitTime(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

func (h *History) readBackups(ctx context.Context, repo *repository.Repository, stored []repository.Stored) error {
	var before *manifest.Manifest
	for _, s := range stored {
		m, err := repo.Manifest(ctx, h.Environment, s)
		if errors.Is(err, remote.ErrNotFound) { // deleted since it was listed
			continue
		}
		b := StoredBackup{ID: s.ID, State: StateOK, Started: s.ID.Time()}
		if err == nil {
			b.describe(m, before)
			err = b.follow(m, h.pieceAt(m.Timeline, bdb.LSN{File: m.NeededFrom.File}))
			before = m
		}
		if err != nil && !b.explain(err) {
			return err
		}
		h.Backups = append(h.Backups, b)
	}
	return nil
}

// pieceAt is the unbroken log that holds the beginning of a log file; nil: there is none.
func (h *History) pieceAt(t manifest.Timeline, at bdb.LSN) *LogRange {
	for _, l := range h.Timelines {
		for i := range l.Log {
			if r := &l.Log[i]; l.Timeline == t && !at.Before(r.From) && at.Before(r.To) {
				return r
			}
		}
	}
	return nil
}

func (b *StoredBackup) describe(m, before *manifest.Manifest) {
	b.Started, b.Finished, b.Host, b.Home = m.Started, m.Finished, m.Host, m.Home
	b.Files, b.Bytes, b.StoredBytes = len(m.Files), m.Bytes(), m.StoredBytes()
	b.ConsistentAt, b.ConsistentTime = m.ConsistentAt, m.ConsistentTime
	b.Timeline, b.Parent, b.Encrypted, b.BulkSafe = m.Timeline, m.Parent, m.Encrypted, m.BulkSafe.Held
	b.Lock = m.Lock
	if m.Parent == "" || (before != nil && before.ID == m.Parent) {
		n := uploaded(m, before)
		b.UploadedBytes = &n
	}
}

// uploaded is the size of all objects of m that its parent does not have.
func uploaded(m, parent *manifest.Manifest) (n int64) {
	has := map[manifest.Hash]bool{}
	if parent != nil && m.Parent == parent.ID {
		for i := range parent.Packs {
			has[parent.Packs[i].Name] = true
		}
		for i := range parent.Files {
			has[parent.Files[i].Map] = true
		}
	}
	for i := range m.Packs {
		if !has[m.Packs[i].Name] {
			n += m.Packs[i].Size
		}
	}
	for i := range m.Files {
		if !has[m.Files[i].Map] {
			n += m.Files[i].MapSize
		}
	}
	return n
}

// follow finds out how far the shipped log carries the backup.
func (b *StoredBackup) follow(m *manifest.Manifest, log *LogRange) error {
	if b.NoLog = m.NoLog; m.NoLog {
		return nil
	}
	have := bdb.LSN{File: m.NeededFrom.File}
	if log != nil {
		have = log.To
	}
	if log == nil || have.Before(m.ConsistentAt) {
		return &manifest.GapError{Timeline: m.Timeline, Have: have, Want: m.ConsistentAt}
	}
	b.RestorableTo, b.RestorableTime = have, later(m.ConsistentTime, log.LastTime)
	return nil
}

// explain marks a backup that can't be used with the reason; false if err says nothing about the backup itself.
func (b *StoredBackup) explain(err error) bool {
	var (
		void   *repository.VoidError
		format *manifest.FormatError
		gap    *manifest.GapError
	)
	switch {
	case errors.As(err, &void):
		b.State = StateVoid
	case errors.As(err, &format):
		b.State = StateNewer
	case errors.As(err, &gap):
		b.State = StateGap
	case errors.Is(err, manifest.ErrDamaged):
		b.State = StateDamaged
	default:
		return false
	}
	b.Problem, b.Err = err.Error(), err
	return true
}

// findRanges finds what can be restored: each unbroken log from where the first usable backup in it is consistent.
func (h *History) findRanges() {
	for _, l := range h.Timelines {
		for _, log := range l.Log {
			r := Range{Timeline: l.Timeline, To: log.To}
			for i := range h.Backups {
				if b := &h.Backups[i]; b.State == StateOK && b.Timeline == l.Timeline && b.RestorableTo == log.To {
					r.add(b)
				}
			}
			if len(r.Backups) > 0 {
				h.Ranges = append(h.Ranges, r)
			}
		}
	}
}

func (r *Range) add(b *StoredBackup) {
	if len(r.Backups) == 0 || b.ConsistentAt.Before(r.From) {
		r.From, r.FromTime = b.ConsistentAt, b.ConsistentTime
	}
	r.ToTime = later(r.ToTime, b.RestorableTime)
	r.Backups = append(r.Backups, b.ID)
}
