package bdb

// HeapCut is the truncation of a heap, by a transaction that was committed. The file is cut at once, and the log has every page as it was before.
//
// Recovery gets over it only if all pages of the heap are as old as its metadata page: from copies with newer pages, or without some, it loses the rows that came
// after the truncation, or gives up at the next one. Redo of __heap_trunc_page frees a page in the cache only if it has the LSN that it had, and redo of
// __heap_trunc_meta cuts the file under the others, which are then found in the cache, where they neither count for the file's length nor are ever written.
type HeapCut struct {
	LSN   LSN // of the __heap_trunc_meta record
	File  FileID
	Pages []HeapPage
}

// HeapPage is a page of a heap that was truncated.
type HeapPage struct {
	Number uint32
	LSN    LSN // of the __heap_trunc_page record
}

func (h *History) addHeapPage(r *Record) bool {
	f, ok := r.fields(r.Type)
	id := h.databases[f.u32()]
	page := HeapPage{Number: f.u32(), LSN: r.LSN}
	t := h.txn(r.Txn)
	if t.emptied == nil {
		t.emptied = map[FileID][]HeapPage{}
	}
	t.emptied[id] = append(t.emptied[id], page)
	return ok && f.ok()
}

func (h *History) addHeapCut(r *Record) bool {
	f, ok := r.fields(r.Type)
	id := h.databases[f.u32()]
	t := h.txn(r.Txn)
	t.cuts = append(t.cuts, HeapCut{LSN: r.LSN, File: id, Pages: t.emptied[id]})
	delete(t.emptied, id)
	return ok && f.ok()
}

// HeapCut finds the first truncation of a heap that recovery redoes, over a copy of which the metadata page has the LSN; nil if there is none.
func (h *History) HeapCut(file FileID, meta LSN) (first *HeapCut) {
	for i := range h.cuts {
		c := &h.cuts[i]
		if c.File == file && meta.Before(c.LSN) && (first == nil || c.LSN.Before(first.LSN)) {
			first = c
		}
	}
	return first
}

// HeapPage is the page as it was that a __heap_trunc_page record has, but for checksum and encryption.
func (r *Record) HeapPage() (page []byte, ok bool) {
	f, ok := r.fields(typeHeapTrunc)
	f.u32() // file
	f.u32() // number
	page = f.dbt()
	return page, ok && f.ok()
}
