package envtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every shape can be made, is sound, holds what it should, and comes through the engine's own catastrophic recovery unchanged.
func TestShapes(t *testing.T) {
	specs := map[string]Spec{
		"512 encrypted":    {Password: "secret", Databases: AllShapes(512, false), Bank: &Bank{PageSize: 512}},
		"4096":             {DataDirs: []string{"data", "more"}, CreateDir: "more", LogDir: "logs", Databases: AllShapes(4096, false)},
		"16384 checksums":  {AddDirs: []string{"added"}, Databases: AllShapes(16384, true), Bank: &Bank{PageSize: 16384, Checksum: true}},
		"65536 everything": {Password: "secret", DataDirs: []string{"data"}, Databases: AllShapes(65536, true), NoConfig: false},
		"no DB_CONFIG":     {NoConfig: true, Databases: AllShapes(2048, false), Bank: &Bank{History: "queue"}},
	}
	for name, spec := range specs {
		t.Run(name, func(t *testing.T) { checkShape(t, Create(t, t.TempDir(), spec)) })
	}
}

func checkShape(t *testing.T, env *Environment) {
	made := dump(t, env.Home, env.Password)
	for _, d := range env.Spec.Databases {
		if got, want := made[d.String()], uint64(d.Records-d.Consume); got.Method != d.Method || got.Records != want {
			t.Errorf("%s: a %s with %d records, want %s with %d", d, got.Method, got.Records, d.Method, want)
		}
	}
	if err := RecoverApartCatastrophic(env.Home, env.Password); err != nil {
		t.Fatal(err)
	}
	sound(t, env)
	wantEqual(t, made, dump(t, env.Home, env.Password))
}

func sound(t *testing.T, env *Environment) {
	t.Helper()
	if err := Verify(env.Home, env.Password); err != nil {
		t.Error(err)
	}
	if env.Spec.Bank == nil {
		return
	}
	if _, err := CheckBank(env.Home, env.Password); err != nil {
		t.Error(err)
	}
}

func dump(t *testing.T, home, password string) Contents {
	t.Helper()
	c, err := Dump(home, password)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantEqual(t *testing.T, want, got Contents) {
	t.Helper()
	for _, line := range Diff(want, got) {
		t.Error(line)
	}
}

// The same seed makes the same records, another one others, and Diff says so.
func TestSeed(t *testing.T) {
	shape := []Database{{File: "a.db", Method: "btree", Records: 20}, {File: "b.db", Method: "heap", Records: 20}}
	one := dump(t, Create(t, t.TempDir(), Spec{Seed: 1, Databases: shape}).Home, "")
	again := dump(t, Create(t, t.TempDir(), Spec{Seed: 1, Databases: shape}).Home, "")
	other := dump(t, Create(t, t.TempDir(), Spec{Seed: 2, Databases: shape[:1]}).Home, "")
	wantEqual(t, one, again)
	if lines := Diff(one, other); len(lines) != 2 || !strings.Contains(lines[1], "b.db: only in the first") {
		t.Errorf("differences: %q", lines)
	}
}

func TestConfig(t *testing.T) {
	env := Create(t, t.TempDir(), Spec{LogFileSize: 64 << 10, LogFlags: []string{"DB_LOG_AUTO_REMOVE"}, Flags: []string{"DB_TXN_NOSYNC"},
		Databases: []Database{{File: "a.db", Method: "btree", Records: 5000}}})
	logs, err := filepath.Glob(filepath.Join(env.Home, "log.*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(logs) > 4 || filepath.Base(logs[0]) == logName(1) {
		t.Errorf("log files are not removed: %q", logs)
	}
}

func TestDamageIsFound(t *testing.T) {
	env := Create(t, t.TempDir(), Spec{Databases: []Database{{File: "a.db", Method: "btree", Records: 200}}})
	overwrite(t, filepath.Join(env.Home, "a.db"), 4096, bytes.Repeat([]byte{0xee}, 4096))
	var failed *ToolError
	if err := Verify(env.Home, ""); !errors.As(err, &failed) || !strings.Contains(failed.Text, "verify a.db") {
		t.Errorf("a page of garbage: %v", err)
	}
}

func overwrite(t *testing.T, path string, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

// The environment of the benchmarks: its pages change where asked and its log grows as asked.
func TestSizedSpec(t *testing.T) {
	env := Create(t, t.TempDir(), SizedSpec(12<<20))
	path := filepath.Join(env.Home, "data", "orders.db")
	before := read(t, path)
	if err := env.ChangePages(10, 1); err != nil {
		t.Fatal(err)
	}
	if share := changed(before, read(t, path), 8192); share < 0.09 || share > 0.11 {
		t.Errorf("of the pages %.3f changed, want a tenth", share)
	}
	if err := env.GrowLog(3<<20, 1); err != nil {
		t.Fatal(err)
	}
	if n := dump(t, env.Home, "")["grown.db"].Records; n < 2500 || n > 8000 {
		t.Errorf("3 MiB of log are %d records of 400 bytes", n)
	}
	sound(t, env)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func changed(a, b []byte, page int) float64 {
	n := 0
	for i := 0; i < len(a); i += page {
		if !bytes.Equal(a[i:i+page], b[i:i+page]) {
			n++
		}
	}
	return float64(n*page) / float64(len(a))
}

func ExampleSpec_ConfigText() {
	s := Spec{DataDirs: []string{"data"}, LogDir: "logs", LogFileSize: 100000, Flags: []string{"DB_TXN_NOSYNC"}}
	fmt.Print(s.ConfigText())
	// Output:
	// set_cachesize 0 8388608 1
	// set_data_dir data
	// set_lg_dir logs
	// set_lg_bsize 25000
	// set_lg_max 100000
	// set_flags DB_TXN_NOSYNC
}
