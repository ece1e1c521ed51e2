package file

import (
	"container/heap"
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"
	"sync"
	"time"

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

// entry is a file or, with a name that ends in "/", a folder. Sorted by that name entries come in the order of the keys they
// hold: "a-b" before "a/b", although the folder "a" sorts before the file "a-b".
type entry struct {
	name string
	fs.DirEntry
}

// dir lists a folder; at is "" or its key with "/" at the end.
func (w *walk) dir(at string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	all, err := w.folder(at)
	if err != nil {
		return err
	}
	for e := range inOrder(all) {
		switch key := at + e.name; {
		case key > w.prefix && !strings.HasPrefix(key, w.prefix):
			return nil // and so are all behind
		case e.IsDir() && w.mayHold(key):
			err = w.dir(key)
		case !e.IsDir() && w.wants(key):
			err = w.file(key, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// before reports whether all that an entry of the folder holds lies before the place where the list begins.
func (w *walk) before(at string, e entry) bool {
	key := at + e.name
	return key <= w.after && !(e.IsDir() && strings.HasPrefix(w.after, key))
}

// inOrder gives entries by name, and takes the slice for that. Often only the first ones of very many are wanted, so they
// are not sorted but kept in a heap.
func inOrder(all []entry) iter.Seq[entry] {
	return func(yield func(entry) bool) {
		h := byName(all)
		for heap.Init(&h); len(h) > 0; {
			if !yield(heap.Pop(&h).(entry)) {
				return
			}
		}
	}
}

type byName []entry

func (h byName) Len() int           { return len(h) }
func (h byName) Less(i, j int) bool { return h[i].name < h[j].name }
func (h byName) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *byName) Push(e any)        { *h = append(*h, e.(entry)) }

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

func (w *walk) file(key string, e entry) error {
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return err
	}
	return w.fn(remote.Info{Key: key, Size: info.Size(), Modified: info.ModTime()})
}

// wants reports whether a key belongs into the list.
func (w *walk) wants(key string) bool { return strings.HasPrefix(key, w.prefix) && key > w.after }

// folder is what a folder has behind the place where the list begins.
func (w *walk) folder(at string) ([]entry, error) {
	f, err := w.root.Open(path.Join(".", at))
	if errors.Is(err, fs.ErrNotExist) && at != "" {
		return nil, nil // deleted meanwhile
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading
	began := time.Now()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	all, seen := w.seen.get(at, info)
	if !seen {
		if all, err = readFolder(f); err != nil {
			return nil, err
		}
		w.seen.put(at, info, began, all)
	}
	var wanted []entry
	for _, e := range all {
		if !w.before(at, e) {
			wanted = append(wanted, e)
		}
	}
	return wanted, nil
}

func readFolder(f *os.File) ([]entry, error) {
	list, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	all := make([]entry, 0, len(list))
	for _, e := range list {
		switch name := e.Name(); {
		case hidden(name):
		case e.IsDir():
			all = append(all, entry{name + "/", e})
		case e.Type().IsRegular():
			all = append(all, entry{name, e})
		}
	}
	return all, nil
}

// lastFolder remembers the last large folder that was read. Who looks for places in a long list asks for many parts of the same folder, and
// reading it takes as long for a part as for all.
type lastFolder struct {
	mu   sync.Mutex
	at   string
	info fs.FileInfo
	all  []entry
}

const (
	// largeFolder is worth remembering.
	largeFolder = 2000
	// clockTick is far more than the step of a file system's clock: a folder whose last change is older will show a newer time when it
	// is changed again.
	clockTick = 2 * time.Second
)

func (l *lastFolder) get(at string, info fs.FileInfo) ([]entry, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.info == nil || l.at != at || !os.SameFile(l.info, info) || !l.info.ModTime().Equal(info.ModTime()) {
		return nil, false
	}
	return l.all, true
}

// put remembers a folder that was read after info was asked for at began.
func (l *lastFolder) put(at string, info fs.FileInfo, began time.Time, all []entry) {
	if len(all) < largeFolder || began.Sub(info.ModTime()) < clockTick {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at, l.info, l.all = at, info, all
}
