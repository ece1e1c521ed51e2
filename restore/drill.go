package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
)

// DrillOptions say how to rehearse a restore.
type DrillOptions struct {
	Env       string // empty: the only environment in the repository
	Target    Target
	Scratch   string         // a directory with room for the environment; the drill makes one of its own in it. Required
	Keep      bool           // what was restored is left there
	Maps      []DirMap       // beside those that the drill makes itself, for directories that the log names; New has to be relative
	Engine    engine.Options // as for Restore
	Tool      string         // name and version, for the record
	Location  string         // of the repository, likewise
	Scheduled bool           // nobody asked for this drill but a schedule
	Unstored  bool           // the record is not stored: what is drilled is a repository's past
	Progress  Progress

	// Planned is told the plan before anything is fetched.
	Planned func(*Plan)
	// Step is called at every stage of the restore, see Options, and at the drill's own (DrillStages). It is where tests break things.
	Step func(stage string) error
}

// Stages of a drill beside those of its restore.
const (
	stepScratch  = "scratch"  // the scratch directory is made
	stepRestored = "restored" // the restore has ended well
	stepCleared  = "cleared"  // nothing of it is left
)

// DrillStages are the stages of a drill, in order.
var DrillStages = append(append([]string{stepScratch}, Stages...), stepRestored, stepCleared)

// Phases of a drill, as its record names them.
const (
	drillPlan    = "plan"
	drillPrepare = "prepare"
	drillData    = "data"
	drillLog     = "log"
	drillRecover = "recovery"
	drillVerify  = "verify"
	drillSettle  = "settle"
	drillCleanup = "cleanup"
)

// DrillReport is what a drill came to.
type DrillReport struct {
	Record *manifest.Drill
	SHA256 manifest.Hash // of the stored record; zero: it could not be stored
	Kept   string        // the scratch directory, if it was left
	Result *Result       // of the restore, if that went well
}

// Drill restores an environment to a scratch directory, recovers it, verifies every database, removes it again, and stores what it found: also if that is a
// failure, except what is only a mistake in the asking, such as a target that was never in the store, and a drill that was cancelled. The report is there
// whenever there is something to report, beside the error too.
func Drill(ctx context.Context, repo *repository.Repository, opt DrillOptions) (*DrillReport, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	env, err := resolveEnvironment(ctx, repo, opt.Env)
	if err != nil {
		return nil, err
	}
	d := &drill{repo: repo, opt: opt, see: newRehearsal(repo, env, &opt)}
	d.record = d.see.record
	err = d.run(ctx)
	if d.see.failedIn == "" {
		d.see.failedIn = d.see.current()
	}
	left := d.clear()
	var asked *mistake
	switch {
	case ctx.Err() != nil:
		return nil, errors.Join(ctx.Err(), left)
	case errors.As(err, &asked):
		return nil, asked.error
	}
	return d.report(ctx, err, left)
}

func (o *DrillOptions) check() error {
	for _, m := range o.Maps {
		if !filepath.IsLocal(m.New) {
			return &MapError{Map: m, Problem: "a drill restores into its scratch directory only: the new directory has to be a relative one"}
		}
	}
	if o.Step == nil {
		o.Step = func(string) error { return nil }
	}
	if o.Progress == nil {
		o.Progress = silent{}
	}
	return o.Target.check()
}

// drill is one Drill.
type drill struct {
	repo    *repository.Repository
	opt     DrillOptions
	see     *rehearsal
	record  *manifest.Drill
	scratch *scratchDir
	kept    string
	result  *Result
}

// mistake is an error in what was asked for, which says nothing about what is stored.
type mistake struct{ error }

// run does all that is before the cleaning up.
func (d *drill) run(ctx context.Context) error {
	plan, err := d.plan(ctx)
	if err != nil {
		return err
	}
	d.see.phase(drillPrepare)
	if err := d.makeRoom(plan); err != nil {
		return err
	}
	if err := d.opt.Step(stepScratch); err != nil {
		return err
	}
	opt := Options{To: d.scratch.home(), Maps: d.opt.Maps, Engine: d.opt.Engine, Verify: VerifyAlways, Progress: d.see, Step: d.opt.Step, drill: d.see}
	opt.Engine.Inherit = []*os.File{d.scratch.lock}
	res, err := Restore(ctx, d.repo, plan, opt)
	if res != nil {
		d.done(res)
	}
	if err != nil {
		return err
	}
	d.result = res
	if err := d.opt.Step(stepRestored); err != nil {
		return err
	}
	return d.incomplete(ctx, plan)
}

// plan finds out what a restore would be.
func (d *drill) plan(ctx context.Context) (*Plan, error) {
	d.see.phase(drillPlan)
	r := d.record
	_, clock, err := d.repo.Drills(ctx, r.Environment, r.ID)
	if err != nil {
		return nil, err
	}
	r.StoreClock = clock.UTC()
	plan, err := MakePlan(ctx, d.repo, r.Environment, d.opt.Target)
	if isMistake(err) {
		return nil, &mistake{err}
	}
	if err != nil {
		return nil, err
	}
	m := plan.Manifest
	r.Backup, r.BackupStarted, r.BackupHost, r.BackupHome, r.Encrypted = m.ID, m.Started, m.Host, m.Home, m.Encrypted
	r.NoLog, r.Timeline, r.Files, r.Bytes, r.LogBytes, r.Segments = m.NoLog, m.Timeline, len(m.Files), m.Bytes(), plan.LogBytes, plan.Segments
	d.reached(plan.End, plan.EndTime)
	for _, n := range plan.Notes {
		d.see.note(n)
	}
	sum, err := d.repo.ManifestHash(ctx, r.Environment, m.ID)
	if err != nil {
		return nil, err
	}
	r.BackupSHA256 = &sum
	if d.opt.Planned != nil {
		d.opt.Planned(plan)
	}
	return plan, nil
}

// isMistake reports whether what was asked for is not there and never was.
func isMistake(err error) bool {
	var (
		absent    *NotFoundError
		ambiguous *AmbiguousError
		far       *UnreachableError
		noLog     *NoLogError
	)
	return errors.Is(err, ErrNoBackup) || errors.As(err, &noLog) || errors.As(err, &absent) || errors.As(err, &ambiguous) || errors.As(err, &far) && far.Err == nil
}

// reached notes where the restored history ends.
func (d *drill) reached(end bdb.LSN, last time.Time) {
	r := d.record
	r.End, r.EndTime, r.AgeSeconds = end, last.UTC(), nil
	if last.IsZero() {
		r.EndTime = time.Time{}
		return
	}
	age := max(0, r.Started.Sub(last)).Seconds()
	r.AgeSeconds = &age
}

// makeRoom makes the scratch directory and looks whether there is room enough in it.
func (d *drill) makeRoom(plan *Plan) error {
	s, left, err := newScratchDir(d.opt.Scratch, drillMark{Environment: d.record.Environment, Drill: d.record.ID})
	for _, env := range left {
		d.see.note(fmt.Sprintf("removed what a drill of %s had left behind that did not come to its end", env))
	}
	if err != nil {
		return err
	}
	d.scratch = s
	free, err := s.free()
	if err != nil {
		return err
	}
	if need := plan.room(); free < need {
		return &SpaceError{Dir: d.opt.Scratch, Need: need, Free: free}
	}
	return nil
}

// room is how much a restore needs on disk: the files, the log, the copy of it that recovery works on, and what the log adds to the files; and something for
// hashes, regions and the file system's own.
func (p *Plan) room() int64 {
	need := p.Bytes + 3*p.LogBytes
	return need + need/16
}

// done notes what a restore did.
func (d *drill) done(res *Result) {
	r := d.record
	d.reached(res.End, res.EndTime)
	r.Commits, r.RecoveryPasses = res.Commits, res.Passes
	for i := range r.Phases {
		if r.Phases[i].Name == drillRecover {
			r.Phases[i].Bytes = res.LogBytes
		}
	}
}

// incomplete is an error if the restore was all right, but something newer could not be restored.
func (d *drill) incomplete(ctx context.Context, plan *Plan) error {
	e := &IncompleteError{}
	for _, u := range plan.PassedOver {
		var void *repository.VoidError // never was a backup
		if !errors.As(u, &void) {
			e.Unusable = append(e.Unusable, u)
		}
	}
	if plan.behind != nil {
		fresh, err := d.fresh(ctx, plan.behind.Key(plan.Environment))
		if err != nil {
			return err
		}
		if !fresh {
			e.Gap = &plan.Gaps[0]
		}
	}
	if len(e.Unusable) == 0 && e.Gap == nil {
		return nil
	}
	d.see.failedIn = drillPlan
	return e
}

// fresh reports whether log behind a gap was stored so lately that what is missing may still be on its way.
func (d *drill) fresh(ctx context.Context, key string) (bool, error) {
	info, err := d.repo.Bucket.Stat(ctx, key)
	if errors.Is(err, remote.ErrNotFound) {
		return true, nil // it was superseded
	}
	now := d.record.StoreClock
	if now.IsZero() {
		now = d.record.Started
	}
	return err == nil && now.Sub(info.Modified) < underWay, err
}

// clear removes what was restored. It is done whatever happened, and when the drill was cancelled too.
func (d *drill) clear() error {
	s := d.scratch
	if s == nil {
		d.record.Cleared = true
		return nil
	}
	d.see.phase(drillCleanup)
	if d.opt.Keep {
		d.kept = s.path
		return s.keep()
	}
	if err := s.remove(); err != nil {
		d.kept = s.path
		return fmt.Errorf("clear away what was restored: %w", err)
	}
	d.record.Cleared = true
	return d.opt.Step(stepCleared)
}

// report completes the record and stores it. Left is why something of what was restored may still be there.
func (d *drill) report(ctx context.Context, err, left error) (*DrillReport, error) {
	if left != nil {
		d.see.note(left.Error())
	}
	d.see.finish(err)
	rep := &DrillReport{Record: d.record, Kept: d.kept, Result: d.result}
	if d.opt.Unstored {
		return rep, errors.Join(err, left)
	}
	sum, putErr := d.repo.PutDrill(ctx, d.record)
	if putErr != nil {
		return rep, errors.Join(err, left, fmt.Errorf("store the record of the drill: %w", putErr))
	}
	rep.SHA256 = sum
	return rep, errors.Join(err, left)
}

// inside maps every directory that a backup names by an absolute path into the restored home, and the home itself.
func inside(m *manifest.Manifest, given []DirMap) (list []DirMap) {
	known := map[string]bool{}
	for _, g := range given {
		known[filepath.Clean(g.Old)] = true
	}
	add := func(dir, to string) {
		if dir = filepath.Clean(dir); filepath.IsAbs(dir) && dir != "/" && !known[dir] {
			known[dir] = true
			list = append(list, DirMap{Old: dir, New: to})
		}
	}
	add(m.Home, ".")
	outside := func(dir string) {
		if _, below := within(filepath.Clean(dir), filepath.Clean(m.Home)); !below {
			add(dir, "bdbvault-directory-"+strconv.Itoa(len(list)))
		}
	}
	for _, d := range m.Dirs {
		outside(d.Name)
	}
	outside(m.LogDir)
	if m.DBConfig != nil {
		for _, s := range localenv.ParseConfig(*m.DBConfig).Settings {
			if slices.Contains(dirSettings, s.Name) && len(s.Args) > 0 {
				outside(s.Args[0])
			}
		}
	}
	return list
}
