package endtoend

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bdbvault/localenv/envtest"
)

// stockTool is the program that hotbackup stands in for.
const stockTool = "db5.3_hotbackup"

// duel is one directory for each of the two programs. Both hold the same environment, regions included, in home; a copy goes to copy.
type duel struct {
	t           *testing.T
	stock, ours string // directories
	link        string // a name of bdbvault's by which it is db_hotbackup
	password    string
	vars        []string
}

// arena is an environment that is made once, and of which every duel gets copies: those of a directory that nobody has open, and whose regions are as its
// last user left them.
func arena(t *testing.T, spec envtest.Spec, more func(dir string)) string {
	t.Helper()
	dir := t.TempDir()
	envtest.Create(t, filepath.Join(dir, "home"), spec)
	for _, d := range spec.DataDirs { // what Create makes where the current directory is the home's parent
		if !filepath.IsAbs(d) {
			write(t, filepath.Join(dir, "home", d, "notes.txt"), []byte("beside the databases of "+d))
		}
	}
	write(t, filepath.Join(dir, "home", "readme.txt"), []byte("an application's file"))
	if more != nil {
		more(dir)
	}
	return dir
}

func newDuel(t *testing.T, from string) *duel {
	t.Helper()
	path, err := product()
	if err != nil {
		t.Fatal(err)
	}
	top := t.TempDir()
	d := &duel{t: t, stock: filepath.Join(top, "stock"), ours: filepath.Join(top, "ours"), link: filepath.Join(top, "db_hotbackup")}
	for _, dir := range []string{d.stock, d.ours} {
		shell(t, top, "cp", "-a", from, dir)
	}
	if err := os.Symlink(path, d.link); err != nil {
		t.Fatal(err)
	}
	return d
}

// shell runs a program that has to succeed.
func shell(t *testing.T, dir string, argv ...string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", argv, err, out)
	}
}

// both calls do for each of the two.
func (d *duel) both(do func(dir string)) {
	do(d.stock)
	do(d.ours)
}

func (d *duel) runStock(args ...string) said { return d.run(d.stock, stockTool, args) }
func (d *duel) runOurs(args ...string) said  { return d.run(d.ours, d.link, args) }

func (d *duel) run(dir, program string, args []string) said {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), d.vars...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	return (&cli{t: d.t}).said(append([]string{filepath.Base(program)}, args...), cmd.Run(), &out, &errs)
}

// bout is one command line for both.
type bout struct {
	name   string
	in     string      // the arena; "plain" if empty
	before func(*duel) // what was done to both before
	args   []string
	vars   []string
	code   int
	words  []string // that both say, when they fail or warn
	into   string   // the copy, if it is not "copy"
}

// TestHotbackupBesideStock runs bdbvault, called db_hotbackup, and db5.3_hotbackup on equal environments with the same arguments. Exit codes, what -v
// says, files and their modes, what is left at the source, and the contents of all databases have to be the same.
func TestHotbackupBesideStock(t *testing.T) {
	arenas := hotArenas(t)
	for _, b := range bouts() {
		t.Run(b.name, func(t *testing.T) {
			if b.in == "" {
				b.in = "plain"
			}
			d := newDuel(t, arenas[b.in])
			d.vars = b.vars
			if b.in == "encrypted" {
				d.password = "secret"
			}
			if b.before != nil {
				b.before(d)
			}
			b.fight(d)
		})
	}
}

func hotArenas(t *testing.T) map[string]string {
	shapes := []envtest.Database{
		{File: "btree.db", Method: "btree", Records: 500, Overflow: true}, {File: "hash.db", Method: "hash", Records: 300},
		{File: "queue.db", Method: "queue", Extent: 4, Records: 200, Consume: 50}, {File: "parts.db", Method: "btree", Partitions: 3, Records: 300},
		{File: "many.db", Name: "a", Method: "btree", Records: 100}, {File: "many.db", Name: "b", Method: "recno", Records: 100},
	}
	small := envtest.Spec{LogFileSize: 64 << 10, DataDirs: []string{"data"}, Databases: shapes}
	dirs, secret, absolute := small, small, small
	dirs.AddDirs, dirs.LogDir = []string{"more/data"}, "logs"
	secret.Password = "secret"
	absolute.DataDirs = []string{t.TempDir()}
	return map[string]string{
		"plain": arena(t, small, nil), "encrypted": arena(t, secret, nil), "absolute": arena(t, absolute, nil),
		"dirs": arena(t, dirs, func(dir string) { write(t, filepath.Join(dir, "home/more/data/x.txt"), []byte("x")) }),
		"bare": arena(t, envtest.Spec{NoConfig: true, Databases: shapes}, func(dir string) {
			if err := os.Mkdir(filepath.Join(dir, "home", "extra"), 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "home/extra/y.txt"), []byte("y"))
		}),
	}
}

func bouts() []bout {
	flat := []string{"-h", "home", "-b", "copy"}
	full := func(args ...string) func(*duel) { // a copy that the stock program made, and log behind it
		return func(d *duel) {
			d.both(func(dir string) {
				if s := d.run(dir, stockTool, append(args, "-h", "home", "-b", "copy")); s.code != 0 {
					d.t.Fatal(s)
				}
				d.grow(dir)
			})
		}
	}
	with := func(args ...string) []string { return append(args, flat...) }
	return []bout{
		{name: "plain", args: flat},
		{name: "verbose", args: with("-v")},
		{name: "checkpoint", args: with("-c", "-v")},
		{name: "directories", args: with("-D", "-v"), in: "dirs"},
		{name: "one directory of many", args: with("-v"), in: "dirs"},
		{name: "directories and a checkpoint", args: with("-cD"), in: "dirs"},
		{name: "bundled", args: []string{"-cvh", "home", "-b", "copy"}},
		{name: "values that stick to options", args: []string{"-hhome", "-bcopy"}},
		{name: "DB_HOME", args: []string{"-b", "copy"}, vars: []string{"DB_HOME=home"}},
		{name: "no DB_CONFIG", args: with("-v"), in: "bare"},
		{name: "a data directory", args: with("-v", "-d", "extra"), in: "bare"},
		{name: "a data directory with home before it", args: with("-d", "home/extra"), in: "bare"},
		{name: "a log directory", args: with("-l", "logs"), in: "dirs", words: []string{"BDB5058 use of -l with DB_CONFIG file is deprecated\n: "}},
		{name: "another log directory", args: with("-l", "data"), in: "dirs", code: 1, words: []string{"cannot specify -l with conflicting DB_CONFIG file", "usage: "}},
		{name: "a target with files", args: flat, before: func(d *duel) { d.both(litter(d.t)) }},
		{name: "encrypted", args: with("-P", "secret"), in: "encrypted"},
		{name: "wrong password", args: with("-P", "other"), in: "encrypted", code: 1, words: []string{"HOT BACKUP FAILED"}},
		{name: "no password", args: flat, in: "encrypted", code: 1, words: []string{"HOT BACKUP FAILED"}},
		{name: "a password for nothing", args: with("-P", "secret"), code: 1, words: []string{"HOT BACKUP FAILED"}},
		{name: "files by copying", args: with("-F")},
		{name: "all log files kept", args: with("-g")},
		{name: "update", args: with("-u", "-v"), before: full()},
		{name: "update with a checkpoint", args: []string{"-cvuh", "home", "-b", "copy"}, before: full()},
		{name: "update of directories", args: with("-cuD", "-v"), in: "dirs", before: full("-D")},
		{name: "update encrypted", args: with("-cu", "-P", "secret"), in: "encrypted", before: full("-P", "secret")},
		{name: "update of nothing", args: with("-u"), before: func(d *duel) { d.both(func(dir string) { d.run(dir, stockTool, flat) }) }},
		{name: "update of an empty directory", args: with("-u", "-v")},
		{name: "update beyond a gap", args: with("-u"), before: func(d *duel) { full()(d); d.both(d.gap) }, code: 1,
			words: []string{"BDB0743 the largest log file removed", "HOT BACKUP FAILED"}},
		{name: "absolute data directory", args: flat, in: "absolute"},
		{name: "absolute data directory kept", args: with("-D"), in: "absolute", code: 1, words: []string{"BDB0725 data directory '", "HOT BACKUP FAILED"}},
		{name: "-d and -c", args: with("-c", "-d", "data"), code: 1, words: []string{"BDB5027 cannot specify -d and -c\n", "usage: "}},
		{name: "-D and -d", args: with("-D", "-d", "data"), code: 1, words: []string{"BDB5028 cannot specify -D and -d or -l\n", "usage: "}},
		{name: "-D and -l", args: with("-D", "-l", "."), code: 1, words: []string{"BDB5028 cannot specify -D and -d or -l\n", "usage: "}},
		{name: "no source", args: []string{"-b", "copy"}, code: 1, words: []string{"BDB5030 no source database environment specified\n", "usage: "}},
		{name: "no target", args: []string{"-h", "home"}, code: 1, words: []string{"BDB5031 no target backup directory specified\n", "usage: "}},
		{name: "unknown option", args: with("-x"), code: 1, words: []string{"invalid option -- 'x'\n", "usage: "}},
		{name: "no value", args: []string{"-h", "home", "-b"}, code: 1, words: []string{"option requires an argument -- 'b'\n", "usage: "}},
		{name: "more arguments", args: []string{"-h", "home", "-b", "copy", "more"}, code: 1, words: []string{"usage: "}},
		{name: "two passwords", args: with("-P", "a", "-P", "b"), code: 1, words: []string{"BDB5133 Password may not be specified twice"}},
		{name: "source missing", args: []string{"-h", "nowhere", "-b", "copy"}, code: 1, words: []string{"nowhere", "HOT BACKUP FAILED"}},
		{name: "target's parent missing", args: []string{"-h", "home", "-b", "no/copy"}, code: 1, into: "no/copy",
			words: []string{"BDB0718 no/copy: directory read: ", "HOT BACKUP FAILED"}},
		{name: "version", args: []string{"-V"}},
	}
}

// litter leaves files and directories where the copy goes.
func litter(t *testing.T) func(string) {
	return func(dir string) {
		for _, name := range []string{"log.0000000077", "old.db", ".hidden", "sub/kept"} {
			at := filepath.Join(dir, "copy", name)
			if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, at, []byte("old"))
		}
	}
}

// grow has the source go on, by a few log files.
func (d *duel) grow(dir string) {
	d.t.Helper()
	env := envtest.Open(filepath.Join(dir, "home"), d.password)
	if err := env.GrowLog(300<<10, 7); err != nil {
		d.t.Fatal(err)
	}
}

// gap has the source lose log that the copy has not.
func (d *duel) gap(dir string) {
	d.t.Helper()
	if err := envtest.Checkpoint(filepath.Join(dir, "home"), d.password); err != nil {
		d.t.Fatal(err)
	}
	shell(d.t, dir, "db5.3_archive", "-d", "-h", "home")
}

func (b *bout) fight(d *duel) {
	d.t.Helper()
	stock, ours := d.runStock(b.args...), d.runOurs(b.args...)
	for _, s := range []said{stock, ours} {
		if s.code != b.code {
			d.t.Errorf("exit code %d is wanted of %s", b.code, s)
		}
		for _, w := range b.words {
			if !strings.Contains(s.err, w) {
				d.t.Errorf("%q is missing in %s", w, s)
			}
		}
	}
	if b.code != 0 || d.t.Failed() {
		return
	}
	if want, got := steps(stock.out, stockTool), steps(ours.out, "db_hotbackup"); b.name != "version" && !slices.Equal(want, got) {
		d.t.Errorf("the stock program says\n%s\nand ours\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
	d.compare()
}

// steps are the lines of -v, in no order, without what is of a moment or of recovery, and without the extents of queues, which the stock program copies in silence.
func steps(out, name string) (list []string) {
	for line := range strings.Lines(out) {
		line = strings.TrimPrefix(strings.TrimSpace(line), name+": ")
		if at := strings.Index(line, " at "); at >= 0 && strings.Contains(line, "hot backup") {
			line = line[:at]
		}
		number := line[:min(4, len(line))]
		if number != "BDB1" && number != "BDB2" && !strings.Contains(line, "__dbq.") {
			list = append(list, line)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// compare holds the two copies against each other, and the two sources.
func (d *duel) compare() {
	d.t.Helper()
	if want, got := d.files(d.stock+"/copy"), d.files(d.ours+"/copy"); !slices.Equal(want, got) {
		d.t.Errorf("the stock program leaves\n%s\nand ours\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
	if want, got := d.files(d.stock+"/home"), d.files(d.ours+"/home"); !slices.Equal(want, got) {
		d.t.Errorf("the source of the stock program has\n%s\nand ours\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
	if _, err := os.Stat(d.ours + "/copy"); err != nil {
		return
	}
	want, got := contents(d.t, d.stock+"/copy", d.password), contents(d.t, d.ours+"/copy", d.password)
	if diff := envtest.Diff(want, got); len(diff) > 0 || len(got) == 0 {
		d.t.Errorf("%d databases differ: %s", len(got), diff)
	}
	if err := envtest.Verify(d.ours+"/copy", d.password); err != nil {
		d.t.Error(err)
	}
}

// files lists what is in a directory: modes and names, and what application's files hold.
func (d *duel) files(dir string) (list []string) {
	d.t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%v %s", info.Mode(), strings.TrimPrefix(path, dir))
		if strings.HasSuffix(path, ".txt") || strings.HasSuffix(path, "DB_CONFIG") {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", text)
		}
		list = append(list, line)
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		d.t.Fatal(err)
	}
	return list
}
