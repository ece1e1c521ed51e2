package endtoend

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bdbvault/archive"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/restore"
)

// TestForgedManifests restores from manifests that somebody has changed and given a right checksum: with names that leave the target in every
// place that holds names, or that are ours. All are refused with what is wrong, and nothing is written anywhere.
func TestForgedManifests(t *testing.T) {
	f := newForgery(t)
	absolute := filepath.Join(f.outside, "evil")
	for _, c := range []struct {
		old, new string
		code     int
		words    []string
	}{
		{`"path":"a.db"`, `"path":"../evil.db"`, damaged, []string{"../evil.db", "leaves its directory"}},
		{`"path":"a.db"`, `"path":"sub/../../../evil.db"`, damaged, []string{"leaves its directory"}},
		{`"path":"a.db"`, `"path":"` + absolute + `"`, damaged, []string{absolute, "leaves its directory"}},
		{`"path":"a.db"`, `"path":""`, damaged, []string{"leaves its directory"}},
		{`"path":"a.db"`, `"path":"."`, damaged, []string{"leaves its directory"}},
		{`"path":"a.db"`, `"path":".."`, damaged, []string{"leaves its directory"}},
		{`"path":"a.db"`, `"path":"a\u0000.db"`, damaged, []string{"leaves its directory"}},
		{`"path":"a.db"`, `"path":"b.db"`, damaged, []string{"twice"}},
		{`"path":"notes.txt"`, `"path":"` + restore.MarkerName + `"`, damaged, []string{restore.MarkerName}},
		{`"path":"notes.txt"`, `"path":"` + restore.MarkerName + `.scratch/DB_CONFIG"`, damaged, []string{restore.MarkerName}},
		{`"path":"notes.txt"`, `"path":"logs/log.0000000001"`, damaged, []string{"logs/log.0000000001"}},
		{`"path":"sub","mode"`, `"path":"../evil","mode"`, damaged, []string{"../evil", "leaves its directory"}},
		{`"name":"data"`, `"name":"../evil"`, failed, []string{"../evil", "outside the home"}},
		{`"name":"data"`, `"name":"` + absolute + `"`, failed, []string{absolute, "absolute path"}},
		{`"logDir":"logs"`, `"logDir":"../evil"`, failed, []string{"../evil", "outside the home"}},
		{`set_data_dir data`, `set_data_dir ../evil`, failed, []string{"set_data_dir ../evil", "outside the home"}},
		{`set_lg_dir logs`, `set_lg_dir ` + absolute, failed, []string{"set_lg_dir " + absolute, "absolute path"}},
		{`set_lg_dir logs`, `set_tmp_dir /tmp\nset_lg_dir logs`, failed, []string{"set_tmp_dir /tmp", "absolute path"}},
	} {
		f.forge(c.old, c.new)
		s := f.cli.fails(c.code, append(c.words, "bdbvault restore: "), "restore", "--to", f.target)
		if before := f.before; before != f.around() {
			t.Fatalf("%s: something was written: %s\n%s", c.new, before, f.around())
		}
		if !strings.Contains(s.err, "\n  ") {
			t.Errorf("no advice in %s", s)
		}
	}
	f.forge("", "")
	f.cli.must("restore", "--to", f.target)
}

// forgery is a repository with a backup whose manifest can be changed.
type forgery struct {
	t               *testing.T
	cli             *cli
	dir             string // of the repository
	id              manifest.BackupID
	text            []byte
	outside, target string
	before          string
}

func newForgery(t *testing.T) *forgery {
	t.Helper()
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{
		DataDirs: []string{"data"}, LogDir: "logs",
		Databases: []envtest.Database{{File: "a.db", Method: "btree", Records: 20}, {File: "b.db", Method: "btree", Records: 20}, {File: "sub/c.db", Method: "hash", Records: 20}},
	})
	if err := os.WriteFile(filepath.Join(env.Home, "notes.txt"), []byte("notes"), 0o600); err != nil {
		t.Fatal(err)
	}
	v := newVault(t, env.Home)
	f := &forgery{t: t, dir: v.dir, outside: t.TempDir()}
	f.id = v.mustBackup(archive.BackupOptions{BulkSafe: archive.BulkOff}).Manifest.ID
	f.text = must(os.ReadFile(f.path()))
	f.target = filepath.Join(f.outside, "target", "home")
	f.cli = newCLI(t).with("BDBVAULT_REPOSITORY=file://"+v.dir, "DB_HOME="+env.Home, "BDBVAULT_ENV=test", "BDBVAULT_STATE_DIR="+t.TempDir())
	f.before = f.around()
	return f
}

func (f *forgery) path() string { return filepath.Join(f.dir, manifest.ManifestKey("test", f.id)) }

// around is what there is where a name that leaves the target could lead to, the target included.
func (f *forgery) around() (text string) {
	f.t.Helper()
	err := filepath.WalkDir(f.outside, func(path string, _ os.DirEntry, err error) error {
		text += path + "\n"
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return text
}

// forge stores the manifest with one piece of it replaced, and the right checksum.
func (f *forgery) forge(old, new string) {
	f.t.Helper()
	if old != "" && !bytes.Contains(f.text, []byte(old)) {
		f.t.Fatalf("no %s in %s", old, f.text)
	}
	f.store(bytes.Replace(f.text, []byte(old), []byte(new), 1))
}

func (f *forgery) store(text []byte) {
	f.t.Helper()
	var outer struct{ Manifest json.RawMessage }
	if err := json.Unmarshal(text, &outer); err != nil {
		f.t.Fatal(err)
	}
	write(f.t, f.path(), fmt.Appendf(nil, "{\"sha256\":\"%x\",\"manifest\":%s}\n", sha256.Sum256(outer.Manifest), outer.Manifest))
}

// TestNewerFormats meets objects that a newer bdbvault will have written. Every command that reads them refuses by name and version, and advises
// to use that one.
func TestNewerFormats(t *testing.T) {
	f := newForgery(t)
	words := func(what string) []string {
		return []string{what + " has format 9", "reads up to format", "newer bdbvault"}
	}
	try := func(what string) {
		t.Helper()
		f.cli.fails(failed, words(what), "restore", "--to", f.target)
		if f.around() != f.before && what == "manifest" {
			t.Errorf("something was written: %s", f.around())
		}
		if err := os.RemoveAll(filepath.Dir(f.target)); err != nil {
			t.Fatal(err)
		}
	}
	f.forge(`"format":1`, `"format":9,"unheardOf":true`)
	try("manifest")
	for _, args := range [][]string{{"backup"}, {"ship"}, {"show", string(f.id)}} {
		f.cli.fails(failed, words("manifest"), args...)
	}
	if s := f.cli.must("list"); !strings.Contains(s.out, "newer format") {
		t.Errorf("listed: %s", s)
	}

	f.forge("", "")
	shown := decode[struct{ Manifest manifest.Manifest }](t, f.cli.must("show", string(f.id), "--json")).Manifest
	name := shown.Files[0].Map
	path := filepath.Join(f.dir, manifest.MapKey("test", name))
	data := bytes.Replace(must(os.ReadFile(path)), []byte("BDBVMAP1"), []byte("BDBVMAP9"), 1)
	sum := sha256.Sum256(data)
	write(t, filepath.Join(f.dir, manifest.MapKey("test", sum)), data)
	f.forge(name.String(), hex.EncodeToString(sum[:]))
	try("map")

	f.forge("", "")
	logs, err := filepath.Glob(filepath.Join(f.dir, manifest.LogsPrefix("test"), "*/*/*"))
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	segment := must(os.ReadFile(logs[0]))
	write(t, logs[0], bytes.Replace(segment, []byte("BDBVSEG1"), []byte("BDBVSEG9"), 1))
	try("segment")
	write(t, logs[0], bytes.Replace(segment, []byte(`"format":1`), []byte(`"format":9`), 1))
	try("segment")
	write(t, logs[0], segment)
	f.cli.must("restore", "--to", f.target)
}

// TestNamesInTheLog has the application make a database outside of its home after the backup. Recovery would make it there again, on whatever host it
// runs, so the restore is refused before.
func TestNamesInTheLog(t *testing.T) {
	dir := t.TempDir()
	env := envtest.Create(t, filepath.Join(dir, "source", "home"), envtest.Spec{Databases: []envtest.Database{{File: "a.db", Method: "btree", Records: 20}}})
	c := newCLI(t).with("BDBVAULT_REPOSITORY=file://"+filepath.Join(dir, "repository"), "DB_HOME="+env.Home)
	c.must("init")
	id := decode[struct{ ID string }](t, c.must("backup", "--json")).ID
	hold := envtest.StartHold(t, env)
	hold.Create("", envtest.Database{File: "../outside.db", Method: "btree", Records: 20})
	hold.FlushLog()
	c.must("ship")
	// A backup whose log nobody can follow would be none.
	c.fails(failed, []string{"not in the environment's directories", "../outside.db", "add_data_dir"}, "backup")
	hold.Close()
	to := filepath.Join(dir, "target", "home")
	c.fails(damaged, []string{"the log at LSN", `names "../`, "outside the home"}, "restore", "--to", to, "--backup", id)
	if _, err := os.Lstat(filepath.Join(dir, "target", "outside.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
}

// TestLinksInTheTarget interrupts a restore, puts links to elsewhere into the target in place of what was restored, and goes on.
func TestLinksInTheTarget(t *testing.T) {
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), storeSpec())
	v := newVault(t, env.Home)
	v.mustBackup(archive.BackupOptions{BulkSafe: archive.BulkOff})
	outside := t.TempDir()
	foreign := filepath.Join(outside, "foreign.db")
	write(t, foreign, []byte("foreign"))
	plan, err := restore.MakePlan(t.Context(), v.repo, "test", restore.Target{})
	if err != nil {
		t.Fatal(err)
	}
	for _, linked := range []string{"data", "data/btree.db", "data/sub", "log.0000000001", restore.MarkerName + ".maps", restore.MarkerName + ".scratch"} {
		for _, to := range []string{outside, foreign} {
			target := filepath.Join(t.TempDir(), "to")
			_, err := restore.Restore(t.Context(), v.repo, plan, restore.Options{To: target, Verify: restore.VerifyNever, Step: func(stage string) error {
				if stage == "data" {
					return errStopped
				}
				return nil
			}})
			if !errors.Is(err, errStopped) {
				t.Fatal(err)
			}
			at := filepath.Join(target, linked)
			if err := errors.Join(os.RemoveAll(at), os.Symlink(to, at)); err != nil {
				t.Fatal(err)
			}
			if _, err := restore.Restore(t.Context(), v.repo, plan, restore.Options{To: target, Verify: restore.VerifyNever}); err != nil {
				t.Errorf("%s leads to %s: %v", linked, to, err)
			}
			left, err := os.ReadDir(outside)
			if text := must(os.ReadFile(foreign)); err != nil || len(left) != 1 || string(text) != "foreign" {
				t.Fatalf("%s led to %s: %v, %q, %v", linked, to, left, text, err)
			}
			if diff := envtest.Diff(contents(t, env.Home, ""), contents(t, target, "")); len(diff) > 0 {
				t.Errorf("%s led to %s: %v", linked, to, diff)
			}
		}
	}
}

// TestSameEnvironmentUnread backs up an encrypted environment without its password and with it. Of the databases' ids only a part can be read without,
// which is enough to see that it is the same environment.
func TestSameEnvironmentUnread(t *testing.T) {
	spec := envtest.Spec{Password: "sesame", Databases: []envtest.Database{{File: "a.db", Method: "btree", Records: 20}}}
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), spec)
	other := envtest.Create(t, filepath.Join(t.TempDir(), "home"), spec)
	c := newCLI(t).with("BDBVAULT_REPOSITORY=file://"+filepath.Join(t.TempDir(), "repository"), "BDBVAULT_ENV=db", "BDBVAULT_BULK_SAFE=off")
	known := c.with("BDBVAULT_DB_PASSWORD=sesame")
	c.must("init")
	for _, by := range []*cli{c, known, c, known} {
		by.must("backup", "-h", env.Home)
		by.must("ship", "-h", env.Home)
		by.fails(failed, []string{"another environment", "--new-environment"}, "backup", "-h", other.Home)
		by.fails(chain, []string{"does not continue", "bdbvault backup"}, "ship", "-h", other.Home)
	}
	timelines := map[string]bool{}
	for _, b := range c.backups() {
		timelines[b.Timeline] = true
	}
	if len(timelines) != 1 {
		t.Errorf("%d timelines", len(timelines))
	}
	to := filepath.Join(t.TempDir(), "to")
	known.must("restore", "--to", to)
	if diff := envtest.Diff(contents(t, env.Home, "sesame"), contents(t, to, "sesame")); len(diff) > 0 {
		t.Error(diff)
	}
}
