package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"bdbvault/localenv/envtest"
)

// master runs a workload's processes for somebody at a shell.
type master struct {
	place  *place
	stop   *stopFlags
	every  time.Duration
	what   string
	counts func(*envtest.Workload) uint64
}

func newMaster(f *flag.FlagSet, what string, counts func(*envtest.Workload) uint64) *master {
	m := &master{place: placeFlags(f), stop: addStopFlags(f), what: what, counts: counts}
	f.DurationVar(&m.every, "progress", 0, "print how far it is every so often; 0 is never")
	return m
}

func bank(f *flag.FlagSet, args []string) error {
	m := newMaster(f, "commits", func(w *envtest.Workload) uint64 { return uint64(len(w.Commits())) })
	var o envtest.BankOptions
	f.IntVar(&o.Processes, "processes", 2, "how many writers")
	f.Float64Var(&o.Rate, "rate", 0, "commits per second of all of them together; 0 is as fast as possible")
	f.StringVar(&o.Durability, "durability", "write-nosync", "what a commit waits for: sync, write-nosync or nosync")
	f.DurationVar(&o.Checkpoint, "checkpoint", 0, "checkpoint every so often; 0 is never")
	f.BoolVar(&o.RemoveLogs, "remove-logs", false, "after each checkpoint, remove log files that the environment no longer needs")
	f.Uint64Var(&o.Seed, "seed", 0, "which transfers are made")
	f.Parse(args)
	return m.run(func(e *envtest.Environment) (*envtest.Workload, error) { return e.RunBank(o) })
}

func churn(f *flag.FlagSet, args []string) error {
	m := newMaster(f, "steps", (*envtest.Workload).Steps)
	var o envtest.ChurnOptions
	f.IntVar(&o.Processes, "processes", 1, "how many workers, each with databases of its own")
	f.Float64Var(&o.Rate, "rate", 0, "steps per second of all of them together; 0 is as fast as possible")
	f.IntVar(&o.Files, "files", 8, "how many database files each keeps, about")
	f.DurationVar(&o.Checkpoint, "checkpoint", 0, "checkpoint every so often; 0 is never")
	f.BoolVar(&o.RemoveLogs, "remove-logs", false, "after each checkpoint, remove log files that the environment no longer needs")
	f.Uint64Var(&o.Seed, "seed", 0, "which steps are done")
	f.Var((*list)(&o.Without), "without", "a `kind` of change to leave out, such as renames or extents; may be repeated")
	f.Parse(args)
	return m.run(func(e *envtest.Environment) (*envtest.Workload, error) { return e.RunChurn(o) })
}

// run starts the processes, waits for the word to stop or for their end, and prints in JSON what was done.
func (m *master) run(start func(*envtest.Environment) (*envtest.Workload, error)) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Setenv(envtest.ToolVariable, self); err != nil {
		return err
	}
	s := m.stop.begin()
	w, err := start(envtest.Open(m.place.home, m.place.password))
	if err != nil {
		return err
	}
	begun := time.Now()
	m.watch(s, w)
	seconds := time.Since(begun).Seconds()
	if err := w.Stop(); err != nil {
		return err
	}
	n := m.counts(w)
	return printJSON(map[string]any{m.what: n, "seconds": seconds, "per second": float64(n) / seconds, "last commit": w.LastCommitted()})
}

func (m *master) watch(s *stopper, w *envtest.Workload) {
	last, next := uint64(0), time.Now().Add(m.every)
	for !s.stop.Load() && !w.Ended() {
		s.sleep(50 * time.Millisecond)
		if m.every == 0 || time.Now().Before(next) {
			continue
		}
		n := m.counts(w)
		fmt.Fprintf(os.Stderr, "%d %s, %.0f per second\n", n, m.what, float64(n-last)/m.every.Seconds())
		last, next = n, next.Add(m.every)
	}
}

// list is a flag that may be repeated.
type list []string

func (l *list) String() string     { return fmt.Sprint(*l) }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }
