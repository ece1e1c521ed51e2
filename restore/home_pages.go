package restore

import (
	"errors"
	"fmt"
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

// extendFreed gives files pages where those are cut off that recovery wants to see before it frees them: see bdb.History.FreedSubdatabases. They are zero pages, but in
// encrypted files surrogates, which take the place of pages that have been used anew as well. Redo of their freeing cuts the files again, and what became of them later is redone too.
func (r *restorer) extendFreed(h *home) error {
	freed := r.story.history.FreedSubdatabases(r.story.passed())
	for _, f := range h.files {
		pages := freed[f.id]
		if len(pages) == 0 || f.pageSize == 0 || !r.opened(&f) {
			continue
		}
		if err := r.extend(&f, (int64(pages[len(pages)-1].Number)+1)*f.pageSize); err != nil {
			return err
		}
		if !f.crypt {
			continue
		}
		if err := r.putSurrogates(&f, pages); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	return nil
}

// putSurrogates puts metadata pages where subdatabases' were: see bdb.Surrogate.
func (r *restorer) putSurrogates(f *homeFile, pages []bdb.FreedPage) error {
	file, err := r.t.root.OpenFile(f.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	first := make([]byte, bdb.MetaSize)
	if _, err = file.ReadAt(first, 0); err == nil {
		for _, p := range pages {
			if err = r.putSurrogate(f, file, first, p); err != nil {
				break
			}
		}
	}
	return errors.Join(err, file.Close())
}

func (r *restorer) putSurrogate(f *homeFile, file *os.File, first []byte, p bdb.FreedPage) error {
	var head [bdb.PageHead]byte
	at := int64(p.Number) * f.pageSize
	if _, err := file.ReadAt(head[:], at); err != nil {
		return err
	}
	if lsn := (bdb.LSN{File: f.order.Uint32(head[:]), Offset: f.order.Uint32(head[4:])}); bdb.IsMetaPage(head) || !lsn.IsZero() && lsn.Before(p.LSN) {
		return nil
	}
	page, err := bdb.Surrogate(first, p.Number, r.key)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(page, at)
	return err
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
