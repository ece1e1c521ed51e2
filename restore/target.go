package restore

import (
	"bytes"
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

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/hotcopy"
	"bdbvault/manifest"
)

// Names of our own in the target.
const (
	// MarkerName is the file that stands in a target until its restore is finished.
	MarkerName  = localenv.MarkerName
	spoolName   = MarkerName + ".maps"
	scratchName = MarkerName + ".scratch"
)

// ours tells bdbvault's own names in a target.
func ours(name string) bool {
	if at := top(name); at != "." {
		_, name, _ = strings.Cut(name, "/")
	}
	return strings.HasPrefix(name, ownPrefix)
}

// marker tells what a target is being restored to. Only the same restore may go on with it.
type marker struct {
	About       string            `json:"about"`
	Repository  manifest.Timeline `json:"repository"`
	Environment string            `json:"environment"`
	Backup      manifest.BackupID `json:"backup"`
	Timeline    manifest.Timeline `json:"timeline"`
	End         bdb.LSN           `json:"end"`
	Made        bool              `json:"made"`              // the directory itself was made by the restore
	Claimed     []string          `json:"claimed,omitempty"` // directories outside of home that are the restore's too; with or without a marker of their own

	Copied bool          `json:"copied,omitempty"` // it is no restore, but a copy of an environment of this host
	Whole  bool          `json:"whole,omitempty"`  // a whole one, not an update
	Copy   *hotcopy.Copy `json:"copy,omitempty"`   // whose update was begun
}

const markerText = "bdbvault is restoring into this directory, or was interrupted. As long as this file is here, the directory is not a usable " +
	"environment. Run the same restore again to finish it: that keeps what is right and deletes whatever else is in the directory."

func (m *marker) same(o *marker) bool {
	return !m.Copied && !o.Copied && m.Repository == o.Repository && m.Environment == o.Environment && m.Backup == o.Backup && m.Timeline == o.Timeline && m.End == o.End
}

// target is the directory that is restored into. Everything in it is reached through root, which no name leaves.
type target struct {
	dir   string // absolute, for the engine and for messages
	root  *roots
	lock  *os.File // the marker, locked while we are at work
	made  bool
	reuse bool // there were files before: of an earlier run, or of an environment that a delta restore makes use of

	mark    marker
	resumes *marker   // of an update that was interrupted in its recovery, and has to be finished
	away    []*target // directories outside of home; in root they are below their awayName
	standby bool      // a standby builds its own home: its state stays
	removed int       // files that did not belong here
	hidden  int       // processes that may have something open here, and could not be looked into

	rehearsed bool // by a drill, whose files stay its own: it may run without the right to give files away
}

// openTarget claims dir for the restore that want describes. A directory that is not empty and has no marker of the same restore is taken if adopt
// is there and says nothing against it.
func openTarget(dir string, want marker, adopt func(*target) error) (*target, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	made, err := makeTarget(dir)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, &TargetError{Dir: dir, Problem: "can't be opened", Err: err}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, &TargetError{Dir: dir, Problem: "can't be opened", Err: err}
	}
	want.Made = made
	t := &target{dir: dir, root: &roots{Root: root}, made: made}
	if err := t.claim(&want, adopt); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func makeTarget(dir string) (made bool, err error) {
	info, err := os.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		return false, &TargetError{Dir: dir, Problem: "not a directory"}
	case err == nil:
		return false, nil
	case !errors.Is(err, fs.ErrNotExist):
		return false, &TargetError{Dir: dir, Problem: "can't be opened", Err: err}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, &TargetError{Dir: dir, Problem: "can't be made", Err: err}
	}
	return true, nil
}

// claim takes an empty directory, goes on with one that the same restore has claimed before, or adopts what is there.
func (t *target) claim(want *marker, adopt func(*target) error) error {
	foreign, err := t.foreign()
	if err != nil {
		return &TargetError{Dir: t.dir, Problem: "can't be read", Err: err}
	}
	empty := foreign == ""
	if err := t.openMarker(foreign, adopt); err != nil {
		return err
	}
	if err := t.lockMarker(); err != nil {
		return &TargetError{Dir: t.dir, Problem: "another process is restoring into it", Err: err}
	}
	text, err := io.ReadAll(io.LimitReader(t.lock, 1<<20))
	if err != nil {
		return &TargetError{Dir: t.dir, Problem: "its " + MarkerName + " can't be read", Err: err}
	}
	if empty && !json.Valid(text) {
		return t.write(want) // new, or the run that made it came no further
	}
	err = t.continues(text, want)
	if err == nil {
		return t.notInUse()
	}
	if adopt == nil {
		return err
	}
	if err := adopt(t); err != nil {
		if len(text) == 0 {
			err = errors.Join(err, t.root.Remove(MarkerName)) // it says nothing, and nothing was done
		}
		return err
	}
	t.reuse = true
	if t.resumes != nil {
		want.About, want.Copy = t.resumes.About, t.resumes.Copy
	}
	return t.write(want)
}

// openMarker opens the marker, and makes it where one may be made.
func (t *target) openMarker(foreign string, adopt func(*target) error) (err error) {
	const flags = os.O_RDWR | unix.O_NOFOLLOW
	if foreign == "" {
		t.lock, err = t.root.OpenFile(MarkerName, flags|os.O_CREATE, 0o600)
	} else {
		t.lock, err = t.root.OpenFile(MarkerName, flags, 0o600)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if adopt == nil {
			return &TargetError{Dir: t.dir, Problem: fmt.Sprintf("it is not empty: %s is there", foreign), NotEmpty: true}
		}
		if err := adopt(t); err != nil { // looked at again under the lock; here, so that nothing is written if it is refused
			return err
		}
		t.lock, err = t.root.OpenFile(MarkerName, flags|os.O_CREATE, 0o600)
	}
	if err != nil {
		return &TargetError{Dir: t.dir, Problem: "can't be written to", Err: err}
	}
	return nil
}

// lockPatience is how long a lock is waited for. The engine of a restore that was killed holds it for two more seconds.
const lockPatience = 4 * time.Second

// lockMarker makes sure that the marker that it locks is the one that is there.
func (t *target) lockMarker() error {
	if err := lockFile(t.lock); err != nil {
		return err
	}
	is, err := t.root.Lstat(MarkerName)
	if err != nil {
		return err
	}
	locked, err := t.lock.Stat()
	if err == nil && !os.SameFile(is, locked) {
		err = fs.ErrExist
	}
	return err
}

func lockFile(f *os.File) error {
	for end := time.Now().Add(lockPatience); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			return err
		}
	}
}

// foreign names something in the directory that is not ours: not the marker, nor what a new file system has.
func (t *target) foreign() (string, error) {
	dir, err := t.root.Open(".")
	if err != nil {
		return "", err
	}
	defer dir.Close() // opened for reading
	for {
		entries, err := dir.ReadDir(16)
		for _, e := range entries {
			if e.Name() != MarkerName && e.Name() != "lost+found" {
				return e.Name(), nil
			}
		}
		if err == io.EOF {
			return "", nil
		}
		if err != nil {
			return "", err
		}
	}
}

func (t *target) continues(text []byte, want *marker) error {
	var is marker
	if err := json.Unmarshal(text, &is); err != nil {
		return &TargetError{Dir: t.dir, Problem: "its " + MarkerName + " can't be understood", Err: err}
	}
	if is.Copied {
		return &TargetError{Dir: t.dir, Problem: "a hot backup into it was begun and not finished"}
	}
	if !is.same(want) {
		return &TargetError{Dir: t.dir, Problem: fmt.Sprintf(
			"another restore was begun there, of backup %s of %s up to LSN %s: finish that one, or empty the directory", is.Backup, is.Environment, is.End)}
	}
	t.reuse, t.made, t.mark = true, is.Made, is
	return nil
}

// write writes the marker.
func (t *target) write(want *marker) error {
	if want.About == "" {
		want.About = markerText
	}
	t.mark = *want
	text, err := json.MarshalIndent(want, "", "  ")
	if err == nil {
		err = t.put(append(text, '\n'))
	}
	if err == nil {
		err = t.syncDir(".")
	}
	if err != nil {
		return &TargetError{Dir: t.dir, Problem: "can't be written to", Err: err}
	}
	return nil
}

// put makes a text the marker's. If that is interrupted, the marker holds the text that it had or the new one, and blanks perhaps.
func (t *target) put(text []byte) error {
	info, err := t.lock.Stat()
	if err != nil {
		return err
	}
	padded := append(text[:len(text):len(text)], bytes.Repeat([]byte("\n"), int(max(0, info.Size()-int64(len(text)))))...)
	if _, err := t.lock.WriteAt(padded, 0); err != nil {
		return err
	}
	return errors.Join(t.lock.Truncate(int64(len(text))), t.lock.Sync())
}

// close gives the directory free. The marker stays.
func (t *target) close() {
	if t.lock != nil {
		t.lock.Close() // what matters was synced
	}
	for _, a := range t.away {
		a.lock.Close()
	}
	t.root.Close()
}

// path is the absolute path of a name in the target.
func (t *target) path(name string) string {
	for n, a := range t.away {
		if rest, ok := within(name, awayName(n)); ok {
			return filepath.Join(a.dir, filepath.FromSlash(rest))
		}
	}
	return filepath.Join(t.dir, filepath.FromSlash(name))
}

// name is the reverse of path.
func (t *target) name(dir string) (string, error) {
	for n, a := range t.away {
		if rest, ok := within(dir, a.dir); ok {
			return path.Join(awayName(n), filepath.ToSlash(rest)), nil
		}
	}
	rel, err := filepath.Rel(t.dir, dir)
	return filepath.ToSlash(rel), err
}

// shown is a name in the target for a person.
func (t *target) shown(name string) string {
	if top(name) == "." {
		return name
	}
	return t.path(name)
}

func (t *target) syncDir(name string) error {
	d, err := t.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// prepare makes the directories, and in a target that was not empty removes what must not be there: the log and whatever
// recovery made, of which the next recovery would take it for the truth.
func (t *target) prepare(folders []string, keep map[string]bool) error {
	for n, d := range append([]*target{t}, t.away...) {
		if !d.reuse {
			continue
		}
		if err := t.sweep(t.root.tops()[n], folderSet(folders), keep); err != nil {
			return &TargetError{Dir: d.dir, Problem: "can't be cleared of what does not belong there", Err: err}
		}
	}
	for _, f := range folders {
		if err := t.root.MkdirAll(f, 0o700); err != nil {
			return &TargetError{Dir: t.dir, Problem: "can't be written to", Err: err}
		}
	}
	return nil
}

// folderSet holds the folders and all their parents.
func folderSet(folders []string) map[string]bool {
	set := map[string]bool{}
	for _, f := range folders {
		for ; f != "." && !set[f]; f = path.Dir(f) {
			set[f] = true
		}
	}
	return set
}

// sweep removes what is in a directory but neither one of the folders nor one of the files. Symbolic links go; nothing goes that they lead to.
func (t *target) sweep(dir string, folders, files map[string]bool) error {
	entries, err := t.root.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case isTop(dir) && e.Name() == MarkerName || isLost(name) || t.standby && strings.HasPrefix(name, localenv.StandbyName) || e.Type().IsRegular() && files[name]:
		case e.IsDir() && folders[name]:
			t.root.Chmod(name, 0o700) // if it is ours; it gets its own mode in the end
			err = t.sweep(name, folders, files)
		default:
			if err = t.count(name, e); err == nil {
				err = t.root.RemoveAll(name)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// count adds to removed what is about to be, but for log, regions and what is ours: these always go.
func (t *target) count(name string, e fs.DirEntry) error {
	switch base := path.Base(name); {
	case strings.HasPrefix(base, ownPrefix), logFileName.MatchString(base), regionName.MatchString(base):
		return nil
	case !e.IsDir():
		t.removed++
		return nil
	}
	return t.root.walk(name, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			t.removed++
		}
		return err
	})
}

// finish takes the marker away: the home is a home. Its own goes last, and it says whose the others were.
func (t *target) finish() error {
	for _, a := range t.away {
		if err := a.finish(); err != nil {
			return err
		}
	}
	if err := t.root.Remove(MarkerName); err != nil {
		return err
	}
	return t.syncDir(".")
}
