package endtoend

import (
	"errors"
	"path/filepath"
	"testing"

	"bdbvault/localenv"
	"bdbvault/localenv/envtest"
	"bdbvault/localenv/hotcopy"
	"bdbvault/restore"
)

// errHalted is what a step returns that a run is to end with.
var errHalted = errors.New("stopped here")

// copying is what hotbackup does, step by step, with a hand on each.
type copying struct {
	home, to string
	update   bool
	step     func(string) error
}

func (c *copying) run(t *testing.T) error {
	t.Helper()
	env, err := localenv.Open(c.home, nil)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := restore.ClaimCopied(c.to, env.Home, c.update)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	opt := hotcopy.Options{Step: c.step}
	what, err := c.lay(t, env, copied, opt)
	if err != nil {
		return err
	}
	if _, err := copied.Recover(t.Context(), what, restore.Options{Step: c.step}); err != nil {
		return err
	}
	return copied.Finish()
}

func (c *copying) lay(t *testing.T, env *localenv.Env, copied *restore.Copied, opt hotcopy.Options) (*hotcopy.Copy, error) {
	ctx := t.Context()
	if !c.update {
		m := hotcopy.New(env, copied.Root(), opt)
		defer m.Close()
		for _, do := range []func() error{func() error { return m.Clean(ctx) }, func() error { return m.Files(ctx) }, func() error { return m.Log(ctx) }} {
			if err := do(); err != nil {
				return nil, err
			}
		}
		return m.Result(), nil
	}
	if begun := copied.Begun(); begun != nil {
		if _, err := copied.Recover(ctx, begun, restore.Options{Step: c.step}); err != nil {
			return nil, err
		}
	}
	u := hotcopy.NewUpdate(env, copied.Root(), opt)
	defer u.Close()
	for _, do := range []func() error{func() error { return u.Stage(ctx) }, func() error { return u.Move(ctx) }, func() error { return u.Replace(ctx) }} {
		if err := do(); err != nil {
			return nil, err
		}
	}
	return u.Result(), nil
}

// TestHotcopyStopsAnywhere ends a whole copy and an update at each of their steps in turn. Whatever was moved by then, the next run brings the copy to the
// source's state, and no commit is lost.
func TestHotcopyStopsAnywhere(t *testing.T) {
	top := t.TempDir()
	home, to := filepath.Join(top, "home"), filepath.Join(top, "copy")
	env := envtest.Create(t, home, envtest.Spec{DataDirs: []string{"data"}, LogFileSize: 64 << 10, Databases: []envtest.Database{
		{File: "btree.db", Method: "btree", Records: 200}, {File: "queue.db", Method: "queue", Extent: 4, Records: 100}}})
	shell(t, top, "mkdir", "-m", "700", to)
	for _, update := range []bool{false, true} {
		for _, stage := range stagesOf(t, &copying{home: home, to: to, update: update}) {
			grows(t, env, uint64(len(stage)))
			stop := &copying{home: home, to: to, update: update, step: func(name string) error {
				if name == stage {
					return errHalted
				}
				return nil
			}}
			if err := stop.run(t); !errors.Is(err, errHalted) {
				t.Fatalf("at step %s: %v", stage, err)
			}
			if err := (&copying{home: home, to: to, update: update}).run(t); err != nil {
				t.Fatalf("after step %s: %v", stage, err)
			}
			sameAs(t, home, to, stage)
		}
	}
}

// stagesOf are the names of all steps, by a run that takes them.
func stagesOf(t *testing.T, c *copying) (names []string) {
	t.Helper()
	seen := map[string]bool{}
	c.step = func(name string) error {
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
		return nil
	}
	if err := c.run(t); err != nil {
		t.Fatal(err)
	}
	if len(names) < 6 {
		t.Fatalf("steps %s", names)
	}
	return names
}

// grows has the source commit more, and a checkpoint make log files of it superfluous.
func grows(t *testing.T, env *envtest.Environment, seed uint64) {
	t.Helper()
	if err := env.GrowLog(100<<10, seed); err != nil {
		t.Fatal(err)
	}
	if err := envtest.Checkpoint(env.Home, ""); err != nil {
		t.Fatal(err)
	}
}

// sameAs holds the copy against the source, which nobody is writing to.
func sameAs(t *testing.T, home, to, stage string) {
	t.Helper()
	opened := filepath.Join(t.TempDir(), "opened")
	shell(t, "/", "cp", "-a", to, opened)
	shell(t, "/", "cp", "-a", home, opened+".home")
	removeRegions(t, opened+".home")
	diff := envtest.Diff(contents(t, opened+".home", ""), contents(t, opened, ""))
	if len(diff) > 0 {
		t.Fatalf("after step %s: %s", stage, diff)
	}
}
