package endtoend

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"bdbvault/localenv/envtest"
)

// TestDemo runs what a newcomer runs first, with programs built elsewhere than in bin.
func TestDemo(t *testing.T) {
	t.Parallel()
	program, err := product()
	if err != nil {
		t.Fatal(err)
	}
	tool, err := envtest.Tool()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	for name, path := range map[string]string{"bdbvault": program, "dbworkload": tool} {
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	demo := exec.Command("../../../docs/demo.sh")
	demo.Env = append(os.Environ(), "BIN="+bin, "TMPDIR="+t.TempDir())
	out, err := demo.CombinedOutput()
	if err != nil || !regexp.MustCompile(`the history has commits 1 to \d+ without a gap`).Match(out) {
		t.Fatalf("%v\n%s", err, out)
	}
}
