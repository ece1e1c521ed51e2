package restore

import "bdbvault/localenv/bdb"

// inFlight are the transactions that had not ended at some LSN, at which an earlier recovery stopped, and of which the next one has to see what they did to
// pages before. These are few: those that were committed since, because they were undone then, and those that were prepared. What all others did
// is in the files or must not be, and to have it redone or undone once more is not harmless: where a file was truncated since, redo of what came before makes it
// longer again, and the metadata page does not know; and what was consumed from a queue comes back by the undo of an earlier attempt that was aborted,
// since pages of queues tell nothing of what was done to them. The zero value is ready for use.
type inFlight struct {
	first    map[uint32]bdb.LSN  // first records of transactions that had not ended at the LSN, and have not since
	children map[uint32][]uint32 // nested transactions that ended well, by their parent
	prepared map[uint32]bool     // false: only since the LSN
	kept     map[uint32]bdb.LSN  // first records of those that are to be seen
}

// add takes the next record, before the LSN (old) or behind.
func (f *inFlight) add(r *bdb.Record, old bool) {
	if f.first == nil {
		*f = inFlight{map[uint32]bdb.LSN{}, map[uint32][]uint32{}, map[uint32]bool{}, map[uint32]bdb.LSN{}}
	}
	_, known := f.first[r.Txn]
	switch {
	case r.Txn == 0:
		return
	case r.PrevLSN.IsZero() || old && !known:
		f.end(r.Txn) // whoever had the id before was aborted
		if old {
			f.first[r.Txn] = r.LSN
		}
	}
	if c, ok := r.Child(); ok {
		f.children[r.Txn] = append(f.children[r.Txn], c.Child)
	}
	if _, ok := r.Prepare(); ok {
		f.prepared[r.Txn] = old
	}
	if c, ok := r.Commit(); ok {
		if !old && (!c.Abort || f.prepared[r.Txn]) {
			f.keep(r.Txn)
		}
		f.end(r.Txn)
	}
}

// end forgets a transaction and all that are nested in it.
func (f *inFlight) end(txn uint32) {
	nested := f.children[txn]
	delete(f.first, txn)
	delete(f.children, txn)
	delete(f.prepared, txn)
	for _, child := range nested {
		f.end(child)
	}
}

// keep has a transaction be seen, and all that are nested in it.
func (f *inFlight) keep(txn uint32) {
	if first, ok := f.first[txn]; ok {
		f.kept[txn] = first
	}
	nested := f.children[txn]
	delete(f.first, txn)
	delete(f.children, txn)
	for _, child := range nested {
		f.keep(child)
	}
}

// finish ends the log: transactions that are prepared stay so.
func (f *inFlight) finish() {
	for txn := range f.prepared {
		f.keep(txn)
	}
}

// keeps reports whether a record from before the LSN is to be seen.
func (f *inFlight) keeps(r *bdb.Record) bool {
	first, ok := f.kept[r.Txn]
	return ok && !r.LSN.Before(first)
}
