package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote/repository"
)

// ShipOptions say how to ship.
type ShipOptions struct {
	Env      string
	StateDir string
	Lock     Lock // of each segment, from when it is stored
	Progress Progress
	Step     func(name string) error // see BackupOptions
}

// ShipResult says what was shipped.
type ShipResult struct {
	Timeline    manifest.Timeline
	From, To    bdb.LSN   // the log in between is new in the store; equal: nothing was
	Segments    int       // stored by this run
	LogBytes    int64     // of the log, in those segments
	StoredBytes int64     // of those segments in the store
	Records     int64     // in those segments
	Commits     int64     // in those segments; 0 where encrypted and no password was given
	LastCommit  time.Time // newest commit in the store, to the second; zero: none known
}

// Ship sends the log records that are not in the store yet. *ChainError: the log does not continue what was shipped; ErrNoBackup: there is
// nothing to continue. Either way a full backup is needed.
func Ship(ctx context.Context, repo *repository.Repository, env *localenv.Env, opt ShipOptions) (res *ShipResult, err error) {
	if err := manifest.CheckEnv(opt.Env); err != nil {
		return nil, err
	}
	if opt.Progress == nil {
		opt.Progress = silent{}
	}
	if err := CheckSource(env); err != nil {
		return nil, err
	}
	st, err := openState(opt.StateDir, repo, opt.Env)
	if err != nil {
		return nil, err
	}
	m, err := loadParent(ctx, repo, st, opt.Env, opt.Progress.Note)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, fmt.Errorf("environment %s: %w", opt.Env, ErrNoBackup)
	}
	if m.Lock != nil && !opt.Lock.asked() {
		opt.Progress.Note(unlockedNote(m, "the log sent now"))
	}
	log, err := env.OpenLog(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	s := newShipper(repo, st, env, log, opt)
	if err := s.find(ctx, m); err != nil {
		return nil, err
	}
	if err := s.continues(ctx); err != nil {
		return nil, err
	}
	opt.Progress.Phase(PhaseLog, 0)
	if err := s.ship(ctx); err != nil {
		return nil, err
	}
	if err := s.remember(); err != nil {
		return nil, err
	}
	return &s.result, nil
}

// shipper sends one environment's log to one timeline. It keeps its place, so that it can be asked again and again.
type shipper struct {
	repo     *repository.Repository
	st       *state
	env      string
	home     string
	source   *localenv.Env
	log      *localenv.Log
	reading  *sync.RWMutex // held for reading while log is read
	progress Progress
	step     func(string) error
	lock     Lock
	locked   *lockedKeys                                   // is told of each segment that was stored so; may be nil
	sure     func() error                                  // asked before anything is stored that was read; may be nil
	sealed   func(h *manifest.SegmentHeader, stored int64) // told of each whole log file and the bytes that were stored; may be nil
	stored   func(n manifest.SegmentName)                  // told of each segment; may be nil

	cautious bool // the last try failed: one segment first

	timeline manifest.Timeline
	first    uint32                        // log file with which the timeline has to be unbroken
	last     *manifest.SegmentHeader       // up to here it is; nil: nothing is shipped
	tail     tail                          // how last's log file is stored, unless that is sealed
	cover    manifest.Cover                // what it is made of, as far as listed
	present  map[manifest.SegmentName]bool // listed
	strays   []string                      // names in the log that lead out of the environment, to be warned of
	strayed  bdb.LSN                       // of the record with the first of them
	ckp      bdb.Checkpoint                // newest that was stored
	result   ShipResult
}

func newShipper(repo *repository.Repository, st *state, env *localenv.Env, log *localenv.Log, opt ShipOptions) *shipper {
	return &shipper{repo: repo, st: st, env: opt.Env, home: env.Home, source: env, log: log, reading: &sync.RWMutex{}, progress: opt.Progress, step: opt.Step, lock: opt.Lock}
}

func (s *shipper) at(name string) error {
	if s.step == nil {
		return nil
	}
	return s.step(name)
}

// shipped is the state's note of how far a timeline is stored without a gap.
type shipped struct {
	Timeline manifest.Timeline       `json:"timeline"`
	First    uint32                  `json:"first"`
	Header   *manifest.SegmentHeader `json:"header"`
}

// find learns how far the log of m's timeline is in the store: from the state, if that is right, and what was added since. It follows the log by jumps, so a
// log file that was sent in thousands of tails costs a few requests.
func (s *shipper) find(ctx context.Context, m *manifest.Manifest) error {
	if err := s.at("find"); err != nil {
		return err
	}
	if m.NoLog {
		return &ChainError{Timeline: m.Timeline, Reason: "the last full backup is of a time when the environment had no log"}
	}
	s.timeline, s.first = m.Timeline, m.NeededFrom.File
	from := s.first
	var note shipped
	if s.st.load(stateShipped, &note) && note.Header != nil && note.Timeline == s.timeline && note.First <= s.first && note.Header.File >= s.first {
		// The noted segment stands for all before it. Its log file is followed from the beginning: it may have been sealed since.
		s.last, s.first, from = note.Header, note.First, note.Header.File
	}
	piece, err := s.repo.FollowLog(ctx, s.env, s.timeline, from, nil)
	if err != nil {
		return err
	}
	s.cover = piece.Cover()
	if s.last != nil && !s.cover.Covers(s.last.EndLSN()) {
		return s.findAgain(ctx, m)
	}
	if s.present, err = s.listed(ctx, piece); err != nil {
		return err
	}
	if n := len(s.cover.Segments); n > 0 && !s.endsAt(s.cover.Segments[n-1]) {
		if s.last, err = s.repo.SegmentHeader(ctx, s.env, s.cover.Segments[n-1]); err != nil {
			return err
		}
	}
	s.findTail()
	return nil
}

// listed are the segments of a piece of log, and those behind the gap at which it ends: a run that was killed may have stored later log files first.
func (s *shipper) listed(ctx context.Context, piece *repository.LogPiece) (map[manifest.SegmentName]bool, error) {
	present := map[manifest.SegmentName]bool{}
	for _, n := range piece.Cover().Segments {
		present[n] = true
	}
	if piece.Next == nil {
		return present, nil
	}
	list, err := s.repo.Segments(ctx, s.env, s.timeline, &manifest.SegmentName{Timeline: s.timeline, File: piece.Next.File})
	for _, n := range list {
		present[n] = true
	}
	return present, err
}

// findTail learns how the log file with which the stored log ends is stored.
func (s *shipper) findTail() {
	s.tail = tail{}
	if s.last == nil || s.last.Sealed {
		return
	}
	s.tail.parts = rowOf(s.last.File, s.cover.Segments)
	if s.tail.end() != s.last.End {
		s.tail.parts = []part{{end: s.last.End}}
	}
}

// endsAt reports whether what is known of the store ends with this segment.
func (s *shipper) endsAt(n manifest.SegmentName) bool {
	return s.last != nil && s.last.File == n.File && s.last.End == n.End && s.last.Sealed == n.Sealed
}

// findAgain finds what is really in the store, which has lost some of what the state notes.
func (s *shipper) findAgain(ctx context.Context, m *manifest.Manifest) error {
	s.progress.Note("log that was shipped is missing from the store; what is still here of it is sent again")
	if err := s.st.forget(stateShipped); err != nil {
		return err
	}
	s.last = nil
	return s.find(ctx, m)
}

// broken makes a ChainError.
func (s *shipper) broken(format string, args ...any) error {
	return &ChainError{Timeline: s.timeline, Shipped: s.last.EndLSN(), Reason: fmt.Sprintf(format, args...)}
}

// continues proves that the local log goes on where the stored one ends: the bytes up to there have the hash that was stored with the
// last segment, and are all still there.
func (s *shipper) continues(ctx context.Context) error {
	if err := errors.Join(s.branched(), s.wasMixed(), s.catchUp(ctx)); err != nil {
		return err
	}
	s.reading.RLock()
	defer s.reading.RUnlock()
	if s.last == nil {
		if files := s.log.Files(); files[0] > s.first {
			return &ChainError{Timeline: s.timeline, Shipped: bdb.LSN{File: s.first},
				Reason: fmt.Sprintf("log file %d was removed before it was shipped", s.first)}
		}
		return nil
	}
	files := s.log.Files()
	oldest, newest := files[0], files[len(files)-1]
	switch {
	case newest < s.last.File:
		return s.broken("the newest log file here is %d: the environment was restored from an older copy, or made anew", newest)
	case oldest > s.last.File+1:
		return s.broken("log file %d was removed before it was shipped (DB_LOG_AUTOREMOVE, db_archive -d?)", s.last.File+1)
	}
	if oldest <= s.last.File {
		if err := s.samePrefix(ctx); err != nil {
			return err
		}
	}
	if newest == s.last.File {
		return nil
	}
	if prev, err := s.log.FirstRecordPrev(s.last.File + 1); err != nil {
		return err
	} else if (s.last.Sealed || oldest > s.last.File) && prev != s.last.LastRecord {
		return s.linkBroken(oldest, prev)
	}
	return nil
}

// catchUp takes in log files that were begun since the log was opened, if one of them is stored already: another run ships the same environment, and looked later.
func (s *shipper) catchUp(ctx context.Context) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	files := s.log.Files()
	if s.last == nil || files[len(files)-1] >= s.last.File {
		return nil
	}
	return logLost(s.log.Refresh(ctx))
}

func (s *shipper) linkBroken(oldest, prev uint32) error {
	if oldest > s.last.File && prev > s.last.LastRecord {
		return s.broken("log file %d was removed before its end was shipped (DB_LOG_AUTOREMOVE, db_archive -d?)", s.last.File)
	}
	return s.broken("log file %d does not follow on what was shipped of log file %d: the environment was restored, made anew, or lost its newest records in a crash",
		s.last.File+1, s.last.File)
}

// samePrefix compares the log file with which the stored log ends with what was stored of it.
func (s *shipper) samePrefix(ctx context.Context) error {
	end, err := s.log.EndOf(ctx, s.last.File)
	if err != nil {
		return err
	}
	if end < s.last.End || (s.last.Sealed && end > s.last.End) {
		return s.broken("log file %d ends at offset %d here: the environment was restored, made anew, or lost its newest records in a crash", s.last.File, end)
	}
	sum, err := s.hashTail(ctx)
	if err != nil {
		return err
	}
	if sum != s.last.EndHash {
		return s.broken("log file %d differs from what was shipped: the environment was restored, made anew, or lost its newest records in a crash", s.last.File)
	}
	return nil
}

// hashTail hashes the log file with which the stored log ends, up to there, and remembers what later segments will need.
func (s *shipper) hashTail(ctx context.Context) (sum manifest.Hash, err error) {
	h := newPrefixHash(s.log, s.last.File)
	for i := range s.tail.parts {
		p := &s.tail.parts[i]
		if p.start > s.last.LastRecord {
			break
		}
		if _, err := h.upTo(ctx, p.start); err != nil {
			return sum, err
		}
		p.before = h.h.Clone()
	}
	if _, err := h.upTo(ctx, max(h.at, s.last.LastRecord)); err != nil {
		return sum, err
	}
	s.tail.near = mark{h.at, h.h.Clone()}
	return h.upTo(ctx, s.last.End)
}

// shipLog sends the log as part of a backup: on the parent's timeline if the log continues it, else on a new one.
func (b *backup) shipLog(ctx context.Context) error {
	if err := b.step("ship"); err != nil {
		return err
	}
	s := b.shipper(b.log)
	reason, err := b.joinTimeline(ctx, s)
	if err != nil {
		return err
	}
	if reason != "" {
		s.startTimeline(manifest.NewTimeline(), b.m.NeededFrom.File)
		b.m.NewTimeline = reason
	}
	b.m.Timeline = s.timeline
	b.progress.Phase(PhaseLog, 0)
	if err := s.ship(ctx); err != nil {
		return err
	}
	if err := s.remember(); err != nil {
		return err
	}
	b.result.Ship = s.result
	return nil
}

// shipper makes one for the backup's environment.
func (b *backup) shipper(log *localenv.Log) *shipper {
	s := newShipper(b.repo, b.st, b.env, log, ShipOptions{Env: b.opt.Env, Lock: b.opt.Lock, Progress: b.progress, Step: b.opt.Step})
	s.locked = &b.locked
	return s
}

// joinTimeline positions s at the end of the parent's timeline, or says why the log can't continue it.
func (b *backup) joinTimeline(ctx context.Context, s *shipper) (reason string, err error) {
	if b.opt.NewEnvironment {
		return "a new environment was asked for", nil
	}
	if b.parent == nil {
		return "first backup", nil
	}
	if b.parent.NoLog {
		return "the environment had no log before", nil
	}
	if b.parent.Timeline == b.leave {
		return "a prune has condemned log of timeline " + b.leave.String() + ", or verify found it damaged", nil
	}
	if err := s.find(ctx, b.parent); err != nil {
		return "", err
	}
	if b.m.NeededFrom.File < s.first {
		return fmt.Sprintf("recovery needs the log from file %d on, and timeline %s has it from file %d on", b.m.NeededFrom.File, s.timeline, s.first), nil
	}
	err = s.continues(ctx)
	var broken *ChainError
	if errors.As(err, &broken) {
		b.progress.Note("a new timeline begins: " + broken.Error())
		return broken.Reason, nil
	}
	return "", err
}

// startTimeline makes s begin at the beginning of a log file.
func (s *shipper) startTimeline(t manifest.Timeline, first uint32) {
	s.timeline, s.first, s.last = t, first, nil
	s.tail, s.cover, s.present = tail{}, manifest.Cover{}, map[manifest.SegmentName]bool{}
}

// completeChain is checkChain, and what the store has lost of that log since it was shipped is sent again: recovery needs it, so all of it
// is still here.
func (b *backup) completeChain(ctx context.Context) error {
	err := b.checkChain(ctx)
	if _, gap := errors.AsType[*manifest.GapError](err); !gap {
		return err
	}
	b.progress.Note("log is missing from the store and is sent again: " + err.Error())
	if err := b.st.forget(stateShipped); err != nil {
		return err
	}
	if err := b.shipLog(ctx); err != nil {
		return err
	}
	return b.checkChain(ctx)
}

// checkChain asserts that the store has the log from the beginning of the needed-from file to consistent-at.
func (b *backup) checkChain(ctx context.Context) error {
	piece, err := b.repo.FollowBackup(ctx, b.m, nil)
	if err != nil {
		return err
	}
	b.segments = piece.Cover().Segments
	return b.coverWithout(ctx, nil)
}

// coverWithout asserts that the log is in the store even if the condemned segments go. If that takes some that are needed, others may hold the same.
func (b *backup) coverWithout(ctx context.Context, condemned map[string]bool) error {
	doomed := func(n manifest.SegmentName) bool { return condemned[n.String()] }
	keep := b.segments
	if slices.ContainsFunc(keep, doomed) {
		list, err := b.repo.Segments(ctx, b.opt.Env, b.m.Timeline, &manifest.SegmentName{Timeline: b.m.Timeline, File: b.m.NeededFrom.File})
		if err != nil {
			return err
		}
		keep = slices.DeleteFunc(list, doomed)
	}
	_, err := manifest.NewChain(b.m.Timeline, keep).CoverBackup(b.m, bdb.LSN{})
	if err != nil && slices.ContainsFunc(b.segments, doomed) {
		return &logCondemnedError{Timeline: b.m.Timeline, err: err}
	}
	return err
}
