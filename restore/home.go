package restore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
)

// homeFile is a file that is in the target now.
type homeFile struct {
	path     string // in the target
	dir, rel string // the same, as data directory and the path in it
	kind     bdb.Kind
	id       bdb.FileID // zero for queue extents and application files
	size     int64
	pageSize int64
	lsn      bdb.LSN // of the metadata page
	order    binary.ByteOrder
	meta     *bdb.Meta
	end      int64 // where the last page ends by the metadata page, which may be older than the file's length
	crypt    bool
	standIn  bool // libdb's placeholder under a name that is being given up
}

// home is what is in the target now.
type home struct {
	files []homeFile
	byID  map[bdb.FileID][]string
	at    map[string]homeFile
}

// scan looks at every file in the target, as a backup would: metadata pages are parsed and checked.
func (r *restorer) scan(ctx context.Context) (*home, error) {
	env, err := localenv.Open(r.t.dir, r.key)
	if err != nil {
		return nil, err
	}
	listing, err := env.List(ctx)
	if err != nil {
		return nil, err
	}
	h := &home{byID: map[bdb.FileID][]string{}, at: map[string]homeFile{}}
	for _, f := range listing.Files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		dir, err := r.t.name(env.Dirs[f.Dir].Path)
		if err != nil {
			return nil, err
		}
		found := homeFile{dir: dir, rel: f.Path, path: path.Join(dir, f.Path), size: f.Stat.Size}
		if ours(found.path) {
			continue
		}
		if err := found.identify(env, f); err != nil {
			return nil, err
		}
		h.files = append(h.files, found)
		h.at[found.path] = found
		if !found.id.IsZero() {
			h.byID[found.id] = append(h.byID[found.id], found.path)
		}
	}
	return h, nil
}

func (f *homeFile) identify(env *localenv.Env, file localenv.File) error {
	source, err := env.OpenFile(file)
	if err != nil {
		return err
	}
	f.kind, f.standIn = source.Kind(), source.Placeholder()
	if m := source.Meta(); m != nil && f.kind != bdb.KindQueueExtent {
		f.meta, f.order, f.lsn, f.crypt = m, m.ByteOrder, m.LSN, m.Encrypted
		f.id, f.pageSize, f.end = m.FileID, int64(m.PageSize), (int64(m.LastPage)+1)*int64(m.PageSize)
	}
	return source.Close()
}

// move is a file that has to lie elsewhere before recovery.
type move struct{ from, to string }

// layFiles puts the files where the log that is replayed expects them: under the names that they had when it begins. They were copied
// later, and a file that has been renamed meanwhile would be taken for one that has nothing more to be done.
func (r *restorer) layFiles(ctx context.Context, replay *bdb.Replay) error {
	h, err := r.scanOnce(ctx)
	if err != nil {
		return err
	}
	if err := r.layHeaps(h); err != nil {
		return err
	}
	if err := r.skipUndos(h, replay); err != nil {
		return err
	}
	r.skipGroups(h, replay)
	if err := r.extendFreed(h); err != nil {
		return err
	}
	var moves, links []move
	for _, f := range h.files {
		place, ok := replay.Place(f.rel, f.id)
		to := path.Join(f.dir, place)
		for _, name := range replay.Links(f.rel, f.id) {
			links = append(links, move{to, path.Join(f.dir, name)})
		}
		switch {
		case !ok, f.standIn, to != f.path && isExtent(to) && h.stays(to, replay):
			if err := r.t.root.Remove(f.path); err != nil {
				return err
			}
		case to != f.path:
			moves = append(moves, move{f.path, to})
		}
	}
	if err := r.moveAll(moves); err != nil {
		return err
	}
	return r.link(links)
}

// scanOnce is scan after the further names of files are gone that an interrupted recovery left: two of them would both want the file's place.
func (r *restorer) scanOnce(ctx context.Context) (*home, error) {
	h, err := r.scan(ctx)
	if err != nil {
		return nil, err
	}
	left := false
	for _, names := range h.byID {
		for _, name := range r.sameFiles(names) {
			left = true
			if err := r.t.root.Remove(name); err != nil {
				return nil, err
			}
		}
	}
	if !left {
		return h, nil
	}
	return r.scan(ctx)
}

// sameFiles are the names that lead to a file which has another among them. Of a file and a symbolic link to it, it is the link.
func (r *restorer) sameFiles(names []string) (list []string) {
	names = slices.Clone(names)
	slices.SortStableFunc(names, func(a, b string) int { return r.linkRank(a) - r.linkRank(b) })
	var kept []fs.FileInfo
	for _, name := range names {
		info, err := r.t.root.Stat(name)
		if err != nil {
			continue
		}
		if slices.ContainsFunc(kept, func(k fs.FileInfo) bool { return os.SameFile(k, info) }) {
			list = append(list, name)
		} else {
			kept = append(kept, info)
		}
	}
	return list
}

// linkRank is 1 for a symbolic link.
func (r *restorer) linkRank(name string) int {
	if info, err := r.t.root.Lstat(name); err == nil && info.Mode().Type() == fs.ModeSymlink {
		return 1
	}
	return 0
}

// link gives files further names for the time of recovery. A name that something else has is left alone.
func (r *restorer) link(links []move) error {
	for _, l := range links {
		_, err := r.t.root.Lstat(l.to)
		if err == nil {
			continue
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = r.t.root.MkdirAll(path.Dir(l.to), 0o700)
		}
		if err == nil {
			err = r.linkOne(l)
		}
		if err != nil {
			return err
		}
		r.links = append(r.links, l.to)
	}
	return nil
}

// linkOne makes a symbolic link where the file system has no others.
func (r *restorer) linkOne(l move) error {
	err := r.t.root.Link(l.from, l.to)
	if err == nil {
		return nil
	}
	to, failed := filepath.Rel(path.Dir(l.to), l.from)
	if failed != nil {
		return errors.Join(err, failed)
	}
	return r.t.root.Symlink(to, l.to)
}

// unlink takes the further names away.
func (r *restorer) unlink() error {
	for _, name := range r.links {
		if err := r.t.root.Remove(name); err != nil {
			return err
		}
	}
	r.links = nil
	return nil
}

func isExtent(name string) bool { return strings.HasPrefix(path.Base(name), "__dbq.") }

// stays reports whether there is a file that is right where it is. An extent that lies there already is the queue's own; one that would have to be
// moved there was left over when the renaming of a queue was given up while it was copied.
func (h *home) stays(at string, replay *bdb.Replay) bool {
	f, ok := h.at[at]
	if !ok || f.standIn {
		return false
	}
	place, ok := replay.Place(f.rel, f.id)
	return ok && place == f.rel
}

// moveAll moves files in two steps, because they may exchange their names.
func (r *restorer) moveAll(moves []move) error {
	for i, m := range moves {
		if err := r.t.root.Rename(m.from, aside(m, i)); err != nil {
			return err
		}
	}
	for i, m := range moves {
		if _, err := r.t.root.Lstat(m.to); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(err, fmt.Errorf("%s belongs at %s for recovery, where another file is: %w", m.from, m.to, fs.ErrExist))
		}
		if err := r.t.root.MkdirAll(path.Dir(m.to), 0o700); err != nil {
			return err
		}
		if err := r.t.root.Rename(aside(m, i), m.to); err != nil {
			return err
		}
	}
	return nil
}

// aside is a name for a file on its way, in the directory that it is in.
func aside(m move, i int) string {
	return fmt.Sprintf("%s.aside.%d", path.Join(top(m.from), MarkerName), i)
}

// gatherExtents moves queue extents that recovery made in the create directory to their queues.
func (r *restorer) gatherExtents(ctx context.Context) error {
	h, err := r.scan(ctx)
	if err != nil {
		return err
	}
	var moves []move
	for at := range h.at {
		if to, ok := r.besideQueue(h, at); ok && to != at {
			moves = append(moves, move{at, to})
		}
	}
	return r.moveAll(moves)
}

// besideQueue is where an extent belongs: in the directory of the first queue that libdb finds by the name in it. One that is beside a
// queue of the name is right as it is.
func (r *restorer) besideQueue(h *home, at string) (to string, ok bool) {
	rest := strings.TrimPrefix(path.Base(at), "__dbq.")
	dot := strings.LastIndexByte(rest, '.')
	if !isExtent(at) || dot < 0 {
		return at, false
	}
	queue := rest[:dot]
	if h.at[path.Join(path.Dir(at), queue)].kind == bdb.KindQueue {
		return at, true
	}
	for _, d := range r.dirs {
		rel, below := below(at, d)
		if !below {
			continue
		}
		for _, other := range r.dirs {
			folder := path.Join(other, path.Dir(rel))
			if h.at[path.Join(folder, queue)].kind == bdb.KindQueue {
				return path.Join(folder, path.Base(at)), true
			}
		}
	}
	return at, true
}

// below is the path of at relative to a directory.
func below(at, dir string) (rel string, ok bool) {
	if dir = path.Clean(dir); dir == "." {
		return at, true
	}
	return strings.CutPrefix(at, dir+"/")
}

// dropStandIns removes placeholders that recovery left behind, as it does when two files exchange their names in one transaction. One of a
// prepared transaction keeps a name for it.
func (r *restorer) dropStandIns(ctx context.Context) error {
	for _, f := range r.story.history.Files() {
		if f.State == bdb.FileInDoubt {
			return nil
		}
	}
	h, err := r.scan(ctx)
	if err != nil {
		return err
	}
	for _, f := range h.files {
		if !f.standIn {
			continue
		}
		if err := r.t.root.Remove(f.path); err != nil {
			return err
		}
	}
	return nil
}
