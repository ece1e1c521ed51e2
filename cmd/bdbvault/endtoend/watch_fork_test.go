package endtoend

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/restore"
)

// TestOldHostComesBack freezes a host. Its environment is restored on another one, which goes to work under watch; then the first one wakes up and works on,
// and its watch too, as if nothing had been. Both histories can be restored afterwards: they are not mixed.
func TestOldHostComesBack(t *testing.T) {
	dir := scratch(t)
	old := envtest.Create(t, filepath.Join(dir, "old"), envtest.Spec{LogFileSize: 256 << 10, Bank: &envtest.Bank{Payload: 200}})
	v := newVault(t, old.Home)
	c := newCLI(t).with("BDBVAULT_REPOSITORY=file://"+v.dir, "BDBVAULT_ENV=test")
	watched := func(home string) *ongoing {
		return c.with("BDBVAULT_STATE_DIR="+home+".state").start("watch", "-h", home, "--full-every", "0", "--ship-every", "100ms")
	}
	first := watched(old.Home)
	first.says("the log continues timeline")
	begin := tellers(t, old, 1, 300)
	v.awaitStored(old.Home)
	stop(t, first, syscall.SIGSTOP)
	backup := c.backups()[0].ID

	home := filepath.Join(dir, "new")
	c.must("restore", "--to", home, "--quiet")
	second := watched(home)
	second.says("the log continues timeline")
	fresh := tellers(t, envtest.Open(home, ""), 2, 900)
	v.awaitStored(home)
	stop(t, first, syscall.SIGCONT)
	stale := tellers(t, old, 3, 2000)
	v.awaitStoredBehind(backup, old.Home)
	for _, w := range []*ongoing{first, second} {
		stop(t, w, syscall.SIGTERM)
		if s := w.wait(); s.code != 0 {
			t.Error(s)
		}
	}
	for _, r := range []struct {
		args []string
		want uint64
	}{{nil, fresh}, {[]string{"--backup", backup}, stale}} {
		to := filepath.Join(dir, "to")
		c.must(append([]string{"restore", "--to", to, "--quiet"}, r.args...)...)
		if got := check(t, v, to, begin); got != r.want {
			t.Errorf("restore %v: %d commits, %d were made there", r.args, got, r.want)
		}
	}
}

// tellers has the bank make so many commits more, and tells how many it has then.
func tellers(t *testing.T, env *envtest.Environment, seed, n uint64) uint64 {
	t.Helper()
	w := envtest.StartBank(t, env, envtest.BankOptions{Processes: 1, Commits: n, Seed: seed, Checkpoint: 100 * time.Millisecond})
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if uint64(len(w.Commits())) >= n {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the bank is slow")
		}
	}
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	return w.LastCommitted()
}

func stop(t *testing.T, r *ongoing, sig os.Signal) {
	t.Helper()
	if err := r.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// awaitStored waits until all log of a home can be restored.
func (v *vault) awaitStored(home string) {
	v.t.Helper()
	v.awaitStoredBehind("", home)
}

func (v *vault) awaitStoredBehind(backup, home string) {
	v.t.Helper()
	other := *v
	other.home = home
	log, err := other.env().OpenLog(v.t.Context())
	if err != nil {
		v.t.Fatal(err)
	}
	defer log.Close()
	want, err := log.End(v.t.Context())
	if err != nil {
		v.t.Fatal(err)
	}
	var end bdb.LSN
	for until := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		plan, err := restore.MakePlan(v.t.Context(), v.repo, "test", restore.Target{Backup: manifest.BackupID(backup)})
		if err == nil {
			end = plan.End
		}
		if !end.Before(want) {
			return
		}
		if time.Now().After(until) {
			v.t.Fatalf("stored up to %s of %s: %v", end, want, err)
		}
	}
}
