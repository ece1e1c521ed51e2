package restore

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"bdbvault/localenv"
)

// finish makes of the recovered files a home: attributes, stable storage, and the marker goes.
func (r *restorer) finish(ctx context.Context) error {
	if err := r.settle(ctx); err != nil {
		return err
	}
	if err := r.leaveOrigin(); err != nil {
		return err
	}
	if err := r.step(ctx, stepFinished); err != nil {
		return err
	}
	return r.t.finish()
}

const originText = "This home was restored by bdbvault. Its next full backup begins a new timeline: the home that it was restored from may still add to the old one."

// leaveOrigin notes what the home was restored from. A standby goes on following that, and gets a note when it is promoted.
func (r *restorer) leaveOrigin() error {
	if r.t.standby || r.m.NoLog {
		return nil
	}
	return r.leave(localenv.OriginName, &localenv.Promotion{
		About: originText, Environment: r.plan.Environment, Timeline: r.plan.Timeline.String(), End: r.plan.End, At: time.Now().UTC(),
	})
}

// leave writes a note on where the home comes from, to stable storage.
func (r *restorer) leave(name string, note *localenv.Promotion) error {
	text, err := json.MarshalIndent(note, "", "  ")
	if err != nil {
		return err
	}
	if err := r.t.replace(name, append(text, '\n')); err != nil {
		return err
	}
	_, file, _ := r.owners()
	return r.t.give(name, file)
}

// settle brings everything but the marker into the state in which a home is handed over.
func (r *restorer) settle(ctx context.Context) error {
	tree, err := r.tidy(ctx)
	if err != nil {
		return err
	}
	return r.attributes(tree)
}

// tidy removes what only recovery needed, and puts everything else on stable storage.
func (r *restorer) tidy(ctx context.Context) ([]node, error) {
	for _, name := range []string{scratchName, r.workLog()} {
		if err := r.t.root.RemoveAll(name); err != nil {
			return nil, err
		}
	}
	for _, f := range slices.Backward(r.made) {
		r.t.root.Remove(f) // fails if the log put something into it, which then is right
	}
	tree, err := r.tree()
	if err != nil {
		return nil, err
	}
	return tree, r.sync(ctx, tree) // while everything may be opened
}

// writeConfig is for a backup that has DB_CONFIG's text but not the file.
func (r *restorer) writeConfig() error {
	if r.m.DBConfig == nil {
		return nil
	}
	f, err := r.t.root.OpenFile("DB_CONFIG", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(*r.m.DBConfig)
	return errors.Join(err, f.Close())
}

// node is a file or directory of the home.
type node struct {
	path string
	dir  bool
}

// tree lists the home, what is in a directory before the directory.
func (r *restorer) tree() (list []node, err error) {
	err = r.t.root.walk(".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case isLost(name), name == stagedLog:
			return fs.SkipDir
		case !ours(name) && (e.IsDir() || e.Type().IsRegular()):
			list = append(list, node{name, e.IsDir()})
		}
		return nil
	})
	slices.Reverse(list)
	return list, err
}

// owner is whom a file belongs to, and what others may do with it.
type owner struct {
	mode     fs.FileMode
	uid, gid uint32
	known    bool
}

// attributes gives everything the mode and, if we may, the owner that it had. The log, and databases that only the log held, get those
// of the environment's first database.
func (r *restorer) attributes(tree []node) error {
	had, file, dir := r.owners()
	for _, n := range tree {
		o, ok := had[n.path]
		switch {
		case ok:
		case n.dir:
			o = dir
		default:
			o = file
		}
		if r.t.was(n.path) {
			continue
		}
		if err := r.t.give(n.path, o); err != nil {
			return err
		}
	}
	return nil
}

// was reports whether the name is that of a directory that was there before the restore.
func (t *target) was(name string) bool {
	for n, a := range t.away {
		if name == awayName(n) {
			return !a.made
		}
	}
	return name == "." && !t.made
}

// give sets owner and mode. Without an owner to go by things stay as they are.
func (t *target) give(name string, o owner) error {
	if !o.known {
		return nil
	}
	if os.Geteuid() == 0 && !t.rehearsed {
		if err := t.root.Lchown(name, int(o.uid), int(o.gid)); err != nil {
			return err
		}
	}
	return t.root.Chmod(name, o.mode)
}

// owners are those of the backup's files and directories by path, and what a file or a directory without one gets.
func (r *restorer) owners() (had map[string]owner, file, dir owner) {
	had = map[string]owner{}
	for i, d := range r.m.Dirs {
		had[r.lay.dirs[i]] = owner{fileMode(d.Mode), d.UID, d.GID, d.Mode != 0}
	}
	for _, f := range r.m.Folders {
		had[path.Join(r.lay.dirs[f.Dir], f.Path)] = owner{fileMode(f.Mode), f.UID, f.GID, true}
	}
	dir = had["."]
	for i := range r.m.Files {
		f := &r.m.Files[i]
		o := owner{fileMode(f.Mode), f.UID, f.GID, true}
		had[r.lay.file(f)] = o
		if !file.known && !f.FileID.IsZero() {
			file = o
			file.mode &= 0o666
		}
	}
	return had, file, dir
}

// fileMode turns the bits of stat(2) into Go's.
func fileMode(bits uint32) fs.FileMode {
	mode := fs.FileMode(bits & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if bits&bit != 0 {
			mode |= flag
		}
	}
	return mode
}

// syncs is how many files are synced side by side.
const syncs = 8

// sync puts everything on stable storage. The file system is asked for all at once first, so that the many requests for single files,
// which report each file's errors, find little left to do.
func (r *restorer) sync(ctx context.Context, tree []node) error {
	for _, name := range r.t.root.tops() {
		top, err := r.t.root.Open(name)
		if err != nil {
			return err
		}
		unix.Syncfs(int(top.Fd())) // only to be faster
		top.Close()
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(syncs)
	for _, n := range tree {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return r.t.syncDir(n.path)
		})
	}
	return group.Wait()
}
