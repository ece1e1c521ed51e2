package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// story is one run through all steps, in repositories of its own.
type story struct {
	b                   *bench
	dir                 string // removed at its end
	vaultBucket, state  string
	resticBucket, cache string
	cloneBucket         string // where rclone copies log files to
	logWritten          int64
}

// stages of a story. Each needs what those before it left behind.
var stages = []struct {
	row string
	do  func(*story, context.Context) error
}{
	{rowFirst, (*story).first},
	{rowSecond, (*story).second},
	{rowUnchanged, (*story).unchanged},
	{rowShip, (*story).ship},
	{rowRestore, (*story).restore},
}

// lastStage that is wanted; -1: none.
func (b *bench) lastStage() int {
	last := -1
	for i, s := range stages {
		if b.opt.wants(s.row) {
			last = i
		}
	}
	return last
}

func (b *bench) story(ctx context.Context, run int) (err error) {
	last := b.lastStage()
	if last < 0 {
		return nil
	}
	b.say("run %d of %d", run+1, b.opt.runs)
	if err := b.env.tidy(); err != nil {
		return err
	}
	s, err := b.newStory(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.end()) }()
	for _, stage := range stages[:last+1] {
		if err := b.env.settle(ctx); err != nil {
			return err
		}
		if err := stage.do(s, ctx); err != nil {
			return fmt.Errorf("%s: %w", stage.row, err)
		}
	}
	return nil
}

func (b *bench) newStory(ctx context.Context) (s *story, err error) {
	s = &story{b: b, dir: filepath.Join(b.dir, "story")}
	s.state, s.cache = filepath.Join(s.dir, "state"), filepath.Join(s.dir, "cache")
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return nil, err
	}
	for _, bucket := range []*string{&s.vaultBucket, &s.resticBucket, &s.cloneBucket} {
		if *bucket, err = b.store.bucket(ctx); err != nil {
			return nil, err
		}
	}
	if _, err := runAll(ctx, pipeline{b.vault(s.vaultBucket, "", "init")}); err != nil {
		return nil, err
	}
	if b.programs["restic"] == "" {
		return s, nil
	}
	_, err = runAll(ctx, pipeline{b.restic(s.resticBucket, s.cache, "init", "--repository-version", "2")})
	return s, err
}

// end removes all traces, also after an interrupt.
func (s *story) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	for _, bucket := range []string{s.vaultBucket, s.resticBucket, s.cloneBucket} {
		errs = append(errs, s.b.store.drop(ctx, bucket))
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// measure does steps in turn. Those of a row that nobody wants are done only if later ones build on them.
func (s *story) measure(ctx context.Context, steps ...step) error {
	for _, st := range steps {
		wanted := s.b.opt.wants(st.row)
		if !wanted && !slices.Contains([]string{toolVault, toolRestic}, st.tool) {
			continue
		}
		st.hidden = !wanted
		if err := s.b.measure(ctx, st); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) vault(row, tool string, args ...string) step {
	return step{row: row, tool: tool, bucket: s.vaultBucket, work: []pipeline{{s.b.vault(s.vaultBucket, s.state, args...)}}}
}

func (s *story) restic(row, tool string, args ...string) step {
	return step{row: row, tool: tool, bucket: s.resticBucket, work: []pipeline{{s.b.resticBackup(s.resticBucket, s.cache, args...)}}}
}

// first is the first full backup by everybody.
func (s *story) first(ctx context.Context) error {
	if err := s.measure(ctx, s.vault(rowFirst, toolVault, "backup"), s.restic(rowFirst, toolRestic)); err != nil {
		return err
	}
	b, copyDir := s.b, filepath.Join(s.dir, "copy")
	others := []struct {
		tool string
		work func(bucket string) []pipeline
	}{
		{toolTar, func(bucket string) []pipeline { return []pipeline{b.tarUpload(b.env.home, bucket)} }},
		{toolCopyClone, func(bucket string) []pipeline { return []pipeline{b.hotCopy(copyDir), {b.rclone(copyDir, bucket)}} }},
		{toolCopyTar, func(bucket string) []pipeline { return []pipeline{b.hotCopy(copyDir), b.tarUpload(copyDir, bucket)} }},
	}
	for _, o := range others {
		err := s.b.inBucket(ctx, func(bucket string) error {
			return s.measure(ctx, step{row: rowFirst, tool: o.tool, bucket: bucket, work: o.work(bucket)})
		})
		if err := errors.Join(err, os.RemoveAll(copyDir)); err != nil {
			return err
		}
	}
	return nil
}

// inBucket lends f a bucket.
func (b *bench) inBucket(ctx context.Context, f func(bucket string) error) error {
	bucket, err := b.store.bucket(ctx)
	if err != nil {
		return err
	}
	err = f(bucket)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return errors.Join(err, b.store.drop(ctx, bucket))
}

// second is a backup after a small share of the pages changed.
func (s *story) second(ctx context.Context) error {
	changed, log, err := s.b.env.changePages(ctx)
	if err != nil {
		return err
	}
	if err := s.b.env.settle(ctx); err != nil {
		return err
	}
	after := func(_ cost, v sample) error {
		v[share], v[logBytes] = changed, float64(log)
		return nil
	}
	vault, restic := s.vault(rowSecond, toolVault, "backup"), s.restic(rowSecond, toolRestic)
	vault.after, restic.after = after, after
	return s.measure(ctx, vault, restic)
}

// unchanged is a backup of what was backed up already, with and without reading it.
func (s *story) unchanged(ctx context.Context) error {
	return s.measure(ctx,
		s.vault(rowUnchanged, toolVault, "backup"), s.restic(rowUnchanged, toolRestic),
		s.vault(rowUnchanged, toolReadAll, "backup", "--read-all"), s.restic(rowUnchanged, toolForce, "--force"))
}

// ship sends new log. Rclone has copied what was there before, as it would have in a cron job.
func (s *story) ship(ctx context.Context) (err error) {
	b := s.b
	clone := func(tool string) step {
		return step{row: rowShip, tool: tool, bucket: s.cloneBucket, work: []pipeline{{b.rclone(b.env.home, s.cloneBucket, "--include", "/log.*")}}}
	}
	before := clone(toolRclone)
	before.hidden = true
	if b.opt.wants(rowShip) {
		if err := b.measure(ctx, before); err != nil {
			return err
		}
	}
	if s.logWritten, err = b.env.makeLog(ctx, logToShip); err != nil {
		return err
	}
	return s.measure(ctx,
		s.countLog(s.vault(rowShip, toolVault, "ship")), s.countLog(clone(toolRclone)),
		s.vault(rowShip, toolVault+nothingNew, "ship"), clone(toolRclone+nothingNew))
}

func (s *story) countLog(st step) step {
	st.after = func(_ cost, v sample) error {
		v[logBytes] = float64(s.logWritten)
		return nil
	}
	return st
}

// restore brings the newest state back: bdbvault with its own recovery, restic without any, and the engine's program recovers the
// same files that bdbvault recovered.
func (s *story) restore(ctx context.Context) error {
	b := s.b
	if !b.opt.wants(rowRestore) {
		return nil
	}
	newest := s.restic(rowRestore, toolRestic)
	newest.hidden = true
	if err := b.measure(ctx, newest); err != nil {
		return err
	}
	return errors.Join(
		s.restoreVault(ctx, rowRestore, toolVault),
		s.restoreRestic(ctx),
		s.recoverSame(ctx))
}

func (s *story) restoreVault(ctx context.Context, row, tool string) error {
	to := filepath.Join(s.dir, "restored")
	err := s.b.measure(ctx, step{row: row, tool: tool, bucket: s.vaultBucket,
		work:  []pipeline{{s.b.vault(s.vaultBucket, s.state, "restore", "--to", to)}},
		after: func(c cost, v sample) error { return afterVault(to, c, v) }})
	return errors.Join(err, os.RemoveAll(to))
}

func (s *story) restoreRestic(ctx context.Context) error {
	to := filepath.Join(s.dir, "restored")
	err := s.b.measure(ctx, step{row: rowRestore, tool: toolRestic, bucket: s.resticBucket,
		work: []pipeline{{s.b.restic(s.resticBucket, s.cache, "restore", "latest", "--target", to)}},
		after: func(_ cost, v sample) error {
			v[dataWall], v[dataCPU] = v[wall], v[cpu]
			return afterRestore(to, v)
		}})
	return errors.Join(err, os.RemoveAll(to))
}

// restoreAnswer is what the bench wants to know of the answer to restore.
type restoreAnswer struct {
	RecoverSeconds float64 `json:"recoverSeconds"`
	VerifySeconds  float64 `json:"verifySeconds"`
}

// afterVault takes recovery and verification off, which the engine's child does. What is left is counted as bringing the data back,
// with the planning, the log and the checks.
func afterVault(to string, c cost, v sample) error {
	var a restoreAnswer
	if err := answer(c, &a); err != nil {
		return err
	}
	v[recoverWall], v[verifyWall] = a.RecoverSeconds, a.VerifySeconds
	v[dataWall] = v[wall] - a.RecoverSeconds - a.VerifySeconds
	v[dataCPU] = v[cpu] - v[childCPU]
	return afterRestore(to, v)
}

func afterRestore(to string, v sample) (err error) {
	began := time.Now()
	syscall.Sync()
	v[syncWall] = time.Since(began).Seconds()
	size, err := sizeBelow(to)
	v[restored] = float64(size)
	return err
}

// recoverSame has bdbvault bring everything back up to the moment before recovery, and then measures the engine's own program.
func (s *story) recoverSame(ctx context.Context) error {
	b, to := s.b, filepath.Join(s.dir, "unrecovered")
	defer os.RemoveAll(to) // its story's directory is removed with the error looked at
	lay := command{args: []string{b.self, layDownCommand, s.vaultBucket, b.store.server.Endpoint, b.bin, to}, env: b.childEnv}
	if _, err := runAll(ctx, pipeline{lay}); err != nil {
		if ctx.Err() != nil {
			return err
		}
		b.failed++
		b.note(rowRestore, "%s could not be measured: %v", toolRecover, err)
		return nil
	}
	files, err := filesBelow(to)
	if err != nil {
		return err
	}
	if err := warm(ctx, files); err != nil {
		return err
	}
	return b.measure(ctx, step{row: rowRestore, tool: toolRecover, bucket: s.vaultBucket,
		work:  []pipeline{{{args: []string{b.programs["db5.3_recover"], "-c", "-h", to}, env: b.childEnv}}},
		after: func(_ cost, v sample) error { v[recoverWall] = v[wall]; return nil }})
}
