package file

import (
	"errors"
	"io/fs"
	"os"
	"testing"
)

// File systems without hard links are rare where tests run, so this way is tried by itself.
func TestRenameNoReplace(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := errors.Join(root.Mkdir("a", 0o700), root.Mkdir("b", 0o700), root.WriteFile("a/1", []byte("one"), 0o600), root.WriteFile("a/2", []byte("two"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := renameNoReplace(root, "a/1", "b/key"); err != nil {
		t.Fatal(err)
	}
	if err := renameNoReplace(root, "a/2", "b/key"); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	if got, err := root.ReadFile("b/key"); string(got) != "one" {
		t.Errorf("%q, %v", got, err)
	}
	if err := renameNoReplace(root, "a/2", "missing/key"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
