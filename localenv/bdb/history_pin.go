package bdb

import (
	"path"
	"slices"
)

// pinned are the files that are pinned: those with pages to be undone whose name changes. Recovery undoes on its way backwards, and renames on its way forwards. So it finds
// a file that has been renamed meanwhile by one of its names only, and passes over what is to be undone by the others, without a word: rows that an aborted
// compaction had moved, for instance, are lost where it cut the file.
//
// Not pinned are files whose names other files have too, at some time, those that the log makes, queues that take their extents along, and files of prepared transactions.
func (h *History) pinned(begun LSN) map[*fileLife]bool {
	spoiled, owners := h.toUndo(), map[string]int{}
	files := h.sorted()
	for _, f := range files {
		for _, name := range f.baseNames() {
			owners[name]++
		}
	}
	pinned := map[*fileLife]bool{}
	for _, f := range files {
		shared := slices.ContainsFunc(f.baseNames(), func(name string) bool { return owners[name] > 1 })
		if spoiled[f.id] && !shared && f.renamed() && !h.takesAlong(f) && !slices.ContainsFunc(f.changes, func(c *fileChange) bool { return c.unsettled(begun) }) {
			pinned[f] = true
		}
	}
	return pinned
}

// unsettled tells a change that recovery has to make, or to leave to whoever prepared it.
func (c *fileChange) unsettled(begun LSN) bool {
	return c.prepared && c.commit.IsZero() || c.what == changeCreate && !(!c.commit.IsZero() && c.commit.Before(begun))
}

func (f *fileLife) renamed() bool {
	return slices.ContainsFunc(f.changes, func(c *fileChange) bool { return c.what == changeRename })
}

// takesAlong reports whether the file is a queue with extents that are renamed or removed.
func (h *History) takesAlong(f *fileLife) bool {
	return slices.ContainsFunc(h.extents, func(c *fileChange) bool { return ownsExtent(f.id, c.id) })
}

// baseNames are all names that the file ever had, without directories.
func (f *fileLife) baseNames() (names []string) {
	l := f.laid(&replayState{})
	for _, name := range l.realNames() {
		names = append(names, path.Base(name))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// realNames are the file's names but for the temporary ones.
func (f *LaidFile) realNames() (names []string) {
	for _, name := range f.names {
		if name != "" && !isTemporary(name) {
			names = append(names, name)
		}
	}
	return names
}

// Links are further names by which recovery has to find a file, relative to the data directory in which it was found, as found and id are for Place.
func (p *Replay) Links(found string, id FileID) (links []string) {
	f := p.find(id)
	if id.IsZero() || f == nil || !f.Pinned || f.Absent || !f.isCalled(path.Base(found)) {
		return nil
	}
	place := f.respell(found)
	for _, name := range f.realNames() {
		other := *f
		other.Name = name
		if at := other.respell(found); at != place && !slices.Contains(links, at) {
			links = append(links, at)
		}
	}
	return links
}
