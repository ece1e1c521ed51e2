package bdb_test

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/envtest"
)

// lab is an environment of which copies are taken while things happen to its files.
type lab struct {
	*envtest.TestHold
	t             *testing.T
	env           *envtest.Environment
	copies, logs  string
	copied        map[string]bool // inode and file id of what was copied
	seq           int
	needed, begun bdb.LSN
	truth         envtest.Contents
}

func newLab(t *testing.T, spec envtest.Spec) *lab {
	t.Helper()
	base := t.TempDir()
	l := &lab{t: t, copies: filepath.Join(base, "copies"), logs: filepath.Join(base, "logs"), copied: map[string]bool{}}
	l.env = envtest.Create(t, filepath.Join(base, "home"), spec)
	l.TestHold = envtest.StartHold(t, l.env)
	for _, d := range []string{l.copies, l.logs} {
		l.check(os.Mkdir(d, 0o700))
	}
	return l
}

func (l *lab) check(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) key() *bdb.Key { return bdb.NewKey(l.env.Password) }

// beginCopies notes what a backup notes before it looks at any file.
func (l *lab) beginCopies() {
	l.t.Helper()
	l.begun = l.FlushLog()
	log, err := localenv.OpenLogDir(l.t.Context(), l.env.Home, l.key())
	l.check(err)
	defer log.Close()
	ckp, found, err := log.LastCheckpoint(l.t.Context())
	l.check(err)
	if l.needed = (bdb.LSN{File: 1}); found {
		l.needed = ckp.CkpLSN
	}
}

// copySome copies the files that were not copied yet, each as chance will have it. The name of a copy has the name of the file.
func (l *lab) copySome(chance func() bool) {
	l.t.Helper()
	e, err := localenv.Open(l.env.Home, l.key())
	l.check(err)
	listing, err := e.List(l.t.Context())
	l.check(err)
	for _, f := range listing.Files {
		path := filepath.Join(e.Dirs[f.Dir].Path, f.Path)
		b, err := os.ReadFile(path)
		l.check(err)
		id := fmt.Sprintf("%d-%x", f.Stat.Inode, b[min(len(b), 52):min(len(b), 64)]) // the rest is encrypted
		if l.copied[id] || !chance() {
			continue
		}
		l.copied[id] = true
		l.seq++
		to := filepath.Join(l.copies, fmt.Sprint(l.seq), e.Dirs[f.Dir].Name, f.Path)
		l.check(os.MkdirAll(filepath.Dir(to), 0o700))
		l.check(os.WriteFile(to, b, 0o600))
	}
}

func (l *lab) copyAll() { l.t.Helper(); l.copySome(func() bool { return true }) }

// finish ends the history: the log that is needed is taken as it is, transactions in flight are aborted afterwards.
func (l *lab) finish() {
	l.t.Helper()
	l.FlushLog()
	logs, err := filepath.Glob(filepath.Join(l.env.Home, "log.*"))
	l.check(err)
	for _, from := range logs {
		if logNumber(from) >= l.needed.File {
			l.check(copyTo(from, filepath.Join(l.logs, filepath.Base(from))))
		}
	}
	for _, txn := range []string{"x", "open"} {
		_, _ = l.Do(envtest.Step{Do: envtest.DoAbort, Txn: txn}) // if there is one
	}
	l.Checkpoint()
	l.Kill() // everything is in the files
	l.truth, err = envtest.Dump(l.env.Home, l.env.Password)
	l.check(err)
}

func logNumber(path string) (n uint32) {
	_, _ = fmt.Sscanf(filepath.Base(path), "log.%d", &n)
	return n
}

// dirs are the environment's data directories, home last, as libdb looks through them.
func (l *lab) dirs() []string {
	return append(slices.Concat(l.env.Spec.DataDirs, l.env.Spec.AddDirs), ".")
}

// restoreStock does what an administrator would: files where they were found, the log, db_recover -c.
func (l *lab) restoreStock(home string) error {
	l.check(envtest.Prepare(home, l.env.Spec))
	for _, c := range l.listCopies() {
		if err := copyTo(c.path, filepath.Join(home, c.dir, c.rel)); err != nil {
			return err // two files of one name
		}
	}
	logs, _ := filepath.Glob(filepath.Join(l.logs, "log.*"))
	for _, log := range logs {
		l.check(copyTo(log, filepath.Join(home, filepath.Base(log))))
	}
	return envtest.RecoverCatastrophic(home, l.env.Password)
}

type fileCopy struct{ path, dir, rel string }

func (l *lab) listCopies() (copies []fileCopy) {
	for i := range l.seq {
		root := filepath.Join(l.copies, fmt.Sprint(i+1))
		copies = append(copies, l.scan(root)...)
	}
	return copies
}

// scan lists the files below a directory that is laid out as a home.
func (l *lab) scan(root string) (files []fileCopy) {
	l.check(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "DB_CONFIG" || strings.HasPrefix(d.Name(), "log.") {
			return err
		}
		rel, err := filepath.Rel(root, path)
		c := fileCopy{path, ".", rel}
		for _, dir := range l.dirs() {
			if in, ok := strings.CutPrefix(rel, dir+"/"); ok {
				c.dir, c.rel = dir, in
			}
		}
		files = append(files, c)
		return err
	}))
	return files
}

func copyTo(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return writeNew(to, b)
}

func writeNew(to string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return max2(err, f.Close())
}

func max2(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func (l *lab) history() *bdb.History {
	l.t.Helper()
	log, err := localenv.OpenLogDir(l.t.Context(), l.logs, l.key())
	l.check(err)
	defer log.Close()
	h := bdb.NewHistory()
	_, err = log.Walk(l.t.Context(), bdb.LSN{File: log.Files()[0]}, h.Add)
	l.check(err)
	return h
}

// restore does what History's plan says.
func (l *lab) restore(home string) {
	l.t.Helper()
	h := l.history()
	stages, err := h.Replay(l.needed, l.begun)
	l.check(err)
	l.check(envtest.Prepare(home, l.env.Spec))
	files := l.listCopies()
	for _, stage := range stages {
		l.place(stage, files, home)
		l.recover(stage, home)
		files = l.scan(home)
	}
	l.checkFiles(h, home)
}

// place puts the files where the stage wants them.
func (l *lab) place(stage *bdb.Replay, files []fileCopy, home string) {
	l.t.Helper()
	placed := map[string][]byte{}
	for _, c := range files {
		b, err := os.ReadFile(c.path)
		l.check(err)
		if strings.HasPrefix(c.path, home) {
			l.check(os.Remove(c.path))
		}
		rel, ok := stage.Place(c.rel, l.id(b))
		if ok && !bdb.IsPlaceholder(b) {
			to := filepath.Join(home, c.dir, rel)
			if placed[to] != nil {
				l.t.Errorf("two files belong at %s", to)
			}
			placed[to] = b
		}
	}
	for to, b := range placed {
		l.check(writeNew(to, b))
	}
}

func (l *lab) id(b []byte) bdb.FileID {
	m, err := bdb.ParseMeta(b[:min(len(b), 512)], l.key())
	if err != nil {
		return bdb.FileID{}
	}
	return m.FileID
}

// recover runs the engine on the stage's log, in a home of its own in which links stand for the data directories.
func (l *lab) recover(stage *bdb.Replay, home string) {
	l.t.Helper()
	apart := l.t.TempDir()
	config := "set_lg_dir log\n"
	for _, d := range l.dirs() {
		if d != "." {
			l.check(os.Symlink(filepath.Join(home, d), filepath.Join(apart, d)))
			config += "add_data_dir " + d + "\n"
		}
	}
	config += fmt.Sprintf("add_data_dir %s\nset_create_dir %s\n", home, home)
	l.check(os.WriteFile(filepath.Join(apart, "DB_CONFIG"), []byte(config), 0o600))
	l.layLog(stage, filepath.Join(apart, "log"))
	args := []string{"-c", "-h", apart}
	if l.env.Password != "" {
		args = append(args, "-P", l.env.Password)
	}
	out, err := exec.Command("db5.3_recover", args...).CombinedOutput()
	if err != nil || len(out) > 0 {
		l.t.Fatalf("recovery: %v\n%s", err, out)
	}
}

func (l *lab) layLog(stage *bdb.Replay, dir string) {
	l.t.Helper()
	l.check(os.Mkdir(dir, 0o700))
	files, err := filepath.Glob(filepath.Join(l.logs, "log.*"))
	l.check(err)
	for _, from := range files {
		number := logNumber(from)
		b, err := os.ReadFile(from)
		l.check(err)
		d, err := bdb.NewLogDecoder(b, l.key())
		l.check(err)
		for _, a := range stage.Amendments {
			if a.LSN.File == number {
				l.check(d.Amend(a, b[a.LSN.Offset:]))
			}
		}
		if !stage.Until.IsZero() && number == stage.Until.File {
			b = b[:stage.Until.Offset]
		}
		if stage.Until.IsZero() || number <= stage.Until.File {
			l.check(os.WriteFile(filepath.Join(dir, filepath.Base(from)), b, 0o600))
		}
	}
}

// checkFiles compares what History says with what is there, and removes placeholders that libdb leaves.
func (l *lab) checkFiles(h *bdb.History, home string) {
	l.t.Helper()
	there := map[bdb.FileID][]string{}
	for _, f := range l.scan(home) {
		b, err := os.ReadFile(f.path)
		l.check(err)
		if bdb.IsPlaceholder(b) {
			l.check(os.Remove(f.path))
		}
		if id := l.id(b); !id.IsZero() {
			there[id] = append(there[id], f.rel)
		}
	}
	for _, f := range h.Files() {
		names := there[f.ID]
		switch f.State {
		case bdb.FileExists:
			if len(names) != 1 || names[0] != f.Name {
				l.t.Errorf("%s (%s) must exist once: found as %q", f.Name, f.ID, names)
			}
		case bdb.FileRemoved, bdb.FileUndone:
			if len(names) != 0 {
				l.t.Errorf("%s (%s) must not exist, it is %s: found as %q", f.Name, f.ID, f.State, names)
			}
		}
	}
}

// compare dumps a restored home and says in what it differs from the truth.
func (l *lab) compare(home string) []string {
	l.t.Helper()
	got, err := envtest.Dump(home, l.env.Password)
	if err != nil {
		return []string{err.Error()}
	}
	return envtest.Diff(l.truth, got)
}

func btree(file string) envtest.Database {
	return envtest.Database{File: file, Method: "btree", PageSize: 512, Records: 20}
}

var filePair = []envtest.Database{btree("p.db"), btree("q.db")}

// TestReplayOnEngine shows what catastrophic recovery makes of histories with renames, alone and with History's plan.
func TestReplayOnEngine(t *testing.T) {
	queue := []envtest.Database{{File: "q.db", Method: "queue", PageSize: 512, Extent: 2, RecordLen: 100, Records: 60}}
	for _, c := range []struct {
		name   string
		spec   envtest.Spec
		before func(l *lab) // after the checkpoint, before the copies are begun
		during func(l *lab) // while copies are taken
		after  func(l *lab)
		stock  bool // db_recover -c gets it right
	}{
		{name: "nothing renamed", stock: true, after: func(l *lab) { l.Create("", btree("a.db")); l.Put("", "p.db", 30, 5) }},
		{name: "made and renamed", after: func(l *lab) { l.Create("", btree("a.db")); l.Rename("", "a.db", "b.db") }},
		{name: "made, renamed and renamed back", after: func(l *lab) {
			l.Create("", btree("a.db"))
			l.Rename("", "a.db", "b.db")
			l.Rename("", "b.db", "a.db")
		}},
		{name: "made, renamed and removed", stock: true, after: func(l *lab) {
			l.Create("", btree("a.db"))
			l.Rename("", "a.db", "b.db")
			l.Remove("", "b.db")
		}},
		{name: "rotated", after: func(l *lab) {
			l.Rename("", "p.db", "p.1")
			l.Create("", btree("p.db"))
			l.Rename("", "p.1", "p.2")
			l.Rename("", "p.db", "p.1")
			l.Create("", btree("p.db"))
			l.Put("", "p.1", 40, 7)
		}},
		{name: "renamed twice", after: func(l *lab) { l.Rename("", "p.db", "a.db"); l.Rename("", "a.db", "b.db") }},
		{name: "names swapped", after: func(l *lab) {
			for range 2 {
				l.Rename("", "p.db", "t.db")
				l.Rename("", "q.db", "p.db")
				l.Rename("", "t.db", "q.db")
				l.Put("", "q.db", 30, 9)
			}
		}},
		{name: "written anew and swapped in", after: func(l *lab) {
			l.Begin("x")
			l.Create("x", btree("new.db"))
			l.Remove("x", "p.db")
			l.Rename("x", "new.db", "p.db")
			l.Commit("x")
		}},
		{name: "copies taken late", before: func(l *lab) {
			l.Rename("", "p.db", "a.db")
			l.Rename("", "a.db", "p.db")
		}, after: func(l *lab) { l.Put("", "p.db", 30, 5) }},
		{name: "removal in flight", stock: false, during: func(l *lab) {
			l.Begin("x")
			l.Remove("x", "p.db")
		}, after: func(l *lab) { l.Put("", "q.db", 30, 5) }},
		{name: "rename in flight", stock: true, during: func(l *lab) {
			l.Begin("x")
			l.Rename("x", "p.db", "a.db")
		}, after: func(l *lab) { l.Put("", "q.db", 30, 5) }},
		{name: "aborted", stock: true, after: func(l *lab) {
			l.Begin("x")
			l.Create("x", btree("a.db"))
			l.Rename("x", "q.db", "r.db")
			l.Abort("x")
			l.Put("", "q.db", 30, 5)
		}},
		{name: "subdatabases", stock: true, spec: envtest.Spec{Databases: []envtest.Database{{File: "m.db", Name: "one", Method: "btree", Records: 9}}}, after: func(l *lab) {
			l.Create("", envtest.Database{File: "m.db", Name: "two", Method: "btree", Records: 9})
			for _, s := range []envtest.Step{{Do: envtest.DoRename, File: "m.db", Name: "one", To: "three"}, {Do: envtest.DoRename, File: "m.db", Name: "two", To: "one"}} {
				_, err := l.Do(s)
				l.check(err)
			}
		}},
		{name: "data directories", spec: envtest.Spec{DataDirs: []string{"d1", "d2"}, CreateDir: "d2", Databases: filePair}, after: func(l *lab) {
			l.Create("", btree("a.db"))
			l.Rename("", "a.db", "b.db")
			l.Rename("", "p.db", "a.db")
		}},
		{name: "encrypted", spec: envtest.Spec{Password: "secret", Databases: filePair}, after: func(l *lab) {
			l.Create("", btree("a.db"))
			l.Rename("", "a.db", "b.db")
			l.Rename("", "b.db", "c.db")
		}},
		{name: "queue with extents", spec: envtest.Spec{Databases: queue}, after: func(l *lab) {
			l.Put("", "q.db", 61, 30)
			l.Rename("", "q.db", "r.db")
			l.Put("", "r.db", 91, 30)
			l.Create("", queue[0])
			l.Remove("", "q.db")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.spec.Databases == nil {
				c.spec.Databases = filePair
			}
			l := newLab(t, c.spec)
			for _, step := range []func(*lab){c.before, func(l *lab) { l.beginCopies() }, c.during, func(l *lab) { l.copyAll() }, c.after} {
				if step != nil {
					step(l)
				}
			}
			l.finish()
			base := t.TempDir()
			ours, stock := filepath.Join(base, "ours"), filepath.Join(base, "stock")
			l.restore(ours)
			if diff := l.compare(ours); len(diff) > 0 {
				t.Errorf("the plan leads to other files:\n%s", strings.Join(diff, "\n"))
			}
			err := l.restoreStock(stock)
			if right := err == nil && len(l.compare(stock)) == 0; right != c.stock {
				t.Errorf("stock recovery is right: %v, want %v (%v)", right, c.stock, err)
			}
		})
	}
}

// chance plays a random history.
type chance struct {
	*lab
	*rand.Rand

	live  map[string]bool
	spent map[string]bool // names that the transaction has given up
}

// step does something with one file, in a transaction or, without a name, in one of its own.
func (c *chance) step(txn string, live map[string]bool, writes bool) {
	c.t.Helper()
	var there, free []string
	for i := range 6 {
		switch name := fmt.Sprintf("n%d.db", i); {
		case live[name]:
			there = append(there, name)
		case txn == "" || !c.spent[name]: // libdb refuses some types under a name that the transaction has just given up
			free = append(free, name)
		}
	}
	pick := func(names []string) string { return names[c.IntN(len(names))] }
	switch kind := c.IntN(7); {
	case kind < 2 && len(free) > 0:
		d := btree(pick(free))
		d.Method = []string{"btree", "hash", "recno"}[c.IntN(3)]
		d.Records = c.IntN(30) + 1
		c.Create(txn, d)
		live[d.File] = true
	case len(there) == 0:
	case kind < 5 && len(free) > 0:
		from, to := pick(there), pick(free)
		c.Rename(txn, from, to)
		delete(live, from)
		live[to], c.spent[from] = true, true
	case kind < 6:
		gone := pick(there)
		c.Remove(txn, gone)
		delete(live, gone)
		c.spent[gone] = true
	case writes:
		c.Put(txn, pick(there), c.IntN(50)+1, c.IntN(30)+1)
	}
}

// steps does so n times, in transactions of one to three steps, a quarter of which are aborted. Those don't write to files that were
// there: libdb does not always undo that when the file has been renamed in the same transaction.
func (c *chance) steps(n int, between func()) {
	c.t.Helper()
	for range n {
		switch k := c.IntN(20); {
		case k < 9:
			c.step("", c.live, true)
		case k < 19:
			c.transaction()
		default:
			c.Checkpoint()
		}
		between()
	}
}

// begin starts a transaction and returns what it sees.
func (c *chance) begin(txn string) map[string]bool {
	c.t.Helper()
	c.Begin(txn)
	c.spent = map[string]bool{}
	return maps.Clone(c.live)
}

func (c *chance) transaction() {
	c.t.Helper()
	abort := c.IntN(4) == 0
	live := c.begin("x")
	for range c.IntN(3) + 1 {
		c.step("x", live, !abort)
	}
	if abort {
		c.Abort("x")
		return
	}
	c.Commit("x")
	c.live = live
}

// chanceSeed is the seed of the random histories. BDBVAULT_SEED repeats one.
func chanceSeed(t *testing.T) uint64 {
	text := os.Getenv("BDBVAULT_SEED")
	if text == "" {
		return rand.Uint64()
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("BDBVAULT_SEED: %v", err)
	}
	return seed
}

// TestReplayByChance plays random histories and takes copies meanwhile, file by file. Of 600 such histories stock recovery got 405 wrong.
func TestReplayByChance(t *testing.T) {
	seed := chanceSeed(t)
	for i := range 10 * torture() {
		t.Run(fmt.Sprintf("%d-%d", seed, i), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, uint64(i)))
			password := []string{"", "", "secret"}[rnd.IntN(3)]
			c := &chance{lab: newLab(t, envtest.Spec{Password: password, LogFileSize: 24 << 10, Config: []string{"set_lg_bsize 4096"}}), Rand: rnd, live: map[string]bool{}, spent: map[string]bool{}}
			c.steps(c.IntN(8), func() {})
			if c.IntN(2) == 0 {
				c.Checkpoint()
				c.steps(c.IntN(3), func() {})
			}
			c.beginCopies()
			c.steps(c.IntN(8), func() { c.copySome(func() bool { return c.IntN(3) == 0 }) })
			c.copyAll()
			c.steps(c.IntN(8), func() {})
			if c.IntN(2) == 0 {
				live := c.begin("open")
				for range c.IntN(3) + 1 {
					c.step("open", live, false)
				}
			}
			c.finish()
			home := filepath.Join(t.TempDir(), "home")
			c.restore(home)
			if diff := c.compare(home); len(diff) > 0 {
				t.Errorf("the plan leads to other files:\n%s", strings.Join(diff, "\n"))
			}
		})
	}
}
