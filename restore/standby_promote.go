package restore

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote/repository"
)

// PromoteResult says what a promotion left.
type PromoteResult struct {
	Home          string            `json:"home"`
	Environment   string            `json:"environment"` // whose standby it was
	Timeline      manifest.Timeline `json:"timeline"`    // that it followed
	End           bdb.LSN           `json:"end"`
	EndTime       time.Time         `json:"endTime,omitzero"`
	Verified      int               `json:"verified"`
	VerifySkipped string            `json:"verifySkipped,omitempty"`
	Prepared      []bdb.Prepared    `json:"prepared,omitempty"`
	Catch         *CycleResult      `json:"catchUp,omitempty"` // the last cycle; nil: none was asked for
	Notes         []string          `json:"notes,omitempty"`
}

// CatchUpError is a last catch-up that failed, so that nothing was promoted.
type CatchUpError struct{ Err error }

func (e *CatchUpError) Error() string { return "the last catch-up failed: " + e.Err.Error() }
func (e *CatchUpError) Unwrap() error { return e.Err }

const promotedText = "This home was a standby, kept by bdbvault standby, until it was promoted. Its next full backup begins a new timeline. " +
	"As long as this file is here, it does not follow again."

// Promote makes the standby a home of its own. With a repository it catches up a last time first, and fails if that fails: nothing is promoted then. It never
// builds the home anew. The home needs no recovery afterwards.
func (s *Standby) Promote(ctx context.Context, repo *repository.Repository) (*PromoteResult, error) {
	if s.st == nil || s.st.Phase == phaseBuilding {
		return nil, &StandbyError{Dir: s.t.dir, Problem: "there is nothing to promote: it was never built whole"}
	}
	res := &PromoteResult{}
	if repo != nil {
		c := &cycle{Standby: s, repo: repo, inPlace: true}
		var err error
		if res.Catch, err = s.cycle(ctx, c); err != nil {
			return nil, &CatchUpError{Err: err}
		}
	} else if err := s.repair(ctx); err != nil {
		return nil, err
	}
	r, err := s.restorer()
	if err != nil {
		return nil, err
	}
	if r.opt.Verify = s.opt.Verify; r.opt.Verify == "" {
		r.opt.Verify = VerifyAuto
	}
	if err := s.verifyHome(ctx, r); err != nil {
		return nil, err
	}
	res.Home, res.Environment, res.Timeline, res.End, res.EndTime = s.t.dir, s.st.Environment, s.st.Timeline, s.st.End, s.st.EndTime
	res.Prepared = s.st.Prepared
	res.Verified, res.VerifySkipped, res.Notes = r.result.Verified, r.result.VerifySkipped, r.result.Notes
	return res, s.letGo(ctx, r)
}

// verifyHome verifies the databases as they stand.
func (s *Standby) verifyHome(ctx context.Context, r *restorer) (err error) {
	if err := s.checkUntouched(); err != nil {
		return err
	}
	h, err := r.scan(ctx)
	if err != nil {
		return err
	}
	if _, err := newScratch(s.t, "", nil); err != nil { // where the engine verifies
		return err
	}
	r.startEngine(ctx)
	defer func() { err = errors.Join(err, r.endEngine()) }()
	if err := r.verify(ctx, h); err != nil {
		return err
	}
	return s.t.root.RemoveAll(scratchName)
}

// letGo leaves the note, then removes the state: a promotion that is interrupted in between is finished by whoever looks next.
func (s *Standby) letGo(ctx context.Context, r *restorer) error {
	note := localenv.Promotion{
		About: promotedText, Environment: s.st.Environment, Timeline: s.st.Timeline.String(), End: s.st.End, At: time.Now().UTC(),
	}
	if err := r.leave(localenv.PromotedName, &note); err != nil {
		return err
	}
	if err := s.step(ctx, stepNoted); err != nil {
		return err
	}
	return s.removeState()
}

// removeState removes everything of the standby's own, the state last.
func (s *Standby) removeState() error {
	names, err := fs.Glob(s.t.root.FS(), stateName+"?*")
	if err != nil {
		return err
	}
	for _, name := range append(names, scratchName, workLog, stateName) {
		err = errors.Join(err, s.t.root.RemoveAll(name))
	}
	return errors.Join(err, s.t.syncDir("."))
}
