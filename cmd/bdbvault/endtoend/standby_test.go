package endtoend

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/localenv/envtest"
	"bdbvault/restore"
)

// standbyCycles is how many cycles a standby follows a live workload for.
func standbyCycles() int { return 4 * torture() }

// followed is a standby that the product keeps.
type followed struct {
	*vault
	to     string
	random *rand.Rand
	count  map[string]int
	cycles []restore.CycleResult
}

func newFollowed(v *vault, random *rand.Rand) *followed {
	return &followed{vault: v, to: filepath.Join(v.t.TempDir(), "standby"), random: random, count: map[string]int{}}
}

// command is the product with what makes the standby catch up once.
func (f *followed) command(args ...string) *exec.Cmd {
	f.t.Helper()
	path, err := product()
	if err != nil {
		f.t.Fatal(err)
	}
	cmd := exec.Command(path, append([]string{"standby", "--to", f.to, "-r", "file://" + f.dir, "--env", "test"}, args...)...)
	cmd.Env = append(os.Environ(), "BDBVAULT_DB_PASSWORD="+f.password)
	return cmd
}

// disturb starts a cycle that is killed at some moment, or whose engine is.
func (f *followed) disturb() {
	f.t.Helper()
	cmd := f.command("--once", "--quiet")
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	time.Sleep(time.Duration(f.random.IntN(300)) * time.Millisecond) // a moment at random, most within the cycle
	if f.random.IntN(3) == 0 {
		if child := childOf(cmd.Process.Pid); child != 0 {
			_ = syscall.Kill(child, syscall.SIGKILL)
			f.count["engine killed"]++
		}
		time.Sleep(time.Duration(f.random.IntN(200)) * time.Millisecond)
	}
	_ = cmd.Process.Kill()
	if cmd.Wait() != nil {
		f.count["killed"]++
	}
}

// childOf is the first child of a process; 0: it has none.
func childOf(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	first, _, _ := strings.Cut(string(text), " ")
	n, _ := strconv.Atoi(first)
	return n
}

// cycle lets the standby catch up and returns what it says.
func (f *followed) cycle() restore.CycleResult {
	f.t.Helper()
	cmd := f.command("--once", "--json")
	var notes strings.Builder
	cmd.Stderr = &notes
	out, err := cmd.Output()
	if err != nil {
		f.t.Fatalf("standby: %v: %s%s", err, out, &notes)
	}
	var res restore.CycleResult
	if err := json.Unmarshal(out, &res); err != nil {
		f.t.Fatalf("%v: %s", err, out)
	}
	f.count[res.Action]++
	if res.Why != "" {
		f.t.Logf("built anew: %s", res.Why)
		f.count["built anew"]++
	}
	f.cycles = append(f.cycles, res)
	return res
}

// check holds the standby against a restore to where it stands.
func (f *followed) check(end bdb.LSN) {
	f.t.Helper()
	plan, err := restore.MakePlan(f.t.Context(), f.repo, "test", restore.Target{LSN: end})
	if err != nil {
		f.t.Fatal(err)
	}
	fresh := filepath.Join(f.t.TempDir(), "fresh")
	_, err = restore.Restore(f.t.Context(), f.repo, plan, restore.Options{To: fresh, Verify: restore.VerifyNever, Engine: engine.Options{Password: f.password}})
	if err != nil {
		f.t.Fatal(err)
	}
	if diff := envtest.Diff(contents(f.t, fresh, f.password), contents(f.t, f.to, f.password)); len(diff) > 0 {
		f.t.Fatalf("a restore to %s and the standby:\n%s", end, strings.Join(diff, "\n"))
	}
	if err := envtest.Verify(f.to, f.password); err != nil {
		f.t.Fatal(err)
	}
	if err := os.RemoveAll(fresh); err != nil {
		f.t.Fatal(err)
	}
}

// TestStandby has standbys follow live workloads, with kills of the process and of its engine at random moments. After every cycle the standby
// verifies and holds what a restore to the same LSN holds; in the end it is promoted, works, and is backed up.
func TestStandby(t *testing.T) {
	for _, seed := range seeds(t, 1) {
		t.Run(fmt.Sprintf("bank/%d", seed), func(t *testing.T) { standbyOfBank(t, seed) })
		t.Run(fmt.Sprintf("churn/%d", seed), func(t *testing.T) { standbyOfChurn(t, seed) })
	}
}

func standbyOfBank(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{
		DataDirs: []string{"data1", "data2"}, LogDir: "logs", LogFileSize: 1 << 20, Bank: &envtest.Bank{}, Seed: seed,
	})
	v := newVault(t, env.Home)
	load := envtest.StartBank(t, env, envtest.BankOptions{Processes: 2, Rate: 300, Checkpoint: 300 * time.Millisecond})
	v.mustBackup(archive.BackupOptions{})
	f, second := newFollowed(v, random), newFollowed(v, random)
	for i := range standbyCycles() {
		waitCommits(t, load, load.LastCommitted()+random.Uint64N(100))
		if random.IntN(20) == 0 {
			v.mustBackup(archive.BackupOptions{Checkpoint: random.IntN(2) == 0})
		} else {
			v.mustShip()
		}
		if random.IntN(2) == 0 {
			f.disturb()
		}
		res := f.cycle()
		f.checkBank(load, res.End)
		f.check(res.End)
		if i%4 == 1 {
			second.check(second.cycle().End)
		}
	}
	if err := load.Stop(); err != nil {
		t.Fatal(err)
	}
	shipped := v.mustShip()
	f.promote(load.LastCommitted(), shipped.To)
	t.Logf("%v; the second standby: %v", f.count, second.count)
}

// checkBank proves that the standby is an exact prefix of the commits, and has all that were shipped.
func (f *followed) checkBank(load *envtest.Workload, end bdb.LSN) {
	f.t.Helper()
	report, err := envtest.CheckBank(f.to, f.password)
	if err != nil {
		f.t.Fatal(err)
	}
	if want := commitsBefore(load, end); report.LastCommit < want {
		f.t.Fatalf("the standby has %d commits at LSN %s, where %d were made", report.LastCommit, end, want)
	}
}

// promote makes the standby a home, lets an application work on it, and backs it up: under the same name it begins a new timeline.
func (f *followed) promote(commits uint64, end bdb.LSN) {
	t := f.t
	t.Helper()
	promoted := &vault{t: t, home: f.to, repo: f.repo, state: f.state, dir: f.dir}
	_, err := archive.Backup(t.Context(), f.repo, promoted.env(), archive.BackupOptions{Env: "test", StateDir: f.state})
	if _, refused := errors.AsType[*archive.StandbyError](err); !refused {
		t.Errorf("backup of a standby: %v", err)
	}
	if out, err := f.command("--promote").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	report, err := envtest.CheckBank(f.to, f.password)
	if err != nil || report.LastCommit != commits {
		t.Errorf("promoted: %+v, %v; want %d commits", report, err, commits)
	}
	if out, err := f.command("--once").CombinedOutput(); err == nil || !strings.Contains(string(out), "was promoted at") {
		t.Errorf("following again: %v: %s", err, out)
	}
	timeline := f.cycles[len(f.cycles)-1].Timeline
	env := envtest.Open(f.to, f.password)
	load := envtest.StartBank(t, env, envtest.BankOptions{Processes: 2, Rate: 300})
	waitCommits(t, load, commits+50)
	if err := load.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := promoted.ship(); !isBroken(err) {
		t.Errorf("ship from the promoted home, whose log goes on where the old timeline ends: %v", err)
	}
	for _, name := range []string{"test", "other"} {
		res, err := archive.Backup(t.Context(), f.repo, promoted.env(), archive.BackupOptions{Env: name, StateDir: f.state, BulkSafe: archive.BulkOff})
		if err != nil {
			t.Fatal(err)
		}
		if res.Manifest.Timeline == timeline || res.Manifest.NewTimeline == "" {
			t.Errorf("the backup of the promoted home as %s is on the old timeline", name)
		}
		plan, err := restore.MakePlan(t.Context(), f.repo, name, restore.Target{})
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(t.TempDir(), name)
		if _, err := restore.Restore(t.Context(), f.repo, plan, restore.Options{To: to}); err != nil {
			t.Fatal(err)
		}
		if report, err := envtest.CheckBank(to, ""); err != nil || report.LastCommit != load.LastCommitted() {
			t.Errorf("restored from %s: %+v, %v; want %d commits", name, report, err, load.LastCommitted())
		}
	}
}

func isBroken(err error) bool {
	_, broken := errors.AsType[*archive.ChainError](err)
	return broken
}

func standbyOfChurn(t *testing.T, seed uint64) {
	shape := churnShape{churn: []envtest.ChurnOptions{{Files: 6, Without: []string{envtest.ChurnExtents}}, {Files: 6, Without: []string{envtest.ChurnExtents}, Folder: "sub"}},
		spec: envtest.Spec{DataDirs: []string{"data1", "data2"}, LogFileSize: 200 << 10}}
	if torture() > 1 {
		shape.spec.LogFileSize = 2 << 20 // nobody removes them, and each is held open while the log is read
	}
	c := startChurn(t, shape, seed)
	if _, err := c.backup(archive.BackupOptions{}); err != nil {
		t.Fatal(err)
	}
	f := newFollowed(c.vault, c.random)
	for i := range standbyCycles() {
		if i%50 == 49 {
			t.Logf("%d cycles: %v", i, f.count)
		}
		c.mustStep(c.random.Uint64N(30))
		if c.random.IntN(12) == 0 {
			if _, err := c.backup(archive.BackupOptions{}); err != nil {
				t.Fatal(err)
			}
		} else {
			c.mustShip()
		}
		if c.random.IntN(2) == 0 {
			f.disturb()
		}
		f.check(f.cycle().End)
	}
	t.Log(f.count)
}
