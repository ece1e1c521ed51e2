package restore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

// roots are the directories that a restore writes to, as one tree of names: the home, and directories outside of it that directories of the
// source were mapped to. Names in the n-th of these begin with awayName(n), which no file of a backup is called. No name leaves its directory.
type roots struct {
	*os.Root // the home
	away     []*os.Root
}

const awayPrefix = ".bdbvault-dir."

func awayName(n int) string { return awayPrefix + strconv.Itoa(n) }

// isTop reports whether a name is that of one of the directories.
func isTop(name string) bool {
	return name == "." || strings.HasPrefix(name, awayPrefix) && !strings.Contains(name, "/")
}

// top is the directory that a name is in.
func top(name string) string {
	if !strings.HasPrefix(name, awayPrefix) {
		return "."
	}
	first, _, _ := strings.Cut(name, "/")
	return first
}

// isLost reports whether a name is that of the file system's own directory.
func isLost(name string) bool { return path.Base(name) == "lost+found" && isTop(path.Dir(name)) }

// in finds the directory and the name in it.
func (r *roots) in(name string) (*os.Root, string) {
	at, ok := strings.CutPrefix(top(name), awayPrefix)
	n, err := strconv.Atoi(at)
	if !ok || err != nil || n >= len(r.away) {
		return r.Root, name
	}
	if _, rest, below := strings.Cut(name, "/"); below {
		return r.away[n], rest
	}
	return r.away[n], "."
}

// tops are the names of all directories, home first.
func (r *roots) tops() []string {
	list := []string{"."}
	for n := range r.away {
		list = append(list, awayName(n))
	}
	return list
}

func (r *roots) Close() error {
	err := r.Root.Close()
	for _, a := range r.away {
		err = errors.Join(err, a.Close())
	}
	return err
}

func (r *roots) Open(name string) (*os.File, error) {
	root, name := r.in(name)
	return root.Open(name)
}

func (r *roots) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	root, name := r.in(name)
	return root.OpenFile(name, flag, perm)
}

func (r *roots) ReadFile(name string) ([]byte, error) {
	root, name := r.in(name)
	return root.ReadFile(name)
}

// ReadDir lists a directory, in no order.
func (r *roots) ReadDir(name string) ([]fs.DirEntry, error) {
	d, err := r.Open(name)
	if err != nil {
		return nil, err
	}
	entries, err := d.ReadDir(-1)
	return entries, errors.Join(err, d.Close())
}

func (r *roots) Stat(name string) (fs.FileInfo, error) {
	root, name := r.in(name)
	return root.Stat(name)
}

func (r *roots) Lstat(name string) (fs.FileInfo, error) {
	root, name := r.in(name)
	return root.Lstat(name)
}

func (r *roots) Mkdir(name string, perm fs.FileMode) error {
	root, name := r.in(name)
	return root.Mkdir(name, perm)
}

func (r *roots) MkdirAll(name string, perm fs.FileMode) error {
	root, name := r.in(name)
	return root.MkdirAll(name, perm)
}

func (r *roots) Remove(name string) error {
	root, name := r.in(name)
	return root.Remove(name)
}

func (r *roots) RemoveAll(name string) error {
	root, name := r.in(name)
	return root.RemoveAll(name)
}

func (r *roots) Chmod(name string, mode fs.FileMode) error {
	root, name := r.in(name)
	return root.Chmod(name, mode)
}

func (r *roots) Lchown(name string, uid, gid int) error {
	root, name := r.in(name)
	return root.Lchown(name, uid, gid)
}

func (r *roots) Chtimes(name string, atime, mtime time.Time) error {
	root, name := r.in(name)
	return root.Chtimes(name, atime, mtime)
}

// Symlink makes a link that leads to wherever to says.
func (r *roots) Symlink(to, name string) error {
	root, name := r.in(name)
	return root.Symlink(to, name)
}

// Link gives a file a second name, in the same directory or below.
func (r *roots) Link(from, to string) error {
	root, old := r.in(from)
	other, name := r.in(to)
	if root != other {
		return fmt.Errorf("link %s to %s: %w", from, to, errors.ErrUnsupported)
	}
	return root.Link(old, name)
}

// Rename moves a file, by copying it if it goes to another directory.
func (r *roots) Rename(from, to string) error {
	root, old := r.in(from)
	other, name := r.in(to)
	if root == other {
		return root.Rename(old, name)
	}
	in, err := root.Open(old)
	if err != nil {
		return err
	}
	defer in.Close() // only read
	out, err := other.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	return root.Remove(old)
}

// walk is fs.WalkDir from a name on; from "." on it goes through all directories.
func (r *roots) walk(from string, do fs.WalkDirFunc) error {
	if from != "." {
		return r.walkOne(from, do)
	}
	for _, top := range r.tops() {
		if err := r.walkOne(top, do); err != nil {
			return err
		}
	}
	return nil
}

func (r *roots) walkOne(from string, do fs.WalkDirFunc) error {
	root, name := r.in(from)
	above := top(from)
	return fs.WalkDir(root.FS(), name, func(name string, e fs.DirEntry, err error) error {
		return do(path.Join(above, name), e, err)
	})
}
