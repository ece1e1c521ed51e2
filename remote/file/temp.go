package file

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bdbvault/remote"
)

// tempDir holds files that are being written. Keys can't begin with ".tmp", and List hides it.
const tempDir = ".tmp"

// temp is a file on its way to become an object. It is locked as long as its process lives.
type temp struct {
	root *os.Root
	f    *os.File
	name string // below root
}

func newTemp(root *os.Root) (*temp, error) {
	for {
		name := path.Join(tempDir, strings.ToLower(rand.Text()))
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			if err = root.Mkdir(tempDir, 0o700); err == nil || errors.Is(err, fs.ErrExist) {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		t := &temp{root: root, f: f, name: name}
		if t.lock() {
			return t, nil
		}
		t.discard()
	}
}

// lock keeps the sweep of another process away. It fails if such a sweep came between creating the file and this.
func (t *temp) lock() bool {
	switch err := unix.Flock(int(t.f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
	case unix.EWOULDBLOCK:
		return false
	default: // also where the file system has no locks, so no sweep can take the file for abandoned
		_, err := t.root.Lstat(t.name)
		return err == nil
	}
}

// discard closes and removes the file. After publishing nothing is left to remove.
func (t *temp) discard() {
	if t.f != nil {
		t.f.Close() // an unfinished file is of no use, a finished one was closed
		t.f = nil
	}
	if t.name != "" {
		t.root.Remove(t.name) // if this fails the next process's sweep does it
		t.name = ""
	}
}

// publish gives the file its final name, durably.
func (t *temp) publish(ctx context.Context, key string, ifAbsent bool) error {
	dir := path.Dir(key)
	if err := t.place(ctx, dir, key, ifAbsent); err != nil {
		removeEmpty(t.root, dir)
		return err
	}
	dated := t.date()
	f := t.f
	t.f = nil
	if err := errors.Join(dated, f.Close()); err != nil {
		return err
	}
	return syncDir(t.root, dir)
}

// date gives an object the age of its name, not of its bytes: what a process wrote, and named only when it had stood still for a day, was not
// in the store for that day. The kernel notes in ctime when the name was given.
func (t *temp) date() error {
	var s unix.Stat_t
	if err := unix.Fstat(int(t.f.Fd()), &s); err != nil {
		return err
	}
	if written, named := time.Unix(s.Mtim.Unix()), time.Unix(s.Ctim.Unix()); named.Sub(written) < time.Second {
		return nil
	}
	named := unix.NsecToTimeval(s.Ctim.Nano())
	return unix.Futimes(int(t.f.Fd()), []unix.Timeval{named, named})
}

// maxRaces limits how often a Delete may take away the folder, empty for a moment, that an object is about to get into.
const maxRaces = 100

func (t *temp) place(ctx context.Context, dir, key string, ifAbsent bool) (err error) {
	for range maxRaces {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err = mkdirs(t.root, dir); err == nil {
			err = t.rename(key, ifAbsent)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return &remote.Error{Kind: remote.Transient, Err: err}
}

func (t *temp) rename(key string, ifAbsent bool) error {
	if !ifAbsent {
		err := t.root.Rename(t.name, key)
		if err == nil {
			t.name = ""
		}
		return err
	}
	// Link refuses to replace everywhere; file systems without links can often rename without replacing.
	err := t.root.Link(t.name, key)
	if err == nil || !noLinks(err) {
		return err
	}
	if err = renameNoReplace(t.root, t.name, key); err == nil {
		t.name = ""
	}
	return err
}

func noLinks(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EMLINK)
}

// mkdirs makes a folder and its parents; each new one's parent is flushed.
func mkdirs(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	if info, err := root.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := path.Dir(dir)
	if err := mkdirs(root, parent); err != nil {
		return err
	}
	if err := root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, err := root.Stat(dir); err == nil && !info.IsDir() {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: unix.ENOTDIR}
	}
	return syncDir(root, parent) // also if another writer made it, who may not have flushed it yet
}

// syncDir flushes a folder. One that a Delete took meanwhile has nothing left to flush.
func syncDir(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		err = nil // some network file systems can't and needn't
	}
	return errors.Join(err, f.Close())
}

// sweep removes what processes that no longer live left in tempDir. Errors don't matter: it costs space only.
func sweep(root *os.Root) {
	dir, err := root.Open(tempDir)
	if err != nil {
		return
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			sweepOne(root, path.Join(tempDir, name))
		}
		if err != nil {
			return
		}
	}
}

func sweepOne(root *os.Root, name string) {
	f, err := root.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		root.Remove(name)
	}
}
