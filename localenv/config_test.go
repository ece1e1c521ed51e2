package localenv

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseConfig(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		what, text string
		want       Config
	}{
		{"nothing", "", Config{}},
		{"comments and blanks", "# set_data_dir a\n\n \t# set_data_dir b\n   \n", Config{}},
		{"data directories add up, the first one is for creating",
			"set_data_dir a\nadd_data_dir b\ndb_data_dir c\nset_data_dir a\n",
			Config{DataDirs: []string{"a", "b", "c", "a"}, CreateDir: "a"}},
		{"add_data_dir does not set the create directory", "add_data_dir a\n", Config{DataDirs: []string{"a"}}},
		{"create directory", "set_data_dir a\nset_data_dir b\nset_create_dir b\n",
			Config{DataDirs: []string{"a", "b"}, CreateDir: "b"}},
		{"create directory before its data directory", "set_create_dir b\nset_data_dir b\n",
			Config{DataDirs: []string{"b"}, CreateDir: "b", Problems: []string{"line 1: set_create_dir: directory b is not a data directory"}}},
		{"metadata directory is a data directory", "set_data_dir a\nset_metadata_dir m\nset_metadata_dir a\n",
			Config{DataDirs: []string{"a", "m"}, CreateDir: "a", MetadataDir: "a"}},
		{"the last one wins", "set_lg_dir l1\ndb_log_dir l2\nset_tmp_dir t1\ndb_tmp_dir t2", Config{LogDir: "l2", TempDir: "t2"}},
		{"blanks within and after a directory belong to it", "set_lg_dir \t my logs \r\n", Config{LogDir: "my logs "}},
		{"no quotes, no comment after a value", "set_lg_dir \"l\" # x\n", Config{LogDir: `"l" # x`}},
		{"indented, vertical tab before the name", " \v\tset_lg_dir l", Config{LogDir: "l"}},
		{"case matters for directories", "SET_LG_DIR l\n", Config{}},
		{"no value", "set_lg_dir\nset_flags\n",
			Config{Problems: []string{"line 1: set_lg_dir: has no value", "line 2: set_flags: has no value"}}},
		{"empty value", "set_data_dir \n", Config{DataDirs: []string{""}}},
		{"long lines fall apart", "set_lg_dir " + long + "\nset_tmp_dir t", Config{LogDir: long[:244], TempDir: "t",
			Problems: []string{"line 2: " + long[:56] + ": has no value"}}},
		{"nothing after a NUL", "set_lg_dir l\x00og\nset_tmp_dir t", Config{LogDir: "l", TempDir: "t"}},
		{"flags in both spellings", "Set_Flags DB_LOG_AUTOREMOVE\nlog_set_config db_log_in_memory ON\n", Config{LogAutoRemove: true, LogInMemory: true}},
		{"flags off again", "set_flags db_log_inmemory\nlog_set_config db_log_in_memory off\nset_flags db_log_autoremove no\n",
			Config{Problems: []string{"line 3: set_flags: want on or off, not no"}}},
		{"open flags", "set_open_flags db_private\nset_open_flags\tdb_register   on\n", Config{Private: true, Register: true}},
		{"replication", "rep_set_priority 100\n", Config{Replicated: true}},
		{"unknown names", "set_new_thing 1\n", Config{}},
	} {
		got := ParseConfig(c.text)
		got.Text, got.Settings = "", nil
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.what, got, c.want)
		}
	}
}

func TestParseConfigKeepsSettings(t *testing.T) {
	got := ParseConfig("# comment\nset_cachesize 0  1048576\t1\nset_lg_dir a b\nnew_thing on off\n").Settings
	want := []Setting{
		{2, "set_cachesize", []string{"0", "1048576", "1"}},
		{3, "set_lg_dir", []string{"a b"}},
		{4, "new_thing", []string{"on", "off"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add("set_data_dir a\nset_lg_dir b\r\n# c\nset_flags db_log_autoremove off\n")
	f.Add("set_create_dir \x00\n\tadd_data_dir   x y ")
	f.Fuzz(func(t *testing.T, text string) {
		c := ParseConfig(text)
		if len(c.Settings)+len(c.Problems) > 2*len(text)+2 {
			t.Errorf("%d settings and %d problems in %d bytes", len(c.Settings), len(c.Problems), len(text))
		}
		for _, s := range c.Settings {
			if s.Name == "" || len(s.Args) > 9 || !strings.Contains(text, s.Name) {
				t.Errorf("setting %+v", s)
			}
		}
		if c.CreateDir != "" && len(c.DataDirs) == 0 {
			t.Error("a create directory without data directories")
		}
	})
}
