package localenv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"bdbvault/localenv/bdb"
)

// ErrNotDirectory and ErrNotEnvironment are why a home that exists can't be opened.
var (
	ErrNotDirectory   = errors.New("not a directory")
	ErrNotEnvironment = errors.New("not a Berkeley DB environment: there is no DB_CONFIG, no log file, no region and no database")
)

// HomeError is a home that can't be opened. Err is ErrNotDirectory, ErrNotEnvironment, or what the system says, such as fs.ErrNotExist.
type HomeError struct {
	Home string
	Err  error
}

func (e *HomeError) Error() string {
	var path *fs.PathError
	if errors.As(e.Err, &path) && path.Path == e.Home {
		return fmt.Sprintf("home %s: %v", e.Home, path.Err)
	}
	return fmt.Sprintf("home %s: %v", e.Home, e.Err)
}

func (e *HomeError) Unwrap() error { return e.Err }

// Env is an environment on this disk. It holds nothing open.
type Env struct {
	Home   string // absolute, symbolic links resolved
	Config Config
	// Dirs are the directories that libdb looks for databases in: home first, under the name ".", then those of DB_CONFIG in its
	// order. A directory named twice, in whatever way, is in here once. Some may not exist.
	Dirs      []Dir
	LogDir    Dir
	CreateDir *Dir // where new databases go; nil: home
	key       *bdb.Key

	Pace Pace // of reading pages; nil: as fast as the disk gives them
}

// Pace is asked before n bytes of pages are read, and returns when they may be. The second reading of a page, which the page cache answers, is not asked for.
type Pace func(ctx context.Context, n int) error

// Dir is a directory of an environment.
type Dir struct {
	Name string // as DB_CONFIG spells it; "." is home
	Path string // absolute, symbolic links resolved if it exists
}

// Open finds out what environment there is in home. It reads only; nothing of the environment is joined. key may be nil. Errors about
// home itself are *HomeError.
func Open(home string, key *bdb.Key) (*Env, error) {
	return OpenAs(home, key, func(*Config) {})
}

// OpenAs is Open for an environment whose application says more than DB_CONFIG does: change adds that to what was read there.
func OpenAs(home string, key *bdb.Key, change func(*Config)) (*Env, error) {
	path, err := resolveHome(home)
	if err != nil {
		return nil, &HomeError{home, err}
	}
	e := &Env{Home: path, key: key}
	if e.Config, err = readConfig(path); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	change(&e.Config)
	if err := e.findDirs(); err != nil {
		return nil, err
	}
	found, err := e.anything()
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, &HomeError{home, ErrNotEnvironment}
	}
	return e, nil
}

// Key is the key that Open was given.
func (e *Env) Key() *bdb.Key { return e.key }

func resolveHome(home string) (string, error) {
	path, err := filepath.Abs(home)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", ErrNotDirectory
	}
	return filepath.EvalSymlinks(path)
}

// findDirs fills Dirs, LogDir and CreateDir from Config.
func (e *Env) findDirs() error {
	e.Dirs = []Dir{{Name: ".", Path: e.Home}}
	for _, name := range e.Config.DataDirs {
		at, err := e.addDir(name)
		if err != nil {
			return err
		}
		if name == e.Config.CreateDir && at > 0 {
			e.CreateDir = &Dir{e.Dirs[at].Name, e.Dirs[at].Path}
		}
	}
	name := e.Config.LogDir
	if name == "" {
		name = "."
	}
	path, err := e.resolve(name)
	e.LogDir = Dir{name, path}
	return err
}

// addDir adds a data directory unless it is there already, and returns its index.
func (e *Env) addDir(name string) (at int, err error) {
	path, err := e.resolve(name)
	if err != nil {
		return 0, err
	}
	for i, d := range e.Dirs {
		if d.Path == path || sameFile(d.Path, path) {
			return i, nil
		}
	}
	e.Dirs = append(e.Dirs, Dir{name, path})
	return len(e.Dirs) - 1, nil
}

// resolve makes a directory of DB_CONFIG absolute as libdb does. One that does not exist yet is no error. Nothing is cleaned up before the
// symbolic links are resolved: after a link, .. leads elsewhere.
func (e *Env) resolve(name string) (string, error) {
	path := name
	if !filepath.IsAbs(path) {
		path = e.Home + "/" + path
	}
	resolved, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return filepath.Clean(path), nil
	}
	if err != nil {
		return "", fmt.Errorf("directory %s of DB_CONFIG: %w", name, err)
	}
	return resolved, nil
}

// sameFile reports whether two paths lead to the same existing file, as bind mounts make possible.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// anything reports whether there is a sign of an environment: what opening the wrong directory would miss.
func (e *Env) anything() (bool, error) {
	if e.Config.Present {
		return true, nil
	}
	names, err := os.ReadDir(e.Home) // no DB_CONFIG, so logs are here too
	if err != nil {
		return false, &HomeError{e.Home, err}
	}
	for _, entry := range names {
		if _, log := ParseLogName(entry.Name()); log || engineFile(entry.Name()) != "" {
			return true, nil
		}
	}
	return e.anyDatabase()
}

func (e *Env) anyDatabase() (bool, error) {
	ctx := context.Background()
	listing, err := e.List(ctx)
	if err != nil {
		return false, err
	}
	for _, file := range listing.Files {
		source, err := e.OpenFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if errors.Is(err, bdb.ErrPassword) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		kind := source.Kind()
		if err := source.Close(); err != nil {
			return false, err
		}
		if kind != bdb.KindFile {
			return true, nil
		}
	}
	return false, nil
}
