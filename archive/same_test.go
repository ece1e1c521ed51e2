package archive_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/remote/repository"
)

// notes is a progress that remembers what a person should know.
type notes struct{ list []string }

func (*notes) Phase(string, int64) {}
func (*notes) Add(int64)           {}
func (*notes) File(string)         {}
func (n *notes) Note(text string)  { n.list = append(n.list, text) }

func (n *notes) have(text string) bool {
	return slices.ContainsFunc(n.list, func(s string) bool { return strings.Contains(s, text) })
}

// TestRebuiltDatabases: an environment whose every database was made anew, or removed, is still the same one, as its log goes on. It is another one as soon
// as that can't be seen.
func TestRebuiltDatabases(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	env := envtest.Create(t, home, envtest.Spec{LogFileSize: 100 << 10, Databases: []envtest.Database{{File: "a.db", Method: "btree", Records: 500}}})
	b := newBench(t, home)
	last := b.backup(archive.BackupOptions{}).Manifest
	goesOn := func(what string) {
		t.Helper()
		m := b.backup(archive.BackupOptions{}).Manifest
		if m.Timeline != last.Timeline || m.Parent != last.ID {
			t.Errorf("%s: %s", what, dump(m))
		}
		last = m
	}
	hold := envtest.StartHold(t, env)
	rebuild := func() {
		hold.Create("", envtest.Database{File: "new.db", Method: "btree", Records: 2000})
		hold.Remove("", "a.db")
		hold.Rename("", "new.db", "a.db")
		hold.Checkpoint()
		hold.Checkpoint()
	}
	rebuild()
	goesOn("rebuilt")
	rebuild()
	rebuild()
	goesOn("rebuilt twice")
	rebuild()
	if _, err := b.ship(); err != nil {
		t.Fatal(err)
	}
	end := hold.LogEnd().File
	for hold.LogEnd().File < end+2 {
		rebuild()
	}
	hold.RemoveLogs()
	var other *archive.OtherEnvironmentError
	if _, err := b.try(archive.BackupOptions{}); !errors.As(err, &other) {
		t.Errorf("with the log gone that would prove it: %v", err)
	}
	last = b.backup(archive.BackupOptions{NewEnvironment: true}).Manifest
	hold.Remove("", "a.db")
	goesOn("no database is left")
}

// TestStrayNames: what backup refuses to follow, ship warns of.
func TestStrayNames(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	env := envtest.Create(t, home, envtest.Spec{Databases: []envtest.Database{{File: "a.db", Method: "btree", Records: 10}}})
	b := newBench(t, home)
	b.backup(archive.BackupOptions{})
	stray := filepath.Join(t.TempDir(), "stray.db")
	hold := envtest.StartHold(t, env)
	hold.Create("", envtest.Database{File: stray, Method: "btree", Records: 10})
	hold.FlushLog()
	said := &notes{}
	if _, err := archive.Ship(t.Context(), b.repo, b.env(), archive.ShipOptions{Env: "test", StateDir: b.state, Progress: said}); err != nil {
		t.Fatal(err)
	}
	if !said.have(stray) || len(said.list) != 1 {
		t.Errorf("ship said %q", said.list)
	}
	var uncovered *archive.NotCoveredError
	if _, err := b.try(archive.BackupOptions{}); !errors.As(err, &uncovered) || !slices.Contains(uncovered.Names, stray) {
		t.Errorf("backup: %v", err)
	}
}

// TestCondemnedLog: a backup counts on no log that a prune means to delete. It begins a new timeline, but not where it can do without what goes.
func TestCondemnedLog(t *testing.T) {
	env, b := bank(t)
	first := b.backup(archive.BackupOptions{}).Manifest
	commit(t, env, 50, envtest.BankOptions{})
	if _, err := b.ship(); err != nil {
		t.Fatal(err)
	}
	commit(t, env, 3000, envtest.BankOptions{}) // seals the file of those tails
	if _, err := b.ship(); err != nil {
		t.Fatal(err)
	}
	list, err := b.repo.Segments(t.Context(), "test", first.Timeline, nil)
	if err != nil {
		t.Fatal(err)
	}
	sealed := map[uint32]bool{}
	for _, n := range list {
		sealed[n.File] = sealed[n.File] || n.Sealed && n.Start == 0
	}
	var superseded, all []string
	for _, n := range list {
		if all = append(all, n.String()); sealed[n.File] && !n.Sealed {
			superseded = append(superseded, n.String())
		}
	}
	if len(superseded) == 0 {
		t.Fatalf("no tail is superseded: %s", all)
	}
	b.condemn("superseded", superseded)
	if m := b.backup(archive.BackupOptions{}).Manifest; m.Timeline != first.Timeline {
		t.Errorf("only superseded tails are condemned, and a new timeline begins: %s", m.NewTimeline)
	}
	b.condemn("all", all)
	m := b.backup(archive.BackupOptions{Progress: &notes{}}).Manifest
	if m.Timeline == first.Timeline || !strings.Contains(m.NewTimeline, "prune") {
		t.Errorf("the log is condemned: timeline %s, %q", m.Timeline, m.NewTimeline)
	}
	shipped, err := b.ship()
	if err != nil || shipped.Timeline != m.Timeline {
		t.Fatalf("ship afterwards: %s %v", dump(shipped), err)
	}
	reaches(t, b, m, shipped.To)
}

// condemn stores what a prune would.
func (b *bench) condemn(id string, segments []string) {
	b.t.Helper()
	c := manifest.NewCondemned("test", manifest.NewBackupID(time.Now()))
	c.Segments = segments
	data, err := c.Encode()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := repository.PutOnce(b.t.Context(), b.repo.Bucket, manifest.CondemnedPrefix("test")+id+".json", data); err != nil {
		b.t.Fatal(err)
	}
}
