package restore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"syscall"

	"golang.org/x/sys/unix"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
)

// A delta restore goes into a directory that holds an environment already: an older copy, the damaged home itself, a standby that fell behind. Every
// block there is held against the backup's hashes, and only those that differ are fetched. What the backup does not have is removed, so that
// the result is that of any other restore.

// regionName is the form of names that only the engine's own files for the running environment have.
var regionName = regexp.MustCompile(`^__db\.([0-9]{3}|register)$`)

// adopter is what a target may be adopted by; nil if it may not.
func (r *restorer) adopter() func(*target) error {
	if !r.opt.Delta {
		return nil
	}
	return r.adopt
}

// adopt says what stands against taking a directory that is not empty. It changes nothing.
func (r *restorer) adopt(t *target) error {
	known, err := r.recognizes(t)
	if err != nil {
		return &TargetError{Dir: t.dir, Problem: "can't be read", Err: err}
	}
	if !known {
		return &TargetError{Dir: t.dir, Problem: "it is not empty, and not an environment: it has neither DB_CONFIG nor log, region or database of the backup"}
	}
	if err := t.noStandby(); err != nil {
		return err
	}
	if err := t.standsApart(folderSet(r.lay.folders(r.m))); err != nil {
		return err
	}
	for _, m := range r.awayMaps() {
		if err := r.couldAdopt(m); err != nil {
			return err
		}
	}
	return t.notInUse()
}

// recognizes reports whether the directory is an environment, or was to become one. A database somewhere below is not enough: it may be
// anybody's.
func (r *restorer) recognizes(t *target) (bool, error) {
	entries, err := t.root.ReadDir(".")
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		name := e.Name()
		if e.Type().IsRegular() && (name == "DB_CONFIG" || logFileName.MatchString(name) || regionName.MatchString(name)) || t.isMarked(name) {
			return true, nil
		}
	}
	for i := range r.m.Files {
		f := &r.m.Files[i]
		if f.Kind != bdb.KindFile && !f.FileID.IsZero() && t.holds(r.lay.file(f), f) {
			return true, nil
		}
	}
	return false, nil
}

// isMarked reports whether name is the marker of a restore, of whichever.
func (t *target) isMarked(name string) bool {
	if name != MarkerName {
		return false
	}
	info, err := t.root.Lstat(name)
	return err == nil && info.Mode().IsRegular() && info.Size() > 0
}

// holds reports whether the file has the first page of a database of the backup.
func (t *target) holds(name string, f *manifest.File) bool {
	file, err := t.root.OpenFile(name, unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer file.Close() // only read
	first := make([]byte, bdb.MetaSize)
	if _, err := io.ReadFull(file, first); err != nil {
		return false
	}
	meta, err := bdb.ParseMeta(first, nil)
	return (err == nil || errors.Is(err, bdb.ErrPassword)) && firstPart(meta.FileID) == firstPart(f.FileID)
}

// standsApart refuses a directory from which the way leads elsewhere. A folder of the environment that is a symbolic link would become a folder here,
// and fill this disk instead of the one that it was put on; what is mounted and not in the backup is not ours to empty.
func (t *target) standsApart(folders map[string]bool) error {
	home, err := t.root.Lstat(".")
	if err != nil {
		return &TargetError{Dir: t.dir, Problem: "can't be read", Err: err}
	}
	devices := map[string]uint64{".": home.Sys().(*syscall.Stat_t).Dev}
	return t.root.walk(".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return &TargetError{Dir: t.dir, Problem: "can't be read", Err: err}
		case isLost(name):
			return fs.SkipDir
		case e.Type()&fs.ModeSymlink != 0 && folders[name]:
			return &TargetError{Dir: t.dir, Problem: fmt.Sprintf(
				"%s is a symbolic link, and a restore does not follow links: mount the directory there (mount --bind), or restore into another home", name)}
		case !e.IsDir() || name == ".":
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return &TargetError{Dir: t.dir, Problem: "can't be read", Err: err}
		}
		devices[name] = info.Sys().(*syscall.Stat_t).Dev
		if !folders[name] && devices[name] != devices[path.Dir(name)] {
			return &TargetError{Dir: t.dir, Problem: fmt.Sprintf("another file system is mounted on %s, which the backup does not have: unmount it", name)}
		}
		return nil
	})
}

// noStandby refuses the home of a standby that a process keeps. Nobody keeps any other, and it is one no more when it has been restored to.
func (t *target) noStandby() error {
	if _, err := t.root.Lstat(localenv.StandbyName); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	kept, err := openLocked(t.dir)
	if err != nil {
		return err
	}
	kept.close()
	return nil
}

// notInUse refuses a directory of which somebody has files open.
func (t *target) notInUse() error {
	list, hidden, err := t.holders()
	switch {
	case err != nil:
		return &TargetError{Dir: t.dir, Problem: "can't be read", Err: err}
	case len(list) > 0:
		return &InUseError{Dir: t.dir, Holders: list}
	}
	t.hidden = hidden
	return nil
}
