package endtoend

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"bdbvault/archive"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/restore"
)

// Where a trap's steps are done: before the backup, at three of its stages, and after it.
const (
	before  = "before"
	listing = "list"    // nothing is opened yet
	reading = "read"    // the files are open, nothing is read yet
	atEnd   = "log-end" // everything is read; the log goes on
	after   = "after"
)

// trap is what an application may do while it is backed up. Each has files of its own, and a transaction of its own.
type trap struct {
	name  string
	files []envtest.Database // that are there from the beginning
	steps map[string]func(*trapped)
	sound bool // the engine's own recovery gets this right
	bulk  bool // it needs the hot-backup flag
	read  bool // the backup has to read it in the log: files are copied again

	password string // of the environment, where that matters
}

// trapped does the steps of one trap.
type trapped struct {
	*envtest.TestHold
	t      *testing.T
	home   string
	prefix string
}

// file is the name of one of the trap's files.
func (s *trapped) file(name string) string { return s.prefix + name }

// txn is the name of the trap's transaction.
func (s *trapped) txn() string { return s.prefix + "txn" }

func (s *trapped) named(d envtest.Database) envtest.Database {
	d.File = s.file(d.File)
	return d
}

// make creates and fills a database.
func (s *trapped) make(txn, name string) {
	s.Create(txn, s.named(envtest.Database{File: name, Method: "btree", Records: 300}))
}

// open keeps a database open, so that nothing is written to disk at the end of each step.
func (s *trapped) open(name string) {
	if _, err := s.Do(envtest.Step{Do: envtest.DoOpen, File: s.file(name)}); err != nil {
		s.t.Error(err)
	}
}

// removeInside removes a database in a file with several.
func (s *trapped) removeInside(file, name string) {
	if _, err := s.Do(envtest.Step{Do: envtest.DoRemove, File: s.file(file), Name: name}); err != nil {
		s.t.Error(err)
	}
}

// shrinkInside fills a database in a file with several, so that it takes every free page, and then makes the file small.
func (s *trapped) shrinkInside(file, name string) {
	for _, step := range []envtest.Step{
		{Do: envtest.DoPut, From: 10, Count: 2000},
		{Do: envtest.DoDelete, From: 100, Count: 1910},
		{Do: envtest.DoCompact},
	} {
		step.File, step.Name = s.file(file), name
		if _, err := s.Do(step); err != nil {
			s.t.Error(err)
		}
	}
}

func (s *trapped) rename(from, to string) { s.Rename("", s.file(from), s.file(to)) }

func (s *trapped) put(name string, from, count int) { s.Put("", s.file(name), from, count) }

// inFlight does something in the trap's transaction, which is open from then on.
func inFlight(do func(s *trapped)) func(*trapped) {
	return func(s *trapped) {
		s.Begin(s.txn())
		do(s)
		s.FlushLog()
	}
}

func traps() []trap {
	a := []envtest.Database{{File: "a", Method: "btree", Records: 600}}
	queue := []envtest.Database{{File: "a", Method: "queue", Extent: 2, PageSize: 512, RecordLen: 50, Records: 200}}
	inside := []envtest.Database{
		{File: "a", Name: "one", Method: "btree", PageSize: 512, Checksum: true, Records: 600},
		{File: "a", Name: "two", Method: "btree", PageSize: 512, Checksum: true, Records: 10},
	}
	heap := []envtest.Database{{File: "a", Method: "heap", Records: 600}}
	type steps = map[string]func(*trapped)
	return []trap{
		{name: "made and renamed afterwards", steps: steps{
			after: func(s *trapped) { s.make("", "new"); s.rename("new", "newer") },
		}},
		{name: "made and renamed meanwhile", steps: steps{
			reading: func(s *trapped) { s.make("", "new") },
			atEnd:   func(s *trapped) { s.rename("new", "newer"); s.put("newer", 300, 100) },
		}},
		{name: "made in one round, renamed in the next", steps: steps{
			listing: func(s *trapped) { s.make("", "new") },
			reading: func(s *trapped) { s.rename("new", "newer") },
			after:   func(s *trapped) { s.rename("newer", "newest") },
		}},
		{name: "renamed before", files: a, sound: true, steps: steps{
			before: func(s *trapped) { s.Checkpoint(); s.rename("a", "b"); s.put("b", 600, 100) },
		}},
		{name: "renamed at every stage", files: a, steps: steps{
			before:  func(s *trapped) { s.Checkpoint(); s.rename("a", "b"); s.put("b", 600, 100) },
			listing: func(s *trapped) { s.rename("b", "c"); s.put("c", 700, 100) },
			reading: func(s *trapped) { s.rename("c", "d"); s.put("d", 800, 100) },
			atEnd:   func(s *trapped) { s.rename("d", "e"); s.put("e", 900, 100) },
			after:   func(s *trapped) { s.rename("e", "a"); s.put("a", 1000, 100) },
		}},
		{name: "renamed and made anew meanwhile", files: a, sound: true, steps: steps{
			reading: func(s *trapped) { s.rename("a", "b"); s.make("", "a"); s.put("b", 900, 10) },
		}},
		{name: "exchanged meanwhile", files: append(a, envtest.Database{File: "b", Method: "hash", Records: 600}), steps: steps{
			reading: func(s *trapped) { s.rename("a", "x"); s.rename("b", "a"); s.rename("x", "b") },
			after:   func(s *trapped) { s.put("a", 600, 100); s.put("b", 600, 100) },
		}},
		{name: "removed meanwhile", files: a, sound: true, steps: steps{
			reading: func(s *trapped) { s.Remove("", s.file("a")) },
		}},
		{name: "removed and made anew meanwhile", files: a, sound: true, steps: steps{
			reading: func(s *trapped) { s.Remove("", s.file("a")); s.make("", "a") },
		}},
		{name: "removal under way before", files: a, steps: steps{
			before: inFlight(func(s *trapped) { s.Remove(s.txn(), s.file("a")) }),
		}},
		{name: "removal under way meanwhile", files: a, steps: steps{
			reading: inFlight(func(s *trapped) { s.Remove(s.txn(), s.file("a")) }),
		}},
		{name: "creation under way", sound: true, steps: steps{
			listing: inFlight(func(s *trapped) { s.make(s.txn(), "new") }),
		}},
		{name: "renaming under way", files: a, sound: true, steps: steps{
			listing: inFlight(func(s *trapped) { s.Rename(s.txn(), s.file("a"), s.file("b")) }),
		}},
		{name: "truncated meanwhile", files: a, sound: true, steps: steps{
			reading: func(s *trapped) { s.Truncate("", s.file("a")); s.Checkpoint(); s.put("a", 0, 5) },
		}},
		{name: "heap truncated meanwhile", files: heap, steps: steps{
			before:  func(s *trapped) { s.open("a"); s.Checkpoint() },
			reading: func(s *trapped) { s.Truncate("", s.file("a")) },
			after:   func(s *trapped) { s.put("a", 0, 100) },
		}},
		{name: "subdatabase gone before", files: inside, password: password, steps: steps{
			before: func(s *trapped) { s.removeInside("a", "one"); s.shrinkInside("a", "two"); s.Checkpoint() },
		}},
		{name: "compacted meanwhile", files: a, sound: true, steps: steps{
			before:  func(s *trapped) { s.put("a", 600, 2000); s.Delete("", s.file("a"), 0, 2300) },
			reading: func(s *trapped) { s.Compact("", s.file("a")); s.Checkpoint() },
		}},
		{name: "extents gone and come meanwhile", files: queue, sound: true, steps: steps{
			reading: func(s *trapped) { s.Consume("", s.file("a"), 100); s.put("a", 200, 100); s.Checkpoint() },
			atEnd:   func(s *trapped) { s.Consume("", s.file("a"), 60) },
		}},
		{name: "queue renamed afterwards", files: queue, steps: steps{
			after: func(s *trapped) { s.put("a", 200, 50); s.rename("a", "b"); s.put("b", 250, 50) },
		}},
		{name: "queue consumed and renamed at every stage", files: queue, read: true, steps: steps{
			listing: func(s *trapped) { s.Consume("", s.file("a"), 100); s.Checkpoint() },
			reading: func(s *trapped) { s.rename("a", "b"); s.Consume("", s.file("b"), 60); s.put("b", 200, 50) },
			after:   func(s *trapped) { s.rename("b", "c"); s.Consume("", s.file("c"), 60) },
		}},
		{name: "renaming of a queue given up", files: queue, steps: steps{
			reading: inFlight(func(s *trapped) { s.Rename(s.txn(), s.file("a"), s.file("b")) }),
			after:   func(s *trapped) { s.Abort(s.txn()); s.put("a", 200, 50); s.rename("a", "c") },
		}},
		{name: "loaded in bulk meanwhile", files: a, sound: true, bulk: true, steps: steps{
			reading: func(s *trapped) {
				s.BeginBulk(s.txn())
				s.Put(s.txn(), s.file("a"), 600, 2000)
				s.Commit(s.txn())
			},
		}},
	}
}

// TestTraps shows for each of them what db5.3_recover -c makes of plain copies of data and log, and that a restore is right.
func TestTraps(t *testing.T) {
	for _, trap := range traps() {
		t.Run(trap.name, func(t *testing.T) {
			s := set(t, envtest.Spec{Password: trap.password}, "", trap)
			var copies []string
			s.spring(false, func(stage string) {
				if stage == reading || stage == atEnd {
					copies = append(copies, s.copyHome())
				}
			})
			sound := true
			for i, copied := range copies {
				wrong, err := s.stock(copied)
				if err != nil || len(wrong) > 0 {
					t.Logf("db5.3_recover -c of copy %d: %v, %q", i, err, wrong)
					sound = false
				}
			}
			if sound != trap.sound {
				t.Errorf("db5.3_recover -c is right: %t", sound)
			}
		})
	}
}

// TestAllTraps springs all of them in one backup, in other environments.
func TestAllTraps(t *testing.T) {
	for name, e := range map[string]struct {
		spec   envtest.Spec
		folder string
		blind  bool
	}{
		"home":                    {},
		"directories":             {spec: envtest.Spec{DataDirs: []string{"data1", "data2"}, LogDir: "logs", LogFileSize: 200 << 10}, folder: "sub"},
		"create directory":        {spec: envtest.Spec{DataDirs: []string{"data1", "data2"}, CreateDir: "data2"}, folder: "sub"},
		"encrypted":               {spec: envtest.Spec{Password: password}, folder: "sub"},
		"encrypted, read blindly": {spec: envtest.Spec{Password: password, DataDirs: []string{"data1"}}, blind: true},
	} {
		t.Run(name, func(t *testing.T) {
			list := traps()
			if e.blind { // nothing can be joined, and a bulk load is seen only by who has joined
				list = slices.DeleteFunc(list, func(tr trap) bool { return tr.bulk || tr.read })
			}
			set(t, e.spec, e.folder, list...).spring(e.blind, func(string) {})
		})
	}
}

// minefield is an environment with traps in it.
type minefield struct {
	*vault
	env   *envtest.Environment
	traps []trap
	steps []*trapped
	truth envtest.Contents
	logAt string // a copy of the home with the log as it was shipped
}

// set makes an environment in which the traps' files are in a folder.
func set(t *testing.T, spec envtest.Spec, folder string, traps ...trap) *minefield {
	t.Helper()
	m := &minefield{traps: traps}
	spec.Databases = []envtest.Database{{File: filepath.Join(folder, "still"), Method: "btree", Records: 10}}
	for _, trap := range traps {
		s := &trapped{prefix: filepath.Join(folder, strings.ReplaceAll(trap.name, " ", "-")) + "."}
		for _, d := range trap.files {
			spec.Databases = append(spec.Databases, s.named(d))
		}
		m.steps = append(m.steps, s)
	}
	m.env = envtest.Create(t, filepath.Join(t.TempDir(), "home"), spec)
	m.vault = newVault(t, m.env.Home)
	hold := envtest.StartHold(t, m.env)
	for _, s := range m.steps {
		s.TestHold, s.t, s.home = hold, t, m.home
	}
	return m
}

// do does the steps of one stage.
func (m *minefield) do(stage string) {
	for i, trap := range m.traps {
		if step := trap.steps[stage]; step != nil {
			step(m.steps[i])
		}
	}
}

// spring backs up while the traps' steps are done, and restores. What is under way when the log is shipped is undone in the truth that the restore
// is held against. at hears of each stage before its steps are done.
func (m *minefield) spring(blind bool, at func(stage string)) *manifest.Manifest {
	m.t.Helper()
	opt := archive.BackupOptions{Step: once(func(stage string) { at(stage); m.do(stage) })}
	if blind {
		opt.BulkSafe = archive.BulkOff
	} else {
		m.password = m.env.Password
	}
	m.do(before)
	backup := m.mustBackup(opt).Manifest
	m.do(after)
	m.steps[0].FlushLog()
	m.mustShip()
	log := m.copyHome()
	for _, s := range m.steps {
		s.Do(envtest.Step{Do: envtest.DoAbort, Txn: s.txn()}) // an error for those that have none
	}
	m.steps[0].Checkpoint()
	m.truth = contents(m.t, m.home, m.env.Password)
	r, err := m.restoreBeside(restore.Target{}, m.env.Password)
	if err != nil {
		m.t.Fatal(err)
	}
	if diff := envtest.Diff(m.truth, contents(m.t, r.home, m.env.Password)); len(diff) > 0 {
		m.t.Fatalf("the truth and the restore:\n%s", strings.Join(diff, "\n"))
	}
	if left := strayExtents(m.t, r.home); len(left) > 0 {
		m.t.Errorf("extents without a queue: %q", left)
	}
	m.logAt = log
	return backup
}

// strayExtents are files of queues that are not there.
func strayExtents(t *testing.T, home string) (stray []string) {
	t.Helper()
	err := filepath.WalkDir(home, func(at string, _ fs.DirEntry, err error) error {
		if queue, extent := strings.CutPrefix(filepath.Base(at), "__dbq."); extent {
			queue = strings.TrimSuffix(queue, filepath.Ext(queue))
			if _, missing := os.Stat(filepath.Join(filepath.Dir(at), queue)); missing != nil {
				stray = append(stray, at)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return stray
}

// once passes the first call for each stage on. Some stages are reached by several goroutines at once.
func once(do func(string)) func(string) error {
	var mu sync.Mutex
	done := map[string]bool{}
	return func(stage string) error {
		mu.Lock()
		defer mu.Unlock()
		if !done[stage] {
			done[stage] = true
			do(stage)
		}
		return nil
	}
}

// copyHome is a plain copy of the home, as cp makes it.
func (m *minefield) copyHome() string {
	m.t.Helper()
	to := filepath.Join(m.t.TempDir(), "copy")
	if err := envtest.CopyHome(m.home, to); err != nil {
		m.t.Fatal(err)
	}
	return to
}

// stock has db5.3_recover -c recover a copy with the log that was shipped.
func (m *minefield) stock(copied string) ([]string, error) {
	m.t.Helper()
	logs, err := filepath.Glob(filepath.Join(m.logAt, "log.*"))
	if err != nil {
		m.t.Fatal(err)
	}
	for _, log := range logs {
		if err := copyTo(log, filepath.Join(copied, filepath.Base(log))); err != nil {
			m.t.Fatal(err)
		}
	}
	return stockRecovery(copied, m.env.Password, m.truth)
}

func copyTo(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}

func logName(n uint32) string { return fmt.Sprintf("log.%010d", n) }
