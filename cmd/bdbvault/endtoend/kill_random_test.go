package endtoend

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/remotetest"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

// TestKilledAtRandom kills backups, ships and restores wherever they happen to be, and the engine of a restore. The engine of a backup is
// only killed where it is between calls: see TestEngineKilled.
func TestKilledAtRandom(t *testing.T) {
	for _, seed := range seeds(t, torture()) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newSiege(t)
			(&raid{siege: s, random: rand.New(rand.NewPCG(seed, 0)), typical: map[string]time.Duration{}}).run(10)
		})
	}
}

// TestKilledAtRandomOnS3 does the same with the repository in a bucket of MinIO: what is on its way there when its sender dies is as good as never sent.
func TestKilledAtRandomOnS3(t *testing.T) {
	for _, seed := range seeds(t, torture()) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newSiege(t)
			s.toBucket(remotetest.MinIO(t))
			(&raid{siege: s, random: rand.New(rand.NewPCG(seed, 0)), typical: map[string]time.Duration{}}).run(5)
			if list := s.list(); !slices.Equal(list, s.backups()) {
				t.Errorf("list shows %s", list)
			}
		})
	}
}

// toBucket gives the siege a repository in a new bucket instead of a directory.
func (s *siege) toBucket(server *remotetest.Server) {
	s.t.Helper()
	s.t.Setenv("AWS_ACCESS_KEY_ID", server.AccessKey)
	s.t.Setenv("AWS_SECRET_ACCESS_KEY", server.SecretKey)
	s.t.Setenv("AWS_REGION", server.Region)
	s.store = store{Endpoint: server.Endpoint, Bucket: server.NewBucket()}
	drv, err := s.store.driver(s.t.Context())
	if err == nil {
		s.repo, err = repository.Init(s.t.Context(), remote.New(drv, remote.Options{}), "test")
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// raid is a row of kills at random times.
type raid struct {
	*siege
	random  *rand.Rand
	typical map[string]time.Duration // how long an errand takes
	targets int

	backup    manifest.BackupID // newest
	end       bdb.LSN           // shipped up to here
	committed uint64            // commits before it

	killed, finished int
}

func (r *raid) run(rounds int) {
	r.advance()
	for _, do := range []string{doBackup, doShip, doRestore} {
		began := time.Now()
		r.siege.run(r.plan(do))
		r.typical[do] = time.Since(began)
	}
	for i := range rounds {
		waitCommits(r.t, r.load, r.load.LastCommitted()+uint64(r.random.IntN(300)))
		switch r.random.IntN(6) {
		case 0, 1:
			r.strike(doBackup)
		case 2:
			r.strike(doShip)
		case 3:
			r.strike(doBackup, doShip)
		case 4:
			r.strike(doRestore)
		case 5:
			r.strikeEngine()
		}
		if i%5 == 4 {
			r.checkRestore(r.backup)
		}
	}
	r.t.Logf("%d runs were killed, %d had come to their end", r.killed, r.finished)
}

// advance makes a backup to restore from later.
func (r *raid) advance() {
	r.t.Helper()
	r.backup = r.mustBackup(archive.BackupOptions{}).Manifest.ID
	r.end = r.mustShip().To
	r.committed = commitsBefore(r.load, r.end)
}

// plan is an errand of a kind, as it comes.
func (r *raid) plan(do string) errand {
	e := errand{Do: do, Checkpoint: r.random.IntN(2) == 0, ReadAll: r.random.IntN(2) == 0}
	e.BulkSafe = []string{archive.BulkAuto, archive.BulkRequire, archive.BulkOff}[r.random.IntN(3)]
	if e.BulkSafe == archive.BulkOff {
		e.Checkpoint = false
	}
	if do == doRestore {
		r.targets++
		e.Backup, e.End, e.To = r.backup, r.end, filepath.Join(r.t.TempDir(), fmt.Sprint("to", r.targets))
	}
	return r.errand(e)
}

// strike runs errands side by side, kills each at a time of its own, and lets them be done again.
func (r *raid) strike(kinds ...string) {
	r.t.Helper()
	var errands []errand
	var list []*running
	for _, do := range kinds {
		e := r.plan(do)
		p := start(r.t, e)
		time.AfterFunc(time.Duration(r.random.Int64N(int64(r.typical[do]))), func() { p.cmd.Process.Kill() })
		errands, list = append(errands, e), append(list, p)
	}
	for i, p := range list {
		o, killed := p.killed(r.t)
		if killed {
			r.killed++
		} else if r.finished++; o.Error != "" {
			r.t.Errorf("%s: %s", errands[i].Do, o.Error)
		} else {
			r.typical[errands[i].Do] = r.typical[errands[i].Do]*4/5 + 1 // kill earlier next time
		}
	}
	for i, p := range list {
		r.finish(errands[i], p)
	}
}

// finish does again what was killed.
func (r *raid) finish(e errand, p *running) {
	r.t.Helper()
	if e.Do != doRestore {
		r.healthy(p)
		r.backups()
		r.again(e)
		r.advance()
		return
	}
	if !finishedHome(r.t, e.To) {
		r.siege.run(e) // at once: the engine of the killed one may still be at work
	}
	r.restored(e.To, r.committed)
	r.healthy(p)
}

// finishedHome reports whether a target that somebody restored into says of itself that it is a home.
func finishedHome(t *testing.T, dir string) bool {
	t.Helper()
	names := entries(t, dir)
	return len(names) > 0 && !slices.Contains(names, restore.MarkerName)
}

// strikeEngine kills the engine of a restore.
func (r *raid) strikeEngine() {
	r.t.Helper()
	e := r.plan(doRestore)
	p := start(r.t, e)
	delay := time.Duration(r.random.Int64N(int64(r.typical[doRestore] / 2)))
	var struck atomic.Bool
	go func() {
		if eng := p.engine(); eng != nil {
			time.AfterFunc(delay, func() { struck.Store(eng.Kill() == nil) })
		}
	}()
	o, killed := p.killed(r.t)
	if killed {
		r.t.Fatal("the restore died with its engine")
	}
	if o.Error == "" {
		r.finished++
		r.restored(e.To, r.committed)
		return
	}
	r.killed++
	if !strings.Contains(o.Error, "SIGKILL") || !struck.Load() {
		r.t.Errorf("a restore whose engine was killed: %s", o.Error)
	}
	r.finish(e, p)
}
