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

	"bdbvault/remote"
)

// walk lists the files below a directory in the order of their keys.
type walk struct {
	ctx           context.Context
	root          *os.Root
	prefix, after string
	fn            func(remote.Info) error
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
	entries, err := w.entries(at)
	if err != nil {
		return err
	}
	for _, e := range entries {
		key := at + e.name
		if e.IsDir() {
			err = w.dir(key)
		} else {
			err = w.file(key, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
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

// entries are what is wanted of a folder, in order. A folder may be large and the list begin near its end: only that is put in order.
func (w *walk) entries(at string) ([]entry, error) {
	f, err := w.root.Open(path.Join(".", at))
	if errors.Is(err, fs.ErrNotExist) && at != "" {
		return nil, nil // deleted meanwhile
	}
	if err != nil {
		return nil, err
	}
	list, err := f.ReadDir(-1)
	f.Close() // opened for reading
	if err != nil {
		return nil, err
	}
	var entries []entry
	for _, e := range list {
		switch name := e.Name(); {
		case hidden(name):
		case e.IsDir() && w.mayHold(at+name+"/"):
			entries = append(entries, entry{name + "/", e})
		case e.Type().IsRegular() && w.wants(at+name):
			entries = append(entries, entry{name, e})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	return entries, nil
}
