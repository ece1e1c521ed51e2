package endtoend

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/file"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

// shorten gives the repository, which is empty, another grace period.
func (v *vault) shorten(grace time.Duration) {
	v.t.Helper()
	info := v.repo.Info
	info.GraceSeconds = int64(grace / time.Second)
	data, err := info.Encode()
	if err == nil {
		err = os.WriteFile(filepath.Join(v.dir, manifest.RepositoryKey), data, 0o600)
	}
	if err != nil {
		v.t.Fatal(err)
	}
	drv, err := file.New(v.dir)
	if err != nil {
		v.t.Fatal(err)
	}
	if v.repo, err = repository.Open(v.t.Context(), remote.New(drv, remote.Options{RetryFor: time.Second})); err != nil {
		v.t.Fatal(err)
	}
}

// prune keeps the last n backups and the log that they need.
func (v *vault) prune(n int) *archive.PruneResult {
	v.t.Helper()
	res, err := archive.Prune(v.t.Context(), v.repo, archive.PruneOptions{Env: "test", Policy: manifest.Policy{Last: n, Window: &manifest.Span{}}})
	if err != nil {
		v.t.Fatal(err)
	}
	return res
}

// whole proves that each listed backup that is not void has everything that it names, and can be planned.
func (v *vault) whole() (ids []manifest.BackupID) {
	v.t.Helper()
	list, err := v.repo.Backups(v.t.Context(), "test", "")
	if err != nil {
		v.t.Fatal(err)
	}
	for _, b := range list {
		m, err := v.repo.Manifest(v.t.Context(), "test", b)
		if _, void := errors.AsType[*repository.VoidError](err); void || errors.Is(err, remote.ErrNotFound) {
			continue
		}
		if err != nil {
			v.t.Fatal(err)
		}
		for _, key := range lacking(v, m) {
			if _, err := v.repo.Bucket.Stat(v.t.Context(), manifest.ManifestKey("test", b.ID)); err == nil {
				v.t.Errorf("backup %s is listed and lacks %s", b.ID, key)
			}
		}
		ids = append(ids, b.ID)
	}
	return ids
}

func lacking(v *vault, m *manifest.Manifest) (keys []string) {
	look := func(key string, size int64) {
		if info, err := os.Stat(filepath.Join(v.dir, key)); err != nil || info.Size() != size {
			keys = append(keys, key)
		}
	}
	for _, p := range m.Packs {
		look(manifest.PackKey("test", p.Name), p.Size)
	}
	for i := range m.Files {
		look(manifest.MapKey("test", m.Files[i].Map), m.Files[i].MapSize)
	}
	return keys
}

// stopped waits until a process has stopped itself; false if it has ended instead.
func (r *running) stopped(t *testing.T) bool {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		select {
		case <-r.exited:
			return false
		default:
		}
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.cmd.Process.Pid))
		if strings.Contains(string(stat), ") T ") {
			return true
		}
	}
	t.Fatal("it does not stop")
	return false
}

// TestFrozenBackups stops backups at each of their steps for longer than the grace period, while what they build upon is pruned and deleted. Each ends
// up listed and whole, or is not a backup, and says so.
func TestFrozenBackups(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	envtest.Create(t, home, envtest.Spec{Databases: []envtest.Database{{File: "a.db", Method: "btree", Records: 2000, ValueSize: 200}}})
	v := newVault(t, home)
	const grace = 8 * time.Second
	v.shorten(grace)
	scramble := func() {
		data := make([]byte, 1<<20)
		random := rand.NewChaCha8([32]byte{byte(time.Now().UnixNano())})
		random.Read(data)
		if err := os.WriteFile(filepath.Join(home, "application.dat"), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	scramble()
	old := v.mustBackup(archive.BackupOptions{BulkSafe: archive.BulkOff}).Manifest
	probe := errand{Do: doBackup, Home: home, Store: store{Dir: v.dir}, State: t.TempDir(), Temp: t.TempDir(), BulkSafe: archive.BulkOff}
	o, _ := start(t, probe).killed(t)
	if o.Error != "" {
		t.Fatal(o.Error)
	}
	var runs []*running
	var points []string
	for _, p := range o.Points {
		e := probe
		e.Point, e.Nth, e.Victim, e.State = p.Name, 1, frozen, t.TempDir()
		if r := start(t, e); r.stopped(t) {
			runs, points = append(runs, r), append(points, p.Name)
		}
	}
	if len(runs) < 5 {
		t.Fatalf("only %d points of %v stop a backup", len(runs), o.Points)
	}
	scramble()
	v.mustBackup(archive.BackupOptions{BulkSafe: archive.BulkOff, NewEnvironment: true})
	if res := v.prune(1); res.Condemned.Packs == 0 {
		t.Fatalf("nothing is condemned: %+v", res)
	}
	time.Sleep(grace + 2*time.Second) // that is what the store's clock has to show
	if res := v.prune(1); res.Deleted.Packs == 0 {
		t.Fatalf("nothing is deleted: %+v", res)
	}
	if len(lacking(v, old)) == 0 {
		t.Fatal("the first backup still has all its objects")
	}
	for i, r := range runs {
		r.cmd.Process.Signal(syscall.SIGCONT)
		o, killed := r.killed(t)
		good := v.whole()
		listed := false
		for _, id := range good {
			listed = listed || id == o.Backup
		}
		t.Logf("frozen at %q: %q, %s", points[i], o.Error, o.Backup)
		if killed || (o.Error == "") != listed {
			t.Errorf("frozen at %q it says %q, and is listed: %v", points[i], o.Error, listed)
		}
	}
}

// TestPruneBeside runs backups, ships, a watch, prunes and verifications in processes of their own, many of which are killed, on a live environment. Nothing
// that a listed backup needs is ever missing, no verification finds damage, and in the end all comes back. BDBVAULT_TORTURE=12 goes on for minutes.
func TestPruneBeside(t *testing.T) {
	s := newSiege(t)
	s.shorten(6 * time.Second)
	s.mustBackup(archive.BackupOptions{})
	c := &crowd{siege: s, until: time.Now().Add(time.Duration(torture()) * 15 * time.Second), count: map[string]int{}, said: map[string]int{}}
	for _, e := range []errand{{Do: doBackup, BulkSafe: archive.BulkOff}, {Do: doShip}, {Do: doPrune, Keep: 2}, {Do: doPrune, Keep: 1}, {Do: doVerify},
		{Do: doWatch, Every: 2 * time.Second}} {
		if e = s.errand(e); e.Do != doBackup && e.Do != doShip {
			e.State = t.TempDir()
		}
		c.group.Go(func() { c.send(e) })
	}
	over := make(chan struct{})
	go func() {
		c.group.Wait()
		close(over)
	}()
	for busy := true; busy; {
		s.whole()
		select {
		case <-over:
			busy = false
		case <-time.After(200 * time.Millisecond):
		}
	}
	t.Logf("%v", c.count)
	for text, n := range c.said {
		t.Logf("%d times: %s", n, text)
	}
	id := s.mustBackup(archive.BackupOptions{}).Manifest.ID
	if ids := s.whole(); len(ids) == 0 || ids[len(ids)-1] != id {
		t.Errorf("listed: %s, newest %s", ids, id)
	}
	want := commitsBefore(s.load, s.mustShip().To)
	s.run(errand{Do: doVerify})
	to, _ := s.mustRestore(restore.Target{})
	s.restored(to, want)
}

// crowd are errands that run at the same time, again and again.
type crowd struct {
	*siege
	until time.Time
	group sync.WaitGroup

	mu          sync.Mutex
	count, said map[string]int
}

// send runs an errand again and again. Half of the processes are killed, at random; a watch always is.
func (c *crowd) send(e errand) {
	for time.Now().Before(c.until) {
		r := start(c.t, e)
		life := time.Until(c.until) + time.Minute
		if e.Do == doWatch || rand.IntN(2) == 0 {
			life = time.Duration(rand.IntN(3000)) * time.Millisecond
		}
		select {
		case <-r.exited:
		case <-time.After(life):
			r.kill()
		}
		o, killed := r.killed(c.t)
		c.mu.Lock()
		if c.count[e.Do]++; killed {
			c.count[e.Do+" killed"]++
		} else if o.Error != "" {
			c.said[fmt.Sprintf("%s: %.100s", e.Do, o.Error)]++
		}
		c.mu.Unlock()
		if strings.Contains(o.Error, "fault of the program") || e.Do == doVerify && strings.Contains(o.Error, "damaged") {
			c.t.Errorf("%s: %s", e.Do, o.Error)
		}
	}
}
