package restore_test

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/restore"
)

// TestStandbyFollows has a standby take up what is new, with as few requests as can be, and refuses what it must.
func TestStandbyFollows(t *testing.T) {
	env, p := small(t)
	h := envtest.StartHold(t, env)
	opt := restore.StandbyOptions{To: filepath.Join(t.TempDir(), "to")}
	s, err := restore.OpenStandby(opt)
	p.must(err)
	defer s.Close()
	var other *restore.StandbyError
	if _, err := restore.OpenStandby(opt); !errors.As(err, &other) {
		t.Errorf("a second process: %v", err)
	}
	for i := range 3 {
		h.Put("", "a.db", 9000+300*i, 300)
		h.FlushLog()
		p.ship(env.Home)
		res := cycled(t, s, p)
		if want := []string{restore.ActionBuilt, restore.ActionCaught}[min(i, 1)]; res.Action != want || res.End != res.Shipped {
			t.Errorf("cycle %d: %+v", i, res)
		}
		if diff := compareFresh(t, p, res, opt); len(diff) > 0 {
			t.Error(diff)
		}
	}
	for i := range 5 {
		if res := cycled(t, s, p); res.Action != restore.ActionNone || res.Requests > 3 {
			t.Errorf("idle cycle %d: %+v", i, res)
		}
	}
}

// cycled is a cycle that works.
func cycled(t *testing.T, s *restore.Standby, p *packer) *restore.CycleResult {
	t.Helper()
	res, err := s.Cycle(t.Context(), p.repo)
	p.must(err)
	return res
}

// TestStandbyMeetsAFullBackup has backups appear that a home can go on with, and others that it can't.
func TestStandbyMeetsAFullBackup(t *testing.T) {
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{LogFileSize: 64 << 10, Config: []string{"set_lg_bsize 16384"}, Databases: []envtest.Database{
		{File: "a.db", Method: "btree", Records: 500}, {File: "b.db", Method: "hash", PageSize: 512, Records: 100},
	}})
	h := envtest.StartHold(t, env)
	notes := filepath.Join(env.Home, "notes.txt")
	write(t, notes, "an application's own file")
	p := newPacker(t, "")
	p.full(env.Home, nil)
	opt := restore.StandbyOptions{To: filepath.Join(t.TempDir(), "to")}
	s, err := restore.OpenStandby(opt)
	p.must(err)
	defer s.Close()
	cycled(t, s, p)
	full := func(change func(*manifest.Manifest)) {
		h.FlushLog()
		p.full(env.Home, change)
	}
	for _, c := range []struct {
		name, why string // an empty why: the home goes on
		do        func()
	}{
		{"log and a backup", "", func() { h.Put("", "a.db", 1000, 50); full(nil) }},
		{"a backup alone", "", func() { full(nil) }},
		{"another plain file", "", func() { write(t, notes, "edited"); write(t, notes+".new", "new"); full(nil) }},
		{"a plain file less", "", func() { p.must(os.Remove(notes)); full(nil) }},
		{"a database that was made meanwhile", "", func() {
			h.Create("", envtest.Database{File: "c.db", Method: "btree", Records: 20})
			p.ship(env.Home)
			cycled(t, s, p)
			full(nil)
		}},
		{"bulk load", "written without logging", func() {
			h.Put("", "a.db", 2000, 50)
			h.Checkpoint()
			full(func(m *manifest.Manifest) {
				m.Files[slices.IndexFunc(m.Files, func(f manifest.File) bool { return f.Path == "a.db" })].Unlogged = 40
			})
		}},
		{"removed without a transaction", "has no b.db", func() { p.must(os.Remove(filepath.Join(env.Home, "b.db"))); full(nil) }},
		{"somebody in the home", "somebody opened the home", func() {
			other := envtest.StartHold(t, envtest.Open(opt.To, ""))
			other.Put("", "a.db", 100, 50)
			p.must(other.Close())
		}},
		{"log that was pruned", "not in the store any more", func() {
			h.Put("", "a.db", 3000, 10)
			p.ship(env.Home)
			old := p.objects(manifest.TimelinePrefix(envName, p.timeline))
			for from := h.LogEnd().File; h.LogEnd().File < from+2; {
				h.Put("", "a.db", 4000, 100)
			}
			h.Checkpoint()
			h.Checkpoint()
			p.shipped[p.newest()].Sealed = true // the rest of that file is never stored
			full(nil)
			for _, key := range old {
				p.must(os.Remove(p.path(key)))
			}
		}},
		{"a new timeline", "began timeline", func() {
			p.timeline, p.shipped = manifest.NewTimeline(), map[uint32]*manifest.SegmentHeader{}
			full(nil)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.do()
			res := cycled(t, s, p)
			if (c.why == "") != (res.Why == "") || !strings.Contains(res.Why, c.why) {
				t.Errorf("built anew because %q, want %q", res.Why, c.why)
			}
			if diff := compareFresh(t, p, res, opt); len(diff) > 0 {
				t.Error(diff)
			}
			if c.why == "" && res.Action == restore.ActionBuilt {
				t.Errorf("%+v", res)
			}
		})
	}
}

// newest is the newest log file of which anything is stored.
func (p *packer) newest() uint32 { return slices.Max(slices.Collect(maps.Keys(p.shipped))) }

// TestStandbyPromoted has a promotion interrupted, and what was promoted left alone.
func TestStandbyPromoted(t *testing.T) {
	env, p := small(t)
	opt := restore.StandbyOptions{To: filepath.Join(t.TempDir(), "to")}
	s, err := restore.OpenStandby(opt)
	p.must(err)
	if _, err := s.Promote(t.Context(), nil); err == nil {
		t.Error("an empty directory was promoted")
	}
	cycled(t, s, p)
	s.Close()
	stop := errors.New("stop")
	opt.Step = func(stage string) error {
		if stage == "noted" {
			return stop
		}
		return nil
	}
	s, err = restore.OpenStandby(opt)
	p.must(err)
	if _, err := s.Promote(t.Context(), p.repo); !errors.Is(err, stop) {
		t.Error(err)
	}
	s.Close()
	for range 2 {
		var promoted *restore.PromotedError
		if _, err := restore.OpenStandby(opt); !errors.As(err, &promoted) {
			t.Errorf("again: %v", err)
		}
	}
	left, err := filepath.Glob(filepath.Join(opt.To, ".bdbvault-*"))
	if p.must(err); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
	same(t, env.Home, opt.To, "")
	h := envtest.StartHold(t, envtest.Open(opt.To, ""))
	h.Put("", "a.db", 50000, 10)
	h.Checkpoint()
}

// TestStandbyBeyondStock lets the engine's own program keep a standby as its manual says, beside ours: what happens to names between two recoveries, it
// loses or brings back.
func TestStandbyBeyondStock(t *testing.T) {
	fresh := envtest.Database{File: "new.db", Method: "btree", Records: 200}
	for name, c := range map[string]struct{ before, after func(*envtest.TestHold) }{
		"made and renamed between two cycles": {after: func(h *envtest.TestHold) { h.Create("", fresh); h.Rename("", "new.db", "renamed.db") }},
		"rename in flight, then committed twice": {
			before: func(h *envtest.TestHold) { h.Begin("t"); h.Rename("t", "old.db", "x.db") },
			after:  func(h *envtest.TestHold) { h.Commit("t"); h.Rename("", "x.db", "y.db") },
		},
		"there and back": {after: func(h *envtest.TestHold) {
			h.Rename("", "old.db", "x.db")
			h.Rename("", "x.db", "old.db")
			h.Put("", "old.db", 900, 50)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{Databases: []envtest.Database{{File: "old.db", Method: "btree", Records: 300}}})
			p := newPacker(t, "")
			p.full(env.Home, nil)
			stock := copyHome(t, env.Home)
			s, err := restore.OpenStandby(restore.StandbyOptions{To: filepath.Join(t.TempDir(), "to")})
			p.must(err)
			defer s.Close()
			h := envtest.StartHold(t, env)
			var res *restore.CycleResult
			for _, do := range []func(*envtest.TestHold){c.before, c.after} {
				if do != nil {
					do(h)
				}
				h.FlushLog()
				p.ship(env.Home)
				res = cycled(t, s, p)
				if out, err := exec.Command("sh", "-c", `rm -f "$1"/__db.00* "$1"/log.*; cp -p "$2"/log.* "$1"; exec db5.3_recover -c -h "$1"`, "-", stock, env.Home).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			h.Close()
			want := dump(t, env.Home, "")
			if len(envtest.Diff(want, dump(t, stock, ""))) == 0 {
				t.Error("db5.3_recover -c is right: the test shows nothing")
			}
			holds(t, want, res.Home, "")
		})
	}
}
