package restore_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"bdbvault/localenv/engine"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/file"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

// gym is where drills are done.
type gym struct {
	*packer
	scratch string
}

func newGym(p *packer) *gym { return &gym{p, p.t.TempDir()} }

func (g *gym) drill(opt restore.DrillOptions) (*restore.DrillReport, error) {
	g.t.Helper()
	if opt.Scratch == "" {
		opt.Scratch = g.scratch
	}
	opt.Tool, opt.Location = "test", "file://"+g.dir
	return restore.Drill(context.Background(), g.repo, opt)
}

// records are the drills that the store knows of.
func (g *gym) records() []repository.Stored {
	g.t.Helper()
	list, _, err := g.repo.Drills(g.t.Context(), envName, "")
	g.must(err)
	return list
}

// cleared fails the test if anything is left of a drill.
func (g *gym) cleared(when string) {
	g.t.Helper()
	entries, err := os.ReadDir(g.scratch)
	g.must(err)
	for _, e := range entries {
		g.t.Errorf("%s: %s is left", when, e.Name())
	}
}

// stored fails the test unless a report is about what the store holds, and returns that.
func (g *gym) stored(rep *restore.DrillReport) *manifest.Drill {
	g.t.Helper()
	if rep == nil {
		g.t.Fatal("no report")
	}
	d, sum, err := g.repo.Drill(g.t.Context(), envName, rep.Record.ID)
	g.must(err)
	data, err := os.ReadFile(g.path(manifest.DrillKey(envName, rep.Record.ID)))
	g.must(err)
	if sum != rep.SHA256 || sum != sha256.Sum256(data) {
		g.t.Errorf("stored is %s, reported %s", sum, rep.SHA256)
	}
	return d
}

func phasesOf(d *manifest.Drill) (names []string) {
	for _, p := range d.Phases {
		names = append(names, p.Name)
	}
	return names
}

var allPhases = []string{"plan", "prepare", "data", "log", "recovery", "verify", "settle", "cleanup"}

// TestDrill: of an environment whose directories lie all over its host, encrypted or not, with files that came and went since the backup, a drill restores
// everything into one place, touches nothing of the source, and says what an auditor asks.
func TestDrill(t *testing.T) {
	for _, password := range []string{"", "secret"} {
		dir, _, p := spread(t, password)
		g, source := newGym(p), files(t, dir)
		var planned *restore.Plan
		rep, err := g.drill(restore.DrillOptions{Scheduled: true, Engine: engine.Options{Password: password}, Planned: func(p *restore.Plan) { planned = p }})
		if err != nil {
			t.Fatal(err)
		}
		sameFiles(t, source, files(t, dir))
		g.cleared("after a drill")
		d := g.stored(rep)
		if d.Result != manifest.DrillPassed || !d.Scheduled || d.Backup != planned.Backup || d.End != planned.End || d.EndTime.IsZero() || d.AgeSeconds == nil ||
			*d.AgeSeconds < 0 || *d.AgeSeconds > 3600 || d.Encrypted != (password != "") || d.Commits == 0 || !d.Cleared || d.User == "" || d.Engine == "" {
			t.Errorf("%+v", d)
		}
		if !slices.Equal(phasesOf(d), allPhases) {
			t.Errorf("phases %v", phasesOf(d))
		}
		requests, received := int64(0), int64(0)
		for _, p := range d.Phases {
			requests, received = requests+p.Requests, received+p.Received
			if worked := p.Name == "data" || p.Name == "log" || p.Name == "recovery" || p.Name == "verify"; worked && (p.Bytes == 0 || p.Seconds <= 0) {
				t.Errorf("phase %+v", p)
			}
		}
		if q := d.Requests; requests == 0 || requests != q.Put+q.Open+q.Stat+q.List+q.Delete || received != d.Received || received == 0 {
			t.Errorf("%d requests and %d bytes in phases, of %+v and %d", requests, received, q, d.Received)
		}
		if len(d.Databases) != d.DatabaseCount || d.Verified != d.DatabaseCount || d.Verified < 5 || d.Pages < 50 {
			t.Errorf("%d of %d databases verified, %d pages, %v", d.Verified, d.DatabaseCount, d.Pages, d.Databases)
		}
		data, err := os.ReadFile(g.path(manifest.ManifestKey(envName, d.Backup)))
		if err != nil || *d.BackupSHA256 != sha256.Sum256(data) {
			t.Errorf("the manifest is not the one named: %v", err)
		}
	}
}

// TestDrillOfDamage: what a restore would trip over, or pass over, a drill reports as damage and stores, and leaves nothing behind.
func TestDrillOfDamage(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(g *gym, newest manifest.BackupID)
		phase string
		says  string
		whole bool // something was restored all the same
	}{
		"pack": {func(g *gym, _ manifest.BackupID) {
			for _, key := range g.objects(manifest.PacksPrefix(envName)) {
				g.flip(key, 8*1000)
			}
		}, "data", "packs/", false},
		"no maps":  {func(g *gym, _ manifest.BackupID) { g.lose(g.objects(manifest.MapsPrefix(envName))...) }, "data", "maps/", false},
		"manifest": {func(g *gym, id manifest.BackupID) { g.flip(manifest.ManifestKey(envName, id), 8000) }, "plan", "can't be used", true},
		"log": {func(g *gym, _ manifest.BackupID) {
			logs := g.objects(manifest.LogsPrefix(envName))
			g.flip(logs[len(logs)-1], 8*150)
		}, "log", "logs/", false},
	} {
		t.Run(name, func(t *testing.T) {
			env, p := small(t)
			h := envtest.StartHold(t, env)
			h.Put("", "a.db", 9000, 300)
			h.FlushLog()
			newest := p.full(env.Home, nil)
			h.Put("", "a.db", 9500, 300)
			h.FlushLog()
			p.ship(env.Home)
			g := newGym(p)
			c.spoil(g, newest.ID)
			rep, err := g.drill(restore.DrillOptions{})
			if !restore.IsDamage(err) {
				t.Fatalf("%v", err)
			}
			g.cleared("after damage")
			d := g.stored(rep)
			if d.Result != manifest.DrillDamaged || d.Phase != c.phase || !strings.Contains(d.Error, c.says) || len(d.Damage) == 0 || !d.Cleared {
				t.Errorf("%+v", d)
			}
			if (rep.Result != nil) != c.whole || c.whole && (d.Backup == newest.ID || d.Verified != 2) {
				t.Errorf("restored: %+v, %+v", rep.Result, d)
			}
		})
	}
}

// TestDrillAtAGap: log that is missing in the middle may be on its way for some minutes. After that a drill that could not go beyond it has not passed.
func TestDrillAtAGap(t *testing.T) {
	env, p := small(t)
	h := envtest.StartHold(t, env)
	for i := range 3 {
		h.Put("", "a.db", 9000+100*i, 50)
		h.FlushLog()
		p.ship(env.Home)
	}
	h.Close()
	g := newGym(p)
	logs := g.objects(manifest.LogsPrefix(envName))
	g.lose(logs[len(logs)-2])
	rep, err := g.drill(restore.DrillOptions{})
	if err != nil || len(rep.Record.Notes) != 1 {
		t.Fatalf("%+v, %v", rep, err)
	}
	old := time.Now().Add(-time.Hour)
	p.must(os.Chtimes(g.path(logs[len(logs)-1]), old, old))
	rep, err = g.drill(restore.DrillOptions{})
	if !asError[*restore.IncompleteError](err) || !asError[*manifest.GapError](err) {
		t.Fatal(err)
	}
	if d := g.stored(rep); d.Result != manifest.DrillDamaged || d.Phase != "plan" || d.Verified != 2 || len(d.Damage) != 1 {
		t.Errorf("%+v", d)
	}
}

// lose deletes objects behind everybody's back.
func (g *gym) lose(keys ...string) {
	g.t.Helper()
	for _, key := range keys {
		g.must(os.Remove(g.path(key)))
	}
}

// TestDrillInTheWay: what is not the fault of what is stored is a failure, and stored too; what is only asked wrongly is not, nor what was cancelled.
func TestDrillInTheWay(t *testing.T) {
	env, p := small(t)
	g := newGym(p)
	stop := errors.New("stop")
	write(t, filepath.Join(g.scratch, "mine"), "not a drill's")
	if err := os.Mkdir(filepath.Join(g.scratch, "bdbvault-drill.of.somebody"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(g.scratch, "bdbvault-drill.of.somebody/else"), "without a marker")
	left := files(t, g.scratch)
	for name, c := range map[string]struct {
		opt   restore.DrillOptions
		want  func(error) bool
		phase string // "": nothing is stored
	}{
		"stopped":     {restore.DrillOptions{Step: func(s string) error { return map[string]error{"recovered": stop}[s] }}, isError(stop), "recovery"},
		"no engine":   {restore.DrillOptions{Engine: engine.Options{Executable: []string{"/nowhere"}}}, isError(os.ErrNotExist), "prepare"},
		"no scratch":  {restore.DrillOptions{Scratch: filepath.Join(g.scratch, "mine/below")}, isError(syscall.ENOTDIR), "prepare"},
		"no backup":   {restore.DrillOptions{Target: restore.Target{Backup: "20010101T000000Z-0000"}}, asError[*restore.NotFoundError], ""},
		"no such env": {restore.DrillOptions{Env: "other"}, isError(restore.ErrNoBackup), ""},
		"outside":     {restore.DrillOptions{Maps: []restore.DirMap{{Old: "/srv", New: "/srv"}}}, asError[*restore.MapError], ""},
	} {
		before := len(g.records())
		rep, err := g.drill(c.opt)
		if !c.want(err) {
			t.Errorf("%s: %v", name, err)
		}
		if stored := len(g.records()) - before; stored != len(c.phase)/max(1, len(c.phase)) {
			t.Errorf("%s: %d records", name, stored)
		}
		if c.phase != "" {
			if d := g.stored(rep); d.Result != manifest.DrillFailed || d.Phase != c.phase || d.Error == "" || !d.Cleared {
				t.Errorf("%s: %+v", name, d)
			}
		}
		sameFiles(t, left, files(t, g.scratch))
	}
	g.cancelled(left)
	g.noRoom(env, left)

	rep, err := g.drill(restore.DrillOptions{Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	same(t, env.Home, filepath.Join(rep.Kept, "home"), "")
	if d := g.stored(rep); d.Cleared {
		t.Errorf("%+v", d)
	}
	if _, err := g.drill(restore.DrillOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(rep.Kept); err != nil {
		t.Errorf("the next drill took what was to be kept: %v", err)
	}
}

func isError(want error) func(error) bool {
	return func(err error) bool { return errors.Is(err, want) }
}

func asError[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// cancelled ends drills in the middle: nothing is stored, and nothing left.
func (g *gym) cancelled(left map[string]string) {
	g.t.Helper()
	before := len(g.records())
	for _, stage := range []string{"scratch", "data", "pass", "restored"} {
		ctx, cancel := context.WithCancel(g.t.Context())
		rep, err := restore.Drill(ctx, g.repo, restore.DrillOptions{Scratch: g.scratch, Step: func(s string) error {
			if s == stage {
				cancel()
			}
			return nil
		}})
		cancel()
		if rep != nil || !errors.Is(err, context.Canceled) {
			g.t.Errorf("cancelled at %s: %v", stage, err)
		}
		sameFiles(g.t, left, files(g.t, g.scratch))
	}
	if n := len(g.records()) - before; n > 0 {
		g.t.Errorf("%d records of cancelled drills", n)
	}
}

// noRoom drills a backup that says of itself that it is larger than any disk.
func (g *gym) noRoom(env *envtest.Environment, left map[string]string) {
	g.t.Helper()
	huge := g.full(env.Home, func(m *manifest.Manifest) { m.Files[0].Size, m.Files[0].BlockSize = 1<<55, manifest.MaxChunk })
	before := g.repo.Bucket.Stats().BytesDown
	rep, err := g.drill(restore.DrillOptions{Target: restore.Target{Backup: huge.ID}})
	var space *restore.SpaceError
	if !errors.As(err, &space) || space.Need < 1<<55 || space.Free <= 0 {
		g.t.Fatalf("%v", err)
	}
	if read := g.repo.Bucket.Stats().BytesDown - before; read > 100<<10 {
		g.t.Errorf("%d bytes were fetched for a drill that there is no room for", read)
	}
	if d := g.stored(rep); d.Result != manifest.DrillFailed || d.Phase != "prepare" || d.Backup != huge.ID {
		g.t.Errorf("%+v", d)
	}
	sameFiles(g.t, left, files(g.t, g.scratch))
	g.lose(manifest.ManifestKey(envName, huge.ID))
}

// drillChild drills in a process of its own that is killed at a stage.
func drillChild(store, scratch, at string) error {
	driver, err := file.New(store)
	if err != nil {
		return err
	}
	ctx := context.Background()
	repo, err := repository.Open(ctx, remote.New(driver, remote.Options{}))
	if err != nil {
		return err
	}
	_, err = restore.Drill(ctx, repo, restore.DrillOptions{Scratch: scratch, Step: func(stage string) error {
		if stage == at {
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return nil
	}})
	return err
}

// TestDrillKilled kills drills at every stage, several beside each other. The next one clears up after all of them.
func TestDrillKilled(t *testing.T) {
	env, p := small(t)
	h := envtest.StartHold(t, env)
	h.Put("", "a.db", 9000, 300)
	h.FlushLog()
	p.ship(env.Home)
	h.Close()
	g := newGym(p)
	var group errgroup.Group
	group.SetLimit(3)
	for _, stage := range restore.DrillStages {
		group.Go(func() error {
			out, err := exec.Command(os.Args[0], "drill", g.dir, g.scratch, stage).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Errorf("not killed at %s: %v: %s", stage, err, out)
			}
			return nil
		})
	}
	group.Wait()
	if left, err := os.ReadDir(g.scratch); err != nil || len(left) == 0 {
		t.Errorf("%d directories left by killed drills, %v", len(left), err)
	}
	rep, err := g.drill(restore.DrillOptions{})
	if err != nil {
		t.Fatal(err)
	}
	g.cleared("after the next drill")
	if d := g.stored(rep); d.Result != manifest.DrillPassed || len(d.Notes) == 0 || !strings.Contains(d.Notes[0], "left behind") {
		t.Errorf("%+v", d)
	}
	if n := len(g.records()); n != 1 {
		t.Errorf("%d records", n)
	}
}
