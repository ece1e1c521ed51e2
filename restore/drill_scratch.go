package restore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bdbvault/manifest"
)

const (
	// drillDir is what the scratch directories of drills begin with.
	drillDir = "bdbvault-drill."
	// drillMarker is the file in one that says whose it is. It is locked as long as the drill lives, or an engine that it started.
	drillMarker = ".bdbvault-drill"
	drillHome   = "home"
)

// drillMark is what the marker says.
type drillMark struct {
	About       string            `json:"about"`
	Environment string            `json:"environment"`
	Drill       manifest.BackupID `json:"drill"`
	Process     int               `json:"process"`
	Created     time.Time         `json:"created"`
}

const drillMarkText = "bdbvault drill restores here to see whether that works. When the drill has ended, however it did, this directory is worthless: the next drill removes it."

// SpaceError says that there is not enough room to restore to.
type SpaceError struct {
	Dir        string
	Need, Free int64
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("restoring needs %d bytes in %s, and %d are free", e.Need, e.Dir, e.Free)
}

// scratchDir is the directory of one drill, below one that many may share.
type scratchDir struct {
	above *os.Root
	name  string
	path  string // absolute
	lock  *os.File
}

// newScratchDir makes a directory for a drill, after removing those that drills left behind that were killed; left are the environments of these.
func newScratchDir(above string, mark drillMark) (s *scratchDir, left []string, err error) {
	if err := os.MkdirAll(above, 0o700); err != nil {
		return nil, nil, fmt.Errorf("scratch directory: %w", err)
	}
	root, err := os.OpenRoot(above)
	if err != nil {
		return nil, nil, fmt.Errorf("scratch directory: %w", err)
	}
	unlock := lockDir(root)
	defer unlock()
	left = sweepDrills(root)
	mark.About, mark.Process, mark.Created = drillMarkText, os.Getpid(), time.Now().UTC()
	s = &scratchDir{above: root, name: drillDir + mark.Environment + "." + string(mark.Drill)}
	s.path = filepath.Join(above, s.name)
	if err := root.Mkdir(s.name, 0o700); err != nil { // somebody else's, if it is there
		return nil, left, errors.Join(fmt.Errorf("scratch directory: %w", err), root.Close())
	}
	if err := s.claim(mark); err != nil {
		return nil, left, errors.Join(fmt.Errorf("scratch directory: %w", err), s.remove())
	}
	return s, left, nil
}

// lockDir keeps other drills from taking a directory that was just made, and has no locked marker yet, for one that was left behind. A file system without such
// locks has to do without.
func lockDir(root *os.Root) (unlock func()) {
	d, err := root.Open(".")
	if err != nil {
		return func() {}
	}
	unix.Flock(int(d.Fd()), unix.LOCK_EX)
	return func() { d.Close() }
}

// claim puts the marker into the new directory.
func (s *scratchDir) claim(mark drillMark) error {
	f, err := s.above.OpenFile(path.Join(s.name, drillMarker), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	s.lock = f
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	text, err := json.MarshalIndent(mark, "", "  ")
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	return err
}

// home is where to restore to.
func (s *scratchDir) home() string { return filepath.Join(s.path, drillHome) }

// free is how many bytes there is room for.
func (s *scratchDir) free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.path, &st); err != nil {
		return 0, fmt.Errorf("scratch directory %s: %w", s.path, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// remove removes the directory and everything in it.
func (s *scratchDir) remove() error {
	err := removeDrill(s.above, s.name)
	return errors.Join(err, s.close())
}

// keep leaves it to whoever wants to look at it: without the marker it is nobody's any more, and no drill removes it.
func (s *scratchDir) keep() error {
	err := s.above.Remove(path.Join(s.name, drillMarker))
	return errors.Join(err, s.close())
}

func (s *scratchDir) close() error {
	if s.lock != nil {
		s.lock.Close() // nothing in it matters any more
	}
	return s.above.Close()
}

// sweepDrills removes what drills left behind that were killed. What has no marker of theirs stays, and so does what somebody is at work on.
func sweepDrills(above *os.Root) (left []string) {
	entries, err := fs.ReadDir(above.FS(), ".")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), drillDir) {
			continue
		}
		if above.Remove(e.Name()) == nil { // it was empty: its drill came no further
			continue
		}
		mark, lock, ok := abandoned(above, e.Name())
		if !ok {
			continue
		}
		if removeDrill(above, e.Name()) == nil {
			left = append(left, mark.Environment)
		}
		lock.Close()
	}
	return left
}

// abandoned reports whether a directory is a drill's that lives no more, and locks it.
func abandoned(above *os.Root, name string) (mark drillMark, lock *os.File, ok bool) {
	f, err := above.OpenFile(path.Join(name, drillMarker), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return mark, nil, false
	}
	text, err := io.ReadAll(io.LimitReader(f, 1<<16))
	ours := err == nil && (len(text) == 0 || json.Unmarshal(text, &mark) == nil && mark.About == drillMarkText)
	if !ours || !mark.lock(f) {
		f.Close()
		return mark, nil, false
	}
	return mark, f, true
}

// lock takes the lock on a marker, unless the drill lives. The engine of one that was killed holds it a little longer.
func (m *drillMark) lock(f *os.File) bool {
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		return true
	}
	if m.Process > 0 && unix.Kill(m.Process, 0) != unix.ESRCH {
		return false
	}
	return lockFile(f) == nil
}

// removeDrill removes a scratch directory. The marker goes last, so that a removal that is interrupted can be repeated.
func removeDrill(above *os.Root, name string) error {
	openAll(above, name)
	entries, err := fs.ReadDir(above.FS(), name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.Name() != drillMarker {
			err = errors.Join(err, above.RemoveAll(path.Join(name, e.Name())))
		}
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", filepath.Join(above.Name(), name), err)
	}
	return above.RemoveAll(name)
}

// openAll makes directories writable again that the environment has read-only, or nothing in them could be removed. What fails shows there.
func openAll(above *os.Root, name string) {
	fs.WalkDir(above.FS(), name, func(p string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return nil
		}
		if info, err := e.Info(); err == nil && info.Mode().Perm()&0o700 != 0o700 {
			above.Chmod(p, 0o700)
		}
		return nil
	})
}
