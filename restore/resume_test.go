package restore_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"bdbvault/localenv"
	"bdbvault/localenv/envtest"
	"bdbvault/restore"
)

// stepper fails at one call of Step, counted over a whole restore.
type stepper struct {
	at, now int
	stage   string // that failed
	err     error
}

func (s *stepper) step(stage string) error {
	if s.now++; s.now-1 == s.at {
		s.stage = stage
		return s.err
	}
	return nil
}

// TestInterruptedEverywhere stops a restore at each of its steps in turn, and takes it up again.
func TestInterruptedEverywhere(t *testing.T) {
	env, p := small(t)
	h := envtest.StartHold(t, env)
	h.Create("", envtest.Database{File: "new.db", Method: "btree", Records: 300})
	h.Put("", "a.db", 9000, 300)
	h.FlushLog()
	p.ship(env.Home)
	h.Close()
	want := dump(t, env.Home, "")
	stop := errors.New("stop")
	for at := 0; ; at++ {
		to := filepath.Join(t.TempDir(), "to")
		s := &stepper{at: at, err: stop}
		_, err := p.restoreTo(to, restore.Options{Step: s.step, Verify: restore.VerifyNever})
		if s.now <= at {
			if err != nil || at < len(restore.Stages) {
				t.Fatalf("uninterrupted after %d steps: %v", at, err)
			}
			return
		}
		if !errors.Is(err, stop) {
			t.Fatalf("step %d, %s: %v", at, s.stage, err)
		}
		if _, err := os.Stat(filepath.Join(to, restore.MarkerName)); err != nil {
			t.Errorf("stopped at %s, the marker is gone: %v", s.stage, err)
		}
		res, err := p.restoreTo(to, restore.Options{})
		if err != nil {
			t.Fatalf("after a stop at %s: %v", s.stage, err)
		}
		if s.stage == "data" && res.Reused != int64(res.Files) {
			t.Errorf("stopped with all files back, %d of %d were kept", res.Reused, res.Files)
		}
		holds(t, want, to, "")
		if own, _ := filepath.Glob(filepath.Join(to, ".bdbvault-*")); len(own) != 1 || filepath.Base(own[0]) != localenv.OriginName {
			t.Errorf("after a stop at %s it leaves %v", s.stage, own)
		}
	}
}

func TestCancel(t *testing.T) {
	env, p := small(t)
	plan, err := restore.MakePlan(t.Context(), p.repo, envName, restore.Target{})
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "to")
	for _, stage := range []string{"file", "data", "pass", "recovered"} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := restore.Restore(ctx, p.repo, plan, restore.Options{To: to, Step: func(s string) error {
			if s == stage {
				cancel()
			}
			return nil
		}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at %s: %v", stage, err)
		}
		cancel()
	}
	if _, err := restore.Restore(t.Context(), p.repo, plan, restore.Options{To: to}); err != nil {
		t.Fatal(err)
	}
	same(t, env.Home, to, "")
}
