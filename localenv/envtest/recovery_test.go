package envtest

import (
	"os"
	"path/filepath"
	"testing"
)

// A home apart reaches every directory of the real one, also those below another, and leaves nothing of its own behind.
func TestMirror(t *testing.T) {
	for config, want := range map[string]string{
		"": "add_data_dir home-itself\nset_create_dir home-itself\nset_lg_dir home-itself\n",
		"set_data_dir d/below\nadd_data_dir d\nset_lg_dir logs":      "add_data_dir home-itself\n",
		"add_data_dir d\nset_data_dir d/below\nset_lg_dir logs\n# x": "add_data_dir home-itself\nset_create_dir home-itself\n",
	} {
		home, apart := t.TempDir(), t.TempDir()
		for _, d := range []string{"d/below", "logs"} {
			if err := os.MkdirAll(filepath.Join(home, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if config != "" {
			if err := os.WriteFile(filepath.Join(home, "DB_CONFIG"), []byte(config), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := mirror(home, apart); err != nil {
			t.Fatal(err)
		}
		if got := string(read(t, filepath.Join(apart, "DB_CONFIG"))); got != config+"\n"+want {
			t.Errorf("DB_CONFIG %q becomes %q", config, got)
		}
		for _, d := range directoriesOf(config) {
			if _, err := os.Stat(filepath.Join(apart, d)); err != nil {
				t.Error(err)
			}
		}
	}
}

func directoriesOf(config string) []string {
	dirs, _, _ := directories(config)
	return dirs
}
