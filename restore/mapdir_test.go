package restore_test

import (
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bdbvault/localenv"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/restore"
)

// spread makes an environment whose directories lie outside of its home, a backup of it, and log behind it that makes, renames and removes files.
func spread(t *testing.T, password string) (dir string, env *envtest.Environment, p *packer) {
	t.Helper()
	dir = t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	env = envtest.Create(t, at("home"), envtest.Spec{
		DataDirs: []string{at("srv/data"), "near"}, AddDirs: []string{at("srv/more")}, LogDir: at("log"), LogFileSize: 100 << 10, Password: password,
		Config: []string{"set_tmp_dir " + at("tmp")},
		Databases: []envtest.Database{
			{File: "a.db", Method: "btree", Records: 2000}, {File: "sub/b.db", Method: "hash", Records: 500}, {File: "gone.db", Method: "btree", Records: 10},
			{File: "q.db", Method: "queue", Records: 500, Extent: 4},
		},
	})
	if err := os.MkdirAll(at("tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, at("srv/more/notes.txt"), "an application's own file")
	p = newPacker(t, password)
	p.full(env.Home, nil)
	h := envtest.StartHold(t, env)
	h.Create("", envtest.Database{File: "new.db", Method: "btree", Records: 300})
	h.Rename("", "new.db", "sub/newer.db")
	h.Create("", envtest.Database{File: "made.db", Method: "heap", Records: 30})
	h.Put("", "q.db", 5000, 300)
	h.Remove("", "gone.db")
	h.Put("", "a.db", 9000, 300)
	h.FlushLog()
	p.ship(env.Home)
	h.Close()
	return dir, env, p
}

func TestMapDir(t *testing.T) {
	for _, password := range []string{"", "secret"} {
		dir, env, p := spread(t, password)
		want, source := dump(t, env.Home, password), files(t, dir)
		new := t.TempDir()
		to := filepath.Join(new, "to")
		opt := restore.Options{Verify: restore.VerifyAlways, Maps: []restore.DirMap{
			{Old: filepath.Join(dir, "srv"), New: filepath.Join(new, "elsewhere")}, {Old: filepath.Join(dir, "srv/more"), New: filepath.Join(new, "x/y")},
			{Old: filepath.Join(dir, "log"), New: filepath.Join(new, "log")}, {Old: filepath.Join(dir, "tmp"), New: "tmp"},
		}}
		opt.Engine.Password = password
		res, err := p.restoreTo(to, opt)
		if err != nil {
			t.Fatal(err)
		}
		sameFiles(t, source, files(t, dir))
		if len(res.Created) != 2 || !strings.HasPrefix(res.Created[0], filepath.Join(new, "elsewhere/data")) {
			t.Errorf("created %v", res.Created)
		}
		checkMapped(t, dir, new)
		// If the application opened anything of the source now, it would find nothing.
		if err := os.Rename(dir, dir+".old"); err != nil {
			t.Fatal(err)
		}
		holds(t, want, to, password)

		// The restored environment can be backed up, and that restored.
		h := envtest.StartHold(t, envtest.Open(to, password))
		h.Create("", envtest.Database{File: "later.db", Method: "btree", Records: 300})
		h.Close()
		p.env, p.timeline, p.shipped = "mapped", manifest.NewTimeline(), map[uint32]*manifest.SegmentHeader{}
		p.full(to, nil)
		_, err = p.restoreTo(filepath.Join(new, "second"), restore.Options{Engine: opt.Engine})
		var config *restore.ConfigError
		if !errors.As(err, &config) {
			t.Fatal(err)
		}
		second := t.TempDir()
		opt.Maps = []restore.DirMap{{Old: filepath.Join(new, "elsewhere"), New: "e"}, {Old: filepath.Join(new, "x"), New: "x"}, {Old: filepath.Join(new, "log"), New: "log"}}
		if _, err := p.restoreTo(filepath.Join(second, "to"), opt); err != nil {
			t.Fatal(err)
		}
		same(t, to, filepath.Join(second, "to"), password)
	}
}

// checkMapped looks whether what was in dir is in new now, and where.
func checkMapped(t *testing.T, dir, new string) {
	t.Helper()
	is := files(t, new)
	for name := range maps.Keys(is) {
		if strings.Contains(strings.TrimSuffix(name, localenv.OriginName), "bdbvault") {
			t.Errorf("left behind: %s", name)
		}
	}
	for _, name := range []string{"elsewhere/data/a.db", "elsewhere/data/sub/newer.db", "x/y/notes.txt", "to/near", "to/tmp", "to/DB_CONFIG"} {
		if _, ok := is[name]; !ok {
			t.Errorf("%s is not there", name)
		}
	}
	want, err := os.ReadFile(filepath.Join(dir, "home", "DB_CONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(filepath.Join(dir, "srv/more"), filepath.Join(new, "x/y"), filepath.Join(dir, "srv"), filepath.Join(new, "elsewhere"),
		filepath.Join(dir, "log"), filepath.Join(new, "log"), filepath.Join(dir, "tmp"), "tmp").Replace(string(want))
	if is["to/DB_CONFIG"] != text {
		t.Errorf("DB_CONFIG is now %q", is["to/DB_CONFIG"])
	}
}

// TestAbsoluteNames moves a home whose application opens databases by absolute names.
func TestAbsoluteNames(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	env := envtest.Create(t, home, envtest.Spec{Databases: []envtest.Database{{File: "a.db", Method: "btree", Records: 100}}})
	if err := os.Mkdir(filepath.Join(home, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := newPacker(t, "")
	h := envtest.StartHold(t, env)
	h.Create("", envtest.Database{File: filepath.Join(home, "before.db"), Method: "btree", Records: 300})
	h.FlushLog()
	h.Close()
	p.full(home, nil)
	h = envtest.StartHold(t, env)
	h.Put("", filepath.Join(home, "before.db"), 1000, 300)
	h.Create("", envtest.Database{File: filepath.Join(home, "sub/new.db"), Method: "btree", Records: 300})
	h.Rename("", filepath.Join(home, "sub/new.db"), filepath.Join(home, "sub/newer.db"))
	h.Put("", "a.db", 1000, 300)
	h.FlushLog()
	p.ship(home)
	h.Close()
	want, source := dump(t, home, ""), files(t, home)

	to := filepath.Join(t.TempDir(), "to")
	_, err := p.restoreTo(to, restore.Options{})
	var name *restore.NameError
	if !errors.As(err, &name) || !filepath.IsAbs(name.Name) {
		t.Fatalf("not told where the home went: %v", err)
	}
	to = filepath.Join(t.TempDir(), "to")
	opt := restore.Options{Maps: []restore.DirMap{{Old: home, New: "."}}}
	if _, err := p.restoreTo(to, opt); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, source, files(t, home))
	if err := os.Rename(home, home+".old"); err != nil {
		t.Fatal(err)
	}
	holds(t, want, to, "")

	p.env, p.timeline, p.shipped = "moved", manifest.NewTimeline(), map[uint32]*manifest.SegmentHeader{}
	h = envtest.StartHold(t, envtest.Open(to, ""))
	h.Put("", filepath.Join(to, "before.db"), 2000, 300)
	h.Close()
	p.full(to, nil)
	// The log has the names of both homes now.
	second := filepath.Join(t.TempDir(), "second")
	_, err = p.restoreTo(second, restore.Options{Maps: []restore.DirMap{{Old: to, New: "."}}})
	if !errors.As(err, &name) || !strings.HasPrefix(name.Name, home) {
		t.Fatalf("not told where the first home went: %v", err)
	}
	opt.Maps = append(opt.Maps, restore.DirMap{Old: to, New: "."})
	if _, err := p.restoreTo(second, opt); err != nil {
		t.Fatal(err)
	}
	same(t, to, second, "")
}

func TestMapsThatAreRefused(t *testing.T) {
	dir, env, p := spread(t, "")
	new := t.TempDir()
	full := filepath.Join(new, "full")
	if err := os.MkdirAll(full, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(full, "x"), "somebody's")
	old := func(name, to string) restore.DirMap { return restore.DirMap{Old: filepath.Join(dir, name), New: to} }
	rest := []restore.DirMap{old("log", "log"), old("tmp", "tmp")}
	for name, list := range map[string][]restore.DirMap{
		"twice":            {old("srv", "a"), old("srv", "b")},
		"into one another": {old("srv/data", filepath.Join(new, "n")), old("srv/more", filepath.Join(new, "n/m"))},
		"around the home":  {old("srv", new)},
		"for nothing":      {old("srv", "srv"), old("nothing", "x")},
		"relative":         {{Old: "near", New: "x"}},
		"out of the home":  {old("srv", "../x")},
		"to nowhere":       {old("srv", "")},
	} {
		var refused *restore.MapError
		to := filepath.Join(new, "to")
		if name == "for nothing" { // which shows late, in the log
			to += " nothing"
		}
		if _, err := p.restoreTo(to, restore.Options{Maps: append(list, rest...)}); !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, delta := range []bool{false, true} {
		var target *restore.TargetError
		_, err := p.restoreTo(filepath.Join(new, "occupied"), restore.Options{Delta: delta, Maps: append(rest, old("srv", full))})
		if !errors.As(err, &target) || target.Dir != full {
			t.Errorf("an occupied directory: %v", err)
		}
	}
	stale := filepath.Join(new, "old")
	if err := envtest.CopyHome(env.Home, stale); err != nil {
		t.Fatal(err)
	}
	var target *restore.TargetError
	if _, err := p.restoreTo(stale, restore.Options{Delta: true, Maps: append(rest, old("srv", full))}); !errors.As(err, &target) {
		t.Errorf("an occupied directory for an old home: %v", err)
	}
	if _, err := os.Stat(filepath.Join(stale, restore.MarkerName)); !os.IsNotExist(err) {
		t.Errorf("a marker was left in the old home: %v", err)
	}
	if is := files(t, full); len(is) != 2 || is["x"] != "somebody's" {
		t.Errorf("the occupied directory holds %d files", len(is)-1)
	}
	if _, err := os.Stat(filepath.Join(new, "to")); !os.IsNotExist(err) {
		t.Errorf("something was made: %v", err)
	}
}

// TestMappedInterrupted stops a restore with directories elsewhere at its steps: at each, or at some, others each time. The marker stands in all of them, and the same command goes on.
func TestMappedInterrupted(t *testing.T) {
	dir, env, p := spread(t, "")
	want := dump(t, env.Home, "")
	stride := max(1, 6-torture()) // neither 2 nor 3 divides 5: each step is met in all ways
	for at := rand.IntN(stride); ; at += stride {
		new := t.TempDir()
		to, data := filepath.Join(new, "to"), filepath.Join(new, "data")
		opt := restore.Options{Verify: restore.VerifyNever, Delta: at%2 == 1, Maps: []restore.DirMap{
			{Old: filepath.Join(dir, "srv"), New: data}, {Old: filepath.Join(dir, "log"), New: filepath.Join(new, "log")}, {Old: filepath.Join(dir, "tmp"), New: "tmp"},
		}}
		s := &stepper{at: at, err: errStop}
		opt.Step = s.step
		_, err := p.restoreTo(to, opt)
		if s.now <= at {
			if err != nil || at < len(restore.Stages) {
				t.Fatalf("uninterrupted after %d steps: %v", at, err)
			}
			return
		}
		if !errors.Is(err, errStop) {
			t.Fatalf("step %d, %s: %v", at, s.stage, err)
		}
		for _, d := range []string{to, data} {
			if _, err := os.Stat(filepath.Join(d, restore.MarkerName)); err != nil {
				t.Errorf("stopped at %s: %v", s.stage, err)
			}
		}
		write(t, filepath.Join(data, "extra"), "x")
		if at%3 == 0 && !opt.Delta { // as if it had been killed while the markers were removed
			if err := os.Remove(filepath.Join(data, restore.MarkerName)); err != nil {
				t.Error(err)
			}
		}
		opt.Step, opt.Maps[0].New = nil, filepath.Join(new, "other")
		var target *restore.TargetError
		if _, err := p.restoreTo(to, opt); !opt.Delta && !errors.As(err, &target) {
			t.Errorf("to another place: %v", err)
		}
		opt.Maps[0].New = data
		if _, err := p.restoreTo(to, opt); err != nil {
			t.Fatalf("after a stop at %s: %v", s.stage, err)
		}
		holds(t, want, to, "")
		for name := range files(t, new) {
			if strings.Contains(strings.TrimSuffix(name, localenv.OriginName), "bdbvault") || strings.Contains(name, "extra") && !strings.HasPrefix(name, "other") {
				t.Errorf("left behind: %s", name)
			}
		}
	}
}
