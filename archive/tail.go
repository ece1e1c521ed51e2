package archive

import (
	"slices"

	"github.com/zeebo/blake3"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
)

// A log file that is written slowly is sent in thousands of small tails, and a restore would have to fetch each of them. So now and then a segment begins
// not where the last one ended but further back, and takes in a row of tails: the log file is here, so nothing is read back. Readers take the segment that
// reaches farthest and skip those that it covers.
//
// Tails are of a size class: the first up to mergeUnit bytes, each further one mergeRow times as large. As soon as the tails at the end of the file that
// are of class c or below are mergeRow times c+1 or more, they become one. That leaves less than mergeRow tails per class; a byte of log is sent
// about once per class; and how the log is stored says all that has to be known for it, whoever stored it.
const (
	mergeUnit = 1 << 10
	mergeRow  = 32
)

func sizeClass(n uint32) (class int) {
	for limit := uint64(mergeUnit); uint64(n) > limit; limit *= mergeRow {
		class++
	}
	return class
}

// part is a segment of the row that readers follow through a log file: what it adds to the one before it.
type part struct {
	start, end uint32
	before     *blake3.Hasher // of the log file's bytes before start; nil: not known
}

// tail is how the log file with which the stored log ends is stored, as far as later segments depend on it.
type tail struct {
	parts []part // ascending, without gaps, from 0 to the end
	// near is the place of a record shortly before the end, and the hash of what stands before it. It is read again with what is new: proof that what is
	// new continues what is stored.
	near mark
}

// mark is a place between two records of a log file, with the hash of all bytes before it.
type mark struct {
	at  uint32
	sum *blake3.Hasher
}

func fileStart() mark { return mark{sum: blake3.New()} }

// rowOf makes the parts of a file out of the segments that a reader would choose.
func rowOf(file uint32, chosen []manifest.SegmentName) (row []part) {
	end := uint32(0)
	for _, n := range chosen {
		if n.File == file && n.End > end {
			row = append(row, part{start: end, end: n.End})
			end = n.End
		}
	}
	return row
}

// next is where the next segment begins.
func (t *tail) next() mark {
	if len(t.parts) == 0 {
		return fileStart()
	}
	from := len(t.parts)
	class, count := 0, 1 // the one that is to come, however large
	for i := len(t.parts) - 1; i >= 0; i-- {
		class = max(class, sizeClass(t.parts[i].end-t.parts[i].start))
		if count++; count >= mergeRow*(class+1) {
			from = i
		}
	}
	if from == len(t.parts) {
		return mark{at: t.end()}
	}
	return mark{t.parts[from].start, t.parts[from].before}
}

// add takes in a segment that was stored.
func (t *tail) add(p part, near mark) {
	i := slices.IndexFunc(t.parts, func(q part) bool { return q.start >= p.start })
	if i >= 0 {
		t.parts = slices.Delete(t.parts, i, len(t.parts))
	}
	t.parts = append(t.parts, p)
	t.near = near
}

// end is where the file's stored part ends.
func (t *tail) end() uint32 {
	if len(t.parts) == 0 {
		return 0
	}
	return t.parts[len(t.parts)-1].end
}

// nearBytes is about how far before the end of what is stored the proof begins.
const nearBytes = 64 << 10

// prover hashes the bytes of a log file as its records are walked, and remembers a place shortly before the end.
type prover struct {
	sum  *blake3.Hasher
	at   uint32
	near mark
}

func newProver(from mark) *prover {
	return &prover{sum: from.sum.Clone(), at: from.at, near: mark{from.at, from.sum.Clone()}}
}

func (p *prover) record(r *bdb.Record) { p.bytes(r.Raw) }

func (p *prover) bytes(b []byte) {
	if p.at-p.near.at >= nearBytes {
		p.near = mark{p.at, p.sum.Clone()}
	}
	p.sum.Write(b)
	p.at += uint32(len(b))
}

func (p *prover) hash() (h manifest.Hash) {
	p.sum.Sum(h[:0])
	return h
}
