package localenv_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"bdbvault/localenv"
)

// TestCheckClosed looks at homes with regions, with a registry of the dead, and with a process that has a region open.
func TestCheckClosed(t *testing.T) {
	home := t.TempDir()
	for name, text := range map[string]string{"DB_CONFIG": "", "__db.001": "region", "a.txt": "a",
		"__db.register": fmt.Sprintf("%24d\nX%23s\n", 1<<30, "")} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env, err := localenv.Open(home, nil)
	if err != nil {
		t.Fatal(err)
	}
	closed, err := env.CheckClosed(t.Context())
	if err != nil || !slices.Equal(closed.Regions, []string{"__db.001"}) || !slices.Equal(closed.Died, []int{1 << 30}) {
		t.Fatalf("%+v, %v", closed, err)
	}
	if err := closed.Same(t.Context(), env); err != nil {
		t.Error(err)
	}

	region, err := os.Open(filepath.Join(home, "__db.001"))
	if err != nil {
		t.Fatal(err)
	}
	holder := exec.Command("cat")
	holder.ExtraFiles = []*os.File{region}
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(holder.Start(), region.Close()); err != nil {
		t.Fatal(err)
	}
	var open *localenv.OpenError
	if err := closed.Same(t.Context(), env); !errors.As(err, &open) || open.Holders[0].PID != holder.Process.Pid {
		t.Errorf("with process %d: %v", holder.Process.Pid, err)
	}
	if err := errors.Join(in.Close(), holder.Wait()); err != nil {
		t.Error(err)
	}

	if err := os.WriteFile(filepath.Join(home, "b.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var stirred *localenv.StirredError
	if err := closed.Same(t.Context(), env); !errors.As(err, &stirred) || filepath.Base(stirred.Path) != "b.txt" {
		t.Errorf("with a new file: %v", err)
	}
}
