package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"bdbvault/localenv/envtest"
)

// What the live workload is measured beside.
const (
	liveAlone  = "nothing"
	liveBackup = "bdbvault backup"
	liveLoad   = "cat, and equal CPU load"
)

const (
	liveWriters    = 2
	liveCheckpoint = 2 * time.Second // as a busy application does it, log files are removed as well
	liveWarmUp     = time.Second
	liveIdle       = 3 * time.Second
)

// load is what a backup and the store together laid on the machine.
type load struct{ wall, cpu time.Duration }

// live compares a workload's commits per second during backups with those during a plain cat of the same files and a loop that burns
// as much CPU time, spread over as much time, as the backup before it and the store needed. The order changes from round to round.
func (b *bench) live(ctx context.Context) error {
	var last load
	for round := range b.opt.rounds {
		if err := b.env.tidy(); err != nil {
			return err
		}
		err := b.liveRound(ctx, round, &last)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.failed++
			b.say("%s: %v", rowLive, err)
			b.note(rowLive, "round %d failed: %v", round+1, err)
		}
	}
	if ratios := b.results.values(rowLive, liveBackup, ratio); len(ratios) > 0 {
		b.note(rowLive, "ratios of the rounds: %.2f", ratios)
	}
	return nil
}

func (b *bench) liveRound(ctx context.Context, round int, last *load) (err error) {
	// Log files come and go.
	files, err := filesBelow(filepath.Join(b.env.home, dataDir))
	if err != nil {
		return err
	}
	cat, err := runAll(ctx, catTo(files))
	if err != nil {
		return err
	}
	w, err := b.env.RunBank(envtest.BankOptions{Processes: liveWriters, Checkpoint: liveCheckpoint, RemoveLogs: true, Seed: uint64(round)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Stop()) }()
	r := &liveRun{b: b, w: w, files: files, cat: cat.cpu, last: last}
	if err := pause(ctx, liveWarmUp); err != nil {
		return err
	}
	if _, err := r.measure(liveAlone, func() error { return pause(ctx, liveIdle) }); err != nil {
		return err
	}
	return r.compare(ctx, round%2 == 0 || last.wall == 0)
}

// catTo reads files as plainly as can be.
func catTo(files []string) pipeline {
	return pipeline{{args: append([]string{"/bin/sh", "-c", `exec cat "$@" >/dev/null`, "sh"}, files...)}}
}

// liveRun is one round.
type liveRun struct {
	b     *bench
	w     *envtest.Workload
	files []string
	cat   time.Duration // CPU time of reading the files
	last  *load
}

// measure returns the commits per second while f runs.
func (r *liveRun) measure(name string, f func() error) (float64, error) {
	from, began := r.w.LastCommitted(), time.Now()
	if err := f(); err != nil {
		return 0, err
	}
	took := time.Since(began).Seconds()
	rate := float64(r.w.LastCommitted()-from) / took
	if err := r.w.Err(); err != nil {
		return 0, err
	}
	r.b.results.add(rowLive, name, sample{commits: rate, wall: took})
	r.b.say("%s: beside %s: %.0f commits per second during %.1f s", rowLive, name, rate, took)
	return rate, nil
}

func (r *liveRun) compare(ctx context.Context, backupFirst bool) error {
	var during, beside float64
	backup := func() (err error) { during, err = r.backup(ctx); return err }
	equal := func() (err error) { beside, err = r.equalLoad(ctx); return err }
	order := []func() error{backup, equal}
	if !backupFirst {
		order[0], order[1] = equal, backup
	}
	for _, f := range order {
		if err := f(); err != nil {
			return err
		}
	}
	if beside == 0 {
		return errors.New("the workload stood still")
	}
	r.b.results.add(rowLive, liveBackup, sample{ratio: during / beside})
	return nil
}

// backup takes a first full backup. What it cost is remembered for the comparison.
func (r *liveRun) backup(ctx context.Context) (rate float64, err error) {
	b := r.b
	err = b.inBucket(ctx, func(bucket string) error {
		if _, err := runAll(ctx, pipeline{b.vault(bucket, "", "init")}); err != nil {
			return err
		}
		backup := b.vault(bucket, filepath.Join(b.dir, "tmp", bucket), "backup")
		rate, err = r.measure(liveBackup, func() error { return r.charge(ctx, backup) })
		return err
	})
	return rate, err
}

func (r *liveRun) charge(ctx context.Context, c command) error {
	before, err := readStat(r.b.store.pid)
	if err != nil {
		return err
	}
	took, err := runAll(ctx, pipeline{c})
	if err != nil {
		return err
	}
	after, err := readStat(r.b.store.pid)
	*r.last = load{took.wall, took.cpu + after.cpu - before.cpu}
	return err
}

// equalLoad is the other side of the comparison.
func (r *liveRun) equalLoad(ctx context.Context) (float64, error) {
	budget := max(0, r.last.cpu-r.cat)
	burner := command{args: []string{r.b.self, burnCommand, budget.String(), r.last.wall.String()}}
	var spent [2]cost
	rate, err := r.measure(liveLoad, func() error {
		group, ctx := errgroup.WithContext(ctx)
		for i, p := range []pipeline{catTo(r.files), {burner}} {
			group.Go(func() (err error) { spent[i], err = runAll(ctx, p); return err })
		}
		return group.Wait()
	})
	if err != nil {
		return 0, fmt.Errorf("equal load: %w", err)
	}
	share := (spent[0].cpu + spent[1].cpu).Seconds() / r.last.cpu.Seconds()
	r.b.results.add(rowLive, liveLoad, sample{burnt: share})
	return rate, nil
}
