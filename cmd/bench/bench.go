package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// bench is one run of this program.
type bench struct {
	opt      options
	dir      string // everything is below it
	bin      string // bdbvault
	self     string // this program
	store    *store
	programs programs
	childEnv []string
	env      *environment
	results  results
	notes    map[string][]string // by row
	machine  machine
	facts    []string // about the environment, for the report
	failed   int
	began    time.Time
}

func newBench(ctx context.Context, opt options, dir string) (*bench, error) {
	b := &bench{opt: opt, dir: dir, results: results{}, notes: map[string][]string{}, began: time.Now()}
	var err error
	if b.programs, err = findPrograms(); err != nil {
		return nil, err
	}
	if b.bin, err = findVault(ctx, opt.bin, dir); err != nil {
		return nil, err
	}
	if b.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if b.machine, err = describeMachine(dir); err != nil {
		return nil, err
	}
	if err := b.checkSpace(); err != nil {
		return nil, err
	}
	tmp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return nil, err
	}
	if b.store, err = startStore(ctx, filepath.Join(dir, "store")); err != nil {
		return nil, err
	}
	b.childEnv = b.store.env(tmp)
	return b, nil
}

// checkSpace wants room for home, a copy of it, and what the tools store.
func (b *bench) checkSpace() error {
	need := 4 * b.opt.sizes[0]
	if b.opt.wants(rowMemory) {
		for _, size := range b.opt.sizes {
			need = max(need, 5*size/2)
		}
	}
	if need > b.machine.free {
		return fmt.Errorf("%s has %s free, %s are needed: choose another -dir or a smaller -size", b.opt.dir, sizeText(b.machine.free), sizeText(need))
	}
	return nil
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench %7.1f s: %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

// all parts, in order.
func (b *bench) all(ctx context.Context) error {
	if b.needsEnvironment() {
		if err := b.atFirstSize(ctx); err != nil {
			return err
		}
	}
	if !b.opt.wants(rowMemory) {
		return nil
	}
	for i, size := range b.opt.sizes {
		if err := b.memory(ctx, size, i == 0); err != nil {
			return err
		}
	}
	return nil
}

// needsEnvironment reports whether anything but memory is to be measured.
func (b *bench) needsEnvironment() bool { return b.lastStage() >= 0 || b.opt.wants(rowLive) }

func (b *bench) atFirstSize(ctx context.Context) (err error) {
	if err := b.makeEnvironment(ctx, b.opt.sizes[0]); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.env.home)) }()
	if err := b.describeEnvironment(); err != nil {
		return err
	}
	for i := range b.opt.runs {
		if err := b.story(ctx, i); err != nil {
			return err
		}
	}
	if b.opt.wants(rowLive) {
		return b.live(ctx)
	}
	return nil
}

func (b *bench) describeEnvironment() error {
	size, err := sizeBelow(b.env.home)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%.2f GiB: half in 8 KiB pages, half in 16 KiB pages, and one log file of %d MiB", float64(size)/gib, logFileSize/mib)
	if b.env.ratio > 0 {
		text += fmt.Sprintf("; zstd -1 shrinks the databases %.2f-fold", b.env.ratio)
	}
	b.facts = append(b.facts, text)
	return nil
}

// note adds to what is printed below a row's table, once.
func (b *bench) note(row, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for _, n := range b.notes[row] {
		if n == text {
			return
		}
	}
	b.notes[row] = append(b.notes[row], text)
}

// step is one measurement.
type step struct {
	row, tool string
	bucket    string
	hidden    bool // only what comes later needs it
	work      []pipeline
	after     func(c cost, s sample) error // adds to the sample; nil: nothing to add
}

// measure does a step on warm files and records what it cost. A step that fails is a note: the others may still tell something.
func (b *bench) measure(ctx context.Context, st step) error {
	if missing := b.programs.lacks(st.tool); len(missing) > 0 {
		b.note(st.row, "%s is left out: apt-get install %s", st.tool, joinWords(missing))
		return nil
	}
	files, err := b.env.files()
	if err != nil {
		return err
	}
	if err := warm(ctx, files); err != nil {
		return err
	}
	s, err := b.measureWork(ctx, st)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		b.failed++
		b.say("%s: %s: %v", st.row, st.tool, err)
		b.note(st.row, "%s failed: %v", st.tool, err)
		return nil
	}
	if !st.hidden {
		b.results.add(st.row, st.tool, s)
		b.say("%s: %s: %.2f s, CPU %.2f s, %d requests", st.row, st.tool, s[wall], s[cpu], int(s[requests]))
	}
	return nil
}

func (b *bench) measureWork(ctx context.Context, st step) (sample, error) {
	before, err := b.store.objects(ctx, st.bucket)
	if err != nil {
		return nil, err
	}
	syscall.Sync()
	from, err := b.store.counters(ctx)
	if err != nil {
		return nil, err
	}
	c, err := runAll(ctx, st.work...)
	if err != nil {
		return nil, err
	}
	to, err := b.store.counters(ctx)
	if err != nil {
		return nil, err
	}
	after, err := b.store.objects(ctx, st.bucket)
	if err != nil {
		return nil, err
	}
	s := c.sample()
	s[storeCPU] = (to.cpu - from.cpu).Seconds()
	s[requests] = float64(to.requests - from.requests)
	s[fetched] = float64(to.sent - from.sent)
	s[stored] = float64(newBytes(before, after))
	if st.after != nil {
		err = st.after(c, s)
	}
	return s, err
}

func (c cost) sample() sample {
	return sample{
		wall: c.wall.Seconds(), cpu: c.cpu.Seconds(), peak: float64(c.peak), parentPeak: float64(c.family.peak),
		childPeak: float64(c.family.childPeak), childCPU: c.family.childCPU.Seconds(),
	}
}

// answer decodes what a bdbvault command printed.
func answer(c cost, into any) error {
	if err := json.Unmarshal(c.output, into); err != nil {
		return fmt.Errorf("what bdbvault printed: %w", err)
	}
	return nil
}
