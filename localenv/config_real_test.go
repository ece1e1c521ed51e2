package localenv_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bdbvault/localenv"
)

// TestConfigAsTheEngine has libdb open environments with odd DB_CONFIGs, create a database and a log, and looks whether they are where Open says.
func TestConfigAsTheEngine(t *testing.T) {
	long := "set_lg_dir " + strings.Repeat("./", 122) + "set_tmp_dir t\n" // the piece after 255 bytes is a line of its own
	for _, c := range []struct {
		what, text string
		refused    bool
	}{
		{"nothing said", "# nothing\n", false},
		{"blanks in names", "  set_data_dir \t my data \nset_lg_dir a log\r\n", false},
		{"several", "add_data_dir d1\nset_data_dir d2\nset_create_dir d1\nset_lg_dir l1\ndb_log_dir l2\n", false},
		{"only added", "add_data_dir d1\n", false},
		{"metadata directory", "set_metadata_dir m\nset_lg_dir l1\n", false},
		{"comment after a value", "set_lg_dir l # comment\n", false},
		{"absolute", "set_data_dir HOME/d1\nset_lg_dir HOME/d1/../d1\n", false},
		{"too long a line", long, false},
		{"flags", "SET_FLAGS db_TXN_nosync on\nset_data_dir d1", false},
		{"create directory of no data directory", "set_create_dir d1\nset_data_dir d1\n", true},
		{"flag neither on nor off", "log_set_config db_log_auto_remove yes\n", true},
		{"no value", "set_flags\n", true},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			text := strings.ReplaceAll(c.text, "HOME", home)
			if err := os.WriteFile(filepath.Join(home, "DB_CONFIG"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			e := openEnv(t, home, "")
			if refused := len(e.Config.Problems) > 0; refused != c.refused {
				t.Errorf("problems: %q", e.Config.Problems)
			}
			for _, dir := range append(e.Dirs, e.LogDir) {
				if err := os.MkdirAll(dir.Path, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if out, err := createDatabase(home); (err != nil) != c.refused {
				t.Fatalf("libdb: %v\n%s", err, out)
			}
			if !c.refused {
				checkPlaces(t, e)
			}
		})
	}
}

// createDatabase makes a transactional environment and a.db in it.
func createDatabase(home string) (output []byte, err error) {
	if out, err := exec.Command("db5.3_recover", "-e", "-h", home).CombinedOutput(); err != nil {
		return out, err
	}
	load := exec.Command("db5.3_load", "-t", "btree", "-T", "-h", home, "a.db")
	load.Stdin = strings.NewReader("key\nvalue\n")
	return load.CombinedOutput()
}

func checkPlaces(t *testing.T, e *localenv.Env) {
	t.Helper()
	create := e.Home
	if e.CreateDir != nil {
		create = e.CreateDir.Path
	}
	if _, err := os.Stat(filepath.Join(create, "a.db")); err != nil {
		t.Errorf("new database: %v", err)
	}
	if _, err := os.Stat(filepath.Join(e.LogDir.Path, "log.0000000001")); err != nil {
		t.Errorf("log: %v", err)
	}
}
