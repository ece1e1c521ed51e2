package file

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
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
	for _, e := range all[w.begin(at, all):] {
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

// begin is the index of the first entry of a folder that may be wanted. A folder may be large and the list begin near its end.
func (w *walk) begin(at string, all []entry) int {
	i, _ := slices.BinarySearchFunc(all, w.after, func(e entry, after string) int {
		if e.IsDir() && strings.HasPrefix(after, at+e.name) {
			return 1 // holds the place where the list begins
		}
		return cmp.Compare(at+e.name, after)
	})
	return i
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

// folder is all of a folder, in order.
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
	if all, ok := w.seen.get(at, info); ok {
		return all, nil
	}
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
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	w.seen.put(at, info, began, all)
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
