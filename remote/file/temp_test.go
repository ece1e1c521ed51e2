package file

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bdbvault/remote"
)

// TestAgeIsThatOfTheName: a process that stood still between writing an object and naming it has stored it when it was named.
func TestAgeIsThatOfTheName(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, absent := range []bool{true, false} {
		tmp, err := newTemp(root)
		if err != nil {
			t.Fatal(err)
		}
		if err := tmp.fill(t.Context(), strings.NewReader("x"), 1, remote.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(-48 * time.Hour)
		if err := os.Chtimes(filepath.Join(dir, tmp.name), old, old); err != nil {
			t.Fatal(err)
		}
		if err := tmp.publish(t.Context(), "a/b", absent); err != nil {
			t.Fatal(err)
		}
		tmp.discard()
		info, err := os.Stat(filepath.Join(dir, "a/b"))
		if err != nil || time.Since(info.ModTime()) > time.Minute {
			t.Errorf("absent %v: %v, %v", absent, info.ModTime(), err)
		}
	}
}
