package bdb

import (
	"cmp"
	"maps"
	"slices"
)

// PageUndo is a record of a transaction that did not commit, which recovery does not undo as it should:
//
//   - __db_pg_init, by which a page was emptied. Recovery gives up if the page does not exist (__db_pg_init_recover), as in a file that grew since it was
//     copied.
//   - __crdel_metasub, by which a page became the metadata page of a subdatabase. Recovery gives the page the LSN from before without a look at what it has
//     (__crdel_metasub_recover), and undo of its allocation then makes it a free one. That page may long have become another: its rows are lost.
//
// Then the record has to be skipped: see Needed.
type PageUndo struct {
	LSN  LSN
	File FileID // zero: not known
	Page uint32
	Meta bool // __crdel_metasub
	Last LSN  // the transaction's last record
}

// Needed reports whether recovery has to undo the record over a page that has the LSN; exists is false for a page that is not there.
func (u *PageUndo) Needed(page LSN, exists bool) bool {
	if !u.Meta {
		return exists
	}
	return exists && !page.Before(u.LSN) && !u.Last.Before(page) // nobody else had the page until the transaction ended
}

func (h *History) addPageUndo(r *Record) bool {
	f, ok := r.fields(r.Type)
	id, page := h.databases[f.u32()], f.u32()
	t := h.txn(r.Txn)
	t.last = r.LSN
	t.undos = append(t.undos, PageUndo{LSN: r.LSN, File: id, Page: page, Meta: r.Type == typeMetasub})
	return ok && f.ok()
}

// undoing are the transaction's records that recovery undoes.
func (t *fileTxn) undoing() []PageUndo {
	list := slices.Clone(t.undos)
	for i := range list {
		list[i].Last = t.last
	}
	return list
}

// maxTouched bounds the transactions of which it is kept what they touched. Those that are aborted leave no trace until their ids are given out anew.
const maxTouched = 1 << 16

// touch notes in which file a transaction changes pages.
func (h *History) touch(r *Record) {
	if r.Txn == 0 {
		return
	}
	if p, ok := r.Pages(); ok {
		h.touchAll(r.Txn, []FileID{h.databases[uint32(p.Index)]})
	}
}

func (h *History) touchAll(txn uint32, files []FileID) {
	for _, id := range files {
		list := h.touched[txn]
		if slices.Contains(list, id) {
			continue
		}
		if list == nil && len(h.touched) >= maxTouched {
			for old := range h.touched {
				h.spoil(old) // it does no harm to files of those that will be committed
			}
		}
		h.touched[txn] = append(list, id)
	}
}

// spoil notes that a transaction was aborted.
func (h *History) spoil(txn uint32) {
	for _, id := range h.touched[txn] {
		h.spoiled[id] = true
	}
	delete(h.touched, txn)
}

// toUndo are the files in which recovery undoes what transactions did, and perhaps more.
func (h *History) toUndo() map[FileID]bool {
	files := maps.Clone(h.spoiled)
	for _, list := range h.touched {
		for _, id := range list {
			files[id] = true
		}
	}
	return files
}

// Undos are the pages of which recovery undoes what was done to them, at the end of the log added so far.
func (h *History) Undos() []PageUndo {
	list := slices.Clone(h.undone)
	for _, t := range h.open {
		if !t.prepared { // recovery redoes what it did
			list = append(list, t.undoing()...)
		}
	}
	return list
}

// filePage is one page of a database file.
type filePage struct {
	file FileID
	page uint32
}

func (h *History) addPageFree(r *Record) bool {
	f, ok := r.fields(r.Type)
	id, page := h.databases[f.u32()], f.u32()
	if p := (filePage{id, page}); h.subs[p] {
		h.freed[p] = append(h.freed[p], r.LSN)
	}
	return ok && f.ok()
}

// FreedPage is a page on which a subdatabase began that was open.
type FreedPage struct {
	Number uint32
	LSN    LSN // of the record by which it was freed first, not before recovery begins
}

// FreedSubdatabases are the pages of files on which subdatabases began that were open and whose page was freed, not before needed. Recovery has to find these pages
// when it opens the subdatabases once more, to do what was done to them; else it passes over all of that, and says nothing (__dbreg_register_recover). But a file is cut at
// once where its last pages are freed, while other pages of it may still be as they were before.
func (h *History) FreedSubdatabases(needed LSN) map[FileID][]FreedPage {
	pages := map[FileID][]FreedPage{}
	for p, at := range h.freed {
		if i := slices.IndexFunc(at, func(lsn LSN) bool { return !lsn.Before(needed) }); i >= 0 {
			pages[p.file] = append(pages[p.file], FreedPage{p.page, at[i]})
		}
	}
	for _, list := range pages {
		slices.SortFunc(list, func(a, b FreedPage) int { return cmp.Compare(a.Number, b.Number) })
	}
	return pages
}

// PageGroup is a __ham_groupalloc record, by which a file grew for a hash subdatabase. Redo raises the last page in the metadata page to the group's even if that page
// is newer than the record (__ham_groupalloc_recover), and nothing lowers it again if the file was cut since.
type PageGroup struct {
	LSN  LSN
	File FileID
	Last uint32 // the last page of the group
}

// Cut reports whether the file was cut since, by its metadata page with the LSN. Then the record has to be skipped.
func (g *PageGroup) Cut(meta LSN, last uint32) bool { return !meta.Before(g.LSN) && last < g.Last }

func (h *History) addPageGroup(r *Record) bool {
	f, ok := r.fields(r.Type)
	id := h.databases[f.u32()]
	f.lsn()
	start, count := f.u32(), f.u32()
	t := h.txn(r.Txn)
	t.groups = append(t.groups, PageGroup{LSN: r.LSN, File: id, Last: start + count - 1})
	return ok && f.ok()
}

// Groups are those that recovery redoes.
func (h *History) Groups() []PageGroup { return h.grown }
