package endtoend

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/minio"
	"bdbvault/remote/remotetest"
	"bdbvault/restore"
)

// TestVerifyNamesDamage does to every object in turn what happens to objects: it is gone, cut short, longer, empty, overwritten, another one's bytes, or
// has a flipped bit. Verification says which object it is and which backups it touches, and of every other backup that it is whole.
func TestVerifyNamesDamage(t *testing.T) {
	m := newMuseum(t, "")
	m.furnish()
	if r := m.verify("", nil, 1); !r.Sound() || r.Newest != m.backups[1] || len(r.Ranges) != 1 || r.ReadObjects == 0 {
		t.Fatalf("undamaged: %+v", r)
	}
	for _, key := range m.shelf.order {
		if key == manifest.RepositoryKey {
			continue // without which nothing opens
		}
		list := m.damages(key)
		flipped := bytes.Clone(m.shelf.objects[key])
		flipped[len(flipped)/2] ^= 4
		list["flipped"] = flipped
		for what, data := range list {
			m.named(key, what, data)
		}
	}
}

// furnish adds what prune and hold leave, and makes everything an hour old.
func (m *museum) furnish() {
	m.t.Helper()
	c := manifest.NewCondemned("test", "20260101T000000Z-0000")
	objects := m.shelf.objects
	var err error
	if objects[manifest.CondemnedKey("test", c.ID)], err = c.Encode(); err != nil {
		m.t.Fatal(err)
	}
	for _, id := range m.backups {
		if objects[manifest.HoldKey("test", id)], err = manifest.NewHold("test", id).Encode(); err != nil {
			m.t.Fatal(err)
		}
	}
	for _, id := range []manifest.BackupID{"20260101T000000Z-0001", "20260101T000000Z-0002"} {
		d := manifest.NewDrill("test", id)
		d.Result, d.Error = manifest.DrillFailed, "it was a test"
		if objects[manifest.DrillKey("test", d.ID)], err = d.Encode(); err != nil {
			m.t.Fatal(err)
		}
	}
	for _, key := range m.shelf.order {
		if kind(key) == "packs" || kind(key) == "maps" {
			if objects[manifest.DamagedKey("test", key)], err = manifest.NewDamaged("test", key, "it is whole again").Encode(); err != nil {
				m.t.Fatal(err)
			}
		}
	}
	m.shelf.order = nil
	for key := range objects {
		m.shelf.order = append(m.shelf.order, key)
		m.shelf.dates[key] = time.Now().Add(-time.Hour)
	}
	slices.Sort(m.shelf.order)
}

// verify verifies the repository with other bytes in one place.
func (m *museum) verify(key string, data []byte, share float64) *restore.VerifyResult {
	m.t.Helper()
	repo, err := m.shelf.but(key, data).open(m.t)
	if err != nil {
		m.t.Fatal(err)
	}
	r, err := restore.Verify(m.t.Context(), repo, restore.VerifyOptions{Env: "test", ReadData: share})
	if err != nil {
		m.t.Fatalf("%s: %v", key, err)
	}
	return r
}

func (m *museum) named(key, what string, data []byte) {
	m.t.Helper()
	r := m.verify(key, data, 1)
	var readers []manifest.BackupID
	for _, id := range m.backups {
		if m.reference[id].reads[key] {
			readers = append(readers, id)
		}
	}
	if data == nil {
		switch kind(key) {
		case "holds", "condemned", "drills", "damaged":
			return // they come and go
		case "logs":
			m.shorter(key, r, readers)
			return
		}
	}
	if len(r.Damage) != 1 || r.Damage[0].Object != key || r.Damage[0].Missing != (data == nil) {
		m.t.Errorf("%s is %s: found %+v", key, what, r.Damage)
		return
	}
	kinds := map[string]string{"backups": restore.KindManifest, "packs": restore.KindPack, "maps": restore.KindMap, "logs": restore.KindSegment,
		"condemned": restore.KindCondemned, "holds": restore.KindHold, "drills": restore.KindDrill, "damaged": restore.KindMark}
	d := r.Damage[0]
	exactly := kind(key) != "packs" || !slices.Contains([]string{"longer", "flipped", "cut short by a byte"}, what)
	if slices.Contains([]string{"holds", "condemned", "drills", "damaged"}, kind(key)) {
		readers = nil
	}
	if d.Kind != kinds[kind(key)] || d.Problem == "" || exactly && !slices.Equal(d.Backups, readers) {
		m.t.Errorf("%s is %s: %+v, want it to touch %v", key, what, d, readers)
	}
	for _, b := range r.Backups {
		hurt := slices.Contains(d.Backups, b.ID)
		if !hurt && (b.State != restore.StateOK || len(b.Lost) > 0) {
			m.t.Errorf("%s is %s: backup %s is %s, and has nothing to do with it", key, what, b.ID, b.State)
		}
		if hurt && kind(key) != "logs" && b.State != restore.StateDamaged {
			m.t.Errorf("%s is %s: backup %s is %s", key, what, b.ID, b.State)
		}
		if lost := len(b.Lost) > 0; lost != (hurt && (kind(key) == "packs" || kind(key) == "maps")) {
			m.t.Errorf("%s is %s: of backup %s is lost %v", key, what, b.ID, b.Lost)
		}
	}
}

// shorter wants of missing log that it is named, if it is needed, and if there is any other behind it to tell.
func (m *museum) shorter(key string, r *restore.VerifyResult, readers []manifest.BackupID) {
	m.t.Helper()
	for _, b := range r.Backups {
		plan := m.reference[b.ID].plan
		last := plan.Cover.Segments[len(plan.Cover.Segments)-1]
		if b.State == restore.StateOK && b.RestorableTo == plan.End || last.Key("test") == key {
			continue
		}
		if len(r.Gaps) != 1 || !slices.Contains(readers, b.ID) {
			m.t.Errorf("without %s backup %s is %s and reaches LSN %s; gaps %v", key, b.ID, b.State, b.RestorableTo, r.Gaps)
		}
	}
}

// TestVerifyAndHeal flips a bit in what a backup needs. Verification finds it when it reads, remembers it when it does not, and the next backup refers to
// it no more.
func TestVerifyAndHeal(t *testing.T) {
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), storeSpec())
	dir := filepath.Join(t.TempDir(), "repository")
	c := newCLI(t).with("BDBVAULT_REPOSITORY=file://"+dir, "DB_HOME="+env.Home)
	c.must("init")
	truth := contents(t, env.Home, "")
	id := decode[struct{ ID string }](t, c.must("backup", "--json")).ID
	for _, damage := range []struct {
		kind  string
		words []string
		heals string
	}{
		{"packs", []string{"data/btree.db, pages "}, "stored anew"},
		{"maps", []string{"data/btree.db, the whole file"}, "stored anew"},
		{"logs", []string{"log that it needs is damaged"}, "a new timeline begins"},
	} {
		key := c.object(dir, id, damage.kind)
		path := filepath.Join(dir, key)
		data := must(os.ReadFile(path))
		data[len(data)*3/4] ^= 1
		write(t, path, data)
		for _, args := range [][]string{{"verify", "--read-data"}, {"verify"}} {
			s := c.run(args...)
			for _, w := range append(damage.words, key, id, "touches") {
				if s.code != damaged || !strings.Contains(s.out, w) {
					t.Errorf("%s flipped, %v: %q is not in %s", key, args, w, s)
				}
			}
		}
		if _, err := os.Stat(filepath.Join(dir, manifest.DamagedKey("home", key))); err != nil {
			t.Error(err)
		}
		s := c.must("backup", "--bulk-safe", "off", "--json")
		if !strings.Contains(s.err, damage.heals) {
			t.Errorf("a backup after %s was found damaged: %s", key, s)
		}
		id = decode[struct{ ID string }](t, s).ID
		r := decode[struct {
			Result struct{ Environments []restore.VerifyResult }
		}](t, c.run("verify", "--read-data=100%", "--json")).Result.Environments
		if len(r) != 1 || string(r[0].Newest) != id || !slices.ContainsFunc(r[0].Damage, func(d restore.DamagedObject) bool { return d.Object == key && d.Marked }) {
			t.Errorf("%s, backed up again: %+v", damage.kind, r)
		}
	}
	to := filepath.Join(t.TempDir(), "to")
	c.must("restore", "--to", to)
	if diff := envtest.Diff(truth, contents(t, to, "")); len(diff) > 0 {
		t.Errorf("after three backups: %v", diff)
	}
}

// TestVerifyServers verifies an encrypted environment, without its password, on real stores: whole, with a pack of which a bit is flipped, with one that is cut short,
// and after the backup that stores both anew.
func TestVerifyServers(t *testing.T) {
	spec := storeSpec()
	spec.Password = "hush"
	for i, name := range []string{"MinIO", "versitygw"} {
		t.Run(name, func(t *testing.T) {
			server := servers[name](t)
			env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), spec)
			bucket := server.NewBucket()
			blind := newCLI(t).at(server, server.Endpoint, bucket).with("BDBVAULT_S3_CLIENT="+clients[i], "DB_HOME="+env.Home)
			c := blind.with("BDBVAULT_DB_PASSWORD=hush", "BDBVAULT_BULK_SAFE=off")
			store := stored(t, server, bucket)
			c.must("init")
			for _, damage := range []struct {
				args  []string
				words string
				do    func([]byte) []byte
			}{
				{[]string{"verify", "--read-data"}, "its bytes do not have its name: damaged", func(data []byte) []byte {
					data[len(data)/2] ^= 1
					return data
				}},
				{[]string{"verify"}, "bytes instead of", func(data []byte) []byte { return data[:len(data)-1] }},
			} {
				id := decode[struct{ ID string }](t, c.must("backup", "--json")).ID
				if s := blind.run(damage.args...); !strings.Contains(s.out, id) || !strings.Contains(s.out, "newest whole backup  "+id) && s.code != 0 {
					t.Errorf("nothing is wrong with the newest: %s", s)
				}
				pack := ""
				for _, key := range strings.Fields(c.must("plan", "--objects").out) {
					if strings.Contains(key, "/packs/") {
						pack = key
					}
				}
				data, err := store.Get(t.Context(), pack, 1<<30)
				if err != nil {
					t.Fatal(err)
				}
				data = damage.do(data)
				if err := store.Put(t.Context(), pack, bytes.NewReader(data), int64(len(data)), remote.PutOptions{}); err != nil {
					t.Fatal(err)
				}
				s := blind.run(damage.args...)
				for _, w := range []string{strings.TrimPrefix(pack, "vault/"), damage.words, "touches", id, "backup " + id + " has lost", "page"} {
					if s.code != damaged || !strings.Contains(s.out, w) {
						t.Errorf("%q is not in %s", w, s)
					}
				}
			}
			id := decode[struct{ ID string }](t, c.must("backup", "--json")).ID
			if s := blind.run("verify", "--read-data"); s.code != damaged || !strings.Contains(s.out, "newest whole backup  "+id) {
				t.Errorf("healed: %s", s)
			}
			to := filepath.Join(t.TempDir(), "to")
			c.must("restore", "--to", to)
			if diff := envtest.Diff(contents(t, env.Home, "hush"), contents(t, to, "hush")); len(diff) > 0 {
				t.Error(diff)
			}
		})
	}
}

// stored is a server's bucket without bdbvault's opinion of it.
func stored(t *testing.T, server *remotetest.Server, bucket string) *remote.Bucket {
	t.Helper()
	d, err := minio.New(t.Context(), server.Config(bucket))
	if err != nil {
		t.Fatal(err)
	}
	return remote.New(d, remote.Options{})
}
