package restore

import (
	"errors"
	"os"

	"bdbvault/localenv/bdb"
)

// extend gives a file zero pages up to size.
func (r *restorer) extend(f *homeFile, size int64) error {
	if f.size >= size {
		return nil
	}
	file, err := r.t.root.OpenFile(f.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(file.Truncate(size), file.Close())
}

// extendFreed gives files zero pages for those that recovery wants to see before it frees them: see bdb.History.FreedSubdatabases. Redo of their freeing cuts the files
// again. In encrypted files recovery can't stand zero pages.
func (r *restorer) extendFreed(h *home) error {
	last := r.story.history.FreedSubdatabases(r.story.passed())
	for _, f := range h.files {
		page, ok := last[f.id]
		if !ok || f.pageSize == 0 || f.crypt || !r.opened(&f) {
			continue
		}
		if err := r.extend(&f, (int64(page)+1)*f.pageSize); err != nil {
			return err
		}
	}
	return nil
}

// opened reports whether the log knows the file by its name. Copies that the application made of a database have its id, and recovery does not touch them.
func (r *restorer) opened(f *homeFile) bool {
	_, known := r.story.nameOf(r.dirs, f.id, f.path)
	return known
}

// skipGroups has recovery pass over the growth of files that were cut since: see bdb.PageGroup.
func (r *restorer) skipGroups(h *home, replay *bdb.Replay) {
	var skip []bdb.LSN
	for _, g := range r.story.history.Groups() {
		if g.LSN.Before(r.story.passed()) {
			continue
		}
		for _, at := range h.byID[g.File] {
			if f := h.at[at]; f.pageSize > 0 && r.opened(&f) && g.Cut(f.lsn, uint32(f.end/f.pageSize-1)) {
				skip = append(skip, g.LSN)
				break
			}
		}
	}
	replay.Skip(skip...)
}

// skipUndos has recovery pass over what it would undo wrongly: see bdb.PageUndo.
func (r *restorer) skipUndos(h *home, replay *bdb.Replay) error {
	var skip []bdb.LSN
	for _, u := range r.story.history.Undos() {
		if u.LSN.Before(r.story.needed) || u.Meta && u.File.IsZero() {
			continue
		}
		needed, err := r.undoNeeded(h, &u)
		if err != nil {
			return err
		}
		if !needed {
			skip = append(skip, u.LSN)
		}
	}
	replay.Skip(skip...)
	return nil
}

// undoNeeded looks at the page in the file, and in copies of it that have its id.
func (r *restorer) undoNeeded(h *home, u *bdb.PageUndo) (bool, error) {
	for _, at := range h.byID[u.File] {
		f := h.at[at]
		if f.pageSize == 0 || int64(u.Page) >= f.size/f.pageSize {
			continue
		}
		lsn, err := r.pageLSN(&f, u.Page)
		if err != nil || u.Needed(lsn, true) {
			return true, err
		}
	}
	return u.Needed(bdb.LSN{}, false), nil
}

func (r *restorer) pageLSN(f *homeFile, page uint32) (lsn bdb.LSN, err error) {
	file, err := r.t.root.Open(f.path)
	if err != nil {
		return lsn, err
	}
	defer file.Close() // only read
	var b [8]byte
	if _, err := file.ReadAt(b[:], int64(page)*f.pageSize); err != nil {
		return lsn, err
	}
	return bdb.LSN{File: f.order.Uint32(b[:]), Offset: f.order.Uint32(b[4:])}, nil
}
