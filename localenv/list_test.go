package localenv

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// tree makes files and directories (names that end in a slash) below a new directory, which it returns. A file's content is its own name.
func tree(t *testing.T, names ...string) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		full := filepath.Join(root, name)
		dir := full
		if !strings.HasSuffix(name, "/") {
			dir = filepath.Dir(full)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if dir != full {
			write(t, full, name)
		}
	}
	return root
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, home string) *Env {
	t.Helper()
	e, err := Open(home, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func list(t *testing.T, e *Env) Listing {
	t.Helper()
	l, err := e.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// names are the files as "data directory:path".
func (l Listing) names(e *Env) (names []string) {
	for _, f := range l.Files {
		names = append(names, e.Dirs[f.Dir].Name+":"+f.Path)
	}
	return names
}

func wantNames(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("listed\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestListSortsOutByName(t *testing.T) {
	home := tree(t, "DB_CONFIG", "a.db", "log.0000000001", "log.4294967295", "log.0000000000", "log.1", "log.00000000001", "log.db",
		"__db.001", "__db.042", "__db.register", "__db.rep.db", "__db.rep.system", "__db.reppg.db", "__db.freezer.0.4K",
		"__db.80000012.3f2a", "__db.report.db", "__db.1", "__db.0012", "__dbq.q.db.0", "__dbp.p.db.000", ".bdbvault-restore", ".bdbvault-origin",
		"sub/b.db", "sub/log.0000000001", "sub/__db.001", "sub/80000012.3f2a", "sub/deep/c", "empty/", "lost+found/", "lost+found/#1")
	write(t, filepath.Join(home, "DB_CONFIG"), "")
	e := open(t, home)
	l := list(t, e)
	wantNames(t, l.names(e), ".:DB_CONFIG", ".:__db.0012", ".:__db.1", ".:__db.80000012.3f2a", ".:__db.report.db", ".:__dbp.p.db.000", ".:__dbq.q.db.0",
		".:a.db", ".:log.0000000000", ".:log.00000000001", ".:log.1", ".:log.db",
		".:sub/80000012.3f2a", ".:sub/b.db", ".:sub/deep/c", ".:sub/log.0000000001")
	var skipped, dirs []string
	for _, s := range l.Skipped {
		rel, _ := filepath.Rel(home, s.Path)
		skipped = append(skipped, rel+": "+s.Reason)
	}
	wantNames(t, skipped, ".bdbvault-origin: note of a restore", ".bdbvault-restore: mark of an unfinished restore", "__db.001: shared region", "__db.042: shared region",
		"__db.freezer.0.4K: frozen page versions", "__db.register: process registry", "__db.rep.db: replication state", "__db.rep.system: replication state",
		"__db.reppg.db: replication state", "lost+found: the file system's own directory", "sub/__db.001: shared region")
	for _, d := range l.Dirs {
		dirs = append(dirs, d.Path)
	}
	wantNames(t, dirs, ".", "empty", "sub", "sub/deep")
}

func TestListDataDirs(t *testing.T) {
	home := tree(t, "DB_CONFIG", "h.db", "data/d.db", "data/inner/i.db", "data/inner/sub/s.db", "logs/log.0000000001", "logs/note", "tmp/BDB01234", "tmp/BDBab234",
		"tmp/BDB123", "tmp/keep", "BDB01234")
	outside := tree(t, "o.db", "log.0000000001")
	for name, target := range map[string]string{"alias": "data", "far": outside} {
		if err := os.Symlink(target, filepath.Join(home, name)); err != nil {
			t.Fatal(err)
		}
	}
	far := "far/../" + filepath.Base(outside) // the same directory again, but only for who resolves the link first
	write(t, filepath.Join(home, "DB_CONFIG"), strings.Join([]string{"set_data_dir data", "add_data_dir ./data/inner/", "set_data_dir " + outside, "set_data_dir alias",
		"set_data_dir data", "set_data_dir " + far, "set_data_dir .", "set_data_dir missing", "set_create_dir alias", "set_lg_dir logs", "set_tmp_dir tmp"}, "\n"))
	e := open(t, home)
	l := list(t, e)
	wantNames(t, l.names(e), ".:BDB01234", ".:DB_CONFIG", ".:h.db", ".:logs/note", ".:tmp/BDB123", ".:tmp/keep",
		"data:d.db", "./data/inner/:i.db", "./data/inner/:sub/s.db", outside+":log.0000000001", outside+":o.db")
	if len(e.Dirs) != 5 || e.Dirs[4].Name != "missing" || e.Dirs[2].Path != filepath.Join(home, "data/inner") {
		t.Errorf("data directories %+v", e.Dirs)
	}
	if e.CreateDir == nil || e.CreateDir.Name != "data" || e.LogDir != (Dir{"logs", filepath.Join(home, "logs")}) {
		t.Errorf("create directory %+v, log directory %+v", e.CreateDir, e.LogDir)
	}
	var reasons []string
	for _, s := range l.Skipped {
		reasons = append(reasons, filepath.Base(s.Path)+": "+s.Reason)
	}
	wantNames(t, reasons, "alias: symbolic link to a directory: data, backed up as data directory data",
		"far: symbolic link to a directory: "+outside+", backed up as data directory "+outside, "missing: data directory does not exist",
		"BDB01234: temporary file", "BDBab234: temporary file")
}

func TestListAroundHome(t *testing.T) {
	top := tree(t, "home/h.db", "other/o.db", "home/log.0000000001")
	home := filepath.Join(top, "home")
	write(t, filepath.Join(home, "DB_CONFIG"), "set_data_dir ..\n")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(home, link); err != nil {
		t.Fatal(err)
	}
	e := open(t, link)
	if e.Home != home {
		t.Errorf("home is %s, want %s", e.Home, home)
	}
	wantNames(t, list(t, e).names(e), ".:DB_CONFIG", ".:h.db", "..:other/o.db")
}

func TestListOddFiles(t *testing.T) {
	home := tree(t, "DB_CONFIG", "a.db", "dir/")
	outside := tree(t, "target")
	for name, target := range map[string]string{"file": filepath.Join(outside, "target"), "inside": "a.db", "dirlink": "dir", "nowhere": "gone", "loop": "loop", "null": "/dev/null"} {
		if err := os.Symlink(target, filepath.Join(home, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(home, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", filepath.Join(home, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	e := open(t, home)
	l := list(t, e)
	wantNames(t, l.names(e), ".:DB_CONFIG", ".:a.db", ".:file", ".:inside")
	if f := l.Files[2]; f.Link != filepath.Join(outside, "target") || f.Stat.Size != int64(len("target")) {
		t.Errorf("link to a file: %+v", f)
	}
	var skipped []string
	for _, s := range l.Skipped {
		skipped = append(skipped, filepath.Base(s.Path)+": "+s.Reason)
	}
	wantNames(t, skipped, "dirlink: symbolic link to a directory: dir", "fifo: named pipe", "loop: symbolic link to nowhere: loop", "nowhere: symbolic link to nowhere: gone",
		"null: symbolic link to a device: /dev/null", "socket: socket")
}

func TestListStopsByContext(t *testing.T) {
	e := open(t, tree(t, "DB_CONFIG"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := e.List(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("List: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	home := tree(t, "file", "plain/readme", "plain/sub/x")
	for _, c := range []struct {
		home string
		want error
		text string
	}{
		{"gone", fs.ErrNotExist, "no such file or directory"},
		{"file", ErrNotDirectory, "not a directory"},
		{"file/below", syscall.ENOTDIR, "not a directory"},
		{"plain", ErrNotEnvironment, "not a Berkeley DB environment"},
	} {
		full := filepath.Join(home, c.home)
		_, err := Open(full, nil)
		var homeErr *HomeError
		if !errors.As(err, &homeErr) || homeErr.Home != full || !errors.Is(err, c.want) || !strings.Contains(err.Error(), "home "+full+": "+c.text) {
			t.Errorf("%s: %v", c.home, err)
		}
	}
}

func TestOpenFindsSigns(t *testing.T) {
	for _, name := range []string{"DB_CONFIG", "log.0000000007", "__db.001"} {
		open(t, tree(t, name))
	}
	home := tree(t, "readme", "sub/")
	page := make([]byte, 4096)
	forgePage(page, 0)
	write(t, filepath.Join(home, "sub", "a.db"), string(page))
	open(t, home)
}

func TestExtentName(t *testing.T) {
	for name, want := range map[string]struct {
		queue  string
		number uint32
		ok     bool
	}{
		"__dbq.q.0":              {"q", 0, true},
		"__dbq.my.queue.db.4711": {"my.queue.db", 4711, true},
		"__dbq.__db.800.3f.1":    {"__db.800.3f", 1, true},
		"__dbq.q.01":             {},
		"__dbq.q.x":              {},
		"__dbq.q.4294967296":     {},
		"__dbq..1":               {},
		"__dbq.1":                {},
		"__dbp.q.1":              {},
		"q.1":                    {},
	} {
		queue, number, ok := extentName(name)
		if queue != want.queue || number != want.number || ok != want.ok {
			t.Errorf("%s: %q, %d, %v", name, queue, number, ok)
		}
	}
}
