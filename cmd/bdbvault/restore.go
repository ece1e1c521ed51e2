package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"bdbvault/localenv/bdb"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

// restoreHome is the command restore.
func restoreHome(ctx context.Context, c *call) (result, error) {
	to, err := c.need(flagTo, "--to DIR, where the environment shall be restored")
	if err != nil {
		return nil, err
	}
	opt, err := c.restoreOptions(to)
	if err != nil {
		return nil, err
	}
	env, err := c.givenEnv()
	if err != nil {
		return nil, err
	}
	target, err := c.target(opt.Engine.Password)
	if err != nil {
		return nil, err
	}
	repo, err := c.openRepository(ctx)
	if err != nil {
		return nil, err
	}
	plan, err := restore.MakePlan(ctx, repo, env, target)
	if err != nil {
		return nil, err
	}
	c.progress.plan(plan)
	res, err := restore.Restore(ctx, repo, plan, opt)
	if res == nil {
		return nil, err
	}
	if err == nil {
		c.record(repo, res)
	}
	return restoreReport{res}, err
}

// record keeps what the restore took, for plan to tell how long the next one may. The restore is done, whatever comes of that.
func (c *call) record(repo *repository.Repository, res *restore.Result) {
	dir, err := c.stateDir()
	if err == nil {
		err = restore.RecordRates(dir, repo.Info.ID, res)
	}
	if err != nil {
		c.progress.Note("how long it took could not be recorded: " + err.Error())
	}
}

func (c *call) restoreOptions(to string) (restore.Options, error) {
	verify, err := c.oneOf(flagVerify, restore.VerifyAuto, restore.VerifyAlways, restore.VerifyNever)
	if err != nil {
		return restore.Options{}, err
	}
	password, err := c.password()
	if err != nil {
		return restore.Options{}, err
	}
	eng, err := c.engineOptions(password)
	if err != nil {
		return restore.Options{}, err
	}
	maps, err := c.dirMaps()
	if err != nil {
		return restore.Options{}, err
	}
	to, err = filepath.Abs(to)
	return restore.Options{Maps: maps, To: to, Engine: eng, Delta: c.Bool(flagDelta), Verify: verify, Progress: c.progress}, err
}

// dirMaps reads --map-dir.
func (c *call) dirMaps() (list []restore.DirMap, err error) {
	for _, text := range c.StringSlice(flagMapDir) {
		m, err := restore.ParseDirMap(text)
		if err != nil {
			return nil, usagef("--%s %v", flagMapDir, err)
		}
		list = append(list, m)
	}
	return list, nil
}

// plan says what a restore is about to do.
func (p *progress) plan(plan *restore.Plan) {
	p.say(fmt.Sprintf("restoring %s from backup %s to %s: %s in %s and %s of log, about %s to fetch",
		plan.Environment, plan.Backup, moment(plan.End, plan.EndTime), size(plan.Bytes), count(plan.Files, "file"), size(plan.LogBytes),
		size(plan.FetchBytes)))
	for _, n := range plan.Notes {
		p.Note(n)
	}
}

// restoreReport is the result of restore.
type restoreReport struct{ *restore.Result }

func (r restoreReport) text(w io.Writer) {
	fmt.Fprintf(w, "restored %s from backup %s to %s\n", r.Environment, r.Backup, r.Home)
	t := newTable(w)
	t.row("  ends at", moment(r.End, r.EndTime))
	t.row("  data", fmt.Sprintf("%s in %s, in %s", size(r.Bytes), count(r.Files, "file"), duration(r.DataTime)))
	if r.ReusedBytes > 0 || r.Removed > 0 {
		t.row("  there before", r.there())
	}
	t.row("  log", fmt.Sprintf("%s in %s", size(r.LogBytes), duration(r.LogTime)))
	t.row("  recovery", fmt.Sprintf("%s in %s", count(r.Passes, "pass"), duration(r.RecoverTime)))
	if r.VerifySkipped != "" {
		t.row("  verified", "no: "+r.VerifySkipped)
	} else {
		t.row("  verified", fmt.Sprintf("%s in %s", count(r.Verified, "database"), duration(r.VerifyTime)))
	}
	if len(r.Created) > 0 {
		t.row("  new since the backup", strings.Join(r.Created, ", "))
	}
	preparedRow(t, r.Prepared)
	t.flush()
}

// preparedRow names the transactions that are prepared, and says what becomes of them.
func preparedRow(t *table, list []bdb.Prepared) {
	const most = 10
	if len(list) == 0 {
		return
	}
	var names []string
	for i, p := range list {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(list)-most))
			break
		}
		names = append(names, fmt.Sprintf("%s (transaction %x)", p.Name(), p.Txn))
	}
	t.row("  prepared", strings.Join(names, ", "))
	t.row("", "neither committed nor aborted: open the home with DB_RECOVER first, and resolve them (txn_recover)")
}

// there is what became of what was in the directory before.
func (r restoreReport) there() string {
	s := fmt.Sprintf("%s kept, %s fetched in %s", size(r.ReusedBytes), size(r.FetchedBytes), count(int(r.Requests), "request"))
	if r.Removed > 0 {
		s += fmt.Sprintf("; %s removed that the backup does not have", count(r.Removed, "file"))
	}
	return s
}
