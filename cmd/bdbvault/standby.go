package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"bdbvault/archive"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

const (
	flagEvery     = "every"
	flagOnce      = "once"
	flagPromote   = "promote"
	flagNoCatchUp = "no-catch-up"
)

func (p *program) standbyCommand() *cli.Command {
	return &cli.Command{
		Name: "standby", Usage: "keep a home close behind what is shipped, ready to take over",
		Action: p.stream(standby), Flags: join(standbyFlags(), passwordFlags(), engineFlags(), repositoryFlags(), outputFlags()),
	}
}

func standbyFlags() []cli.Flag {
	return []cli.Flag{
		stringFlag(inEnvironment, flagTo, "`DIRECTORY` of the standby: a new or an empty one, or one that standby has made"),
		envFlag("`NAME` of the environment (default: the only one there is)"),
		&cli.DurationFlag{Name: flagEvery, Category: inEnvironment, Value: 10 * time.Second, EnvVars: variables(flagEvery),
			Usage: "`DURATION` from the beginning of one look into the store to the next"},
		boolFlag(inEnvironment, flagOnce, "catch up once, and end"),
		boolFlag(inEnvironment, flagPromote, "catch up a last time and make the standby a home of its own"),
		boolFlag(inEnvironment, flagNoCatchUp, "promote what is there, without a look into the store"),
		&cli.StringFlag{Name: flagVerify, Category: inEngine, Value: restore.VerifyAuto, EnvVars: variables(flagVerify),
			Usage: "`WHEN` to verify the structure of every database: always (after every look), never or auto (when the home is built and when it is promoted, up to a size)"},
	}
}

// standby is the command of that name.
func standby(ctx context.Context, c *call, out io.Writer) error {
	to, err := c.need(flagTo, "--to DIR, the standby's home")
	if err != nil {
		return err
	}
	if err := c.checkStandby(); err != nil {
		return err
	}
	o, err := c.restoreOptions(to)
	if err != nil {
		return err
	}
	env, err := c.givenEnv()
	if err != nil {
		return err
	}
	quiet := &calm{progress: c.progress}
	opt := restore.StandbyOptions{To: o.To, Env: env, Engine: o.Engine, Verify: o.Verify, Progress: quiet}
	var repo *repository.Repository
	if !c.Bool(flagNoCatchUp) {
		if repo, err = c.openRepository(ctx); err != nil {
			return c.unreachable(err)
		}
	}
	s, err := restore.OpenStandby(opt)
	if err != nil {
		return err
	}
	defer s.Close()
	k := &keeper{call: c, standby: s, repo: repo, quiet: quiet, out: out}
	if c.Bool(flagPromote) {
		return k.promote(ctx)
	}
	return k.follow(ctx)
}

func (c *call) checkStandby() error {
	switch {
	case c.Bool(flagOnce) && c.Bool(flagPromote):
		return usagef("give --once or --promote, not both: a promotion catches up by itself")
	case c.Bool(flagNoCatchUp) && !c.Bool(flagPromote):
		return usagef("--no-catch-up goes with --promote only")
	case c.Duration(flagEvery) <= 0:
		return usagef("--every %s: want a time above zero", c.Duration(flagEvery))
	}
	return nil
}

// unreachable makes it plain that nothing was promoted.
func (c *call) unreachable(err error) error {
	if !c.Bool(flagPromote) || is[usageError](err) {
		return err
	}
	return &restore.CatchUpError{Err: err}
}

// keeper keeps a standby, and prints what it does.
type keeper struct {
	*call
	standby *restore.Standby
	repo    *repository.Repository // nil: not to be looked into
	quiet   *calm
	out     io.Writer
}

func (k *keeper) promote(ctx context.Context) error {
	res, err := k.standby.Promote(ctx, k.repo)
	if err != nil {
		return err
	}
	return k.print(promoteReport{res})
}

// follow lets the standby follow until ctx ends, which is how it is meant to end.
func (k *keeper) follow(ctx context.Context) error {
	once := k.Bool(flagOnce)
	idle := false
	for {
		began := time.Now()
		k.quiet.building = false
		res, err := k.standby.Cycle(ctx, k.repo)
		switch {
		case err != nil && (once || hopeless(err)):
			return err
		case ctx.Err() != nil && !once:
			return nil
		case err != nil:
			k.failed(ctx, err)
		case k.json() || !idle || res.Action != restore.ActionNone:
			if err := k.print(cycleReport{res}); err != nil {
				return err
			}
		}
		if once {
			return nil
		}
		idle = err == nil && res.Action == restore.ActionNone
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(k.Duration(flagEvery) - time.Since(began)):
		}
	}
}

// hopeless reports whether trying again changes nothing.
func hopeless(err error) bool {
	return is[*restore.StandbyError](err) || is[*restore.PromotedError](err) || is[*restore.ConfigError](err) ||
		errors.Is(err, restore.ErrPassword) || errors.Is(err, restore.ErrEnvironment)
}

func (k *keeper) json() bool { return k.Bool(flagJSON) }

// failed tells of a cycle that failed. The next one tries again.
func (k *keeper) failed(ctx context.Context, err error) {
	v := judge(ctx, err)
	if k.json() {
		_ = k.print(cycleFailure{Time: time.Now().UTC(), failure: failure{Error: v.text, Code: v.code, Hint: v.hint}})
	}
	k.progress.say(fmt.Sprintf("bdbvault standby: %s\n  trying again in %s", v.text, k.Duration(flagEvery)))
}

// cycleFailure is the line of a cycle that failed.
type cycleFailure struct {
	Time time.Time `json:"time"`
	failure
}

func (cycleFailure) text(io.Writer) {} // the progress says it

// print prints one line: text, or an object.
func (k *keeper) print(r result) error {
	switch {
	case k.json():
		line, err := k.meter.encode(r)
		if err == nil {
			_, err = k.out.Write(append(line, '\n'))
		}
		if err != nil {
			return &outputError{err}
		}
		return nil
	case k.Bool(flagQuiet):
		return nil
	}
	k.progress.end()
	return writeText(k.out, r)
}

// cycleReport is what a cycle did.
type cycleReport struct{ *restore.CycleResult }

// MarshalJSON adds how far behind the standby is.
func (r cycleReport) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		*restore.CycleResult
		Behind float64 `json:"behindSeconds"`
	}{r.CycleResult, r.Behind().Seconds()})
}

func (r cycleReport) text(w io.Writer) {
	fmt.Fprintf(w, "%s  %s stands at %s: ", r.Time.Local().Format("15:04:05"), r.Environment, moment(r.End, r.EndTime))
	switch r.Action {
	case restore.ActionBuilt:
		fmt.Fprintf(w, "built from backup %s and %s of log in %.1fs", r.Backup, size(r.LogBytes), r.Seconds)
	case restore.ActionCaught:
		fmt.Fprintf(w, "%s of log, %s in %.1fs", size(r.LogBytes), count(int(r.Commits), "commit"), r.Seconds)
	case restore.ActionRepeats:
		fmt.Fprint(w, "repaired")
	default:
		fmt.Fprint(w, "nothing new")
	}
	if n := len(r.Prepared); n > 0 {
		fmt.Fprintf(w, "; %s prepared", count(n, "transaction"))
	}
	if r.End.Before(r.Shipped) {
		fmt.Fprintf(w, "; behind what is shipped, %s, by %s", moment(r.Shipped, r.ShippedTime), r.Behind())
	}
	fmt.Fprintln(w)
}

// promoteReport is the result of a promotion.
type promoteReport struct{ *restore.PromoteResult }

func (r promoteReport) text(w io.Writer) {
	fmt.Fprintf(w, "promoted %s, which was the standby of %s\n", r.Home, r.Environment)
	t := newTable(w)
	t.row("  ends at", moment(r.End, r.EndTime))
	switch {
	case r.Catch == nil:
		t.row("  last catch-up", "none")
	case r.Catch.Action == restore.ActionNone:
		t.row("  last catch-up", "nothing was new in the store")
	default:
		t.row("  last catch-up", fmt.Sprintf("%s of log, %s", size(r.Catch.LogBytes), count(int(r.Catch.Commits), "commit")))
	}
	if r.VerifySkipped != "" {
		t.row("  verified", "no: "+r.VerifySkipped)
	} else {
		t.row("  verified", count(r.Verified, "database"))
	}
	preparedRow(t, r.Prepared)
	t.flush()
}

// calm is the progress of a standby: a cycle that only catches up is told of by its one line.
type calm struct {
	*progress
	building bool // since the cycle began
	shown    atomic.Bool
}

func (p *calm) Phase(name string, total int64) {
	p.building = p.building || name == restore.PhaseData
	p.shown.Store(p.building || name == restore.PhaseVerify)
	if p.shown.Load() {
		p.progress.Phase(name, total)
	}
}

func (p *calm) Add(n int64) {
	if p.shown.Load() {
		p.progress.Add(n)
	}
}

func standbyHint(err error) string {
	switch {
	case is[*restore.CatchUpError](err):
		return "Nothing was promoted, and the standby can go on. To promote it as it stands, without the log that may be missing: --no-catch-up"
	case is[*restore.PromotedError](err):
		return "For a new standby take a new or an empty directory."
	case is[*restore.StandbyError](err):
		return "A standby is made in a new or an empty directory, and kept by one process. Look at its .bdbvault-standby."
	case is[*archive.StandbyError](err):
		return "Back up the home that it follows. If that is gone, promote the standby first: bdbvault standby --promote --to DIR"
	}
	return ""
}
