package restore

import (
	"math/bits"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
)

// touched gathers which pages of the backup's databases the log changes: recovery will read them. It is a bit for each page of a database
// that the log changes.
type touched struct {
	files map[[partialID]byte]*manifest.File // databases of the backup; of some only the first part of the id is known
	ids   map[int32][partialID]byte          // by the short numbers that records use, as they are bound at the moment
	pages map[*manifest.File]bitmap
}

func newTouched(m *manifest.Manifest) *touched {
	t := &touched{files: map[[partialID]byte]*manifest.File{}, ids: map[int32][partialID]byte{}, pages: map[*manifest.File]bitmap{}}
	for i := range m.Files {
		if f := &m.Files[i]; !f.FileID.IsZero() && f.Kind != bdb.KindQueueExtent {
			t.files[firstPart(f.FileID)] = f
		}
	}
	return t
}

// add takes the next record of the log.
func (t *touched) add(r *bdb.Record) {
	if g, ok := r.Register(); ok {
		t.ids[g.Index] = firstPart(g.ID)
		return
	}
	p, ok := r.Pages()
	if !ok {
		return
	}
	f := t.files[t.ids[p.Index]]
	if f == nil {
		return // not in the backup
	}
	count := f.Size / int64(f.PageSize)
	set := t.pages[f]
	if set == nil {
		set = newBitmap(count)
		t.pages[f] = set
	}
	for _, n := range p.Number[:p.Count] {
		if int64(n) < count { // others are beyond the copy, or in an extent
			set.add(int64(n))
		}
	}
}

// stretch is a range of a file, in bytes.
type stretch struct{ off, length int64 }

// reads are the stretches of a file that hold its touched pages. Reading on is cheaper than beginning anew after a gap of less than gap.
func (t *touched) reads(f *manifest.File, gap int64) (list []stretch) {
	size := int64(f.PageSize)
	for i, word := range t.pages[f] {
		for ; word != 0; word &= word - 1 {
			off := (int64(i)*64 + int64(bits.TrailingZeros64(word))) * size
			if k := len(list) - 1; k >= 0 && off-(list[k].off+list[k].length) < gap {
				list[k].length = off + size - list[k].off
				continue
			}
			list = append(list, stretch{off, size})
		}
	}
	return list
}
