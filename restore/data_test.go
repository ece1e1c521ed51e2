package restore_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/restore"
)

// holes is a file of 4 MiB with three bytes in it that are not zero, the last one in a block that is cut short.
func holes(t *testing.T, path string) []byte {
	t.Helper()
	data := make([]byte, 4<<20+100)
	for _, at := range []int{0, 2<<20 + 5000, len(data) - 1} {
		data[at] = 'x'
	}
	write(t, path, string(data))
	return data
}

// TestHolesAndLeftovers restores a file that is mostly zeros, twice: the second time over what an interrupted restore left and somebody
// has spoiled.
func TestHolesAndLeftovers(t *testing.T) {
	env, p := small(t)
	want := holes(t, filepath.Join(env.Home, "holes"))
	p.full(env.Home, nil)
	to := filepath.Join(t.TempDir(), "to")
	if _, err := p.restoreTo(to, restore.Options{Step: until("data")}); err != errStop {
		t.Fatal(err)
	}
	path := filepath.Join(to, "holes")
	check := func() {
		t.Helper()
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes that differ, %v", len(got), err)
		}
		sparse(t, path)
	}
	check()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{10, 1 << 20, 2<<20 + 5000, 5 << 20} {
		if _, err := f.WriteAt([]byte("spoiled"), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(to, "foreign"), "x")
	res, err := p.restoreTo(to, restore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if res.Reused != int64(res.Files)-1 {
		t.Errorf("%d of %d files kept", res.Reused, res.Files)
	}
	check()
	if _, err := os.Stat(filepath.Join(to, "foreign")); !os.IsNotExist(err) {
		t.Errorf("what does not belong into the home: %v", err)
	}
}

// TestSmallFilesShareReads makes sure that a thousand small files don't cost a thousand reads of packs.
func TestSmallFilesShareReads(t *testing.T) {
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{Databases: []envtest.Database{{File: "a.db", Method: "btree", Records: 10}}})
	const files = 300
	for i := range files {
		write(t, filepath.Join(env.Home, fmt.Sprintf("f%03d", i)), strings.Repeat(fmt.Sprint(i), 50))
	}
	p := newPacker(t, "")
	p.packChunks = 100
	m := p.full(env.Home, nil)
	to := filepath.Join(t.TempDir(), "to")
	plan, err := restore.MakePlan(t.Context(), p.repo, "", restore.Target{})
	if err != nil {
		t.Fatal(err)
	}
	res, err := restore.Restore(t.Context(), p.repo, plan, restore.Options{To: to})
	if err != nil {
		t.Fatal(err)
	}
	// Files are fetched in batches, so a pack on the border of two is read twice.
	if most := int64(len(m.Files) + 2*len(m.Packs) + plan.Segments); res.Requests > most {
		t.Errorf("%d requests, want %d at most", res.Requests, most)
	}
	if plan.Requests != len(m.Files)+len(m.Packs)+plan.Segments || plan.Objects != plan.Requests {
		t.Errorf("planned %d requests, %d objects", plan.Requests, plan.Objects)
	}
	for i := range files {
		if got, err := os.ReadFile(filepath.Join(to, fmt.Sprintf("f%03d", i))); err != nil || string(got) != strings.Repeat(fmt.Sprint(i), 50) {
			t.Fatalf("file %d: %q, %v", i, got, err)
		}
	}
}

// TestGaps takes segments out of the log: behind a backup that only ends the restore early, before its consistent-at the
// backup is of no use.
func TestGaps(t *testing.T) {
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{LogFileSize: 100 << 10, Databases: []envtest.Database{{File: "a.db", Method: "btree", Records: 100}}})
	p := newPacker(t, "")
	first := p.full(env.Home, nil)
	h := envtest.StartHold(t, env)
	work := func() {
		for i := range 4 {
			h.Put("", "a.db", 1000+i*500, 300)
		}
		h.FlushLog()
		p.ship(env.Home)
	}
	work()
	h.Checkpoint()
	second := p.full(env.Home, nil)
	work()
	third := p.full(env.Home, nil)
	work()
	if second.ConsistentAt.File >= third.ConsistentAt.File {
		t.Fatalf("the log is too short: %s, %s", second.ConsistentAt, third.ConsistentAt)
	}
	plan := func(target restore.Target) (*restore.Plan, error) {
		return restore.MakePlan(t.Context(), p.repo, "", target)
	}
	whole, err := plan(restore.Target{})
	if err != nil || whole.Backup != third.ID || len(whole.Notes) > 0 {
		t.Fatalf("%+v, %v", whole, err)
	}
	for _, key := range p.objects(manifest.LogsPrefix(envName)) {
		if s, err := manifest.ParseSegmentKey(envName, key); err != nil || s.File == third.ConsistentAt.File {
			if err := os.Remove(p.path(key)); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := plan(restore.Target{})
	if err != nil || got.Backup != second.ID || !got.End.Before(whole.End) || len(got.Notes) != 2 {
		t.Errorf("the newest backup can't be used: %+v, %v", got, err)
	}
	var gap *manifest.GapError
	if _, err := plan(restore.Target{Backup: third.ID}); !errors.As(err, &gap) {
		t.Errorf("asked for it: %v", err)
	}
	if got, err := plan(restore.Target{Backup: first.ID}); err != nil || got.Backup != first.ID {
		t.Errorf("the oldest, asked for: %+v, %v", got, err)
	}
	if _, err := plan(restore.Target{LSN: whole.End}); !errors.As(err, &gap) {
		t.Errorf("beyond the gap: %v", err)
	}
	if _, err := p.restoreTo(filepath.Join(t.TempDir(), "to"), restore.Options{}); err != nil {
		t.Error(err)
	}
}
