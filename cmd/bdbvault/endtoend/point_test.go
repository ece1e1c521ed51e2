package endtoend

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/localenv/envtest"
	"bdbvault/restore"
)

// TestPointInTime restores to moments chosen at random among many commits, by LSN, by time and by transaction id: each holds exactly the commits up to there.
// One environment is encrypted and ships without the password, so that names of segments carry no times. BDBVAULT_TORTURE=50 is 100,000 commits and 300 restores.
func TestPointInTime(t *testing.T) {
	n := torture()
	for _, c := range []struct {
		name, password string
		byLSN, byTime  int
	}{{"plain", "", 6, 2}, {"encrypted", password, 6, 2}} {
		t.Run(c.name, func(t *testing.T) {
			for _, seed := range seeds(t, 1) {
				p := newPoints(t, c.password, uint64(min(1000*n, 50000)), seed)
				lsn, other := min(c.byLSN*n, 100), min(c.byTime*n, 25)
				p.many(lsn, func(c logCommit) (restore.Target, bdb.LSN) {
					if p.random.IntN(2) == 0 {
						return restore.Target{LSN: c.next}, c.next
					}
					return restore.Target{LSN: c.lsn}, c.lsn
				})
				p.many(other, func(c logCommit) (restore.Target, bdb.LSN) {
					at := c.time.Add(time.Duration(p.random.IntN(1000)) * time.Millisecond)
					return restore.Target{At: at}, p.lastOf(at)
				})
				p.many(other, func(c logCommit) (restore.Target, bdb.LSN) { return restore.Target{BeforeTxn: c.txn}, c.lsn })
			}
		})
	}
}

// logCommit is a commit as the source's log has it.
type logCommit struct {
	lsn, next bdb.LSN
	txn       restore.TxnID
	time      time.Time
}

// points is an environment with a long history, and that history.
type points struct {
	*vault
	random  *rand.Rand
	commits []logCommit
	numbers map[bdb.LSN]uint64 // of the bank
	reach   restore.Range
}

func newPoints(t *testing.T, pass string, commits uint64, seed uint64) *points {
	env := envtest.Create(t, filepath.Join(scratch(t), "home"), envtest.Spec{
		Password: pass, LogFileSize: 512 << 10, Cache: 16 << 20, Bank: &envtest.Bank{Accounts: 30, Payload: 10},
	})
	p := &points{vault: newVault(t, env.Home), random: rand.New(rand.NewPCG(seed, 7)), numbers: map[bdb.LSN]uint64{}}
	t.Logf("BDBVAULT_SEED=%d", seed)
	p.password = pass
	blind := *p.vault
	blind.password = ""
	w := envtest.StartBank(t, env, envtest.BankOptions{Processes: 2, Rate: max(300, float64(commits)/30), Checkpoint: 300 * time.Millisecond, Commits: commits / 2, Seed: seed})
	waitCommits(t, w, commits/50)
	p.mustBackup(archive.BackupOptions{BulkSafe: archive.BulkOff})
	ships := startShips(&blind)
	for i := uint64(1); i < 12; i++ {
		waitCommits(t, w, commits*i/12)
		p.mustBackup(archive.BackupOptions{BulkSafe: archive.BulkOff})
	}
	waitCommits(t, w, commits)
	ships.stop()
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	blind.mustShip()
	p.readLog(w)
	h, err := restore.ReadHistory(t.Context(), p.repo, "test")
	if err != nil || len(h.Ranges) != 1 || len(h.Ranges[0].Backups) != 12 {
		t.Fatalf("ranges %s: %v", dump(h.Ranges), err)
	}
	p.reach = h.Ranges[0]
	return p
}

func (p *points) readLog(w *envtest.Workload) {
	p.t.Helper()
	for _, c := range w.Commits() {
		p.numbers[c.LSN] = c.Number
	}
	log, err := p.env().OpenLog(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	_, err = log.Walk(p.t.Context(), bdb.LSN{File: 1}, func(r *bdb.Record) error {
		if c, ok := r.Commit(); ok {
			p.commits = append(p.commits, logCommit{lsn: c.LSN, next: r.Next(), txn: restore.TxnID(c.Txn), time: c.Time})
		}
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// lastOf is the end of the last commit of a moment or earlier.
func (p *points) lastOf(at time.Time) (end bdb.LSN) {
	for _, c := range p.commits {
		if !c.time.After(at) {
			end = c.next
		}
	}
	return end
}

// count is the number of the bank's last commit before an LSN.
func (p *points) count(end bdb.LSN) (n uint64) {
	for lsn, number := range p.numbers {
		if lsn.Before(end) {
			n = max(n, number)
		}
	}
	return n
}

// many restores to so many of the commits that can be reached.
func (p *points) many(n int, choose func(logCommit) (restore.Target, bdb.LSN)) {
	p.t.Helper()
	began := time.Now()
	for done := 0; done < n; {
		target, end := choose(p.commits[p.random.IntN(len(p.commits))])
		if end.Before(p.reach.From) || !end.Before(p.reach.To) || !target.At.IsZero() && !target.At.Truncate(time.Second).Before(p.reach.ToTime) {
			continue
		}
		p.restoreTo(target, end)
		done++
	}
	p.t.Logf("%d restores, %v each", n, time.Since(began)/time.Duration(n))
}

func (p *points) restoreTo(target restore.Target, end bdb.LSN) {
	t := p.t
	t.Helper()
	target.Key = p.key()
	fail := func(err error) { t.Fatalf("%s: %v", target, err) }
	before := p.repo.Bucket.Stats().Requests
	plan, err := restore.MakePlan(t.Context(), p.repo, "test", target)
	if err != nil {
		fail(err)
	}
	after := p.repo.Bucket.Stats().Requests
	if n := after.Total() - before.Total(); n > 40 && target.BeforeTxn == 0 {
		t.Errorf("%s: planning took %d requests", target, n)
	}
	to := filepath.Join(scratch(t), "to")
	res, err := restore.Restore(t.Context(), p.repo, plan, restore.Options{To: to, Verify: restore.VerifyNever, Engine: engine.Options{Password: p.password}})
	if err != nil {
		fail(err)
	}
	report, err := envtest.CheckBank(to, p.password)
	if err != nil {
		fail(err)
	}
	if want := p.count(end); report.LastCommit != want {
		fail(fmt.Errorf("commits up to %d, want %d; ends at %s, want %s", report.LastCommit, want, res.End, end))
	}
	if plan.EndCommit == nil || !plan.EndCommit.Time.Equal(res.EndTime) {
		t.Errorf("%s: the plan says that the last commit is %s, the restore %s", target, dump(plan.EndCommit), res.EndTime)
	}
	if err := errors.Join(os.RemoveAll(filepath.Dir(to))); err != nil {
		fail(err)
	}
}
