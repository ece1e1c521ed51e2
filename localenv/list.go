package localenv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"
)

// Listing is what there is to back up besides the log. All lists are sorted by directory and path.
type Listing struct {
	Files []File
	// Dirs are all directories below the data directories, and these themselves as ".".
	Dirs    []Directory
	Skipped []Skipped
}

// File is one file of an environment.
type File struct {
	Dir  int    // index in Env.Dirs
	Path string // relative to that directory, with slashes
	Stat Stat
	Link string // where it points, if it is a symbolic link; Stat is then the target's
}

// Directory is a data directory or one below.
type Directory struct {
	Dir  int    // index in Env.Dirs
	Path string // relative to that directory, with slashes; "." is the directory itself
	Stat Stat
}

// Skipped is something in a data directory that does not belong in a backup.
type Skipped struct {
	Path   string // absolute
	Reason string
}

// List finds every file that a backup must have: databases, queue extents, partitions and applications' own files, in all data directories and below.
// Of the engine's files only the log stays unmentioned; it is archived on its own. A directory below two data directories, one inside
// the other, belongs to the inner one. Symbolic links to files are followed, those to directories are not. What vanishes meanwhile was not there.
func (e *Env) List(ctx context.Context) (Listing, error) {
	l := lister{env: e, roots: map[identity]int{}}
	for i, d := range e.Dirs {
		stat, err := statPath(d.Path)
		if errors.Is(err, fs.ErrNotExist) {
			l.skip(d.Path, "data directory does not exist")
			continue
		}
		if err != nil {
			return Listing{}, fmt.Errorf("list data directory: %w", err)
		}
		l.roots[stat.identity()] = i
	}
	l.logDir, l.tempDir = dirIdentity(e.LogDir.Path), e.tempIdentity()
	for root, i := range l.roots {
		if err := l.walk(ctx, i, ".", root); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Listing{}, fmt.Errorf("list data directory: %w", err)
		}
	}
	l.sort()
	return l.listing, nil
}

// statPath follows symbolic links.
func statPath(path string) (Stat, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Stat{}, err
	}
	return statOf(info), nil
}

// dirIdentity is that of no file if the directory can't be looked at.
func dirIdentity(path string) identity {
	stat, err := statPath(path)
	if err != nil {
		return identity{}
	}
	return stat.identity()
}

func (e *Env) tempIdentity() identity {
	if e.Config.TempDir == "" {
		return identity{}
	}
	path, err := e.resolve(e.Config.TempDir)
	if err != nil {
		return identity{}
	}
	return dirIdentity(path)
}

// lister is one run of List.
type lister struct {
	env             *Env
	roots           map[identity]int // the data directories that exist
	logDir, tempDir identity
	listing         Listing
}

func (l *lister) skip(path, reason string) {
	l.listing.Skipped = append(l.listing.Skipped, Skipped{path, reason})
}

func (l *lister) sort() {
	slices.SortFunc(l.listing.Files, func(a, b File) int { return cmp.Or(a.Dir-b.Dir, cmp.Compare(a.Path, b.Path)) })
	slices.SortFunc(l.listing.Dirs, func(a, b Directory) int { return cmp.Or(a.Dir-b.Dir, cmp.Compare(a.Path, b.Path)) })
	slices.SortFunc(l.listing.Skipped, func(a, b Skipped) int { return cmp.Compare(a.Path, b.Path) })
}

// walk lists one directory and what is below. root is the identity of the data directory that it is listed under.
func (l *lister) walk(ctx context.Context, dir int, rel string, root identity) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	full := filepath.Join(l.env.Dirs[dir].Path, filepath.FromSlash(rel))
	stat, err := statPath(full)
	if err != nil {
		return err
	}
	if _, isRoot := l.roots[stat.identity()]; isRoot && stat.identity() != root {
		return nil // listed under its own name
	}
	entries, err := os.ReadDir(full)
	if err != nil {
		return err
	}
	l.listing.Dirs = append(l.listing.Dirs, Directory{dir, rel, stat})
	for _, entry := range entries {
		if err := l.entry(ctx, dir, path.Join(rel, entry.Name()), filepath.Join(full, entry.Name()), stat.identity(), root); err != nil {
			return err
		}
	}
	return nil
}

// entry lists one name in the directory parent.
func (l *lister) entry(ctx context.Context, dir int, rel, full string, parent, root identity) error {
	info, err := os.Lstat(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode.IsDir() && path.Base(rel) == "lost+found":
		l.skip(full, "the file system's own directory")
	case mode.IsDir():
		err := l.walk(ctx, dir, rel, root)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	case mode.IsRegular():
		l.regular(File{Dir: dir, Path: rel, Stat: statOf(info)}, full, parent)
	case mode&fs.ModeSymlink != 0:
		return l.symlink(dir, rel, full, parent)
	default:
		l.skip(full, special(mode))
	}
	return nil
}

// regular sorts a file out by its name, or lists it.
func (l *lister) regular(f File, full string, parent identity) {
	name := path.Base(f.Path)
	if _, log := ParseLogName(name); log && parent == l.logDir {
		return
	}
	reason := engineFile(name)
	if reason == "" && parent == l.tempDir && isTempName(name) {
		reason = "temporary file"
	}
	if reason != "" {
		l.skip(full, reason)
		return
	}
	l.listing.Files = append(l.listing.Files, f)
}

// symlink follows a link to a file and reports any other.
func (l *lister) symlink(dir int, rel, full string, parent identity) error {
	link, err := os.Readlink(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := os.Stat(full)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ELOOP):
		l.skip(full, "symbolic link to nowhere: "+link)
	case err != nil:
		return err
	case info.IsDir():
		l.skip(full, "symbolic link to a directory: "+link+l.coveredBy(statOf(info).identity()))
	case info.Mode().IsRegular():
		l.regular(File{Dir: dir, Path: rel, Stat: statOf(info), Link: link}, full, parent)
	default:
		l.skip(full, "symbolic link to a "+special(info.Mode())+": "+link)
	}
	return nil
}

// coveredBy adds to the report of a linked directory that it is listed as a data directory.
func (l *lister) coveredBy(id identity) string {
	if i, ok := l.roots[id]; ok {
		return ", backed up as data directory " + l.env.Dirs[i].Name
	}
	return ""
}

// special names what is neither file nor directory nor link.
func special(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSocket != 0:
		return "socket"
	case mode&fs.ModeNamedPipe != 0:
		return "named pipe"
	case mode&fs.ModeDevice != 0:
		return "device"
	}
	return "not a regular file"
}
