package archive_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/localenv/envtest"
	"bdbvault/remote/remotetest"
	"bdbvault/restore"
)

// watched is a watch that runs.
type watched struct {
	*archive.Watcher
	t *testing.T

	mu     sync.Mutex
	events []archive.Event
	end    func()
}

// watch runs a watch of b's environment until the test ends or stops it.
func (b *bench) watch(opt archive.WatchOptions) *watched {
	b.t.Helper()
	opt.Env, opt.StateDir, opt.Tool = "test", b.state, "test"
	if opt.ShipEvery == 0 {
		opt.ShipEvery = 50 * time.Millisecond
	}
	if opt.BulkSafe == "" {
		opt.BulkSafe = archive.BulkOff
	}
	w := &watched{t: b.t}
	opt.OnEvent = w.hear
	var err error
	if w.Watcher, err = archive.NewWatcher(b.repo, func() (*localenv.Env, error) { return localenv.Open(b.home, b.key) }, opt); err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	w.end = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				b.t.Errorf("watch: %v", err)
			}
		case <-time.After(time.Minute):
			b.t.Error("the watch does not stop")
		}
	})
	b.t.Cleanup(w.end)
	return w
}

func (w *watched) hear(e archive.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

// heard lists the events of a kind.
func (w *watched) heard(kind archive.EventKind) (list []archive.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind == kind {
			list = append(list, e)
		}
	}
	return list
}

// story is what happened, without the ships.
func (w *watched) story() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, e := range w.events {
		if e.Kind != archive.EventShipped {
			fmt.Fprintf(&b, "%s %s: %s\n", e.Time.Format("05.000"), e.Kind, e.Text)
		}
	}
	return b.String()
}

// await polls until a condition on the status holds.
func (w *watched) await(what string, ok func(archive.WatchStatus) bool) archive.WatchStatus {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		s := w.Status()
		if ok(s) {
			return s
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s: not so after long: %s\n%s", what, dump(s), w.story())
		}
	}
}

func (w *watched) awaitFulls(n int64) archive.WatchStatus {
	w.t.Helper()
	return w.await(fmt.Sprintf("%d full backups", n), func(s archive.WatchStatus) bool {
		return s.Counters.Fulls >= n && s.FullSince.IsZero() && s.ShippedTo.File > 0
	})
}

func (w *watched) awaitShipped(end bdb.LSN) archive.WatchStatus {
	w.t.Helper()
	return w.await("shipped to "+end.String(), func(s archive.WatchStatus) bool { return !s.ShippedTo.Before(end) && s.LagSeconds == 0 })
}

// logEnd is the end of b's log on disk.
func (b *bench) logEnd() bdb.LSN {
	b.t.Helper()
	log, err := b.env().OpenLog(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	defer log.Close()
	end, err := log.End(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return end
}

// restored is the latest state, brought back.
func (b *bench) restored() (home string, res *restore.Result) {
	b.t.Helper()
	plan, err := restore.MakePlan(b.t.Context(), b.repo, "test", restore.Target{})
	if err != nil {
		b.t.Fatal(err)
	}
	to := filepath.Join(b.t.TempDir(), "restored")
	if res, err = restore.Restore(b.t.Context(), b.repo, plan, restore.Options{To: to, Verify: restore.VerifyNever}); err != nil {
		b.t.Fatal(err)
	}
	return to, res
}

// restoresBank checks that the latest state is an exact prefix of the bank's commits with at least so many.
func (b *bench) restoresBank(least uint64) {
	b.t.Helper()
	home, _ := b.restored()
	r, err := envtest.CheckBank(home, "")
	if err != nil || r.LastCommit < least {
		b.t.Errorf("restored: %d commits, at least %d were there: %v", r.LastCommit, least, err)
	}
	if err := os.RemoveAll(home); err != nil {
		b.t.Error(err)
	}
}

func count(ops []remotetest.Op, name string) (n int) {
	for _, op := range ops {
		if op.Name == name {
			n++
		}
	}
	return n
}

// TestWatchCosts: one request per ship, none while nothing happens, and next to no processor time.
func TestWatchCosts(t *testing.T) {
	env, b := bank(t)
	h := envtest.StartHold(t, env)
	w := b.watch(archive.WatchOptions{ShipEvery: 20 * time.Millisecond})
	w.awaitFulls(1)
	w.awaitShipped(b.logEnd())
	b.rec.Ops()
	began := w.Status().Counters
	for n := range 100 {
		h.Put("", "bank-accounts-0.db", 1000+n, 1)
		w.awaitShipped(h.FlushLog())
	}
	ops, c := b.rec.Ops(), w.Status().Counters
	ships := c.Ships - began.Ships
	if puts := count(ops, "put"); puts != len(ops) || int64(puts) != c.Segments-began.Segments || ships < 100 || int64(puts) > ships+2 {
		t.Errorf("%d ships, %d segments: %d requests, %d of them PUTs", ships, c.Segments-began.Segments, len(ops), puts)
	}
	idle := time.Second
	if os.Getenv("BDBVAULT_TORTURE") != "" { // as it is by default
		w.end()
		w = b.watch(archive.WatchOptions{ShipEvery: time.Second})
		w.awaitShipped(b.logEnd())
		b.rec.Ops()
		idle = time.Minute
	}
	before := cpu(t)
	time.Sleep(idle) // it is the doing nothing that is measured
	used := cpu(t) - before
	t.Logf("%d ships made %d requests; idle for %v: %v of processor time", ships, len(ops), idle, used)
	if ops := b.rec.Ops(); len(ops) > 0 {
		t.Errorf("idle, it made %d requests: %v", len(ops), ops)
	}
	if used > idle/20 {
		t.Errorf("idle for %v, it used %v of processor time", idle, used)
	}
	w.end()
	home, _ := b.restored()
	for _, line := range envtest.Diff(contents(t, h, env), contents(t, nil, envtest.Open(home, ""))) {
		t.Errorf("first: source, second: restored from tails that were merged: %s", line)
	}
}

func contents(t *testing.T, h *envtest.TestHold, env *envtest.Environment) envtest.Contents {
	t.Helper()
	if h != nil {
		h.Checkpoint()
	}
	c, err := envtest.Dump(env.Home, env.Password)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestWatchThroughOutages: the store is away again and again under load, and the application removes its log files as soon as it may.
func TestWatchThroughOutages(t *testing.T) {
	env, b := bank(t)
	proxy := b.useMinIO()
	load := envtest.StartBank(t, env, envtest.BankOptions{Rate: 400, Checkpoint: 100 * time.Millisecond, RemoveLogs: true})
	w := b.watch(archive.WatchOptions{})
	w.awaitFulls(1)
	for range 2 {
		proxy.Down()
		w.await("log files held that have no name any more", func(s archive.WatchStatus) bool {
			return s.Held.RemovedFiles > 1 && s.State == archive.WatchRetrying && s.LagSeconds > 0
		})
		if err := proxy.Up(); err != nil {
			t.Fatal(err)
		}
		w.await("shipped again", func(s archive.WatchStatus) bool { return s.Held.RemovedFiles == 0 && s.RetryingSince.IsZero() })
	}
	if err := load.Stop(); err != nil {
		t.Fatal(err)
	}
	s := w.awaitShipped(b.logEnd())
	w.end()
	if s.Counters.Fulls != 1 || s.Counters.ChainBreaks != 0 || len(w.heard(archive.EventRecovered)) < 2 {
		t.Errorf("%s\n%s", dump(s.Counters), w.story())
	}
	b.restoresBank(load.LastCommitted())
}

// TestWatchShipsDuringAFull: the recovery point does not wait for a full backup.
func TestWatchShipsDuringAFull(t *testing.T) {
	env, b := bank(t)
	b.backup(archive.BackupOptions{})
	load := envtest.StartBank(t, env, envtest.BankOptions{Rate: 200})
	var w *watched
	held := make(chan struct{})
	w = b.watch(archive.WatchOptions{Full: archive.Every(time.Second), Step: func(name string) error {
		if name == "log-end" {
			<-held
		}
		return nil
	}})
	began := w.await("a full backup", func(s archive.WatchStatus) bool { return !s.FullSince.IsZero() })
	w.await("log shipped meanwhile", func(s archive.WatchStatus) bool {
		return s.Counters.Ships > began.Counters.Ships+5 && s.Counters.Fulls == 0 && s.LagSeconds < 30
	})
	close(held)
	w.awaitFulls(2)
	if err := load.Stop(); err != nil {
		t.Fatal(err)
	}
	s := w.awaitShipped(b.logEnd())
	w.end()
	if s.Counters.ChainBreaks > 0 || s.NextFull.Sub(s.LastFull) != time.Second {
		t.Errorf("%s\n%s", dump(s), w.story())
	}
	b.restoresBank(load.LastCommitted())
	again := b.watch(archive.WatchOptions{Full: archive.Every(time.Hour)})
	again.await("its place", func(s archive.WatchStatus) bool { return s.ShippedTo.File > 0 && s.State == archive.WatchIdle })
	if len(again.heard(archive.EventFullBegun)) > 0 {
		t.Errorf("a watch that is started again begins with a full backup: %s", again.story())
	}
}

// TestWatchFindsAnotherLog: whatever becomes of the log under the watch, it says so and begins a new timeline, and what it has stored restores.
func TestWatchFindsAnotherLog(t *testing.T) {
	// A copy of the home that was taken between two commits, as a power failure or a restore bring it back.
	copyHome := func(t *testing.T, b *bench) string {
		saved := filepath.Join(t.TempDir(), "home")
		if err := os.CopyFS(saved, os.DirFS(b.home)); err != nil {
			t.Fatal(err)
		}
		return saved
	}
	replace := func(t *testing.T, b *bench, by string) {
		if err := os.RemoveAll(b.home); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(by, b.home); err != nil {
			t.Fatal(err)
		}
	}
	begin := func(t *testing.T) (*envtest.Environment, *bench, *watched) {
		env, b := bank(t)
		w := b.watch(archive.WatchOptions{})
		w.awaitFulls(1)
		commit(t, env, 300, envtest.BankOptions{Seed: 1})
		w.awaitShipped(b.logEnd())
		return env, b, w
	}
	finish := func(t *testing.T, b *bench, w *watched, least uint64) {
		w.awaitFulls(2)
		commits := commit(t, envtest.Open(b.home, ""), 100, envtest.BankOptions{Seed: 3})
		s := w.awaitShipped(b.logEnd())
		w.end()
		if s.Counters.Fulls != 2 {
			t.Errorf("%d full backups", s.Counters.Fulls)
		}
		t.Log(w.story())
		b.restoresBank(max(least, commits))
	}
	t.Run("an older copy in its place", func(t *testing.T) {
		env, b, w := begin(t)
		saved := copyHome(t, b)
		commit(t, env, 300, envtest.BankOptions{Seed: 2})
		w.awaitShipped(b.logEnd())
		replace(t, b, saved)
		finish(t, b, w, 300)
		if len(w.heard(archive.EventReopened)) == 0 {
			t.Error("no event tells that the environment is another")
		}
	})
	t.Run("records lost in the same files, others in their place", func(t *testing.T) {
		env, b, w := begin(t)
		saved := copyHome(t, b)
		commit(t, env, 300, envtest.BankOptions{Seed: 2})
		w.awaitShipped(b.logEnd())
		overwrite(t, saved, b.home)
		if err := envtest.Recover(b.home, ""); err != nil {
			t.Fatal(err)
		}
		commit(t, envtest.Open(b.home, ""), 900, envtest.BankOptions{Seed: 9})
		finish(t, b, w, 900)
		if r, err := envtest.CheckBank(b.home, ""); err != nil {
			t.Errorf("the source itself is no prefix of %d commits, so this shows nothing: %v", r.LastCommit, err)
		}
		if len(w.heard(archive.EventChainBroken)) != 1 {
			t.Error("no event tells that the chain is broken")
		}
	})
	t.Run("made anew", func(t *testing.T) {
		_, b, w := begin(t)
		fresh := filepath.Join(t.TempDir(), "home")
		envtest.Create(t, fresh, envtest.Spec{LogFileSize: 1 << 20, Bank: &envtest.Bank{Payload: 100}})
		replace(t, b, fresh)
		finish(t, b, w, 0)
		if s := w.Status(); len(w.heard(archive.EventReplaced)) != 1 || !s.Broken.Replaced || s.Broken.At.IsZero() {
			t.Errorf("nothing tells that it is another environment: %+v", s.Broken)
		}
	})
	t.Run("gone, and back", func(t *testing.T) {
		_, b, w := begin(t)
		away := b.home + ".away"
		if err := os.Rename(b.home, away); err != nil {
			t.Fatal(err)
		}
		w.await("retrying", func(s archive.WatchStatus) bool { return s.State == archive.WatchRetrying })
		if err := os.Rename(away, b.home); err != nil {
			t.Fatal(err)
		}
		commits := commit(t, envtest.Open(b.home, ""), 100, envtest.BankOptions{})
		s := w.awaitShipped(b.logEnd())
		w.end()
		if s.Counters.Fulls != 1 || s.Counters.ChainBreaks != 0 {
			t.Errorf("%s\n%s", dump(s.Counters), w.story())
		}
		b.restoresBank(commits)
	})
	t.Run("removed while no watch was there", func(t *testing.T) {
		env, b, w := begin(t)
		w.end()
		commit(t, env, 6000, envtest.BankOptions{Checkpoint: 20 * time.Millisecond, RemoveLogs: true})
		again := b.watch(archive.WatchOptions{})
		again.awaitFulls(1)
		if broken := again.heard(archive.EventChainBroken); len(broken) != 1 || !strings.Contains(broken[0].Text, "removed before") {
			t.Errorf("%s", again.story())
		}
		again.end()
		b.restoresBank(6000)
	})
}

// overwrite brings the files of one home to what they are in another, as a disk does that lost its last writes: in place.
func overwrite(t *testing.T, from, to string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(to, "log.*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range logs {
		if _, err := os.Stat(filepath.Join(from, filepath.Base(name))); err != nil {
			os.Remove(name)
		}
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "__db.0") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filepath.Join(to, e.Name()), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(data, 0); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Truncate(int64(len(data))), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWatchRemovesShippedLogs restores after each of many removals, and recovers a copy of the source: neither needs what was removed.
func TestWatchRemovesShippedLogs(t *testing.T) {
	removals := 6
	if os.Getenv("BDBVAULT_TORTURE") != "" {
		removals = 100
	}
	env, b := bank(t)
	load := envtest.StartBank(t, env, envtest.BankOptions{Rate: 300, Checkpoint: 200 * time.Millisecond})
	w := b.watch(archive.WatchOptions{RemoveShippedLogs: true, Full: archive.Every(20 * time.Second)})
	w.awaitFulls(1)
	for n := int64(1); n <= int64(removals); n++ {
		s := w.await("a removal", func(s archive.WatchStatus) bool { return s.Counters.LogsRemoved >= n })
		committed, end := load.LastCommitted(), b.logEnd()
		w.await("shipped", func(s archive.WatchStatus) bool { return !s.ShippedTo.Before(end) })
		b.restoresBank(committed)
		if files, err := b.env().LogFiles(); err != nil || int64(files[0].Number) != s.Counters.LogsRemoved+1 && int64(files[0].Number) < n+1 {
			t.Errorf("after %d removals the oldest log file is %d: %v", s.Counters.LogsRemoved, files[0].Number, err)
		}
	}
	// The application dies, and recovers from what is left.
	load.Kill()
	w.end()
	committed := load.LastCommitted()
	if err := envtest.Recover(b.home, ""); err != nil {
		t.Fatalf("recover the source: %v", err)
	}
	if r, err := envtest.CheckBank(b.home, ""); err != nil || r.LastCommit < committed {
		t.Errorf("the source has %d of %d commits: %v", r.LastCommit, committed, err)
	}
	again := b.watch(archive.WatchOptions{RemoveShippedLogs: true})
	again.awaitShipped(b.logEnd())
	again.end()
	b.restoresBank(committed)
	t.Logf("%d log files were removed", w.Status().Counters.LogsRemoved)
}

// TestWatchHoldsTheFlag: what a bulk transaction loads is in the log, also after the application has begun anew.
func TestWatchHoldsTheFlag(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	env := envtest.Create(t, home, envtest.Spec{Databases: []envtest.Database{{File: "a.db", Method: "btree", PageSize: 4096, Records: 1000}}})
	b := newBench(t, home)
	h := envtest.StartHold(t, env)
	w := b.watch(archive.WatchOptions{BulkSafe: archive.BulkRequire, Engine: &engine.Options{}})
	w.awaitFulls(1)
	full := w.heard(archive.EventFullDone)[0].Full.Manifest
	if !full.BulkSafe.Held {
		t.Errorf("the full backup did not have the flag: %s", dump(full.BulkSafe))
	}
	h.BeginBulk("load")
	h.Put("load", "a.db", 100000, 3000)
	h.Commit("load")
	h.Close()

	// Recovery makes new regions, which know no flag.
	if err := envtest.Recover(home, ""); err != nil {
		t.Fatal(err)
	}
	h = envtest.StartHold(t, env)
	h.Put("", "a.db", 500000, 10)
	h.Checkpoint()
	w.await("the flag again", func(s archive.WatchStatus) bool { return s.Flag.Held && s.Flag.Lost == 1 })
	h.BeginBulk("load")
	h.Put("load", "a.db", 200000, 3000)
	h.Commit("load")
	w.awaitShipped(h.FlushLog())
	w.end()
	kinds := []archive.EventKind{}
	for _, e := range w.events {
		if strings.HasPrefix(string(e.Kind), "flag") {
			kinds = append(kinds, e.Kind)
		}
	}
	if want := []archive.EventKind{archive.EventFlagHeld, archive.EventFlagLost, archive.EventFlagHeld}; !slices.Equal(kinds, want) {
		t.Errorf("%v\n%s", kinds, w.story())
	}
	to, _ := b.restored()
	for _, line := range envtest.Diff(contents(t, h, env), contents(t, nil, envtest.Open(to, ""))) {
		t.Errorf("first: source, second: restored: %s", line)
	}
}

// TestWatchRefusesAnotherEnvironment: a name that belongs to another environment is no place to begin.
func TestWatchRefusesAnotherEnvironment(t *testing.T) {
	_, b := bank(t)
	b.backup(archive.BackupOptions{})
	other := filepath.Join(t.TempDir(), "home")
	envtest.Create(t, other, envtest.Spec{Databases: []envtest.Database{{File: "a.db", Method: "btree", Records: 10}}})
	run := func() error {
		w, err := archive.NewWatcher(b.repo, func() (*localenv.Env, error) { return localenv.Open(other, nil) },
			archive.WatchOptions{Env: "test", StateDir: b.state, BulkSafe: archive.BulkOff})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		return w.Run(ctx)
	}
	var refused *archive.OtherEnvironmentError
	if err := run(); !errors.As(err, &refused) {
		t.Errorf("run: %v", err)
	}
	if err := os.WriteFile(filepath.Join(other, localenv.StandbyName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var standby *archive.StandbyError
	if err := run(); !errors.As(err, &standby) {
		t.Errorf("run on a standby: %v", err)
	}
}
