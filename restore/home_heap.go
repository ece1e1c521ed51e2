package restore

import (
	"errors"
	"os"
	"path"

	"bdbvault/localenv/bdb"
)

// layHeaps gives heaps the pages that recovery wants to see before it truncates them: see bdb.HeapCut. Where it truncates nothing, pages may be missing because a truncation
// was not committed: the metadata page and the first region page may have stayed in the cache, and redo of what was done before fails for want of that page
// (__heap_pg_alloc_recover). Then zero pages will do.
func (r *restorer) layHeaps(h *home) error {
	for i := range h.files {
		f := &h.files[i]
		if f.kind != bdb.KindHeap || f.pageSize == 0 {
			continue
		}
		var err error
		if cut := r.story.history.HeapCut(f.id, f.lsn); cut != nil && f.lsn.File != 0 && r.opened(f) && !cut.LSN.Before(r.story.passed()) {
			err = r.uncut(f, cut)
		} else {
			err = r.extend(f, f.end)
		}
		if err != nil {
			return err
		}
		h.at[f.path] = *f
	}
	return nil
}

// uncut takes a heap back to where it was truncated: pages that are newer, or missing, become what they were, and those that came later go.
func (r *restorer) uncut(f *homeFile, cut *bdb.HeapCut) error {
	file, err := r.t.root.OpenFile(f.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	log := &pageLog{r: r}
	last := uint32(0)
	for _, p := range cut.Pages {
		last = max(last, p.Number)
		if err = r.uncutPage(f, file, p, log); err != nil {
			break
		}
	}
	if err == nil {
		f.size = (int64(last) + 1) * f.pageSize
		err = file.Truncate(f.size)
	}
	return errors.Join(err, log.close(), file.Close())
}

func (r *restorer) uncutPage(f *homeFile, file *os.File, p bdb.HeapPage, log *pageLog) error {
	at := int64(p.Number) * f.pageSize
	if at+f.pageSize <= f.size {
		var b [8]byte
		if _, err := file.ReadAt(b[:], at); err != nil {
			return err
		}
		lsn := bdb.LSN{File: f.order.Uint32(b[:]), Offset: f.order.Uint32(b[4:])}
		if !lsn.IsZero() && lsn.Before(p.LSN) {
			return nil
		}
	}
	page, err := log.page(f, p.LSN)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(page, at)
	return err
}

// pageLog reads pages out of records.
type pageLog struct {
	r       *restorer
	number  uint32
	file    *os.File
	decoder *bdb.LogDecoder
}

func (l *pageLog) open(number uint32) (err error) {
	if l.file != nil && l.number == number {
		return nil
	}
	if err := l.close(); err != nil {
		return err
	}
	name := path.Join(l.r.logDir, logName(number))
	first, err := readHead(l.r.t, name)
	if err != nil {
		return err
	}
	if l.decoder, err = bdb.NewLogDecoder(first, l.r.key); err != nil {
		return err
	}
	l.number = number
	l.file, err = l.r.t.root.Open(name)
	return err
}

func (l *pageLog) close() (err error) {
	if l.file != nil {
		err = l.file.Close()
	}
	l.file = nil
	return err
}

// page is a heap's page, ready to be written.
func (l *pageLog) page(f *homeFile, lsn bdb.LSN) ([]byte, error) {
	if err := l.open(lsn.File); err != nil {
		return nil, err
	}
	b, err := readRecord(l.file, l.decoder, lsn)
	if err != nil {
		return nil, err
	}
	var record bdb.Record
	if err := l.decoder.Decode(&record, lsn, b); err != nil {
		return nil, err
	}
	page, ok := record.HeapPage()
	if !ok || int64(len(page)) != f.pageSize {
		return nil, &bdb.BadRecord{LSN: lsn, Problem: "has no page of " + f.path}
	}
	return page, f.meta.Seal(page, l.r.key)
}
