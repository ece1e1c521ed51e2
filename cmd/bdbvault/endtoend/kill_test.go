package endtoend

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/engine/enginetest"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/remotetest"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

// siege is a live environment whose backups, ships and restores are killed, and what is known of its repository.
type siege struct {
	*vault
	store store
	env   *envtest.Environment
	load  *envtest.Workload
	temp  string                     // where killed runs would leave temporary files
	good  map[manifest.BackupID]bool // listed, and all that they name was found

	calm, checkpoints []time.Duration // how long a checkpoint takes: before the first kill, and after each
}

func newSiege(t *testing.T, databases ...envtest.Database) *siege {
	t.Helper()
	home := filepath.Join(t.TempDir(), "home")
	s := &siege{temp: t.TempDir(), good: map[manifest.BackupID]bool{}}
	s.env = envtest.Create(t, home, envtest.Spec{
		DataDirs: []string{"data1", "data2"}, LogFileSize: 1 << 20, Cache: 2 << 20,
		Databases: databases, Bank: &envtest.Bank{},
	})
	s.vault = newVault(t, home)
	s.store.Dir = s.dir
	s.load = envtest.StartBank(t, s.env, envtest.BankOptions{Processes: 3, Rate: 1500, Checkpoint: 200 * time.Millisecond})
	for range 20 {
		s.calm = append(s.calm, s.checkpoint())
	}
	t.Cleanup(func() {
		t.Logf("%d kills; checkpoints after them: %s; before the first: %s", len(s.checkpoints), spread(s.checkpoints), spread(s.calm))
	})
	return s
}

func spread(d []time.Duration) string {
	if len(d) == 0 {
		return "none"
	}
	slices.Sort(d)
	first, middle, last := d[0].Round(time.Millisecond), d[len(d)/2].Round(time.Millisecond), d[len(d)-1].Round(time.Millisecond)
	return fmt.Sprintf("%v to %v, median %v", first, last, middle)
}

// atOnce is far more than a checkpoint takes on a busy machine, and far less than a harmed environment makes it wait.
const atOnce = 10 * time.Second

// checkpoint writes one from outside and says how long that took.
func (s *siege) checkpoint() time.Duration {
	s.t.Helper()
	began := time.Now()
	if err := envtest.Checkpoint(s.home, s.password); err != nil {
		s.t.Fatal(err)
	}
	took := time.Since(began)
	if took > atOnce {
		s.t.Errorf("a checkpoint took %v", took)
	}
	return took
}

func (s *siege) errand(e errand) errand {
	e.Home, e.Store, e.State, e.Temp = s.home, s.store, s.state, s.temp
	return e
}

// run lets an errand come to its end.
func (s *siege) run(e errand) outcome {
	s.t.Helper()
	o, killed := start(s.t, s.errand(e)).killed(s.t)
	if killed || o.Error != "" {
		s.t.Fatalf("%s: %s", e.Do, o.Error)
	}
	return o
}

// healthy proves that a killed run did not harm the source.
func (s *siege) healthy(r *running) {
	s.t.Helper()
	s.unharmed(r)
	if enginetest.IsHot(s.t, s.home) {
		s.t.Error("the hot-backup flag is still set")
	}
}

// unharmed proves that the source's next checkpoint ends at once, that its writers go on and that nobody is left in it.
func (s *siege) unharmed(r *running) {
	s.t.Helper()
	s.checkpoints = append(s.checkpoints, s.checkpoint())
	waitCommits(s.t, s.load, s.load.LastCommitted()+20)
	r.gone(s.t)
}

// reopen opens the repository as a new process would, and records what is done with it.
func (s *siege) reopen() *remotetest.Recorder {
	s.t.Helper()
	drv, err := s.store.driver(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	rec := remotetest.Record(drv)
	if s.repo, err = repository.Open(s.t.Context(), remote.New(rec, remote.Options{})); err != nil {
		s.t.Fatal(err)
	}
	return rec
}

// objects lists the store.
func (s *siege) objects() map[string]int64 {
	s.t.Helper()
	all := map[string]int64{}
	if _, err := s.repo.Bucket.List(s.t.Context(), "", "", func(i remote.Info) error {
		all[i.Key] = i.Size
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	return all
}

// backups lists the backups, and proves of those that are new that everything they name is in the store and that they can be restored
// by it.
func (s *siege) backups() []manifest.BackupID {
	s.t.Helper()
	list, err := s.repo.Backups(s.t.Context(), "test", "")
	if err != nil {
		s.t.Fatal(err)
	}
	ids := make([]manifest.BackupID, len(list))
	for i, b := range list {
		if ids[i] = b.ID; s.good[b.ID] {
			continue
		}
		m, err := s.repo.Manifest(s.t.Context(), "test", b)
		if err != nil {
			s.t.Fatalf("backup %s is listed: %v", b.ID, err)
		}
		s.complete(m)
		if _, err := restore.MakePlan(s.t.Context(), s.repo, "test", restore.Target{Backup: b.ID}); err != nil {
			s.t.Fatalf("backup %s is listed: %v", b.ID, err)
		}
		s.good[b.ID] = true
	}
	return ids
}

func (s *siege) complete(m *manifest.Manifest) {
	s.t.Helper()
	have := s.objects()
	want := map[string]int64{}
	for _, p := range m.Packs {
		want[manifest.PackKey("test", p.Name)] = p.Size
	}
	for i := range m.Files {
		want[manifest.MapKey("test", m.Files[i].Map)] = m.Files[i].MapSize
	}
	for key, size := range want {
		if got, ok := have[key]; !ok || got != size {
			s.t.Errorf("backup %s is listed, but %s has %d of %d bytes", m.ID, key, got, size)
		}
	}
}

// again runs what was killed once more, here. It succeeds, stores nothing under a name that is taken, and leaves nothing unfinished.
func (s *siege) again(e errand) {
	s.t.Helper()
	before := s.objects()
	rec := s.reopen()
	if e.Do == doShip {
		s.mustShip()
	} else {
		s.mustBackup(archive.BackupOptions{BulkSafe: e.BulkSafe, ReadAll: e.ReadAll})
	}
	for _, op := range rec.Ops() {
		if _, taken := before[op.Key]; op.Name == "put" && taken {
			s.t.Errorf("%s killed at %q (%d): %s was stored already and is sent again", e.Do, e.Point, e.Nth, op.Key)
		}
	}
	s.backups()
	for _, dir := range []string{filepath.Join(s.dir, ".tmp"), s.temp} {
		if left := entries(s.t, dir); len(left) > 0 {
			s.t.Errorf("left in %s: %s", dir, left)
		}
	}
}

// grownOld makes what killed runs left in the state directory a few days old. The next run removes it.
func (s *siege) grownOld() {
	s.t.Helper()
	state := filepath.Join(s.state, s.repo.Info.ID.String(), "test")
	unfinished := func() (list []string) {
		for _, name := range entries(s.t, state) {
			if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "spool-") {
				list = append(list, filepath.Join(state, name))
			}
		}
		return list
	}
	left := unfinished()
	s.t.Logf("%d unfinished files in the state directory", len(left))
	for _, f := range left {
		old := time.Now().Add(-72 * time.Hour)
		if err := os.Chtimes(f, old, old); err != nil {
			s.t.Fatal(err)
		}
	}
	s.mustBackup(archive.BackupOptions{})
	if left := unfinished(); len(left) > 0 {
		s.t.Errorf("left in the state directory: %s", left)
	}
}

// list asks the program itself what backups there are.
func (s *siege) list() (ids []manifest.BackupID) {
	s.t.Helper()
	path, err := product()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(path, "list", "--json", "-r", s.store.location())
	if s.store.Endpoint != "" {
		cmd.Args = append(cmd.Args, "--endpoint", s.store.Endpoint)
	}
	out, err := cmd.Output()
	var is struct {
		Environments []struct {
			Backups []struct {
				ID    manifest.BackupID
				State string
			}
		}
	}
	if err = errors.Join(err, json.Unmarshal(out, &is)); err != nil {
		s.t.Fatalf("list: %v: %s", err, out)
	}
	for _, e := range is.Environments {
		for _, b := range e.Backups {
			if ids = append(ids, b.ID); b.State != "ok" {
				s.t.Errorf("backup %s is listed as %s", b.ID, b.State)
			}
		}
	}
	return ids
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// checkRestore restores a backup as far as the log goes, and proves what came back.
func (s *siege) checkRestore(id manifest.BackupID) {
	s.t.Helper()
	shipped := s.mustShip().To
	want := commitsBefore(s.load, shipped)
	to, _ := s.mustRestore(restore.Target{Backup: id})
	s.restored(to, want)
}

// restored proves that a home, which the restore has verified, holds an exact prefix of the commits, and at least so many.
func (s *siege) restored(home string, atLeast uint64) {
	s.t.Helper()
	report, err := envtest.CheckBank(home, s.password)
	if err != nil || report.LastCommit < atLeast {
		s.t.Fatalf("restored up to commit %d of %d: %v", report.LastCommit, atLeast, err)
	}
	for _, name := range entries(s.t, home) {
		if strings.HasPrefix(name, restore.MarkerName) {
			s.t.Errorf("%s is left in the restored home", name)
		}
	}
	if err := os.RemoveAll(home); err != nil {
		s.t.Fatal(err)
	}
}

// moments are the points at which something is killed: each one when it is passed first and, in long runs, when it is passed last.
func moments(points []point) []point {
	var list []point
	for _, p := range points {
		list = append(list, point{p.Name, 1, p.Engine})
		if torture() > 1 && p.Times > 1 {
			list = append(list, p)
		}
	}
	return list
}

// TestKilledAtEveryPoint kills a backup, and a ship, at each of its steps.
func TestKilledAtEveryPoint(t *testing.T) {
	s := newSiege(t, envtest.AllShapes(4096, true)...)
	s.mustBackup(archive.BackupOptions{})
	for _, e := range []errand{{Do: doBackup, Checkpoint: true}, {Do: doShip}} {
		waitCommits(t, s.load, s.load.LastCommitted()+1500)
		for i, m := range moments(s.run(e).Points) {
			e.Point, e.Nth, e.Victim = m.Name, m.Times, self
			before := s.backups()
			waitCommits(t, s.load, s.load.LastCommitted()+200)
			r := start(t, s.errand(e))
			if _, killed := r.killed(t); !killed {
				if t.Logf("%s: %q was passed fewer than %d times", e.Do, m.Name, m.Times); m.Times == 1 {
					t.Error("so nothing was killed there")
				}
				continue
			}
			s.healthy(r)
			after := s.backups()
			if committed := m.Name == "committed"; len(after)-len(before) == 1 != committed {
				t.Errorf("%s killed at %q: %d backups are listed, %d were before", e.Do, m.Name, len(after), len(before))
			}
			s.again(e)
			if i%8 == 7 {
				s.checkRestore(after[len(after)-1])
			}
		}
	}
	s.grownOld()
	if list := s.list(); !slices.Equal(list, s.backups()) {
		t.Errorf("list shows %s", list)
	}
}

// TestKilledAfterEveryPack kills the first backup whenever another pack is finished. What is finished is not sent again: each run begins where
// the one before was killed.
func TestKilledAfterEveryPack(t *testing.T) {
	s := newSiege(t)
	big := make([]byte, 80<<20)
	random := rand.NewChaCha8([32]byte{})
	random.Read(big)
	if err := os.WriteFile(filepath.Join(s.home, "big"), big, 0o600); err != nil {
		t.Fatal(err)
	}
	const kills = 4
	for range kills {
		r := start(t, s.errand(errand{Do: doBackup, Point: "pack-stored", Nth: 1, Victim: self}))
		if _, killed := r.killed(t); !killed {
			t.Fatal("no pack was finished")
		}
		s.healthy(r)
		if list := append(s.backups(), s.list()...); len(list) > 0 {
			t.Fatalf("backup %s is listed", list[0])
		}
	}
	left := s.objects()
	rec := s.reopen()
	m := s.mustBackup(archive.BackupOptions{}).Manifest
	var kept, all, sent int64 // bytes of packs
	for _, p := range m.Packs {
		kept += left[manifest.PackKey("test", p.Name)]
	}
	for key, size := range left {
		if strings.Contains(key, "/packs/") {
			all += size
		}
	}
	for _, op := range rec.Ops() {
		if op.Name == "put" && strings.Contains(op.Key, "/packs/") {
			sent += op.Size
		}
	}
	t.Logf("of %d bytes in packs of killed runs %d are in use; %d were still to be sent", all, kept, sent)
	const changes = 4 << 20 // of the databases, meanwhile
	if kept < 3*manifest.PackTarget || kept < all-changes || kept+sent > int64(len(big))+changes {
		t.Error("finished packs were sent again")
	}
	s.backups()
	s.checkRestore(m.ID)
}

// TestKilledRestore kills a restore at each of its steps and while the engine works, and lets the same restore finish what is there.
func TestKilledRestore(t *testing.T) {
	s := newSiege(t)
	id := s.mustBackup(archive.BackupOptions{}).Manifest.ID
	waitCommits(t, s.load, s.load.LastCommitted()+1000)
	end := s.mustShip().To
	want := commitsBefore(s.load, end)
	e := errand{Do: doRestore, Backup: id, End: end, To: filepath.Join(t.TempDir(), "whole")}
	passed := moments(s.run(e).Points)
	s.restored(e.To, want)
	for i, m := range passed {
		e.To = filepath.Join(t.TempDir(), fmt.Sprint("to", i))
		e.Point, e.Nth, e.Victim = m.Name, m.Times, self
		r := start(t, s.errand(e))
		if _, killed := r.killed(t); !killed {
			t.Logf("%s was passed fewer than %d times", m.Name, m.Times)
			continue
		}
		if _, err := os.Stat(filepath.Join(e.To, restore.MarkerName)); err != nil {
			t.Errorf("killed at %q, the target is not marked: %v", m.Name, err)
		}
		e.Point = ""
		o := s.run(e) // at once: the engine of the killed one may still be at work
		s.healthy(r)
		if m.Name == "data" && o.Reused != int64(o.Files) {
			t.Errorf("killed with all files back, %d of %d were kept", o.Reused, o.Files)
		}
		s.restored(e.To, want)
	}
}

// TestEngineKilled kills the engine's child between its calls, wherever the run that it serves happens to be, and in a restore in the
// middle of its calls too. In a live environment the flag then stays counted, which only makes bulk transactions log everything.
func TestEngineKilled(t *testing.T) {
	s := newSiege(t)
	id := s.mustBackup(archive.BackupOptions{}).Manifest.ID
	end := s.mustShip().To
	want := commitsBefore(s.load, end)
	for _, e := range []errand{
		{Do: doBackup, Checkpoint: true},
		{Do: doRestore, Backup: id, End: end},
	} {
		e.To = filepath.Join(t.TempDir(), "to")
		for _, m := range moments(s.run(e).Points) {
			if m.Engine {
				e.To = filepath.Join(t.TempDir(), "to")
				e.Point, e.Nth, e.Victim = m.Name, m.Times, child
				s.withoutEngine(e)
				if e.Do == doRestore {
					s.restored(e.To, want)
				}
			}
		}
	}
}

// withoutEngine runs an errand whose engine is killed, and then once more. The first run may get to its end if it needs the engine no more.
func (s *siege) withoutEngine(e errand) {
	s.t.Helper()
	r := start(s.t, s.errand(e))
	o, killed := r.killed(s.t)
	switch {
	case killed:
		s.t.Fatalf("the death of the engine at %q was the death of the %s", e.Point, e.Do)
	case o.Error != "" && !strings.Contains(o.Error, "SIGKILL"):
		s.t.Errorf("the engine of a %s was killed at %q: %s", e.Do, e.Point, o.Error)
	}
	s.unharmed(r)
	s.backups()
	if e.Do == doBackup || o.Error != "" {
		e.Point = ""
		s.run(e)
	}
}
