package endtoend

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"bdbvault/localenv/envtest"
)

// stockVariable says how often each of the two programs is killed, once by default: killing the stock program stops the application that it
// backs up, and waiting for what will never come takes time.
const stockVariable = "BDBVAULT_STOCK_KILLS"

// TestKilledBesideStock kills db5.3_hotbackup and bdbvault, equally often and each at random times of its run, under the same workload, and
// counts how often the application stands still after that: its writers, or its next checkpoint, for half a minute. Only for bdbvault that has to
// be never; the other is for comparison.
func TestKilledBesideStock(t *testing.T) {
	kills := 1
	if text := os.Getenv(stockVariable); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", stockVariable, err)
		}
	}
	seed := seeds(t, 1)[0]
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	stock := func(f *field) []string { return []string{"db5.3_hotbackup", "-h", f.home, "-b", f.t.TempDir()} }
	ours := func(f *field) []string { return f.cli("backup", "--read-all") }
	t.Run("db5.3_hotbackup", func(t *testing.T) { killOften(t, stock, kills, random) })
	t.Run("bdbvault", func(t *testing.T) {
		if harmed := killOften(t, ours, kills, random); harmed > 0 {
			t.Errorf("%d of %d kills stopped the application", harmed, kills)
		}
	})
}

// field is an application at work that is backed up. It is made anew when it has been stopped for good.
type field struct {
	*vault
	load *envtest.Workload
}

func newField(t *testing.T) *field {
	t.Helper()
	home := filepath.Join(t.TempDir(), "home")
	env := envtest.Create(t, home, envtest.Spec{
		Cache: 256 << 20, Config: []string{"set_lk_max_locks 200000", "set_lk_max_objects 200000"}, // the accounts are filled in one transaction
		Bank: &envtest.Bank{Accounts: 120000, Payload: 1000},
	})
	// The log of filling the databases would make up most of what is copied, as it does not in the long run.
	out, err := exec.Command("db5.3_archive", "-d", "-h", home).CombinedOutput()
	if err != nil {
		t.Fatalf("db5.3_archive: %v: %s", err, out)
	}
	f := &field{vault: newVault(t, home)}
	if f.load, err = env.RunBank(envtest.BankOptions{Processes: 3, Rate: 1500}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.load.Kill)
	return f
}

// writesBetween is how much the application commits between a kill and its next checkpoint: about a second's work.
const writesBetween = 1500

// stopped says what of the application stands still, "" if it is well.
func (f *field) stopped() string {
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	if err := f.load.WaitCommit(ctx, f.load.LastCommitted()+writesBetween); err != nil {
		return fmt.Sprintf("writers: %v", err)
	}
	if err := envtest.Checkpoint(f.home, ""); err != nil {
		return fmt.Sprintf("checkpoint: %v", err)
	}
	return ""
}

// killOften kills a program so many times and returns how often that stopped the application.
func killOften(t *testing.T, argv func(*field) []string, kills int, random *rand.Rand) (harmed int) {
	t.Helper()
	f := newField(t)
	typical := f.timeOf(argv(f))
	for killed := 0; killed < kills; {
		if !f.killAt(argv(f), time.Duration(random.Int64N(int64(typical)))) {
			continue // it had come to its end
		}
		killed++
		if what := f.stopped(); what != "" {
			harmed++
			t.Logf("kill %d stopped the %s", killed, what)
			f.load.Kill()
			f = newField(t)
		}
	}
	t.Logf("%d kills, %d of them stopped the application", kills, harmed)
	return harmed
}

func (f *field) timeOf(argv []string) time.Duration {
	f.t.Helper()
	began := time.Now()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		f.t.Fatalf("%s: %v: %s", argv, err, out)
	}
	took := time.Since(began)
	f.t.Logf("%s takes %v", filepath.Base(argv[0]), took.Round(time.Millisecond))
	return took
}

// killAt reports whether the program was still there to be killed.
func (f *field) killAt(argv []string, delay time.Duration) bool {
	f.t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	timer := time.AfterFunc(delay, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	if err != nil && cmd.ProcessState.Exited() {
		f.t.Fatal(fmt.Errorf("%s: %w", argv, err))
	}
	return err != nil
}
