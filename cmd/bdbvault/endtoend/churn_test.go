package endtoend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/localenv/envtest"
	"bdbvault/restore"
)

// churnShape is an environment in which databases come and go while it is backed up.
type churnShape struct {
	spec     envtest.Spec
	churn    []envtest.ChurnOptions
	password string // of backup and ship; restore and the environment take the spec's
	logsGo   bool   // the application removes log files, so no replay of the whole log is possible
}

// TestChurn backs up environments in which databases of all kinds are created, filled, truncated, compacted, renamed and removed at
// every moment of the backup, some of it in transactions that are aborted or still open. Each backup is restored twice. To its own
// consistent-at it must equal what the engine makes of the whole log from its first record on and nothing else. Rolled forward to a
// moment at which the source stood still it must equal the source.
//
// What the stock recovery makes of the very same files and log is counted, to show that the workload is as bad as it is meant to be.
func TestChurn(t *testing.T) {
	old := []envtest.Database{
		{File: "old.db", Method: "btree", Records: 2000, Overflow: true}, {File: "oldhash.db", Method: "hash", Records: 500, PageSize: 512},
	}
	two := []envtest.ChurnOptions{{Files: 6}, {Files: 6, Folder: "sub"}}
	shapes := map[string]churnShape{
		"home": {spec: envtest.Spec{}, churn: []envtest.ChurnOptions{{Processes: 2}}},
		"directories": {
			spec:  envtest.Spec{DataDirs: []string{"data1", "data2", "data1/inner"}, LogDir: "logs", LogFileSize: 200 << 10},
			churn: two,
		},
		"create directory": {
			spec:  envtest.Spec{DataDirs: []string{"data1", "."}, AddDirs: []string{"data2"}, CreateDir: "data2"},
			churn: two,
		},
		"encrypted": {spec: envtest.Spec{Password: "sesame", LogFileSize: 200 << 10}, churn: two, password: "sesame"},
		"encrypted, password unknown": {
			spec: envtest.Spec{Password: "sesame", DataDirs: []string{"data1"}, LogDir: "logs"}, churn: two,
		},
		"logs removed": {
			spec:   envtest.Spec{LogFileSize: 100 << 10},
			churn:  []envtest.ChurnOptions{{Processes: 2, Checkpoint: 20 * time.Millisecond, RemoveLogs: true}},
			logsGo: true,
		},
		"logs remove themselves": {
			spec:   envtest.Spec{LogFileSize: 100 << 10, LogFlags: []string{"db_log_auto_remove"}, DataDirs: []string{"data1"}, LogDir: "logs"},
			churn:  []envtest.ChurnOptions{{Processes: 2, Checkpoint: 20 * time.Millisecond}},
			logsGo: true,
		},
	}
	for name, shape := range shapes {
		shape.spec.Databases = old
		t.Run(name, func(t *testing.T) {
			count := &tally{}
			for _, seed := range seeds(t, torture()) {
				t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { churn(t, shape, seed, count) })
			}
			t.Logf("%s", count)
		})
	}
}

// backupsPerHome is how many backups one churned environment sees: enough for parents, few enough for replays of its whole log.
const backupsPerHome = 2

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
		list = append(list, rand.Uint64()%1_000_000)
	}
	return list
}

// tally counts restores.
type tally struct{ backups, restores, stockWrong, stockFailed int }

func (c *tally) String() string {
	return fmt.Sprintf("%d backups, %d restores right; db5.3_recover -c on the same files: %d wrong, of which %d said so",
		c.backups, c.restores, c.stockWrong, c.stockFailed)
}

// churned is one run: a home with its workloads.
type churned struct {
	*vault
	source string // the environment's password
	loads  []*envtest.Workload
	random *rand.Rand
	count  *tally
}

func churn(t *testing.T, shape churnShape, seed uint64, count *tally) {
	shape.spec.Seed = seed
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), shape.spec)
	c := &churned{vault: newVault(t, env.Home), source: env.Password, random: rand.New(rand.NewPCG(seed, 0)), count: count}
	c.password = shape.password
	if err := makeFolders(env.Home, shape); err != nil {
		t.Fatal(err)
	}
	for i, o := range shape.churn {
		o.Seed, o.Rate, o.Rows = seed+uint64(i), cmp.Or(o.Rate, 400), cmp.Or(o.Rows, 60)
		o.Checkpoint = cmp.Or(o.Checkpoint, 100*time.Millisecond)
		c.loads = append(c.loads, envtest.StartChurn(t, env, o))
	}
	for range backupsPerHome {
		c.steps(20)
		res := c.mustBackup(archive.BackupOptions{Step: c.disturb(), Progress: &disturber{c: c}, Checkpoint: c.random.IntN(3) == 0})
		c.count.backups++
		if !shape.logsGo {
			c.restoresToItself(res)
		}
		c.steps(20)
		c.rollsForward(res, shape.logsGo)
	}
}

func makeFolders(home string, shape churnShape) error {
	create := cmp.Or(shape.spec.CreateDir, append(shape.spec.DataDirs, ".")[0])
	var errs []error
	for _, o := range shape.churn {
		errs = append(errs, os.MkdirAll(filepath.Join(home, create, o.Folder), 0o755))
	}
	return errors.Join(errs...)
}

// steps returns when every workload has done n more.
func (c *churned) steps(n uint64) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	for _, w := range c.loads {
		if err := w.WaitSteps(ctx, n); err != nil {
			c.t.Fatalf("the workload: %v", errors.Join(err, w.Err()))
		}
	}
}

// disturb lets the workloads go on between any two stages of a backup, which on a small environment would else be over in a blink.
func (c *churned) disturb() func(string) error {
	lists := 0
	return func(stage string) error {
		if stage == "list" {
			lists++
		}
		// Every file made while the backup waits would have it list once more.
		if lists <= 1+c.random.IntN(4) {
			c.steps(uint64(1 + c.random.IntN(15)))
		}
		return nil
	}
}

// disturber lets them go on between any two files.
type disturber struct {
	c     *churned
	mu    sync.Mutex
	files int
}

func (*disturber) Phase(string, int64) {}
func (*disturber) Add(int64)           {}
func (d *disturber) Note(text string)  { d.c.t.Log(text) }
func (d *disturber) File(string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files++; d.files < 20 {
		d.c.steps(1)
	}
}

// frozen calls fn while no file changes.
func (c *churned) frozen(fn func()) {
	freeze := func() error { fn(); return nil }
	for _, w := range c.loads {
		inner := freeze
		freeze = func() error { return w.Freeze(inner) }
	}
	if err := freeze(); err != nil {
		c.t.Fatal(err)
	}
}

// quiet calls fn while every page is on disk and no transaction is open.
func (c *churned) quiet(fn func()) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	quiesce := func() error { fn(); return nil }
	for _, w := range c.loads {
		inner := quiesce
		quiesce = func() error { return w.Quiesce(ctx, inner) }
	}
	if err := quiesce(); err != nil {
		c.t.Fatal(err)
	}
}

// restoresToItself restores a backup to its consistent-at, and has the engine replay the source's log up to there.
func (c *churned) restoresToItself(res *archive.BackupResult) {
	at := res.Manifest.ConsistentAt
	c.frozen(func() {
		replay := filepath.Join(c.t.TempDir(), "replay")
		if err := envtest.Replay(c.home, c.source, replay, at); err != nil {
			c.t.Fatal(err)
		}
		c.compare(restore.Target{Backup: res.Manifest.ID, LSN: at}, contents(c.t, replay, c.source))
		if err := os.RemoveAll(replay); err != nil {
			c.t.Fatal(err)
		}
	})
}

// rollsForward stops the workloads, ships what they did, and restores the backup to the end.
func (c *churned) rollsForward(res *archive.BackupResult, logsGo bool) {
	c.quiet(func() {
		target := restore.Target{Backup: res.Manifest.ID}
		if _, err := c.ship(); err != nil {
			var broken *archive.ChainError
			if !logsGo || !errors.As(err, &broken) {
				c.t.Fatalf("ship: %v", err)
			}
			// The application was faster. A full backup goes on from here, as the message says.
			c.t.Log(err)
			target.Backup = c.mustBackup(archive.BackupOptions{}).Manifest.ID
		}
		c.compare(target, contents(c.t, c.home, c.source))
	})
}

func contents(t *testing.T, home, password string) envtest.Contents {
	t.Helper()
	c, err := envtest.Dump(home, password)
	if err != nil {
		t.Fatalf("read %s: %v", home, err)
	}
	return c
}

// compare restores and holds the result against the truth. The stock recovery gets a copy of what recovery begins with.
func (c *churned) compare(target restore.Target, truth envtest.Contents) {
	c.t.Helper()
	stock := filepath.Join(c.t.TempDir(), "stock")
	to, _, err := c.restoreAside(target, stock)
	if err != nil {
		c.t.Fatalf("restore %s: %v%s", dump(target), err, c.story())
	}
	if diff := envtest.Diff(truth, contents(c.t, to, c.source)); len(diff) > 0 {
		c.t.Fatalf("the truth and the restore %s:\n%s%s", dump(target), strings.Join(diff, "\n"), c.story())
	}
	if err := envtest.Verify(to, c.source); err != nil {
		c.t.Fatalf("restore %s: %v", dump(target), err)
	}
	c.count.restores++
	if wrong, err := stockWrong(stock, c.source, truth); err != nil || len(wrong) > 0 {
		c.count.stockWrong++
		if err != nil {
			c.count.stockFailed++
		}
	}
	for _, dir := range []string{to, stock} {
		if err := os.RemoveAll(dir); err != nil {
			c.t.Fatal(err)
		}
	}
}

// story is what the workloads did last.
func (c *churned) story() (text string) {
	for i, w := range c.loads {
		list := w.RecentSteps()
		text += fmt.Sprintf("\nworkload %d:\n%s", i, strings.Join(list[max(0, len(list)-100):], "\n"))
	}
	return text
}

// restoreAside restores, and leaves a copy of files and log as they were laid down for recovery.
func (v *vault) restoreAside(target restore.Target, aside string) (string, *restore.Result, error) {
	v.t.Helper()
	to := filepath.Join(v.t.TempDir(), "restored")
	plan, err := restore.MakePlan(v.t.Context(), v.repo, "test", target)
	if err != nil {
		return to, nil, err
	}
	password := v.password
	if plan.Manifest.Encrypted {
		password = "sesame"
	}
	res, err := restore.Restore(v.t.Context(), v.repo, plan, restore.Options{
		To: to, Verify: restore.VerifyAlways, Engine: engine.Options{Password: password},
		Step: func(stage string) error {
			if stage == "log" {
				return envtest.CopyHome(to, aside)
			}
			return nil
		},
	})
	return to, res, err
}

// stockWrong runs the engine's own program on files and log as they were laid down, and says what is wrong afterwards; an error
// is a program that noticed.
func stockWrong(home, password string, truth envtest.Contents) ([]string, error) {
	if err := envtest.RecoverCatastrophic(home, password); err != nil {
		return nil, err
	}
	got, err := envtest.Dump(home, password)
	if err != nil {
		return nil, err
	}
	return envtest.Diff(truth, got), nil
}

var _ bdb.LSN
