package restore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"bdbvault/localenv/engine"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/restore"
)

// TestLastSubdatabaseGone removes the last database in a file: the file is cut at once, while its metadata page stays in the cache. In the second history the database has pages elsewhere too,
// which are on disk as they were before.
func TestLastSubdatabaseGone(t *testing.T) {
	remove := func(name string) envtest.Step { return envtest.Step{Do: envtest.DoRemove, File: "a.db", Name: name} }
	put := func(version uint64, count, size int) envtest.Step {
		return envtest.Step{Do: envtest.DoPut, File: "a.db", Name: "three", Count: count, Size: size, Version: version}
	}
	checkpoint := envtest.Step{Do: envtest.DoCheckpoint}
	for _, password := range []string{"", "secret"} {
		for name, steps := range map[string][]envtest.Step{
			"with an overflow page at the end": {put(1, 1, 300), checkpoint},
			"with pages elsewhere":             {remove("one"), checkpoint, put(1, 40, 20)},
		} {
			t.Run(name+password, func(t *testing.T) { lastSubdatabaseGone(t, password, append(steps, remove("three"))) })
		}
	}
}

func lastSubdatabaseGone(t *testing.T, password string, steps []envtest.Step) {
	var databases []envtest.Database
	for i, name := range []string{"one", "two", "three"} {
		databases = append(databases, envtest.Database{File: "a.db", Name: name, Method: "btree", PageSize: 512, Records: []int{100, 1, 1}[i]})
	}
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{Password: password, Databases: databases})
	file := filepath.Join(env.Home, "a.db")
	h := envtest.StartHold(t, env)
	before := size(t, file)
	for _, s := range steps {
		if _, err := h.Do(s); err != nil {
			t.Fatal(err)
		}
	}
	h.FlushLog()
	h.Kill()
	want := before - 2*512 // the metadata page and the root
	if after := size(t, file); after != want {
		t.Fatalf("%d bytes, after %d: the file was not cut", after, before)
	}
	p := newPacker(t, password)
	p.full(env.Home, nil)
	to := filepath.Join(t.TempDir(), "to")
	if _, err := p.restoreTo(to, restore.Options{Verify: restore.VerifyAlways, Engine: engine.Options{Password: password}}); err != nil {
		t.Fatal(err)
	}
	if got := size(t, filepath.Join(to, "a.db")); got != want {
		t.Errorf("restored with %d bytes, was %d", got, want)
	}
}

// TestSubdatabasePageUsedAnew removes a database of a file while the file is copied, and another one takes the page on which it began: that is in the copy, while other pages are as
// they were before. Recovery takes the pages of a database for plain ones if it does not find the page where it begins.
func TestSubdatabasePageUsedAnew(t *testing.T) {
	for _, password := range []string{"", "secret"} {
		t.Run(password, func(t *testing.T) { subdatabasePageUsedAnew(t, password) })
	}
}

func subdatabasePageUsedAnew(t *testing.T, password string) {
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{Password: password, Databases: []envtest.Database{
		{File: "a.db", Name: "one", Method: "btree", PageSize: 1024, Records: 300}, {File: "a.db", Name: "two", Method: "btree", PageSize: 1024, Records: 1},
		{File: "b.db", Method: "btree", Records: 10},
	}})
	h := envtest.StartHold(t, env)
	do := func(s envtest.Step) {
		t.Helper()
		if _, err := h.Do(s); err != nil {
			t.Fatal(err)
		}
	}
	h.Begin("long") // recovery begins here
	h.Put("long", "b.db", 10, 1)
	h.Checkpoint()
	file := filepath.Join(env.Home, "a.db")
	copied := readFile(t, file)
	begun := h.LogEnd()
	do(envtest.Step{Do: envtest.DoDelete, File: "a.db", Name: "one", From: 50, Count: 200})
	do(envtest.Step{Do: envtest.DoPut, File: "a.db", Name: "one", From: 1000, Count: 300})
	do(envtest.Step{Do: envtest.DoRemove, File: "a.db", Name: "one"})
	do(envtest.Step{Do: envtest.DoPut, File: "a.db", Name: "two", Count: 600, Version: 1})
	h.Checkpoint()
	crashed := filepath.Join(t.TempDir(), "crashed")
	if err := envtest.CopyHome(env.Home, crashed); err != nil {
		t.Fatal(err)
	}
	h.Abort("long")
	h.Checkpoint()
	h.Close()
	want := dump(t, env.Home, password)

	const size, typeAt, btreeMeta = 1024, 25, 9
	page, after := size, readFile(t, filepath.Join(crashed, "a.db"))
	for copied[page+typeAt] != btreeMeta {
		page += size
	}
	if after[page+typeAt] == btreeMeta {
		t.Fatal("the page was not used anew")
	}
	copy(copied[page:page+size], after[page:])
	write(t, filepath.Join(crashed, "a.db"), string(copied))
	p := newPacker(t, password)
	p.full(crashed, func(m *manifest.Manifest) { m.BegunAt = begun })
	to := filepath.Join(t.TempDir(), "to")
	if _, err := p.restoreTo(to, restore.Options{Verify: restore.VerifyAlways, Engine: engine.Options{Password: password}}); err != nil {
		t.Fatal(err)
	}
	holds(t, want, to, password)
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestUndoneUnderAnotherName aborts compactions before and after the renaming of a file: they cut it at once, and what they moved comes back in the cache only. Recovery undoes that by the name
// that the file had, before it renames.
func TestUndoneUnderAnotherName(t *testing.T) {
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{Databases: []envtest.Database{
		{File: "a.db", Method: "btree", PageSize: 512, Records: 600}, {File: "b.db", Method: "btree", PageSize: 512, Records: 600},
	}})
	h := envtest.StartHold(t, env)
	for _, name := range []string{"a.db", "b.db"} {
		h.Delete("", name, 100, 400)
	}
	h.Checkpoint()
	compact := func(file string) {
		before := size(t, filepath.Join(env.Home, file))
		h.Begin("vain")
		h.Compact("vain", file)
		h.Abort("vain")
		if after := size(t, filepath.Join(env.Home, file)); after >= before {
			t.Fatalf("%s has %d bytes, had %d: it was not cut", file, after, before)
		}
	}
	compact("a.db")
	h.Rename("", "a.db", "c.db")
	h.Rename("", "b.db", "d.db")
	compact("d.db")
	h.FlushLog()
	crashed := filepath.Join(t.TempDir(), "crashed")
	if err := envtest.CopyHome(env.Home, crashed); err != nil {
		t.Fatal(err)
	}
	p := newPacker(t, "")
	p.full(crashed, nil)
	h.Checkpoint()
	h.Close()
	want := dump(t, env.Home, "")
	if err := envtest.RecoverCatastrophic(crashed, ""); err != nil {
		t.Fatal(err) // it sees nothing wrong
	}
	if got, err := envtest.Dump(crashed, ""); err == nil && len(envtest.Diff(want, got)) == 0 {
		t.Error("db5.3_recover -c is right: the test shows nothing")
	}
	to := filepath.Join(t.TempDir(), "to")
	if _, err := p.restoreTo(to, restore.Options{Verify: restore.VerifyAlways}); err != nil {
		t.Fatal(err)
	}
	holds(t, want, to, "")
}

// TestHeapTruncated truncates a heap at moments that no recovery of libdb gets over: it expects a heap's pages to be as old as its metadata page.
func TestHeapTruncated(t *testing.T) {
	heap := envtest.Database{File: "a.db", Method: "heap", PageSize: 512, Records: 600}
	for name, c := range map[string]struct {
		after func(*envtest.TestHold) // what follows the copy of the metadata page
		late  bool                    // the other pages are copied then
	}{
		"twice": {after: func(h *envtest.TestHold) {
			h.Truncate("", "a.db")
			h.Truncate("", "a.db")
		}},
		"while it is copied": {late: true, after: func(h *envtest.TestHold) {
			h.Truncate("", "a.db")
			h.Put("", "a.db", 0, 200)
			h.Checkpoint()
		}},
		"twice while it is copied": {late: true, after: func(h *envtest.TestHold) {
			h.Truncate("", "a.db")
			h.Checkpoint()
			h.Truncate("", "a.db")
			h.Put("", "a.db", 0, 5)
		}},
	} {
		for _, password := range []string{"", "secret"} {
			for _, sums := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s%s,sums=%t", name, password, sums), func(t *testing.T) {
					heap.Checksum = sums
					heapTruncated(t, heap, password, c.late, c.after)
				})
			}
		}
	}
}

func heapTruncated(t *testing.T, heap envtest.Database, password string, late bool, after func(*envtest.TestHold)) {
	other := envtest.Database{File: "b.db", Method: "btree", Records: 10}
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{Password: password, Databases: []envtest.Database{heap, other}})
	h := envtest.StartHold(t, env)
	if _, err := h.Do(envtest.Step{Do: envtest.DoOpen, File: "a.db"}); err != nil { // to close it would write its pages
		t.Fatal(err)
	}
	h.Begin("long") // recovery begins here
	h.Put("long", "b.db", 10, 1)
	h.Put("", "a.db", 0, 50)
	h.Checkpoint()
	meta := readFile(t, filepath.Join(env.Home, "a.db"))
	begun := h.LogEnd()
	after(h)
	h.FlushLog()
	crashed := filepath.Join(t.TempDir(), "crashed")
	if err := envtest.CopyHome(env.Home, crashed); err != nil {
		t.Fatal(err)
	}
	h.Abort("long")
	h.Checkpoint()
	h.Close()
	want := dump(t, env.Home, password)
	if late {
		file := filepath.Join(crashed, "a.db")
		data := readFile(t, file)
		copy(data, meta[:heap.PageSize])
		write(t, file, string(data))
	}
	p := newPacker(t, password)
	p.full(crashed, func(m *manifest.Manifest) { m.BegunAt = begun })
	err := envtest.RecoverCatastrophic(crashed, password)
	if err == nil {
		var got envtest.Contents
		if got, err = envtest.Dump(crashed, password); err == nil && len(envtest.Diff(want, got)) == 0 {
			t.Error("db5.3_recover -c is right: the test shows nothing")
		}
	}
	t.Log(err)
	to := filepath.Join(t.TempDir(), "to")
	if _, err := p.restoreTo(to, restore.Options{Verify: restore.VerifyAlways, Engine: engine.Options{Password: password}}); err != nil {
		t.Fatal(err)
	}
	holds(t, want, to, password)
}

// TestHashGoneBehindLongTransaction makes and removes a hash database in a file while a transaction that began before is still under way: recovery begins before, although
// the metadata page knows that the file was cut again.
func TestHashGoneBehindLongTransaction(t *testing.T) {
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{Databases: []envtest.Database{
		{File: "a.db", Name: "one", Method: "btree", PageSize: 512, Records: 100}, {File: "b.db", Method: "btree", Records: 1},
	}})
	h := envtest.StartHold(t, env)
	h.Begin("long")
	h.Put("long", "b.db", 10, 1)
	h.Create("", envtest.Database{File: "a.db", Name: "two", Method: "hash", PageSize: 512, Records: 1})
	if _, err := h.Do(envtest.Step{Do: envtest.DoRemove, File: "a.db", Name: "two"}); err != nil {
		t.Fatal(err)
	}
	h.Checkpoint()
	h.Kill()
	p := newPacker(t, "")
	p.full(env.Home, nil)
	if _, err := p.restoreTo(filepath.Join(t.TempDir(), "to"), restore.Options{Verify: restore.VerifyAlways}); err != nil {
		t.Fatal(err)
	}
}

func size(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
