package restore_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"bdbvault/localenv/envtest"
	"bdbvault/restore"
)

// TestStandbyKilledWithLinks ends a cycle while a file has all of its names, which it has for as long as recovery runs. The next cycle
// repairs that.
func TestStandbyKilledWithLinks(t *testing.T) {
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{Databases: []envtest.Database{{File: "a.db", Method: "btree", PageSize: 512, Records: 600}}})
	h := envtest.StartHold(t, env)
	h.Delete("", "a.db", 100, 400)
	h.Checkpoint()
	p := newPacker(t, "")
	p.full(env.Home, nil)
	opt := restore.StandbyOptions{To: filepath.Join(t.TempDir(), "to")}
	cycle := func() (*restore.CycleResult, error) {
		s, err := restore.OpenStandby(opt)
		p.must(err)
		defer s.Close()
		return s.Cycle(t.Context(), p.repo)
	}
	_, err := cycle()
	p.must(err)
	h.Begin("vain")
	h.Compact("vain", "a.db")
	h.Abort("vain")
	h.Rename("", "a.db", "b.db")
	h.FlushLog()
	p.ship(env.Home)
	ended := errors.New("ended here")
	opt.Step = func(step string) error {
		if step == "pass" {
			return ended
		}
		return nil
	}
	if _, err := cycle(); !errors.Is(err, ended) {
		t.Fatal(err)
	}
	opt.Step = nil
	for _, name := range []string{"a.db", "b.db"} {
		if _, err := os.Lstat(filepath.Join(opt.To, name)); err != nil {
			t.Errorf("the test shows nothing: %v", err)
		}
	}
	res, err := cycle()
	p.must(err)
	if diff := compareFresh(t, p, res, opt); len(diff) > 0 || res.Action == restore.ActionBuilt {
		t.Errorf("%s: %v", res.Action, diff)
	}
}
