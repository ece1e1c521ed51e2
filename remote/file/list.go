package file

import (
	"container/heap"
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"bdbvault/remote"
)

// walk lists the files below a directory in the order of their keys.
type walk struct {
	ctx           context.Context
	root          *os.Root
	prefix, after string
	fn            func(remote.Info) error
	seen          *lastFolder
}

// dir lists a folder; at is "" or its key with "/" at the end.
func (w *walk) dir(at string) (err error) {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	f, err := w.root.Open(path.Join(".", at))
	if errors.Is(err, fs.ErrNotExist) && at != "" {
		return nil // deleted meanwhile
	}
	if err != nil {
		return err
	}
	defer f.Close() // opened for reading
	all, err := w.names(f, at)
	if err != nil {
		return err
	}
	h := w.wanted(at, all)
	for heap.Init(&h); len(h) > 0; {
		e := heap.Pop(&h).(string)
		switch key := at + e; {
		case key > w.prefix && !strings.HasPrefix(key, w.prefix):
			return nil // and so are all behind
		case !strings.HasSuffix(e, "/"):
			err = w.entry(f, at, e, &h)
		case w.mayHold(key):
			err = w.dir(key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// entry looks what has a name, and passes it on if it is a file. A folder comes again with "/" behind its name: sorted by that, folders come
// in the order of the keys they hold, "a-b" before "a/b", although the folder "a" sorts before the file "a-b".
func (w *walk) entry(f *os.File, at, name string, h *byName) error {
	var s unix.Stat_t
	err := unix.Fstatat(int(f.Fd()), name, &s, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return &fs.PathError{Op: "stat", Path: at + name, Err: err}
	}
	switch s.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		heap.Push(h, name+"/")
	case unix.S_IFREG:
		if w.wants(at + name) {
			return w.fn(remote.Info{Key: at + name, Size: s.Size, Modified: time.Unix(s.Mtim.Unix())})
		}
	}
	return nil
}

// wanted are the names in a folder that are not before the place where the list begins, and hold nothing behind it either, should they be folders'. Often only the
// first few of very many are read then, so they are not sorted but kept in a heap.
func (w *walk) wanted(at string, all []string) (h byName) {
	rest, _ := strings.CutPrefix(w.after, at)
	if rest == w.after && at != "" {
		return slices.Clone(all) // the list begins before this folder
	}
	for _, name := range all {
		next, same := strings.CutPrefix(rest, name)
		if name > rest || same && (next == "" || next[0] <= '/') {
			h = append(h, name)
		}
	}
	return h
}

type byName []string

func (h byName) Len() int           { return len(h) }
func (h byName) Less(i, j int) bool { return h[i] < h[j] }
func (h byName) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *byName) Push(e any)        { *h = append(*h, e.(string)) }

func (h *byName) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	*h = (*h)[:last]
	return e
}

// mayHold reports whether keys that are wanted can begin with dir.
func (w *walk) mayHold(dir string) bool {
	onPath := strings.HasPrefix(dir, w.prefix) || strings.HasPrefix(w.prefix, dir)
	return onPath && (dir > w.after || strings.HasPrefix(w.after, dir))
}

// wants reports whether a key belongs into the list.
func (w *walk) wants(key string) bool { return strings.HasPrefix(key, w.prefix) && key > w.after }

// names are those of all that a folder holds. What is there is looked at one by one, and only as far as the list goes: of a hundred thousand files that
// takes longer than to read their names.
func (w *walk) names(f *os.File, at string) ([]string, error) {
	began := time.Now()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if all, ok := w.seen.get(at, info); ok {
		return all, nil
	}
	all, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, hidden)
	w.seen.put(at, info, began, all)
	return all, nil
}

// lastFolder remembers the last large folder that was read. Who looks for places in a long list asks for many parts of the same folder, and
// reading it takes as long for a part as for all.
type lastFolder struct {
	mu   sync.Mutex
	at   string
	info fs.FileInfo
	all  []string
}

const (
	// largeFolder is worth remembering.
	largeFolder = 2000
	// clockTick is far more than the step of a file system's clock: a folder whose last change is older will show a newer time when it
	// is changed again.
	clockTick = 2 * time.Second
)

func (l *lastFolder) get(at string, info fs.FileInfo) ([]string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.info == nil || l.at != at || !os.SameFile(l.info, info) || !l.info.ModTime().Equal(info.ModTime()) {
		return nil, false
	}
	return l.all, true
}

// put remembers a folder that was read after info was asked for at began.
func (l *lastFolder) put(at string, info fs.FileInfo, began time.Time, all []string) {
	if len(all) < largeFolder || began.Sub(info.ModTime()) < clockTick {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at, l.info, l.all = at, info, all
}
