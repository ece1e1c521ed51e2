package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/manifest"
	"bdbvault/remote/repository"
)

// Options of Restore.
type Options struct {
	To       string         // the home to be made: absent, empty, or left behind by the same restore. Required
	Delta    bool           // To may be an environment that nobody has open: what is equal there is not fetched, what the backup lacks is removed
	Maps     []DirMap       // where directories of the source go that it named by absolute paths
	Engine   engine.Options // which engine recovers, and the environment's password. Home must be empty
	Verify   string         // VerifyAuto if empty
	Progress Progress       // nil: none

	// Step is called at every stage by its name (Stages), one call at a time. An error ends the restore.
	Step func(stage string) error

	drill *rehearsal // nil: it is no drill
}

// Values of Options.Verify: whether the engine verifies every database after recovery. Automatic verification is left out above
// VerifyLimit bytes.
const (
	VerifyAuto   = "auto"
	VerifyAlways = "always"
	VerifyNever  = "never"
	VerifyLimit  = 4 << 30
)

// Progress hears how a restore goes. Add is called from several goroutines.
type Progress interface {
	Phase(name string, total int64) // a phase begins; total in its unit, 0 if unknown
	Add(n int64)                    // so much more is done in this phase
	File(name string)               // a file is done
	Note(text string)               // something a person should know, and no error
}

// Phases as Progress hears them. Recovery counts percent, the others bytes.
const (
	PhaseData    = "fetching data"
	PhaseLog     = "laying down log"
	PhaseRecover = "recovering"
	PhaseVerify  = "verifying"
	PhaseRead    = "reading"
)

// The stages of a restore.
const (
	stepClaimed   = "claimed"   // the target is ours
	stepFile      = "file"      // a file is back; many times
	stepData      = "data"      // all are
	stepLog       = "log"       // the log is laid down
	stepPass      = "pass"      // a pass of recovery is about to begin
	stepRecovered = "recovered" // the last one has ended
	stepChecked   = "checked"   // everything that must exist does
	stepFinished  = "finished"  // only the marker has still to go
)

// Stages are the names that Options.Step is called with, in order.
var Stages = []string{stepClaimed, stepFile, stepData, stepLog, stepPass, stepRecovered, stepChecked, stepFinished}

// Result says what a restore did.
type Result struct {
	Home          string            `json:"home"`
	Environment   string            `json:"environment"`
	Backup        manifest.BackupID `json:"backup"`
	Timeline      manifest.Timeline `json:"timeline"`
	End           bdb.LSN           `json:"end"`              // the restored history ends just before this LSN
	EndTime       time.Time         `json:"endTime,omitzero"` // of the last commit before it
	Files         int               `json:"files"`
	Bytes         int64             `json:"bytes"`
	Reused        int64             `json:"reused"`      // files of which nothing was fetched, since they were there and right
	ReusedBytes   int64             `json:"reusedBytes"` // of blocks that were, in these and other files
	Removed       int               `json:"removed"`     // files that were there and did not belong there; log and regions are not counted
	FetchedBytes  int64             `json:"fetchedBytes"`
	Requests      int64             `json:"requests"`
	LogBytes      int64             `json:"logBytes"`
	Commits       int64             `json:"commits"`                 // that the log laid down holds
	Passes        int               `json:"passes"`                  // of recovery
	Created       []string          `json:"created,omitempty"`       // databases that only the log held
	Prepared      []bdb.Prepared    `json:"prepared,omitempty"`      // transactions that wait for whoever coordinates them
	Verified      int               `json:"verified"`                // databases
	VerifySkipped string            `json:"verifySkipped,omitempty"` // why none was
	Notes         []string          `json:"notes,omitempty"`
	DataTime      time.Duration     `json:"-"` // as seconds, see MarshalJSON
	LogTime       time.Duration     `json:"-"`
	RecoverTime   time.Duration     `json:"-"`
	VerifyTime    time.Duration     `json:"-"`
}

// MarshalJSON adds the times in seconds.
func (r *Result) MarshalJSON() ([]byte, error) {
	type plain Result
	return json.Marshal(struct {
		*plain
		Data    float64 `json:"dataSeconds"`
		Log     float64 `json:"logSeconds"`
		Recover float64 `json:"recoverSeconds"`
		Verify  float64 `json:"verifySeconds"`
	}{(*plain)(r), r.DataTime.Seconds(), r.LogTime.Seconds(), r.RecoverTime.Seconds(), r.VerifyTime.Seconds()})
}

// restorer is one Restore.
type restorer struct {
	repo    *repository.Repository
	plan    *Plan
	m       *manifest.Manifest
	opt     Options
	key     *bdb.Key
	lay     *layout
	t       *target
	logs    *logs
	child   *child // the engine's, from the log on
	damage  damages
	story   *story
	logDir  string  // in the target: the log that is replayed
	since   bdb.LSN // the files are what a recovery left that ended here; zero: copies of a live environment
	speller *speller
	dirs    []string // where libdb looks for databases, as spelled
	made    []string // folders that recovery may need and the backup did not have
	links   []string // further names of files for the time of recovery
	result  *Result
}

// Restore carries out a plan. Until it returns without an error, or with a *DamageError that says Complete, the target holds MarkerName and is no home.
// After a failure or a cancellation the same call goes on where this one stopped.
func Restore(ctx context.Context, repo *repository.Repository, plan *Plan, opt Options) (*Result, error) {
	r, err := newRestorer(repo, plan, opt)
	if err != nil {
		return nil, err
	}
	r.phase(drillPrepare)
	if err := r.checkPassword(ctx); err != nil {
		return nil, err
	}
	if err := r.checkEngine(ctx); err != nil {
		return nil, err
	}
	r.t, err = openTarget(opt.To, marker{
		Repository: repo.Info.ID, Environment: plan.Environment, Backup: plan.Backup, Timeline: plan.Timeline, End: plan.End,
	}, r.adopter())
	if err != nil {
		return nil, err
	}
	defer r.t.close()
	r.t.rehearsed = opt.drill != nil
	if err := r.claimAway(r.t); err != nil {
		return nil, err
	}
	r.logs.t, r.result.Home = r.t, r.t.dir
	before := repo.Bucket.Stats()
	err = r.run(ctx)
	if endErr := r.endEngine(); err == nil {
		err = endErr
	}
	if err != nil {
		return nil, err
	}
	after := repo.Bucket.Stats()
	r.result.FetchedBytes, r.result.Requests = after.BytesDown-before.BytesDown, after.Requests.Total()-before.Requests.Total()
	return r.result, r.damage.all(plan.Backup)
}

func newRestorer(repo *repository.Repository, plan *Plan, opt Options) (*restorer, error) {
	if opt.Progress == nil {
		opt.Progress = silent{}
	}
	if opt.Step == nil {
		opt.Step = func(string) error { return nil }
	}
	switch opt.Verify {
	case "":
		opt.Verify = VerifyAuto
	case VerifyAuto, VerifyAlways, VerifyNever:
	default:
		return nil, fmt.Errorf("verify %q: want %s, %s or %s", opt.Verify, VerifyAuto, VerifyAlways, VerifyNever)
	}
	if err := plan.checkEnd(); err != nil {
		return nil, err
	}
	at, err := resolve(opt.To)
	if err != nil {
		return nil, err
	}
	m := plan.Manifest
	if opt.drill != nil {
		opt.Maps = append(slices.Clip(opt.Maps), inside(m, opt.Maps)...)
	}
	maps, err := newMappings(opt.Maps, at)
	if err != nil {
		return nil, err
	}
	lay, err := newLayout(m, at, maps)
	if err != nil {
		return nil, err
	}
	if !m.Encrypted {
		opt.Engine.Password = "" // the engine would refuse it
	}
	r := &restorer{repo: repo, plan: plan, m: m, opt: opt, lay: lay, key: bdb.NewKey(opt.Engine.Password)}
	r.logDir = lay.logDir
	r.logs = &logs{repo: repo, plan: plan, dir: lay.logDir, key: r.key, progress: opt.Progress, damage: &r.damage}
	r.result = &Result{
		Environment: plan.Environment, Backup: plan.Backup, Timeline: plan.Timeline, End: plan.End, EndTime: plan.EndTime,
		Files: len(m.Files), Bytes: m.Bytes(), LogBytes: plan.LogBytes, Notes: slices.Clone(plan.Notes),
	}
	return r, nil
}

// checkPassword proves the password before anything is fetched that it would be of no use for.
func (r *restorer) checkPassword(ctx context.Context) error {
	if !r.m.Encrypted {
		return nil
	}
	if r.key == nil {
		return ErrPassword
	}
	if r.m.NoLog {
		return nil
	}
	first, err := r.logs.firstRecord(ctx)
	if err == nil {
		_, err = bdb.ParseLogHeader(first, r.key)
	}
	if errors.Is(err, bdb.ErrPassword) {
		err = fmt.Errorf("%w: %w", ErrPassword, err)
		// The password may be right, and the record it was tried on not what was stored.
		if damage := r.logs.checkFirst(ctx); damage != nil {
			err = damage
		}
	}
	switch {
	case errors.Is(err, bdb.ErrNotLog), errors.Is(err, bdb.ErrNoHeader):
		return nil // shows where the log is laid down
	case damagedLog(err):
		r.damage.log(r.logs.first(), err)
		return r.damage.err(r.plan.Backup)
	}
	return err
}

// checkEngine starts the engine once for nothing: that there is none, or none that can do this, had better show now.
func (r *restorer) checkEngine(ctx context.Context) error {
	client, err := engine.Start(ctx, r.engineOptions())
	if err != nil {
		return fmt.Errorf("start the engine that is to recover: %w", err)
	}
	if r.opt.drill != nil {
		r.opt.drill.record.Engine = client.Version()
	}
	return client.Close()
}

// phase tells a drill what is about to begin.
func (r *restorer) phase(name string) {
	if r.opt.drill != nil {
		r.opt.drill.phase(name)
	}
}

func (r *restorer) run(ctx context.Context) error {
	if n := r.t.hidden; n > 0 {
		r.note("%d processes of other users could not be asked whether they have files in %s open", n, r.t.dir)
	}
	if err := r.step(ctx, stepClaimed); err != nil {
		return err
	}
	stages := []struct {
		name string
		took *time.Duration
		do   func(context.Context) error
	}{
		{drillData, &r.result.DataTime, r.data},
		{drillLog, &r.result.LogTime, r.log},
		{drillRecover, &r.result.RecoverTime, r.recover},
		{drillVerify, &r.result.VerifyTime, r.check},
	}
	if r.m.NoLog {
		stages = slices.Delete(stages, 1, 3)
		stages[1].do = r.checkPlain
	}
	for _, s := range stages {
		r.phase(s.name)
		began := time.Now()
		if err := s.do(ctx); err != nil {
			return err
		}
		*s.took = time.Since(began)
	}
	r.phase(drillSettle)
	return r.finish(ctx)
}

func (r *restorer) step(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.opt.Step(name)
}

func (r *restorer) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.result.Notes = append(r.result.Notes, text)
	r.opt.Progress.Note(text)
}

func (r *restorer) data(ctx context.Context) error {
	keep := make(map[string]bool, len(r.m.Files))
	for i := range r.m.Files {
		keep[r.lay.file(&r.m.Files[i])] = true
	}
	if err := r.t.prepare(r.lay.folders(r.m), keep); err != nil {
		return err
	}
	r.result.Removed = r.t.removed
	r.opt.Progress.Phase(PhaseData, r.m.Bytes())
	d := &data{repo: r.repo, m: r.m, t: r.t, lay: r.lay, progress: r.opt.Progress, step: r.opt.Step, damage: &r.damage}
	err := d.run(ctx)
	r.result.Reused, r.result.ReusedBytes = d.reused.Load(), d.reusedBytes.Load()
	if err != nil {
		return err
	}
	for _, do := range []func() error{r.writeConfig, r.checkConfigFile, r.rewriteConfig} {
		if err := do(); err != nil {
			return err
		}
	}
	return r.step(ctx, stepData)
}

// checkConfigFile looks into the DB_CONFIG that came as a file: it may have been edited while the backup ran, and it is what everything
// from here on goes by.
func (r *restorer) checkConfigFile() error {
	text, err := r.t.root.ReadFile("DB_CONFIG")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return (&layout{at: r.lay.at, maps: r.lay.maps}).config(localenv.ParseConfig(string(text)), r.m.Home)
}

// log lays down the log and reads it.
func (r *restorer) log(ctx context.Context) error {
	r.startEngine(ctx)
	r.opt.Progress.Phase(PhaseLog, r.plan.LogBytes)
	if err := r.logs.run(ctx); err != nil {
		return err
	}
	r.story = newStory(r.lay.at, r.m)
	r.story.maps = r.lay.maps
	err := r.story.read(ctx, r.t.path(r.lay.logDir), r.key)
	if errors.Is(err, manifest.ErrDamaged) {
		r.damage.log("log", err)
		return r.damage.err(r.plan.Backup)
	}
	if err != nil {
		return err
	}
	if err := r.checkLogEnd(); err != nil {
		return err
	}
	if !r.story.last.IsZero() {
		r.result.EndTime = r.story.last
	}
	r.result.Commits = r.story.commits
	if err := r.lay.maps.unused(); err != nil && r.opt.drill == nil {
		return err
	}
	return r.step(ctx, stepLog)
}

// checkLogEnd compares where the records end with where the segments' names say so. A cut that was asked for within a record ends
// before it.
func (r *restorer) checkLogEnd() error {
	end := r.story.end
	if end == r.plan.End {
		return nil
	}
	if r.plan.Target.LSN == r.plan.End && end.Before(r.plan.End) {
		cut := *r.plan
		cut.End = end
		r.result.End = end
		r.note("no record begins at LSN %s; the restore ends at %s, before the record that holds it", r.plan.End, end)
		return cut.checkEnd()
	}
	r.damage.log("log", fmt.Errorf("the log's records end at %s instead of %s: %w", end, r.plan.End, manifest.ErrDamaged))
	return r.damage.err(r.plan.Backup)
}

type silent struct{}

func (silent) Phase(string, int64) {}
func (silent) Add(int64)           {}
func (silent) File(string)         {}
func (silent) Note(string)         {}
