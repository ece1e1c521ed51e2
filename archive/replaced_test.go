package archive_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
)

// TestReplacedObjects: objects that were stored again since the last backup are believed if they are what they were, as in a copied
// repository; if somebody has put something else of the same size in their place, their content is stored anew.
func TestReplacedObjects(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	envtest.Create(t, home, envtest.Spec{Databases: []envtest.Database{{File: "a.db", Method: "btree", Bytes: 1 << 20}}})
	b := newBench(t, home)
	first := b.backup(archive.BackupOptions{})
	var keys []string
	for _, p := range first.Manifest.Packs {
		keys = append(keys, manifest.PackKey("test", p.Name))
	}
	for _, f := range first.Manifest.Files {
		keys = append(keys, manifest.MapKey("test", f.Map))
	}
	touch := func() {
		t.Helper()
		later := time.Now().Add(time.Hour)
		for _, key := range keys {
			if err := os.Chtimes(filepath.Join(b.dir, key), later, later); err != nil {
				t.Fatal(err)
			}
		}
	}
	touch()
	if again := b.backup(archive.BackupOptions{}); again.NewPacks+again.NewMaps != 0 {
		t.Errorf("a copied repository: %d packs and %d maps were stored", again.NewPacks, again.NewMaps)
	}
	for _, key := range keys {
		name := filepath.Join(b.dir, key)
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(strings.Repeat("x", int(info.Size()))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	touch()
	healed := b.backup(archive.BackupOptions{})
	if healed.NewPacks < len(first.Manifest.Packs) {
		t.Errorf("a forged repository: %d packs were stored anew", healed.NewPacks)
	}
	checkBlocks(t, b, healed.Manifest)
}
