package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"

	"bdbvault/cmd/bdbvault/config"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/manifest"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

// Names of drill's own flags.
const (
	commandDrill  = "drill"
	flagScratch   = "scratch"
	flagKeep      = "keep"
	flagReport    = "report"
	flagShow      = "show"
	flagScheduled = "scheduled"
)

func drillFlags() []cli.Flag {
	scheduled := boolFlag(inOutput, flagScheduled, "note in the record that a schedule asked for it")
	scheduled.Hidden = true
	return []cli.Flag{
		envFlag("drill only environment `NAME`"),
		stateFlag(),
		stringFlag(inEnvironment, flagScratch, "`DIRECTORY` with room for a restore, in which the drill makes one of its own (default: drill in the state directory)"),
		boolFlag(inEnvironment, flagKeep, "leave what was restored there, to look at it"),
		&cli.StringSliceFlag{Name: flagMapDir, Category: inEnvironment, EnvVars: variables(flagMapDir),
			Usage: "`OLD=NEW`: what the log names by the absolute path OLD, or below it, goes to NEW in the restored home; DB_CONFIG's directories do by themselves"},
		stringFlag(inOutput, flagReport, "write the report to `FILE` as well"),
		stringFlag(inOutput, flagShow, "drill nothing; print the report of the stored drill `ID`, or of the latest"),
		scheduled,
	}
}

// drillEntry is one drill of a drillReport.
type drillEntry struct {
	*manifest.Drill
	Object string         `json:"object"`
	SHA256 *manifest.Hash `json:"sha256,omitempty"` // of the object; absent if it could not be stored
	Kept   string         `json:"kept,omitempty"`   // what was restored is still there
}

// drillReport is the result of drill.
type drillReport struct {
	Repository string        `json:"repository"`
	Drills     []*drillEntry `json:"drills"`
}

func (r *drillReport) add(d *manifest.Drill, sum manifest.Hash, kept string) {
	e := &drillEntry{Drill: d, Object: manifest.DrillKey(d.Environment, d.ID), Kept: kept}
	if sum != (manifest.Hash{}) {
		e.SHA256 = &sum
	}
	r.Drills = append(r.Drills, e)
}

func (r *drillReport) text(w io.Writer) {
	for i, d := range r.Drills {
		if i > 0 {
			fmt.Fprint(w, "\n\n")
		}
		d.text(w)
	}
}

// drillError says of which environment a drill failed, where there are several.
type drillError struct {
	env string
	err error
}

func (e *drillError) Error() string {
	if e.env == "" {
		return e.err.Error()
	}
	return fmt.Sprintf("environment %s: %v", e.env, e.err)
}

func (e *drillError) Unwrap() error { return e.err }

// drill is the command of that name.
func drill(ctx context.Context, c *call) (result, error) {
	env, err := c.givenEnv()
	if err != nil {
		return nil, err
	}
	if id := c.String(flagShow); id != "" {
		return showDrill(ctx, c, env, id)
	}
	opt, err := c.drillOptions()
	if err != nil {
		return nil, err
	}
	repo, names, err := c.openEnvironments(ctx, env)
	if err != nil {
		return nil, err
	}
	if err := c.checkSeveral(names); err != nil {
		return nil, err
	}
	r := &drillReport{Repository: repo.Bucket.String(), Drills: []*drillEntry{}}
	var errs []error
	for _, name := range names {
		if err := c.drillOne(ctx, repo, name, opt, r); err != nil {
			e := &drillError{err: err}
			if len(names) > 1 {
				e.env = name
			}
			errs = append(errs, e)
		}
		if ctx.Err() != nil {
			return nil, errors.Join(errs...)
		}
	}
	if err := c.writeReport(r); err != nil {
		errs = append(errs, err)
	}
	if len(r.Drills) == 0 {
		return nil, errors.Join(errs...)
	}
	return r, errors.Join(errs...)
}

// checkSeveral refuses targets that mean something in one environment only.
func (c *call) checkSeveral(names []string) error {
	switch {
	case len(names) == 0:
		return fmt.Errorf("%w: the repository is empty", restore.ErrNoBackup)
	case len(names) == 1:
		return nil
	}
	for _, f := range []string{flagLSN, flagBeforeTxn, flagBackup} {
		if v := c.String(f); v != "" && v != latest {
			return usagef("--%s is about one environment, and the repository has %d: give --env", f, len(names))
		}
	}
	return nil
}

func (c *call) drillOptions() (opt restore.DrillOptions, err error) {
	if opt.Scratch, err = c.scratch(flagScratch); err != nil {
		return opt, err
	}
	if opt.Maps, err = c.dirMaps(); err != nil {
		return opt, err
	}
	if file := c.String(flagReport); file != "" {
		if _, err := os.Stat(filepath.Dir(file)); err != nil {
			return opt, usagef("--%s %s: %w", flagReport, file, err)
		}
	}
	opt.Keep, opt.Tool, opt.Location, opt.Scheduled = c.Bool(flagKeep), tool, c.String(flagRepository), c.Bool(flagScheduled)
	opt.Progress, opt.Unstored = c.progress, c.String(flagAsOf) != ""
	opt.Target, err = c.target("")
	return opt, err
}

// scratch is where drills restore to.
func (c *call) scratch(flag string) (string, error) {
	if dir := c.String(flag); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := c.stateDir()
	return filepath.Join(dir, commandDrill), err
}

// drillOne drills one environment, with the settings that the configuration file has for it.
func (c *call) drillOne(ctx context.Context, repo *repository.Repository, name string, opt restore.DrillOptions, r *drillReport) error {
	own, err := c.forEnvironment(name)
	if err != nil {
		return err
	}
	password, err := own.password()
	if err != nil {
		return err
	}
	if opt.Engine, err = own.engineOptions(password); err != nil {
		return err
	}
	if password != "" {
		opt.Target.Key = bdb.NewKey(password)
	}
	opt.Env, opt.Planned = name, c.progress.plan
	rep, err := restore.Drill(ctx, repo, opt)
	if rep == nil {
		return err
	}
	r.add(rep.Record, rep.SHA256, rep.Kept)
	if rep.Result != nil && err == nil {
		c.record(repo, rep.Result)
	}
	return err
}

// forEnvironment is the command line with what the configuration file says of an environment.
func (c *call) forEnvironment(name string) (*call, error) {
	if c.file == nil {
		return c, nil
	}
	i := slices.IndexFunc(c.file.Environments, func(s config.Section) bool { return entryName(&s) == name })
	if i < 0 {
		return c, nil
	}
	own, err := c.clone()
	if err != nil {
		return nil, err
	}
	return own, firstError(own.adopt(&c.file.Environments[i]), own.adopt(&c.file.Section))
}

// writeReport writes the report to the file that was asked for: whole, or not at all.
func (c *call) writeReport(r *drillReport) error {
	file := c.String(flagReport)
	if file == "" || len(r.Drills) == 0 {
		return nil
	}
	var b bytes.Buffer
	r.text(&b)
	if err := renameio.WriteFile(file, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// noDrillError says that there is no such drill.
type noDrillError struct{ id, env string }

func (e *noDrillError) Error() string {
	where := "the repository"
	if e.env != "" {
		where = "environment " + e.env
	}
	if e.id == latest {
		return where + " has seen no drill yet"
	}
	return fmt.Sprintf("%s has no drill %s", where, e.id)
}

// showDrill prints what is stored of a drill.
func showDrill(ctx context.Context, c *call, env, id string) (result, error) {
	if id != latest {
		if _, err := manifest.ParseBackupID(id); err != nil {
			return nil, usagef("--%s: %w", flagShow, err)
		}
	}
	repo, names, err := c.openEnvironments(ctx, env)
	if err != nil {
		return nil, err
	}
	r := &drillReport{Repository: repo.Bucket.String()}
	for _, name := range names {
		list, _, err := repo.Drills(ctx, name, "")
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(list, func(s repository.Stored) bool { return string(s.ID) == id })
		if id == latest {
			i = len(list) - 1
		}
		if i < 0 {
			continue
		}
		d, sum, err := repo.Drill(ctx, name, list[i].ID)
		if err != nil {
			return nil, err
		}
		r.add(d, sum, "")
	}
	if len(r.Drills) == 0 {
		return nil, &noDrillError{id, env}
	}
	return r, c.writeReport(r)
}

// drillHint says what to do about a drill that failed.
func drillHint(err error) string {
	space, _ := errors.AsType[*restore.SpaceError](err)
	switch {
	case is[*noDrillError](err):
		return "bdbvault list shows the last drill of each environment."
	case space != nil:
		return "Make room there, or restore elsewhere: --scratch DIR"
	case !is[*drillError](err):
		return ""
	case is[*restore.MissingError](err), is[*restore.VerifyError](err), is[*restore.RecoveryError](err), errors.Is(err, engine.ErrDamaged):
		return "A restore would fail likewise. Try an older backup (bdbvault drill --backup ID), look at what was restored (--keep), and take a full backup now."
	}
	return ""
}
