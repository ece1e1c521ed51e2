package envtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"bdbvault/localenv/bdb"
)

// soon bounds a wait for a workload on a busy machine.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func waitCommit(t *testing.T, w *Workload, n uint64) {
	t.Helper()
	if err := w.WaitCommit(soon(t), n); err != nil {
		t.Fatal(err)
	}
}

// A killed bank is an exact prefix after the engine's own recovery, nothing acknowledged is missing, and it goes on from there.
func TestBankSurvivesKill(t *testing.T) {
	env := Create(t, t.TempDir(), Spec{Password: "secret", DataDirs: []string{"data"}, Bank: &Bank{Accounts: 20, Payload: 300}})
	var last uint64
	for range 2 {
		w := StartBank(t, env, BankOptions{Processes: 3, Checkpoint: 50 * time.Millisecond})
		waitCommit(t, w, last+300)
		w.Kill()
		if err := Recover(env.Home, env.Password); err != nil {
			t.Fatal(err)
		}
		r, err := CheckBank(env.Home, env.Password)
		if err != nil {
			t.Fatal(err)
		}
		if last = r.LastCommit; last < w.LastCommitted() {
			t.Errorf("recovered to %d, acknowledged were %d", last, w.LastCommitted())
		}
	}
	sound(t, env)
}

func TestBankReports(t *testing.T) {
	env := Create(t, t.TempDir(), Spec{Bank: &Bank{History: "recno"}})
	w := StartBank(t, env, BankOptions{Processes: 1, Rate: 2000, Durability: "sync"})
	waitCommit(t, w, 20)
	if err := Checkpoint(env.Home, ""); err != nil {
		t.Errorf("checkpoint of a live environment: %v", err)
	}
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	previous := Commit{}
	for _, c := range w.Commits() {
		if c.Number != previous.Number+1 || !previous.LSN.Before(c.LSN) {
			t.Fatalf("commit %d at %v follows %d at %v", c.Number, c.LSN, previous.Number, previous.LSN)
		}
		previous = c
	}
	if r, err := CheckBank(env.Home, ""); err != nil || r.LastCommit != w.LastCommitted() {
		t.Errorf("stopped after %d, found %d: %v", w.LastCommitted(), r.LastCommit, err)
	}
}

// The check fails when it must.
func TestCheckBankNotices(t *testing.T) {
	original := Create(t, t.TempDir(), Spec{Bank: &Bank{History: "recno"}})
	w := StartBank(t, original, BankOptions{Commits: 50})
	waitCommit(t, w, 60)
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	tamper := map[string]func(*TestHold){
		"lost commit":      func(h *TestHold) { h.Delete("", HistoryFile, 7, 1) },
		"commit too many":  func(h *TestHold) { h.Put("", HistoryFile, int(w.LastCommitted()), 1) },
		"changed commit":   func(h *TestHold) { h.Put("", HistoryFile, 7, 1) },
		"changed account":  func(h *TestHold) { h.Put("", "bank-accounts-0.db", 3, 1) },
		"lost account":     func(h *TestHold) { h.Delete("", "bank-accounts-1.db", 3, 1) },
		"account too many": func(h *TestHold) { h.Put("", "bank-accounts-0.db", 10000, 1) },
		"empty database":   func(h *TestHold) { h.Truncate("", "bank-accounts-2.db") },
		"lost database":    func(h *TestHold) { h.Remove("", "bank-accounts-0.db") },
	}
	for name, do := range tamper {
		t.Run(name, func(t *testing.T) {
			home := filepath.Join(t.TempDir(), "copy")
			if err := CopyHome(original.Home, home); err != nil {
				t.Fatal(err)
			}
			if _, err := CheckBank(home, ""); err != nil {
				t.Fatal(err)
			}
			h := StartHold(t, Open(home, ""))
			do(h)
			h.Close()
			if r, err := CheckBank(home, ""); err == nil {
				t.Errorf("not noticed: %+v", r)
			}
		})
	}
	t.Run("stale page", func(t *testing.T) { staleCounter(t, original.Home) })
}

// staleCounter puts the counter's database back to an earlier state, as a copy that mixes two moments would.
func staleCounter(t *testing.T, home string) {
	old := read(t, filepath.Join(home, BankFile))
	w := StartBank(t, Open(home, ""), BankOptions{Processes: 1, Commits: 1})
	waitCommit(t, w, 1)
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	overwrite(t, filepath.Join(home, BankFile), 0, old)
	var broken *BankError
	if _, err := CheckBank(home, ""); !errors.As(err, &broken) {
		t.Errorf("not noticed: %v", err)
	}
}

// A crash image taken at any instant recovers to an exact prefix.
func TestFreeze(t *testing.T) {
	env := Create(t, t.TempDir(), Spec{Bank: &Bank{PageSize: 512, Payload: 700}})
	w := StartBank(t, env, BankOptions{Processes: 2, Checkpoint: 50 * time.Millisecond})
	for i := range 3 {
		waitCommit(t, w, w.LastCommitted()+100)
		image := filepath.Join(t.TempDir(), strconv.Itoa(i))
		if err := w.Freeze(func() error { return CopyHome(env.Home, image) }); err != nil {
			t.Fatal(err)
		}
		if err := RecoverApart(image, ""); err != nil {
			t.Fatal(err)
		}
		if r, err := CheckBank(image, ""); err != nil || r.LastCommit == 0 {
			t.Errorf("image %d reaches %d: %v", i, r.LastCommit, err)
		}
	}
}

// Databases come and go; the log replayed from nothing gives the same as the truth on disk while the workers pause. Now and then the
// engine's recovery, which replays it, gives up: then another history is tried.
func TestChurnReplay(t *testing.T) {
	for i := range torture() {
		tries := 0
		for ; tries < 10 && !churnReplays(t); tries++ {
		}
		if tries == 10 {
			t.Fatalf("round %d: the engine gave up all of %d replays", i, tries)
		}
	}
}

// churnReplays reports whether the engine could replay the log of a new environment.
func churnReplays(t *testing.T) bool {
	t.Helper()
	env := Create(t, t.TempDir(), Spec{DataDirs: []string{"data"}, Bank: &Bank{}})
	w := StartChurn(t, env, ChurnOptions{Processes: 2, Rate: 500, Rows: 50, Checkpoint: 100 * time.Millisecond, Without: []string{ChurnExtents}})
	bank := StartBank(t, env, BankOptions{Processes: 1, Rate: 200})
	if err := w.WaitSteps(soon(t), 100); err != nil {
		t.Fatal(err)
	}
	home, image := filepath.Join(t.TempDir(), "replay"), filepath.Join(t.TempDir(), "image")
	var truth Contents
	quiet := func() (err error) {
		if truth, err = Dump(env.Home, ""); err != nil {
			return err
		}
		return CopyHome(env.Home, image)
	}
	if err := w.Quiesce(soon(t), func() error { return bank.Quiesce(soon(t), quiet) }); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Stop(), bank.Stop(), Verify(image, "")); err != nil {
		t.Error(err)
	}
	var gaveUp *ToolError
	if err := Replay(image, "", home, bdb.LSN{}); errors.As(err, &gaveUp) {
		t.Log(err)
		return false
	} else if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, truth, dump(t, home, ""))
	if _, err := CheckBank(home, ""); err != nil {
		t.Error(err)
	}
	return true
}

// torture is how often a heavy test repeats itself.
func torture() int {
	if n, err := strconv.Atoi(os.Getenv("BDBVAULT_TORTURE")); err == nil {
		return n
	}
	return 1
}
