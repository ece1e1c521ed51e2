package endtoend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/restore"
)

// churnShape is an environment in which databases come and go while it is backed up.
type churnShape struct {
	spec    envtest.Spec
	churn   []envtest.ChurnOptions
	blind   bool // backup and ship don't have the password
	replay  bool // the log is kept from its first record on, and the engine can replay it
	torture bool // only with BDBVAULT_TORTURE
}

// TestChurn backs up environments in which databases of all kinds are created, filled, truncated, compacted, renamed and removed at every stage of
// the backup, by transactions that commit, abort, or are still open when it ends. Each backup is restored twice:
//
//   - to its own consistent-at, where it must equal the truth. That is what the source holds, if the workloads pause there, before the backup reads the log's end. If they go
//     on, it is what the oldest backup becomes with all of the log up to there, and for one backup of each environment what the engine makes of the whole log from
//     its first record on, and of nothing else;
//   - rolled forward, often over later backups, to a moment at which the source stands still, where it must equal the source.
//
// What db5.3_recover -c makes of the same files and log is counted, to show that the workload is as bad as it is meant to be. BDBVAULT_TORTURE=25 makes 50 backups of
// each environment.
func TestChurn(t *testing.T) {
	for name, shape := range churnShapes() {
		if shape.torture && torture() == 1 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			count := &tally{}
			seed := seeds(t, 1)[0]
			t.Logf("BDBVAULT_SEED=%d", seed)
			churn(t, shape, seed, count)
			t.Log(count)
		})
	}
}

func churnShapes() map[string]churnShape {
	noExtents := []string{envtest.ChurnExtents}
	two := []envtest.ChurnOptions{{Files: 6, Without: noExtents}, {Files: 6, Without: noExtents, Folder: "sub"}}
	busy := []envtest.ChurnOptions{{Processes: 2, Without: noExtents, Checkpoint: 400 * time.Millisecond, RemoveLogs: true}}
	queues := []string{"btree", envtest.ChurnHash, envtest.ChurnHeap, envtest.ChurnRecno, envtest.ChurnDup, envtest.ChurnInside}
	return map[string]churnShape{
		"home": {replay: true, churn: []envtest.ChurnOptions{{Processes: 2, Without: noExtents}}},
		"directories": {replay: true, churn: two, spec: envtest.Spec{
			DataDirs: []string{"data1", "data2", "data1/inner"}, LogDir: "logs", LogFileSize: 200 << 10,
		}},
		"create directory": {replay: true, churn: two, spec: envtest.Spec{
			DataDirs: []string{"data1", "."}, AddDirs: []string{"data2"}, CreateDir: "data2",
		}},
		"encrypted": {replay: true, churn: two, spec: envtest.Spec{Password: password, LogFileSize: 200 << 10}},
		"encrypted, read blindly": {replay: true, churn: two, blind: true, spec: envtest.Spec{
			Password: password, DataDirs: []string{"data1"}, LogDir: "logs",
		}},
		"logs removed": {churn: busy, spec: envtest.Spec{LogFileSize: 100 << 10}},
		"logs remove themselves": {churn: busy, spec: envtest.Spec{
			LogFileSize: 100 << 10, LogFlags: []string{"db_log_auto_remove"}, DataDirs: []string{"data1"}, LogDir: "logs",
		}},
		// The engine's own recovery of queues with extents crashes now and then.
		"extents": {torture: true, churn: []envtest.ChurnOptions{{Without: queues}}},
	}
}

// backupsPerHome is how many backups an environment sees, times BDBVAULT_TORTURE: enough to have parents.
const backupsPerHome = 2

// password is that of encrypted environments.
const password = "open sesame"

// seeds are those of n runs. BDBVAULT_SEED repeats one.
func seeds(t *testing.T, n int) (list []uint64) {
	t.Helper()
	if text := os.Getenv("BDBVAULT_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("BDBVAULT_SEED: %v", err)
		}
		return []uint64{seed}
	}
	for range n {
		list = append(list, rand.Uint64N(1_000_000))
	}
	return list
}

// tally counts backups, and restores by what they were compared with.
type tally struct {
	backups, pages, reread  int
	source, replay, oldest  int
	alone                   int // restores that there is nothing to compare with
	lost                    int // replays that the engine gave up
	wrong, failed, compared int
}

func (c *tally) String() string {
	return fmt.Sprintf("%d backups (%d pages, %d read again), %d restores equal to the source, %d to the engine's replay of the whole log (which gave up %d times), %d to the oldest backup with all of the log, "+
		"%d that nothing can be compared with; of these %d, db5.3_recover -c got %d wrong and failed with %d",
		c.backups, c.pages, c.reread, c.source, c.replay, c.lost, c.oldest, c.alone, c.compared, c.wrong, c.failed)
}

// stock counts what the stock recovery makes of a restore that is right.
func (c *tally) stock(r *restored, truth envtest.Contents) {
	c.compared++
	switch wrong, err := r.stock(truth); {
	case err != nil:
		c.failed++
	case len(wrong) > 0:
		c.wrong++
	}
}

// churned is one run: an environment with its workloads.
type churned struct {
	*vault
	shape  churnShape
	loads  []*envtest.Workload
	random *rand.Rand
	count  *tally
	chain  []*manifest.Manifest // backups of the present timeline
	alone  bool                 // the last restore to a backup's own consistent-at was compared with nothing

	resting atomic.Bool // the workloads pause, or are about to
}

func churn(t *testing.T, shape churnShape, seed uint64, count *tally) {
	c := startChurn(t, shape, seed)
	c.count = count
	backups := backupsPerHome * torture()
	replay := c.random.IntN(min(backups, 4)) // later the log is long, and the engine slow
	for i := range backups {
		c.mustStep(20)
		switch {
		case i == replay && shape.replay:
			c.afterReplay()
		case len(c.chain) == 0 || c.alone || c.random.IntN(2) == 0:
			c.atRest()
		default:
			c.inMotion()
		}
		c.mustStep(20)
		c.rollForward(c.chain[c.random.IntN(len(c.chain))].ID)
	}
	compared := count.source + count.replay + count.oldest
	if compared+count.alone != 2*backups || count.alone > 0 && !c.removesLog() || count.alone > (backups+1)/2 {
		t.Errorf("%d backups, but %d restores compared and %d not", backups, compared, count.alone)
	}
}

// atRest backs up while everything changes until the pages are copied. The workloads pause before the log's end is read.
func (c *churned) atRest() {
	c.t.Helper()
	reached, goOn, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	opt := c.disturbed()
	disturb, rest := opt.Step, sync.OnceFunc(func() { close(reached) })
	opt.Step = func(stage string) error {
		if stage == "log-end" {
			c.resting.Store(true)
			rest() // copying begins anew if log files were removed meanwhile
			<-goOn
		}
		if c.resting.Load() {
			return nil
		}
		return disturb(stage)
	}
	defer c.resting.Store(false)
	var m *manifest.Manifest
	var err error
	go func() {
		defer close(done)
		m, err = c.record(opt)
	}()
	select {
	case <-reached:
	case <-done:
		close(goOn)
		c.t.Fatalf("backup: %v%s", err, c.story())
	}
	var truth envtest.Contents
	quiet := c.quiet(func() error {
		close(goOn)
		<-done
		truth = c.contents(c.home)
		return err
	})
	if quiet != nil {
		c.t.Fatalf("backup at rest: %v%s", quiet, c.story())
	}
	c.compare(restore.Target{Backup: m.ID, LSN: m.ConsistentAt}, truth)
	c.count.source++
}

// inMotion backs up while everything changes to the end. The truth is what the oldest backup becomes.
func (c *churned) inMotion() {
	c.t.Helper()
	c.compareWithOldest(c.mustRecord())
}

func (c *churned) compareWithOldest(m *manifest.Manifest) {
	c.t.Helper()
	if c.alone = c.chain[0] == m; c.alone { // the log before it was removed
		c.mustRestoreBeside(restore.Target{Backup: m.ID, LSN: m.ConsistentAt}).remove()
		c.count.alone++
		return
	}
	target := restore.Target{Backup: c.chain[0].ID, LSN: m.ConsistentAt}
	r := c.mustRestoreBeside(target)
	truth := c.contents(r.home)
	r.remove()
	c.compare(restore.Target{Backup: m.ID, LSN: m.ConsistentAt}, truth)
	c.count.oldest++
}

// afterReplay backs up while everything changes to the end. The truth is what the engine makes of nothing but the source's log; if it makes nothing of it, for it
// crashes over subdatabases that are gone and gives up where a truncation was aborted (see TestTraps and TestTruncatedInVain), what the oldest backup becomes.
func (c *churned) afterReplay() {
	c.t.Helper()
	m := c.mustRecord()
	home := filepath.Join(c.t.TempDir(), "replay")
	replay := func() error { return envtest.Replay(c.home, c.shape.spec.Password, home, m.ConsistentAt) }
	var tool *envtest.ToolError
	if err := c.still((*envtest.Workload).Freeze, replay); errors.As(err, &tool) {
		c.t.Logf("the engine's own replay of the whole log: %v", err)
		c.count.lost++
		c.compareWithOldest(m)
		return
	} else if err != nil {
		c.t.Fatal(err)
	}
	c.compare(restore.Target{Backup: m.ID, LSN: m.ConsistentAt}, c.contents(home))
	c.count.replay++
}

func startChurn(t *testing.T, shape churnShape, seed uint64) *churned {
	shape.spec.Seed = seed
	shape.spec.Databases = []envtest.Database{
		{File: "old.db", Method: "btree", Records: 300, Overflow: true}, {File: "oldhash.db", Method: "hash", Records: 200, PageSize: 512},
	}
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), shape.spec)
	c := &churned{vault: newVault(t, env.Home), shape: shape, random: rand.New(rand.NewPCG(seed, 0))}
	if !shape.blind {
		c.password = env.Password
	}
	create := cmp.Or(shape.spec.CreateDir, append(shape.spec.DataDirs, ".")[0])
	for i, o := range shape.churn {
		if err := os.MkdirAll(filepath.Join(env.Home, create, o.Folder), 0o755); err != nil {
			t.Fatal(err)
		}
		o.Seed, o.Rate, o.Rows = seed+uint64(i), 60, 30
		o.Checkpoint = cmp.Or(o.Checkpoint, 100*time.Millisecond)
		c.loads = append(c.loads, envtest.StartChurn(t, env, o))
	}
	return c
}

// step returns when every workload has done n steps more.
func (c *churned) step(n uint64) error {
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	for _, w := range c.loads {
		if err := w.WaitSteps(ctx, n); err != nil {
			return errors.Join(err, w.Err())
		}
	}
	return nil
}

func (c *churned) mustStep(n uint64) {
	c.t.Helper()
	if err := c.step(n); err != nil {
		c.t.Fatalf("the workload: %v", err)
	}
}

// disturb lets the workloads go on between any two stages of a backup, which of so small an environment would be over in a blink.
func (c *churned) disturb() func(string) error {
	lists, limit := 0, 1+c.random.IntN(4)
	return func(stage string) error {
		if stage == "list" {
			lists++
		}
		if lists > limit { // for every file that is made while the backup waits, it lists once more
			return nil
		}
		return c.step(c.random.Uint64N(10))
	}
}

// disturber is the progress of a backup. It lets the workloads go on between any two files.
type disturber struct {
	c  *churned
	mu sync.Mutex
	n  int
}

func (*disturber) Phase(string, int64) {}
func (*disturber) Add(int64)           {}
func (d *disturber) Note(text string)  { d.c.t.Log(text) }
func (d *disturber) File(string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.n++; d.n < 20 && !d.c.resting.Load() {
		d.c.step(1) // an error comes up at the next stage
	}
}

// disturbed are the options of a backup that is made while everything changes.
func (c *churned) disturbed() archive.BackupOptions {
	opt := archive.BackupOptions{Step: c.disturb(), Progress: &disturber{c: c}, ReadAll: c.random.IntN(2) == 0, Checkpoint: c.random.IntN(2) == 0}
	if c.shape.blind {
		opt.BulkSafe, opt.Checkpoint = archive.BulkOff, false // the engine would need the password
	}
	return opt
}

// record makes a backup.
func (c *churned) record(opt archive.BackupOptions) (*manifest.Manifest, error) {
	res, err := c.backup(opt)
	if err != nil {
		return nil, err
	}
	m := res.Manifest
	if len(c.chain) > 0 && c.chain[0].Timeline != m.Timeline {
		c.chain = nil
	}
	c.chain = append(c.chain, m)
	c.count.backups++
	c.count.pages += int(m.Pages.Read)
	c.count.reread += int(m.Pages.Reread)
	return m, nil
}

func (c *churned) mustRecord() *manifest.Manifest {
	c.t.Helper()
	m, err := c.record(c.disturbed())
	if err != nil {
		c.t.Fatalf("backup: %v%s", err, c.story())
	}
	return m
}

// rollForward lets the workloads pause, ships what they did, and restores the backup to the end.
func (c *churned) rollForward(backup manifest.BackupID) {
	c.t.Helper()
	err := c.quiet(func() error {
		_, err := c.ship()
		var broken *archive.ChainError
		if errors.As(err, &broken) && c.removesLog() {
			c.t.Log(err) // only a full backup helps
			var m *manifest.Manifest
			if m, err = c.record(archive.BackupOptions{}); err == nil {
				backup = m.ID
			}
		}
		if err == nil {
			c.compare(restore.Target{Backup: backup}, c.contents(c.home))
			c.count.source++
		}
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// removesLog reports whether the application removes log files, perhaps before they were shipped.
func (c *churned) removesLog() bool {
	return slices.ContainsFunc(c.shape.churn, func(o envtest.ChurnOptions) bool { return o.RemoveLogs })
}

// quiet calls fn between two transactions of every workload.
func (c *churned) quiet(fn func() error) error {
	return c.still(func(w *envtest.Workload, fn func() error) error { return w.Quiesce(c.t.Context(), fn) }, fn)
}

// still calls fn while no workload changes anything.
func (c *churned) still(stop func(*envtest.Workload, func() error) error, fn func() error) error {
	for _, w := range c.loads {
		inner := fn
		fn = func() error { return stop(w, inner) }
	}
	return fn()
}

func (c *churned) contents(home string) envtest.Contents {
	c.t.Helper()
	return contents(c.t, home, c.shape.spec.Password)
}

func contents(t *testing.T, home, password string) envtest.Contents {
	t.Helper()
	list, err := envtest.Dump(home, password)
	if err != nil {
		t.Fatalf("read %s: %v", home, err)
	}
	return list
}

// compare restores and holds the result against the truth.
func (c *churned) compare(target restore.Target, truth envtest.Contents) {
	c.t.Helper()
	r := c.mustRestoreBeside(target)
	if diff := envtest.Diff(truth, c.contents(r.home)); len(diff) > 0 {
		c.keep(r)
		c.t.Fatalf("the truth and the restore %s:\n%s%s", dump(target), strings.Join(diff, "\n"), c.story())
	}
	c.count.stock(r, truth)
	r.remove()
}

func (c *churned) mustRestoreBeside(target restore.Target) *restored {
	c.t.Helper()
	r, err := c.restoreBeside(target, c.shape.spec.Password)
	if err != nil {
		c.keep(r)
		c.t.Fatalf("restore %s: %v%s", dump(target), err, c.story())
	}
	return r
}

// keep copies what a restore that is wrong was made from into a new directory in BDBVAULT_KEEP, if that is set.
func (c *churned) keep(r *restored) {
	base := os.Getenv("BDBVAULT_KEEP")
	if base == "" || r == nil {
		return
	}
	dir, err := os.MkdirTemp(base, "churn-*")
	if err != nil {
		c.t.Fatal(err)
	}
	for name, from := range map[string]string{"repository": c.dir, "source": c.home, "restored": r.home, "beside": r.beside} {
		if out, err := exec.Command("cp", "-a", from, filepath.Join(dir, name)).CombinedOutput(); err != nil {
			c.t.Logf("keep %s: %s", from, out)
		}
	}
	c.t.Logf("kept in %s", dir)
}

// story is what the workloads did last.
func (c *churned) story() (text string) {
	for i, w := range c.loads {
		list := w.RecentSteps()
		text += fmt.Sprintf("\nworkload %d:\n%s", i, strings.Join(list[max(0, len(list)-200):], "\n"))
	}
	return text
}
