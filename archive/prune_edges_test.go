package archive_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/remotetest"
	"bdbvault/remote/repository"
)

// sparse keeps the last n backups and the log that they need, and comes to its end.
func (p *past) sparse(n int) *archive.PruneResult {
	p.t.Helper()
	res, err := archive.Prune(p.t.Context(), p.repo, archive.PruneOptions{Env: "test", Policy: manifest.Policy{Last: n, Window: &manifest.Span{}}, Location: time.UTC})
	if err != nil {
		p.fail("%v", err)
	}
	return res
}

// objectsOf counts all but log, which a prune leaves alone while it is young.
func objectsOf(a archive.Amount) int { return a.Backups + a.Packs + a.Maps }

// stays is the verdict on a backup.
func stays(res *archive.PruneResult, id manifest.BackupID) (keep bool, why string) {
	for _, b := range res.Backups {
		if b.ID == id {
			return b.Keep, strings.Join(b.Why, ", ")
		}
	}
	return false, "not there"
}

// oldest are the backups listed, the oldest first.
func (p *past) oldest() []manifest.BackupID { return slices.Sorted(maps.Keys(p.backups())) }

// TestPruneEdgeGrace: the grace period runs from when a list is stored, however long before that its prune had looked. What is condemned is
// condemned once.
func TestPruneEdgeGrace(t *testing.T) {
	p := newPast(t, 2)
	p.committed(3)
	before := len(p.objects())
	if err := p.keepLast(1, atStep("condemn", "never", func() { p.now = p.now.Add(grace / 4) })); err != nil {
		t.Fatal(err)
	}
	p.now = p.now.Add(time.Hour)
	if res := p.keepsLast(1); objectsOf(res.Condemned) != 0 || res.Pending.Backups != 2 || len(res.Undoable) != 1 || len(res.Undoable[0].Backups) != 2 || !res.Deleted.Empty() {
		t.Errorf("an hour later: %+v", res)
	}
	if res := p.keepsLast(1); res.Prune != "" || !res.Condemned.Empty() || res.Pending.Segments == 0 {
		t.Errorf("and once more: %+v", res)
	}
	p.now = p.now.Add(grace - time.Hour)
	if res := p.keepsLast(1); !res.Deleted.Empty() {
		t.Errorf("when the grace period is just over: %+v", res)
	}
	p.now = p.now.Add(time.Second)
	have := p.objects()
	if res, err := archive.Prune(t.Context(), p.repo, archive.PruneOptions{Env: "test", Policy: manifest.Policy{Last: 1}, DryRun: true}); err != nil || res.Deleted.Packs == 0 || !maps.Equal(have, p.objects()) {
		t.Errorf("a dry run: %+v %v", res, err)
	}
	if res := p.keepsLast(1); res.Deleted.Packs == 0 || objectsOf(res.Condemned) != 0 || len(p.objects()) >= before {
		t.Errorf("a second later: %+v", res)
	}
}

// keepsLast is keepLast that comes to its end.
func (p *past) keepsLast(n int) *archive.PruneResult {
	p.t.Helper()
	res, err := archive.Prune(p.t.Context(), p.repo, archive.PruneOptions{Env: "test", Policy: manifest.Policy{Last: n}, Location: time.UTC})
	if err != nil {
		p.fail("%v", err)
	}
	return res
}

// TestPruneEdgeRunning: what a backup that goes on has stored is left alone, until it would be void.
func TestPruneEdgeRunning(t *testing.T) {
	p := newPast(t, 3)
	p.committed(2)
	p.now = p.now.Add(48 * time.Hour)
	p.begin()
	r := p.running[0]
	p.now = p.now.Add(grace)
	if res := p.sparse(2); objectsOf(res.Condemned) != 0 {
		t.Errorf("condemned: %+v", res.Condemned)
	}
	if !p.look(r) {
		t.Fatal("a backup is in the way of a prune")
	}
	p.running = nil // killed
	p.now = p.now.Add(time.Second)
	res := p.sparse(2)
	if res.Orphans.Packs == 0 || res.Orphans.Maps != 1 || res.Condemned.Packs != res.Orphans.Packs {
		t.Errorf("condemned of a dead run: %+v", res)
	}
	p.now = p.now.Add(grace + time.Second)
	if gone := p.sparse(2).Deleted; gone.Packs != res.Condemned.Packs || gone.Maps != 1 {
		t.Errorf("deleted of a dead run: %+v of %+v", gone, res.Condemned)
	}
}

// heldTooLate is a backup that a killed prune has condemned and taken, and the next one put back because it was held just then. Its objects stand in a list,
// and it is released again.
func heldTooLate(t *testing.T) (*past, manifest.BackupID) {
	p := newPast(t, 4)
	id := p.committed(3)
	policy := archive.PruneOptions{Env: "test", Policy: manifest.Policy{Last: 1, Window: &manifest.Span{}}, Location: time.UTC}
	policy.Step = atStep("expire", "expired", func() {
		if _, ok := errors.AsType[*archive.PrunedError](archive.Hold(t.Context(), p.repo, "test", id, "test")); !ok {
			t.Fatal("a hold that comes too late is taken")
		}
	})
	if _, err := archive.Prune(t.Context(), p.repo, policy); !errors.Is(err, errKilled) || len(p.backups()) != 1 {
		t.Fatalf("%v; %v", err, p.oldest())
	}
	p.now = p.now.Add(time.Hour)
	before := p.objects()
	if _, err := archive.Prune(t.Context(), p.repo, archive.PruneOptions{Env: "test", Policy: policy.Policy, DryRun: true}); err != nil || !maps.Equal(before, p.objects()) {
		t.Fatalf("a dry run: %v", err)
	}
	res := p.sparse(1)
	if again := p.sparse(1); len(again.PutBack) > 0 {
		t.Fatalf("put back twice: %+v", again)
	}
	if keep, why := stays(res, id); !keep || why != "held" || !slices.Equal(res.PutBack, []manifest.BackupID{id}) || objectsOf(res.Condemned) != 0 {
		t.Fatalf("put back: %+v", res)
	}
	if _, err := archive.Release(t.Context(), p.repo, "test", id); err != nil {
		t.Fatal(err)
	}
	return p, id
}

// TestPruneEdgeTwice: a backup that was put back and goes again can be had back again, also when the first list is over and phase two has done its
// work. In the end all of it goes.
func TestPruneEdgeTwice(t *testing.T) {
	for _, test := range []struct {
		name  string
		after time.Duration // that it goes again; an hour more, and the first list is over
	}{{"before the first list is over", time.Hour}, {"after", grace}} {
		t.Run(test.name, func(t *testing.T) {
			p, id := heldTooLate(t)
			p.now = p.now.Add(test.after)
			again := p.sparse(1)
			if keep, _ := stays(again, id); keep || again.Condemned.Packs == 0 || again.Condemned.Segments == 0 {
				t.Fatalf("goes again: %+v", again)
			}
			p.now = p.now.Add(grace - time.Hour) // the first list is over, the second is not
			p.sparse(1)
			m := p.parent
			if res, err := archive.Undo(t.Context(), p.repo, "test", again.Prune); err != nil || len(res.Lost) > 0 || p.backups()[id] == nil {
				t.Fatalf("undo: %+v %v", res, err)
			}
			if lacks := whatLacks(p.objects(), p.backups()[id]); lacks != "" {
				t.Fatalf("it is back and lacks %s", lacks)
			}
			p.now = p.now.Add(time.Hour)
			p.sparse(1)
			p.now = p.now.Add(grace + time.Second)
			p.sparse(1)
			for key := range p.objects() {
				if n, err := manifest.ParseObjectKey("test", key); err == nil && names(m)[n.Key("test")] == 0 {
					t.Errorf("%s is left", key)
				}
			}
		})
	}
}

// TestPruneEdgeLists: a list that nobody can read is one by which nothing is deleted. It goes when it is old, as all do.
func TestPruneEdgeLists(t *testing.T) {
	p := newPast(t, 5)
	p.committed(2)
	p.put(manifest.CondemnedKey("test", "20260101T000000Z-0bad"), []byte("?"))
	if res := p.keepsLast(2); !res.Pending.Empty() {
		t.Errorf("pending: %+v", res.Pending)
	}
	prune := p.keepsLast(1).Prune
	list, err := p.repo.Bucket.Get(t.Context(), manifest.CondemnedKey("test", prune), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	p.put(manifest.CondemnedKey("test", "20260101T000001Z-0bad"), list) // under the name of another
	for _, u := range p.keepsLast(1).Undoable {
		if strings.HasSuffix(string(u.Prune), "0bad") {
			t.Errorf("undoable: %+v", u)
		}
	}
	for range 3 {
		p.now = p.now.Add(grace + time.Second)
		p.keepsLast(1)
	}
	for key := range p.objects() {
		if strings.HasPrefix(key, manifest.CondemnedPrefix("test")) {
			t.Errorf("%s is left", key)
		}
	}
}

// TestPruneEdgeVoid: a manifest that came too late is no backup, keeps nobody's place, and goes when its backup has surely been told.
func TestPruneEdgeVoid(t *testing.T) {
	p := newPast(t, 6)
	id := p.committed(1)
	p.now = p.now.Add(48 * time.Hour)
	p.begin()
	r := p.running[0]
	if !p.look(r) {
		t.Fatal("it finds not what it has stored")
	}
	p.now = p.now.Add(grace/2 + time.Second)
	p.commit(r)
	there := func() bool { return p.objects()[manifest.ManifestKey("test", r.m.ID)] != 0 }
	if res := p.keepsLast(1); len(res.Backups) != 1 || p.backups()[id] == nil || !there() {
		t.Errorf("%+v; it is there: %v", res.Backups, there())
	}
	p.now = p.now.Add(grace + time.Second)
	if p.keepsLast(1); there() {
		t.Error("it is still there")
	}
}

// TestPruneEdgeStale: a prune that stood still for half the grace period deletes nothing, and takes no backup.
func TestPruneEdgeStale(t *testing.T) {
	for _, at := range []string{"delete", "condemned", "expire"} {
		p := newPast(t, 7)
		p.committed(3)
		if p.keepsLast(2); at == "delete" {
			p.now = p.now.Add(grace + time.Second)
		}
		p.repo.Info.GraceSeconds = 2 // by this host's clock
		before := p.objects()
		err := p.keepLast(1, atStep(at, "never", func() { time.Sleep(1100 * time.Millisecond) }))
		if !errors.Is(err, archive.ErrStale) {
			t.Errorf("at %q: %v", at, err)
		}
		after := p.objects()
		for key := range before {
			if after[key] == 0 && !strings.Contains(key, "no-pack") {
				t.Errorf("at %q: %s is deleted", at, key)
			}
		}
	}
}

// slow is a store in which a put takes until the clock has been moved on.
type slow struct {
	remote.Driver
	move func(key string)
}

func (d slow) Put(ctx context.Context, key string, body io.ReaderAt, size int64, opt remote.PutOptions) error {
	d.move(key)
	return d.Driver.Put(ctx, key, body, size, opt)
}

// during has something happen before each manifest is stored that the history stores from now on, until undone.
func (p *past) during(do func()) (undo func()) {
	fast := p.repo.Bucket
	p.repo.Bucket = remote.New(slow{p.store, func(key string) {
		if strings.HasPrefix(key, manifest.BackupsPrefix("test")) {
			do()
		}
	}}, remote.Options{RetryFor: -1})
	return func() { p.repo.Bucket = fast }
}

// TestPruneEdgeLateUndo: a manifest that is put back when phase two may have begun is void, whatever its undo had found before.
func TestPruneEdgeLateUndo(t *testing.T) {
	for _, c := range []struct{ look, frozen time.Duration }{{time.Hour, grace}, {grace * 5 / 6, grace / 4}} {
		p := newPast(t, 8)
		id := p.committed(3)
		res := p.keepsLast(1)
		p.now = p.now.Add(c.look)
		undo := p.during(func() { p.now = p.now.Add(c.frozen) })
		undone, err := archive.Undo(t.Context(), p.repo, "test", res.Prune)
		if _, void := errors.AsType[*repository.VoidError](err); !void || p.backups()[id] != nil {
			t.Errorf("an undo that looked after %v and was frozen for %v: %+v %v", c.look, c.frozen, undone, err)
		}
		undo()
		if _, err := archive.Undo(t.Context(), p.repo, "test", res.Prune); err == nil {
			t.Error("an undo that comes too late is done")
		}
	}
}

// TestPruneEdgeReplace: a manifest that an undo put back too late is in nobody's way when another list can still give the backup back.
func TestPruneEdgeReplace(t *testing.T) {
	p, id := heldTooLate(t)
	var first manifest.BackupID
	for key := range p.objects() {
		if list, err := manifest.ParseCondemnedKey("test", key); err == nil && (first == "" || list < first) {
			first = list
		}
	}
	p.now = p.now.Add(grace * 2 / 3)
	second := p.sparse(1)
	undo := p.during(func() { p.now = p.now.Add(grace / 2) })
	if _, err := archive.Undo(t.Context(), p.repo, "test", first); err == nil || p.backups()[id] != nil {
		t.Fatalf("an undo that was frozen: %v", err)
	}
	undo()
	res, err := archive.Undo(t.Context(), p.repo, "test", second.Prune)
	if err != nil || p.backups()[id] == nil || !res.Still {
		t.Errorf("an undo in time: %+v %v", res, err)
	}
	for range 2 { // its list stays, but nobody is about to take what was put back
		if err := archive.Hold(t.Context(), p.repo, "test", id, "test"); err != nil {
			t.Error(err)
		}
	}
}

// TestPruneEdgeTwoUndos: who takes back the same prune at the same time finds that done.
func TestPruneEdgeTwoUndos(t *testing.T) {
	p := newPast(t, 12)
	p.committed(3)
	res := p.keepsLast(1)
	p.now = p.now.Add(time.Hour)
	var inner error
	other := *p.repo
	once := false
	defer p.during(func() {
		if !once {
			once = true
			_, inner = archive.Undo(t.Context(), &other, "test", res.Prune)
		}
	})()
	if _, err := archive.Undo(t.Context(), p.repo, "test", res.Prune); err != nil || inner != nil || len(p.backups()) != 3 {
		t.Errorf("%v, %v: %d backups", err, inner, len(p.backups()))
	}
}

// TestPruneEdgeTwoPrunes: a prune that finds a backup gone which it had listed goes on.
func TestPruneEdgeTwoPrunes(t *testing.T) {
	p := newPast(t, 13)
	p.committed(3)
	if err := p.keepLast(2, atStep("listed", "never", func() { p.keepsLast(2) })); err != nil || len(p.backups()) != 2 {
		t.Errorf("%v: %d backups", err, len(p.backups()))
	}
}

// TestPruneEdgeCopied: where everything is younger than what refers to it, ages mean nothing, and nothing is removed.
func TestPruneEdgeCopied(t *testing.T) {
	p := newPast(t, 14)
	p.committed(3)
	p.now = p.now.Add(10 * grace)
	copied := remote.New(remotetest.NewMemory(func() time.Time { return p.now }), remote.Options{RetryFor: -1})
	for key := range p.objects() {
		data, err := p.repo.Bucket.Get(t.Context(), key, 1<<20)
		if err == nil {
			err = repository.PutOnce(t.Context(), copied, key, data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p.repo.Bucket = copied
	before := p.objects()
	err := p.keepLast(1, nil)
	if _, is := errors.AsType[*archive.CopiedError](err); !is || !maps.Equal(before, p.objects()) {
		t.Error(err)
	}
}

// TestPruneEdgeLateHold: what is held and can't be put back in time any more holds up no prune.
func TestPruneEdgeLateHold(t *testing.T) {
	p := newPast(t, 9)
	id := p.committed(3)
	p.keepLast(1, atStep("expire", "expired", func() { archive.Hold(t.Context(), p.repo, "test", id, "test") }))
	p.now = p.now.Add(grace - time.Second)
	if res := p.keepsLast(1); len(res.PutBack) > 0 || p.backups()[id] != nil {
		t.Errorf("put back: %+v", res)
	}
}

// TestPruneEdgeMany: manifests that are too large to be remembered are read again, and more than fit into one list go by the next prunes.
func TestPruneEdgeMany(t *testing.T) {
	defer archive.SmallMemory(0, 1)()
	p := newPast(t, 10)
	p.committed(4)
	for left := 3; left > 0; left-- {
		res := p.keepsLast(1)
		if res.Condemned.Backups != 1 || len(p.backups()) != left {
			t.Fatalf("%d backups are left: %+v", len(p.backups()), res)
		}
		if keep, why := stays(res, res.Backups[len(res.Backups)-2].ID); left > 1 && (!keep || why != "goes by the next prune") {
			t.Errorf("the next: %v, %s", keep, why)
		}
		p.now = p.now.Add(time.Second)
		if _, err := archive.Undo(t.Context(), p.repo, "test", res.Prune); err != nil || len(p.backups()) != left+1 {
			t.Fatalf("undo: %v, %d backups", err, len(p.backups()))
		}
		p.keepsLast(1)
	}
}

// TestPruneEdgeNone: without a backup nothing is known of what lies there, and nothing of it is removed. A name that stands for nothing is an error.
func TestPruneEdgeNone(t *testing.T) {
	p := newPast(t, 11)
	p.begin()
	p.now = p.now.Add(10 * grace)
	before := p.objects()
	if res := p.keepsLast(1); !res.Condemned.Empty() || len(res.Backups) > 0 || !maps.Equal(before, p.objects()) {
		t.Errorf("%+v", res)
	}
	if _, err := archive.Prune(t.Context(), p.repo, archive.PruneOptions{Env: "tset", Policy: manifest.Policy{Last: 1}}); !errors.Is(err, archive.ErrNoEnvironment) {
		t.Error(err)
	}
}

// TestPruneEdgeDrills: of the records of drills the newest hundred stay, and all that are not much older than a year.
func TestPruneEdgeDrills(t *testing.T) {
	p := newPast(t, 15)
	p.put(manifest.DrillKey("test", "20260101T000001Z-0001"), []byte("one of long ago"))
	p.put("test/drills/notes.txt", []byte("not ours"))
	for i := range 100 {
		p.now = p.now.Add(5 * 24 * time.Hour)
		p.put(manifest.DrillKey("test", manifest.NewBackupID(p.now)), []byte{byte(i)})
	}
	p.committed(1)
	before := p.objects()
	if res := p.keepsLast(1); res.Drills != 2 || len(p.objects()) != len(before)-2 { // newPast has stored one
		t.Errorf("%d drills are deleted", res.Drills)
	}
	if _, there := p.objects()["test/drills/notes.txt"]; !there {
		t.Error("what is not ours is deleted")
	}
	p.now = p.now.Add(10 * 365 * 24 * time.Hour)
	if res := p.keepsLast(1); res.Drills != 0 {
		t.Errorf("%d of the newest hundred drills are deleted", res.Drills)
	}
}

// TestPruneEdgeDamaged: a backup of which something is missing, or has another size, takes nobody's place, and it is told why.
func TestPruneEdgeDamaged(t *testing.T) {
	for name, c := range map[string]struct {
		key  func(m *manifest.Manifest) string
		data string // instead; empty: it is gone
		want string
	}{
		"pack":      {func(m *manifest.Manifest) string { return manifest.PackKey("test", m.Packs[0].Name) }, "", "is missing"},
		"map":       {func(m *manifest.Manifest) string { return manifest.MapKey("test", m.Files[0].Map) }, "", "is missing"},
		"short map": {func(m *manifest.Manifest) string { return manifest.MapKey("test", m.Files[0].Map) }, "?", "has 1 bytes instead of"},
		"log":       {nil, "", "unbroken only up to"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPast(t, 16)
			p.committed(1)
			before := p.oldest()[0]
			old := p.backups()[before]
			p.parent = nil // the next one has nothing of it
			p.fork()
			p.committed(1)
			id := p.parent.ID
			keys := []string{}
			if c.key != nil {
				keys = append(keys, c.key(p.parent))
			}
			for key := range p.objects() {
				if c.key == nil && strings.HasPrefix(key, manifest.TimelinePrefix("test", p.timeline)) {
					keys = append(keys, key)
				}
			}
			if err := p.repo.Bucket.Delete(t.Context(), keys); err != nil {
				t.Fatal(err)
			}
			if c.data != "" {
				p.put(keys[0], []byte(c.data))
			}
			p.now = p.now.Add(grace + time.Second)
			res := p.keepsLast(1)
			if keep, why := stays(res, before); !keep || why != "last, newest" || whatLacks(p.objects(), old) != "" {
				t.Errorf("the one before: %v, %s", keep, why)
			}
			if keep, why := stays(res, id); !keep || why != "last" || !strings.Contains(res.Backups[1].Problem, c.want) {
				t.Errorf("the damaged one: %v, %s: %s", keep, why, res.Backups[1].Problem)
			}
		})
	}
}

// TestPruneEdgeKilled: a prune that was killed before it took anything is in the way of a hold only as long as it could go on.
func TestPruneEdgeKilled(t *testing.T) {
	p := newPast(t, 17)
	id := p.committed(3)
	p.keepLast(1, atStep("", "expire", nil))
	for _, after := range []time.Duration{grace / 2, time.Second} {
		p.now = p.now.Add(after)
		_, pruned := errors.AsType[*archive.PrunedError](archive.Hold(t.Context(), p.repo, "test", id, "test"))
		if pruned != (after > time.Second) {
			t.Errorf("another %v later: %v", after, pruned)
		}
	}
}

// TestPruneEdgeLost: what lacks something is not put back, and can be when that has turned up.
func TestPruneEdgeLost(t *testing.T) {
	p := newPast(t, 18)
	id := p.committed(3)
	pack := manifest.PackKey("test", p.backups()[id].Packs[0].Name)
	data, err := p.repo.Bucket.Get(t.Context(), pack, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	prune := p.keepsLast(1).Prune
	if err := p.repo.Bucket.Delete(t.Context(), []string{pack}); err != nil {
		t.Fatal(err)
	}
	p.now = p.now.Add(time.Hour)
	res, err := archive.Undo(t.Context(), p.repo, "test", prune)
	if err != nil || len(res.Lost) == 0 || res.Lost[0].ID != id || p.backups()[id] != nil {
		t.Errorf("%+v %v", res, err)
	}
	p.put(pack, data)
	if res, err = archive.Undo(t.Context(), p.repo, "test", prune); err != nil || len(res.Lost) > 0 || len(p.backups()) != 3 {
		t.Errorf("when it is there again: %+v %v", res, err)
	}
}

// timeless is a store that does not tell its time.
type timeless struct{ remote.Driver }

func (d timeless) List(ctx context.Context, prefix, after string, fn func(remote.Info) error) (time.Time, error) {
	_, err := d.Driver.List(ctx, prefix, after, fn)
	return time.Time{}, err
}

// TestPruneEdgeUnknown: where a manifest can't be read, or the time is not told, nothing is removed.
func TestPruneEdgeUnknown(t *testing.T) {
	p := newPast(t, 19)
	p.committed(3)
	real := p.repo.Bucket
	p.repo.Bucket = remote.New(timeless{p.store}, remote.Options{RetryFor: -1})
	before := p.objects()
	if err := p.keepLast(1, nil); err == nil || !maps.Equal(before, p.objects()) {
		t.Errorf("without a clock: %v", err)
	}
	p.repo.Bucket = real
	p.put(manifest.ManifestKey("test", "20260101T000000Z-0bad"), []byte("?"))
	before = p.objects()
	err := p.keepLast(1, nil)
	if _, is := errors.AsType[*archive.UnreadableError](err); !is || !maps.Equal(before, p.objects()) {
		t.Errorf("with a manifest that can't be read: %v", err)
	}
}
