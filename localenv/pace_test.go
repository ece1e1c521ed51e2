package localenv_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"bdbvault/localenv"
)

// TestPace: every byte of a file is asked for before it is read, in pieces that a slow rate can let through, and a pace that gives up ends the reading.
func TestPace(t *testing.T) {
	home := t.TempDir()
	const size = 1<<20 + 4096
	for name, data := range map[string][]byte{"DB_CONFIG": nil, "a.bin": make([]byte, size)} {
		if err := os.WriteFile(filepath.Join(home, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env, err := localenv.Open(home, nil)
	if err != nil {
		t.Fatal(err)
	}
	asked, enough := 0, errors.New("enough")
	env.Pace = func(_ context.Context, n int) error {
		if asked += n; n > 256<<10 {
			t.Errorf("%d bytes at once", n)
		}
		if asked > size {
			return enough
		}
		return nil
	}
	src, err := env.OpenFile(localenv.File{Path: "a.bin"})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	buf := make([]byte, size)
	if n, _, err := src.ReadAt(t.Context(), buf, 0); n != size || err != nil || asked != size {
		t.Errorf("read %d bytes, asked for %d: %v", n, asked, err)
	}
	if _, _, err := src.ReadAt(t.Context(), buf, 0); !errors.Is(err, enough) {
		t.Errorf("not ended: %v", err)
	}
}
