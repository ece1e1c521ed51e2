package endtoend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/restore"
)

// churnShape is an environment in which databases come and go while it is backed up.
type churnShape struct {
	spec   envtest.Spec
	churn  []envtest.ChurnOptions
	blind  bool // backup and ship don't have the password
	replay bool // the log is kept from its first record on, and the engine can replay it

	backups int  // that one environment sees; 0: backupsPerHome
	torture bool // only with BDBVAULT_TORTURE
}

// TestChurn backs up environments in which databases of all kinds are created, filled, truncated, compacted, renamed and removed at every stage of
// the backup, by transactions that commit, abort, or are still open when it ends. Each backup is restored twice:
//
//   - to its own consistent-at, where it must equal what the engine makes of the whole log from its first record on, and of nothing else (by
//     default, one of each environment's backups, as that takes long);
//   - rolled forward, often over later backups, to a moment at which the source stands still, where it must equal the source.
//
// What db5.3_recover -c makes of the same files and log is counted, to show that the workload is as bad as it is meant to be.
func TestChurn(t *testing.T) {
	for name, shape := range churnShapes() {
		if shape.torture && torture() == 1 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			count := &tally{}
			runs := torture()
			if shape.backups > 0 {
				runs = min(runs, 2)
			}
			for _, seed := range seeds(t, runs) {
				t.Logf("BDBVAULT_SEED=%d", seed)
				t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { churn(t, shape, seed, count) })
			}
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
		"long": {replay: true, torture: true, backups: 50, churn: two, spec: envtest.Spec{
			DataDirs: []string{"data1", "data2"}, LogDir: "logs", LogFileSize: 1 << 20,
		}},
		// The engine's own recovery of queues with extents crashes now and then.
		"extents": {torture: true, churn: []envtest.ChurnOptions{{Without: queues}}},
	}
}

// backupsPerHome is how many backups an environment sees: enough to have parents.
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

// tally counts restores.
type tally struct{ backups, pages, reread, restores, compared, replayed, lost, crashed, wrong, failed int }

func (c *tally) String() string {
	return fmt.Sprintf("%d backups (%d pages, %d read again), %d restores, %d equal to the truth, %d of them to the replay (which failed in %d environments), %d crashed or gave up; db5.3_recover -c got %d of these wrong and failed with %d",
		c.backups, c.pages, c.reread, c.restores, c.compared, c.replayed, c.lost, c.crashed, c.wrong, c.failed)
}

// add counts a restore that is right, and what the stock recovery makes of it.
func (c *tally) add(r *restored, truth envtest.Contents) {
	c.restores++
	if truth == nil {
		return
	}
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
	replay *envtest.Replayer // nil: none, or it has failed
	truth  string            // what it makes
}

func churn(t *testing.T, shape churnShape, seed uint64, count *tally) {
	c := startChurn(t, shape, seed)
	c.count = count
	defer c.endReplay()
	backups := cmp.Or(shape.backups, backupsPerHome)
	replay := c.random.IntN(backups)
	var list []manifest.BackupID // since the log may last have had a gap
	for i := range backups {
		c.mustStep(20)
		m := c.disturbed().Manifest
		count.backups++
		count.pages += int(m.Pages.Read)
		count.reread += int(m.Pages.Reread)
		var truth envtest.Contents
		if i == replay || torture() > 1 {
			truth = c.replayed(m.ConsistentAt)
		}
		c.compare(restore.Target{Backup: m.ID, LSN: m.ConsistentAt}, truth)
		if c.removesLog() {
			list = nil
		}
		list = append(list, m.ID)
		c.mustStep(20)
		c.rollForward(list[c.random.IntN(len(list))])
	}
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
	if shape.replay {
		c.truth = filepath.Join(t.TempDir(), "replay")
		c.replay = envtest.NewReplayer(env.Home, env.Password, c.truth)
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
	if d.n++; d.n < 20 {
		d.c.step(1) // an error comes up at the next stage
	}
}

// disturbed makes a backup while everything changes.
func (c *churned) disturbed() *archive.BackupResult {
	c.t.Helper()
	opt := archive.BackupOptions{Step: c.disturb(), Progress: &disturber{c: c}, ReadAll: c.random.IntN(2) == 0, Checkpoint: c.random.IntN(2) == 0}
	if c.shape.blind {
		opt.BulkSafe, opt.Checkpoint = archive.BulkOff, false // the engine would need the password
	}
	res, err := c.backup(opt)
	if err != nil {
		c.t.Fatalf("backup: %v%s", err, c.story())
	}
	return res
}

// replayed is what the engine makes of nothing but the source's log up to an LSN; nil if it makes nothing of it.
func (c *churned) replayed(until bdb.LSN) envtest.Contents {
	c.t.Helper()
	if c.replay == nil {
		return nil
	}
	replay := func() error { return c.replay.Until(until) }
	var tool *envtest.ToolError
	if err := c.still((*envtest.Workload).Freeze, replay); errors.As(err, &tool) {
		// It crashes over subdatabases that are gone, and gives up where a truncation was aborted: see TestTraps and TestTruncatedInVain.
		c.t.Logf("the engine's own replay of the whole log failed, so restores have nothing to be compared with from here on: %v", err)
		c.count.lost++
		c.endReplay()
		return nil
	} else if err != nil {
		c.t.Fatal(err)
	}
	c.count.replayed++
	return c.contents(c.truth)
}

func (c *churned) endReplay() {
	if c.replay != nil {
		if err := c.replay.Close(); err != nil {
			c.t.Error(err)
		}
	}
	c.replay = nil
}

// rollForward lets the workloads pause, ships what they did, and restores the backup to the end.
func (c *churned) rollForward(backup manifest.BackupID) {
	c.t.Helper()
	quiesce := func(w *envtest.Workload, fn func() error) error { return w.Quiesce(c.t.Context(), fn) }
	err := c.still(quiesce, func() error {
		_, err := c.ship()
		var broken *archive.ChainError
		if errors.As(err, &broken) && c.removesLog() {
			c.t.Log(err) // only a full backup helps
			var res *archive.BackupResult
			if res, err = c.backup(archive.BackupOptions{}); err == nil {
				backup = res.Manifest.ID
			}
		}
		if err == nil {
			c.compare(restore.Target{Backup: backup}, c.contents(c.home))
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

// compare restores and holds the result against the truth, if there is one.
func (c *churned) compare(target restore.Target, truth envtest.Contents) {
	c.t.Helper()
	r, err := c.restoreBeside(target, c.shape.spec.Password)
	if c.crashed(err) {
		c.t.Logf("restore %s: %v", dump(target), err)
		c.count.crashed++
		r.remove()
		return
	}
	if err != nil {
		c.t.Fatalf("restore %s: %v%s", dump(target), err, c.story())
	}
	if truth != nil {
		if diff := envtest.Diff(truth, c.contents(r.home)); len(diff) > 0 {
			c.t.Fatalf("the truth and the restore %s:\n%s%s", dump(target), strings.Join(diff, "\n"), c.story())
		}
	}
	c.count.add(r, truth)
	r.remove()
}

// crashed tells a restore of an encrypted environment in which libdb's recovery crashed or gave up: over a subdatabase that was removed, and its
// metadata page used anew, or over a file that was cut off before it was copied. See the limits in the README.
func (c *churned) crashed(err error) bool {
	var recovery *restore.RecoveryError
	return c.shape.spec.Password != "" && errors.As(err, &recovery)
}

// story is what the workloads did last.
func (c *churned) story() (text string) {
	for i, w := range c.loads {
		list := w.RecentSteps()
		text += fmt.Sprintf("\nworkload %d:\n%s", i, strings.Join(list[max(0, len(list)-200):], "\n"))
	}
	return text
}
