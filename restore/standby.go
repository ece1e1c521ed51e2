package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/manifest"
	"bdbvault/remote/repository"
)

// StandbyOptions say what a standby follows and how.
type StandbyOptions struct {
	To       string         // the home: absent, empty, or this standby's. Required
	Env      string         // environment in the repository; empty: the one that is followed already, else the only one
	Engine   engine.Options // as Options.Engine
	Verify   string         // VerifyAuto (also empty) verifies after a restore and before a promotion, VerifyAlways after every cycle, VerifyNever never
	Progress Progress       // nil: none

	// Step is called at every stage by its name (Stages and StandbyStages), one call at a time. An error ends the cycle.
	Step func(stage string) error
}

// The stages of a cycle, beside those of a restore.
const (
	stepLooked  = "looked"  // what is new in the store is known
	stepStaged  = "staged"  // the log is here; the home is as the last cycle left it
	stepBegun   = "begun"   // from here on the home is between two states
	stepSettled = "settled" // the home stands at the new end; only the state does not say so yet
	stepKept    = "kept"    // it does
	stepNoted   = "noted"   // of a promotion: the note is there, the state too
)

// StandbyStages are the names that StandbyOptions.Step is called with, beside Stages.
var StandbyStages = []string{stepLooked, stepStaged, stepBegun, stepSettled, stepKept, stepNoted}

// Standby is a home that follows an environment by what is stored of it. Between two cycles it is what a restore to the LSN at which it stands
// would be. Each cycle lays down the log from where the last checkpoint before that LSN needs it to the newest that is stored, and has
// the engine recover, with the same care as a restore.
//
// # What a recovery leaves to the next one
//
// The files hold what was committed before the end of the log that was replayed, and nothing of what was not: transactions in flight are undone. All
// their records lie behind the ckp_lsn of the last checkpoint before that end, so the next cycle's log begins there. Their pages are
// back at the LSNs from before, so redo finds what it looks for. Their creates, renames and removes were never done, for History.Replay has them
// skipped until their transaction is committed: so files lie under the names of exactly that end, and that is what Replay is told
// (Replay(end, end)); all file operations committed from there on are redone, wherever their records stand. A prepared transaction is left prepared,
// with what it did to files done; they are put back, and the next cycle does it once more, or not if it was aborted.
//
// Only moves of queues with extents are not followed: then the home is built anew, and the result says so.
//
// # What is on the disk
//
//   - StandbyName: the state, replaced as a whole. It says in which phase the home is.
//   - StandbyName.files.LSN: the files of the home as of the LSN at which it stands, as a manifest.
//   - StandbyName.log: during a cycle, the log that is replayed. As long as the phase is "recovering" it is enough to repeat the recovery, without
//     the store, however far an earlier try came.
type Standby struct {
	opt   StandbyOptions
	t     *target // its lock is the home directory itself
	st    *standbyState
	files *manifest.Manifest // what stands in the home; nil unless it was built
	idle  int                // cycles in a row in which nothing was new
}

// StandbyError says why a directory can't be a standby, or can't go on as one.
type StandbyError struct {
	Dir     string
	Problem string
	Err     error // may be nil
}

func (e *StandbyError) Error() string {
	s := fmt.Sprintf("standby %s: %s", e.Dir, e.Problem)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *StandbyError) Unwrap() error { return e.Err }

// PromotedError says that a home was a standby and is one no more.
type PromotedError struct {
	Dir string
	At  time.Time
	End bdb.LSN
}

func (e *PromotedError) Error() string {
	return fmt.Sprintf("%s was promoted at %s, at LSN %s: it is no standby any more", e.Dir, e.At.Local().Format("2006-01-02 15:04:05 MST"), e.End)
}

// OpenStandby claims a directory: an absent or empty one, which the first cycle fills, or a standby's. Nobody else can as long as it is open. The errors to
// branch on are *StandbyError and *PromotedError.
func OpenStandby(opt StandbyOptions) (*Standby, error) {
	if opt.Progress == nil {
		opt.Progress = silent{}
	}
	if opt.Step == nil {
		opt.Step = func(string) error { return nil }
	}
	dir, err := filepath.Abs(opt.To)
	if err != nil {
		return nil, err
	}
	made, err := makeTarget(dir)
	if err != nil {
		return nil, err
	}
	s := &Standby{opt: opt}
	if s.t, err = openLocked(dir); err != nil {
		return nil, err
	}
	s.t.made = made
	if err := s.open(); err != nil {
		s.t.close()
		return nil, err
	}
	return s, nil
}

// openLocked opens a directory and locks it by itself, so that no lock file has to be left in it.
func openLocked(dir string) (*target, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, &StandbyError{Dir: dir, Problem: "can't be opened", Err: err}
	}
	root, err := os.OpenRoot(real)
	if err != nil {
		return nil, &StandbyError{Dir: dir, Problem: "can't be opened", Err: err}
	}
	t := &target{dir: real, root: &roots{Root: root}}
	if t.lock, err = t.root.Open("."); err == nil {
		err = lockFile(t.lock)
	}
	if err == nil {
		return t, nil
	}
	t.close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, &StandbyError{Dir: dir, Problem: "another process keeps it, or its engine is still at work"}
	}
	return nil, &StandbyError{Dir: dir, Problem: "can't be locked", Err: err}
}

// open finds out what is in the directory.
func (s *Standby) open() error {
	if err := s.checkPromoted(); err != nil {
		return err
	}
	if err := s.load(); err != nil || s.st != nil {
		return err
	}
	if err := s.t.root.Remove(stateName + ".new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	foreign, err := s.t.foreign()
	if err != nil {
		return &StandbyError{Dir: s.t.dir, Problem: "can't be read", Err: err}
	}
	if _, err := s.t.root.Lstat(MarkerName); !errors.Is(err, fs.ErrNotExist) {
		foreign = MarkerName
	}
	if foreign != "" {
		return &StandbyError{Dir: s.t.dir, Problem: fmt.Sprintf("it is not empty, and no standby: %s is there", foreign)}
	}
	return nil
}

// Close gives the directory free.
func (s *Standby) Close() { s.t.close() }

// Following is the environment that is followed; empty before the first cycle.
func (s *Standby) Following() string {
	if s.st == nil {
		return ""
	}
	return s.st.Environment
}

func (s *Standby) step(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.opt.Step(name)
}

// What a cycle did (CycleResult.Action).
const (
	ActionNone    = "none"      // nothing was new
	ActionBuilt   = "built"     // the home was restored from a full backup
	ActionCaught  = "caught up" // new log was replayed
	ActionRepeats = "repaired"  // a cycle that was interrupted was brought to its end, and nothing was new
)

// CycleResult says what a cycle did, and where the standby stands.
type CycleResult struct {
	Time        time.Time         `json:"time"` // when the cycle began
	Environment string            `json:"environment"`
	Home        string            `json:"home"`
	Action      string            `json:"action"`
	Why         string            `json:"why,omitempty"`    // it was built anew
	Backup      manifest.BackupID `json:"backup"`           // the newest full backup that it was held against
	Timeline    manifest.Timeline `json:"timeline"`         // that it follows
	End         bdb.LSN           `json:"end"`              // where it stands: at the end of the log before this LSN
	EndTime     time.Time         `json:"endTime,omitzero"` // of the last commit before
	Shipped     bdb.LSN           `json:"shipped"`          // how far log is stored
	ShippedTime time.Time         `json:"shippedTime,omitzero"`
	Segments    int               `json:"segments"` // that were fetched
	LogBytes    int64             `json:"logBytes"` // that are new
	Commits     int64             `json:"commits"`  // in them
	Prepared    []bdb.Prepared    `json:"prepared,omitempty"`
	Requests    int64             `json:"requests"`
	Notes       []string          `json:"notes,omitempty"`
	Seconds     float64           `json:"seconds"`
}

// Behind is how long before the newest commit in the store the last one that the standby has was made.
func (r *CycleResult) Behind() time.Duration {
	if !r.End.Before(r.Shipped) || r.EndTime.IsZero() {
		return 0
	}
	return max(0, r.ShippedTime.Sub(r.EndTime))
}

// cycle is one Cycle.
type cycle struct {
	*Standby
	repo     *repository.Repository // nil: not at hand
	result   CycleResult
	news     news
	inPlace  bool // never build anew
	repaired bool
}

// rebuildError says why the home can't follow any more as it is.
type rebuildError struct{ why string }

func (e *rebuildError) Error() string { return "the home has to be built anew: " + e.why }

func rebuildf(format string, args ...any) error { return &rebuildError{fmt.Sprintf(format, args...)} }

// Cycle brings the standby up to what is stored. After an error the next one goes on, also in another process: where the state says that the home
// is between two states, that is repaired first.
func (s *Standby) Cycle(ctx context.Context, repo *repository.Repository) (*CycleResult, error) {
	return s.cycle(ctx, &cycle{Standby: s, repo: repo})
}

func (s *Standby) cycle(ctx context.Context, c *cycle) (*CycleResult, error) {
	c.result.Time = time.Now().UTC()
	before := c.repo.Bucket.Stats().Requests.Total()
	err := c.run(ctx)
	if again, ok := errors.AsType[*rebuildError](err); ok && !c.inPlace && ctx.Err() == nil {
		c.note("%v", again)
		c.result.Why = again.why
		err = c.build(ctx)
	}
	if err != nil {
		return nil, err
	}
	c.result.Requests = c.repo.Bucket.Stats().Requests.Total() - before
	c.result.Seconds = time.Since(c.result.Time).Seconds()
	c.report()
	return &c.result, nil
}

// report fills in where the standby stands now.
func (c *cycle) report() {
	st, r := c.st, &c.result
	r.Environment, r.Home, r.Backup, r.Timeline = st.Environment, c.t.dir, st.Backup, st.Timeline
	r.End, r.EndTime, r.Prepared = st.End, st.EndTime, st.Prepared
	if r.Shipped.Before(r.End) {
		r.Shipped, r.ShippedTime = r.End, r.EndTime
	}
}

func (c *cycle) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.result.Notes = append(c.result.Notes, text)
	c.opt.Progress.Note(text)
}

func (c *cycle) run(ctx context.Context) error {
	if err := c.checkSource(); err != nil {
		return err
	}
	if c.st == nil || c.st.Phase == phaseBuilding {
		return c.build(ctx)
	}
	c.repaired = c.st.Phase == phaseRecovering
	if err := c.repair(ctx); err != nil {
		return err
	}
	if err := c.checkUntouched(); err != nil {
		return err
	}
	if err := c.look(ctx); err != nil {
		return err
	}
	if len(c.news.segments) > 0 {
		if err := c.catchUp(ctx); err != nil {
			return err
		}
	}
	return c.adopt(ctx)
}

// checkSource refuses to follow anything else than what the standby was made of.
func (c *cycle) checkSource() error {
	switch {
	case c.st == nil:
		return nil
	case c.st.Repository != c.repo.Info.ID:
		return &StandbyError{Dir: c.t.dir, Problem: "it follows an environment in another repository"}
	case c.opt.Env != "" && c.opt.Env != c.st.Environment:
		return &StandbyError{Dir: c.t.dir, Problem: fmt.Sprintf("it follows environment %s, not %s", c.st.Environment, c.opt.Env)}
	}
	return nil
}

// repair brings a cycle to its end that was interrupted while it recovered. If the engine can't, since it never was made for two recoveries over one another,
// the home is built anew; if it only died, it has a second try.
func (s *Standby) repair(ctx context.Context) (err error) {
	if s.st.Phase != phaseRecovering {
		return nil
	}
	s.opt.Progress.Note(fmt.Sprintf("a cycle to LSN %s was interrupted and is brought to its end", s.st.To))
	tries := s.st.Tries + 1
	s.st.Tries = tries
	if err := s.save(); err != nil {
		return err
	}
	_, err = s.recoverStaged(ctx)
	var failed *RecoveryError
	var died *engine.ChildError
	if errors.As(err, &failed) && (tries > 1 || !errors.As(err, &died)) && ctx.Err() == nil {
		return rebuildf("%v", err)
	}
	return err
}

// checkUntouched notices that somebody else has opened the home and written to it.
func (s *Standby) checkUntouched() error {
	mark, err := s.markLog()
	if err != nil {
		return err
	}
	if mark != s.st.Log {
		return rebuildf("somebody opened the home and wrote to its log, which ended at LSN %s", s.st.End)
	}
	return s.removeRegions()
}

// removeRegions removes what a program that only looked has left.
func (s *Standby) removeRegions() error {
	names, err := fs.Glob(s.t.root.FS(), "__db.[0-9][0-9][0-9]")
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.t.root.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// catchUp replays the log that is new.
func (c *cycle) catchUp(ctx context.Context) error {
	if err := c.stage(ctx); err != nil {
		return err
	}
	if err := c.step(ctx, stepStaged); err != nil {
		return err
	}
	r, err := c.planStaged(ctx)
	if err != nil {
		return err
	}
	if err := c.t.notInUse(); err != nil {
		return err
	}
	c.st.Phase, c.st.To, c.st.Tries = phaseRecovering, r.story.end, 0
	if err := c.save(); err != nil {
		return err
	}
	if err := c.step(ctx, stepBegun); err != nil {
		return err
	}
	if err := c.replayStaged(ctx, r); err != nil {
		return err
	}
	c.result.Action = ActionCaught
	c.result.Commits = r.story.newCommits
	return nil
}
