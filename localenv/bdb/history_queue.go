package bdb

import (
	"bytes"
	"cmp"
	"slices"
)

// queueCut is where a stage of the replay ends because queues with extents are renamed or removed.
type queueCut struct {
	at      LSN
	changes []*fileChange // to the queues themselves, which are done by placing the files
}

// queueMove is one transaction's renames and removals of a queue that has extents. Up to first, other records know the queue by its old name; from
// the commit on, by the new one; nobody touches it in between.
type queueMove struct {
	first, commit LSN
	changes       []*fileChange
}

// queueMoves finds where the replay has to be cut: for each move somewhere between its first record and its commit, at as few places as
// possible.
func (h *History) queueMoves(state *replayState) (cuts []queueCut) {
	moves := h.findQueueMoves(state)
	for len(moves) > 0 {
		cut := queueCut{at: moves[0].first}
		end := moves[0].commit
		for len(moves) > 0 && moves[0].first.Before(end) {
			cut.at = moves[0].first
			cut.changes = append(cut.changes, moves[0].changes...)
			if moves[0].commit.Before(end) {
				end = moves[0].commit
			}
			moves = moves[1:]
		}
		cuts = append(cuts, cut)
	}
	return cuts
}

// findQueueMoves finds them, in the order of their first records.
func (h *History) findQueueMoves(state *replayState) (moves []*queueMove) {
	type key struct {
		queue  [12]byte // what an extent's id has of the queue's
		commit LSN
	}
	found := map[key]*queueMove{}
	for _, x := range h.extents {
		if x.commit.IsZero() || !x.happens(state.of(h.queueOf(x.id)), LSN{}) {
			continue
		}
		k := key{[12]byte(x.id[8:]), x.commit}
		if found[k] == nil {
			found[k] = &queueMove{first: x.lsn, commit: x.commit, changes: h.changesOf(x.id, x.commit)}
			moves = append(moves, found[k])
		}
	}
	slices.SortFunc(moves, func(a, b *queueMove) int { return cmp.Or(a.first.Compare(b.first), a.commit.Compare(b.commit)) })
	return moves
}

// changesOf are the changes that the transaction with that commit made to the queue to which an extent belongs.
func (h *History) changesOf(extent FileID, commit LSN) (changes []*fileChange) {
	for _, f := range h.files {
		for _, c := range f.changes {
			if ownsExtent(f.id, extent) && c.commit == commit {
				changes = append(changes, c)
			}
		}
	}
	return changes
}

// ownsExtent reports whether an extent's id, of which the first 8 bytes are zeros and its number, is made from the queue's.
func ownsExtent(queue, extent FileID) bool { return bytes.Equal(queue[8:], extent[8:]) }

// queueOf is the queue to which an extent belongs.
func (h *History) queueOf(extent FileID) *fileLife {
	for _, f := range h.files {
		if ownsExtent(f.id, extent) && !f.placeholder {
			return f
		}
	}
	return nil
}

// check finds a queue that does not exist yet where the cut is.
func (cut queueCut) check() error {
	for _, c := range cut.changes {
		if c.what == changeCreate {
			return &QueueError{LSN: c.lsn, Name: c.to}
		}
	}
	return nil
}
