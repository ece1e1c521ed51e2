package endtoend

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

// TestDamagedObjects does to every object in turn what happens to whole objects: it is gone, cut short, longer, empty, overwritten, or another one
// under its name. A restore that needs it says which backup it can't bring back, which files and pages of it, and because of which object.
func TestDamagedObjects(t *testing.T) {
	m := newMuseum(t, "")
	dir := scratch(t)
	for _, key := range m.shelf.order {
		id, needed := m.reader(key)
		if !needed {
			id = m.backups[0]
		}
		for what, data := range m.damages(key) {
			plan, err := m.judge(key, data, id, filepath.Join(dir, "to"))
			switch {
			case !needed:
				if !errors.Is(err, errSame) {
					t.Errorf("%s, which nobody needs, is %s: %v", key, what, err)
				}
			case errors.Is(err, errSame) && kind(key) != "packs":
				t.Errorf("%s is %s, and nobody noticed", key, what)
			case errors.Is(err, errSame):
				m.completes(key, data, id)
			case errors.Is(err, errUnnoticed) && kind(key) == "logs" && what == "gone":
				m.endsEarlier(key, plan)
			default:
				m.names(key, what, id, err)
			}
		}
	}
}

// damages are other bytes for an object; nil: it is gone.
func (m *museum) damages(key string) map[string][]byte {
	data := m.shelf.objects[key]
	list := map[string][]byte{
		"gone": nil, "empty": {}, "cut short by a byte": data[:len(data)-1], "cut in half": data[:len(data)/2], "longer": append(bytes.Clone(data), 0),
		"overwritten": make([]byte, len(data)),
	}
	for _, other := range m.shelf.order {
		if other != key && kind(other) == kind(key) {
			list["another"] = m.shelf.objects[other]
		}
	}
	return list
}

// names wants of an error that it says what is lost.
func (m *museum) names(key, what string, id manifest.BackupID, err error) {
	m.t.Helper()
	missing, ok := errors.AsType[*restore.NotFoundError](err)
	switch {
	case key == manifest.RepositoryKey:
		if !noticed(err) && !errors.Is(err, repository.ErrNone) && !errors.Is(err, remote.ErrOutOfRange) {
			m.t.Errorf("%s is %s: %v", key, what, err)
		}
		return
	case kind(key) == "backups" && what == "gone":
		if !ok || missing.Backup != id {
			m.t.Errorf("%s is %s: %v", key, what, err)
		}
		return
	}
	if !noticed(err) && !errors.Is(err, remote.ErrNotFound) {
		m.t.Errorf("%s is %s: %v", key, what, err)
	}
	words := []string{string(id), key}
	if damage, ok := errors.AsType[*restore.DamageError](err); ok {
		for _, f := range damage.Files {
			words = append(words, f.Path, "page")
		}
		if len(damage.Files)+len(damage.Logs) == 0 {
			m.t.Errorf("%s is %s, but no file and no log are lost: %v", key, what, err)
		}
	}
	for _, w := range words {
		if w == "page" && strings.Contains(err.Error(), "the whole file") {
			continue
		}
		if !strings.Contains(err.Error(), w) {
			m.t.Errorf("%s is %s: %q is not in: %v", key, what, w, err)
		}
	}
}

// endsEarlier wants of a restore without some log behind what the backup needs that it ends there, and says so if there is more log in the store.
func (m *museum) endsEarlier(key string, plan *restore.Plan) {
	m.t.Helper()
	last := m.reference[plan.Backup].plan.Cover.Segments
	newest := last[len(last)-1].Key("test") == key
	if end := m.reference[plan.Backup].plan.End; !plan.End.Before(end) || (len(plan.Notes) == 0 && !newest) {
		m.t.Errorf("without %s the restore ends at %s instead of %s: %v", key, plan.End, end, plan.Notes)
	}
}

// completes carries a restore to the end whose pack has damage beside what is needed of it.
func (m *museum) completes(key string, data []byte, id manifest.BackupID) {
	m.t.Helper()
	to := filepath.Join(m.t.TempDir(), "to")
	_, err := m.restore(m.shelf.but(key, data), id, to, nil)
	damage, ok := errors.AsType[*restore.DamageError](err)
	if !ok || !damage.Complete {
		m.t.Errorf("%s has other bytes than were stored: %v", key, err)
		return
	}
	if diff := envtest.Diff(m.reference[id].home, contents(m.t, to, "")); len(diff) > 0 {
		m.t.Errorf("%s: the home differs: %v", key, diff)
	}
}

// TestDamageAndRepair damages a repository on disk, as its users meet it. What the commands say and end with is as documented, the same restore goes on
// once the store is whole again, and a backup stores anew what is missing.
func TestDamageAndRepair(t *testing.T) {
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), storeSpec())
	dir := filepath.Join(t.TempDir(), "repository")
	c := newCLI(t).with("BDBVAULT_REPOSITORY=file://"+dir, "DB_HOME="+env.Home)
	c.must("init")
	truth := contents(t, env.Home, "")
	type half func([]byte) []byte
	gone, cut := half(func([]byte) []byte { return nil }), half(func(b []byte) []byte { return b[:len(b)/2] })
	for _, damage := range []struct {
		kind  string
		make  half
		code  int
		words []string
		heals string // what a backup says
	}{
		{"packs", gone, damaged, []string{"no such object", "data/btree.db, pages 0-", "take a full backup"}, "stored anew"},
		{"packs", cut, damaged, []string{"cut short", "data/btree.db, pages ", "take a full backup"}, "stored anew"},
		{"maps", gone, damaged, []string{"no such object", "data/btree.db, the whole file", "take a full backup"}, "stored anew"},
		{"logs", gone, chain, []string{"is unbroken only up to", "take a full backup"}, "sent again"},
	} {
		id := decode[struct{ ID string }](t, c.must("backup", "--json")).ID
		key := c.object(dir, id, damage.kind)
		path := filepath.Join(dir, key)
		data := must(os.ReadFile(path))
		write(t, path, damage.make(data))
		to := filepath.Join(t.TempDir(), "to")
		words := append(damage.words, id)
		if damage.kind != "logs" {
			words = append(words, key)
		}
		c.fails(damage.code, words, "restore", "--to", to, "--backup", id)
		if damage.kind != "logs" { // without the log nothing is begun
			write(t, path, data)
			c.must("restore", "--to", to, "--backup", id)
			if diff := envtest.Diff(truth, contents(t, to, "")); len(diff) > 0 {
				t.Errorf("%s, repaired: %v", damage.kind, diff)
			}
			write(t, path, damage.make(data))
		}
		if s := c.must("backup"); !strings.Contains(s.err, damage.heals) {
			t.Errorf("a backup without %s: %s", key, s)
		}
		to = filepath.Join(t.TempDir(), "to")
		c.must("restore", "--to", to)
		if diff := envtest.Diff(truth, contents(t, to, "")); len(diff) > 0 {
			t.Errorf("%s, backed up again: %v", damage.kind, diff)
		}
	}
}

// TestLostLogIsShippedAgain takes the newest piece of the log, then all of it, from the store. The next ship sends it again, as what follows would be
// of no use without it.
func TestLostLogIsShippedAgain(t *testing.T) {
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{
		LogFileSize: 64 << 10, Databases: []envtest.Database{{File: "a.db", Method: "btree", Records: 10}},
	})
	v := newVault(t, env.Home)
	v.mustBackup(archive.BackupOptions{BulkSafe: archive.BulkOff})
	hold := envtest.StartHold(t, env)
	for i, lost := range []int{0, 1, 1000} {
		hold.Put("", "a.db", 100+1000*i, 100)
		hold.FlushLog()
		v.mustShip()
		logs, err := filepath.Glob(filepath.Join(v.dir, "test/logs/*/*/*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range logs[max(0, len(logs)-lost):] {
			write(t, path, nil)
		}
		hold.Put("", "a.db", 500+1000*i, 100)
		hold.FlushLog()
		v.mustShip()
	}
	hold.Checkpoint()
	hold.Close()
	v.mustShip()
	to, _ := v.mustRestore(restore.Target{})
	if diff := envtest.Diff(contents(t, env.Home, ""), contents(t, to, "")); len(diff) > 0 {
		t.Error(diff)
	}
}

// object finds an object that a backup needs, for data/btree.db if it is not a piece of the log.
func (c *cli) object(dir, id, kind string) string {
	c.t.Helper()
	shown := decode[struct{ Manifest manifest.Manifest }](c.t, c.must("show", id, "--json")).Manifest
	at := slices.IndexFunc(shown.Files, func(f manifest.File) bool { return f.Path == "btree.db" })
	file := shown.Files[at]
	switch kind {
	case "packs":
		return manifest.PackKey("home", shown.Packs[file.Uses[0].Pack].Name)
	case "maps":
		return manifest.MapKey("home", file.Map)
	}
	log := fmt.Sprintf("%s%010d/", manifest.TimelinePrefix("home", shown.Timeline), shown.NeededFrom.File)
	pieces, err := os.ReadDir(filepath.Join(dir, log))
	if err != nil || len(pieces) == 0 {
		c.t.Fatalf("no pieces of %s: %v", log, err)
	}
	return log + pieces[0].Name()
}

// write puts data into a file; nil removes it.
func write(t *testing.T, path string, data []byte) {
	t.Helper()
	err := error(nil)
	if data == nil {
		err = os.Remove(path)
	} else {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestListOfDamage flips bits of a manifest, dates it too late, and has it come from a newer bdbvault. It is always listed, with what is wrong with it,
// the other one always as good, and the exit code is the documented one.
func TestListOfDamage(t *testing.T) {
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{Databases: []envtest.Database{{File: "a.db", Method: "btree", Records: 10}}})
	v := newVault(t, env.Home)
	good := string(v.mustBackup(archive.BackupOptions{BulkSafe: archive.BulkOff}).Manifest.ID)
	bad := string(v.mustBackup(archive.BackupOptions{BulkSafe: archive.BulkOff}).Manifest.ID)
	c := newCLI(t).with("BDBVAULT_REPOSITORY=file://" + v.dir)
	path := filepath.Join(v.dir, manifest.ManifestKey("test", manifest.BackupID(bad)))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	format := bytes.Index(text, []byte(`"format":1`)) + len(`"format":`)
	cases := map[string]struct {
		data  []byte
		late  time.Duration
		state string
		code  int
	}{
		"committed too late":   {text, 13 * time.Hour, "void", 0},
		"of a newer format":    {bit{at: format, bit: 3}.flip(text), 0, "newer format", 0},
		"empty":                {nil, 0, "damaged", damaged},
		"cut short":            {text[:len(text)/2], 0, "damaged", damaged},
		"something else":       {[]byte("<html>"), 0, "damaged", damaged},
		"the other one's copy": {slices.Concat(must(os.ReadFile(filepath.Join(v.dir, manifest.ManifestKey("test", manifest.BackupID(good)))))), 0, "damaged", damaged},
	}
	for at := 0; at < len(text); at += max(1, len(text)/(16*torture())) {
		if at != format {
			c := cases["empty"]
			c.data = bit{at: at, bit: at % 8}.flip(text)
			cases[fmt.Sprintf("flipped at byte %d", at)] = c
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		d := cases[name]
		if err := os.WriteFile(path, d.data, 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(d.late)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
		s := c.run("list", "--json")
		list := decode[listed](t, s).all()
		if len(list) != 2 || list[0].ID != good || list[0].State != "ok" || list[1].ID != bad || list[1].State != d.state || list[1].Problem == "" {
			t.Errorf("%s: %s", name, s)
		}
		if s.code != d.code || d.code != 0 && !strings.Contains(s.err, bad) {
			t.Errorf("%s: exit code %d, want %d: %s", name, s.code, d.code, s.err)
		}
		if strings.HasPrefix(name, "flipped") {
			continue
		}
		if s := c.run("list"); s.code != d.code || !strings.Contains(s.out, d.state+"\n") || !strings.Contains(s.out, "ok\n") {
			t.Errorf("%s: %s", name, s)
		}
		want := max(d.code, failed)
		c.fails(want, []string{"bdbvault show: ", bad}, "show", bad)
		c.must("show", good)
		c.fails(want, []string{"bdbvault restore: ", bad}, "restore", "--to", filepath.Join(t.TempDir(), "to"), "--backup", bad)
	}
}

func must(data []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return data
}
