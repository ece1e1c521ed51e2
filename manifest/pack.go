package manifest

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"hash"
	"slices"
)

const (
	packMagic = "BDBVPAK1"
	// PackHeader is the number of bytes before a pack's first chunk: magic and salt.
	PackHeader = len(packMagic) + saltSize
	// PackTarget is the size at which a pack is closed.
	PackTarget = 16 << 20
)

// PackWriter builds one pack in a buffer that the caller owns.
type PackWriter struct {
	buf []byte
	sum hash.Hash
}

// NewPackWriter begins a pack with a fresh salt in buf's storage.
func NewPackWriter(buf []byte) *PackWriter {
	p := &PackWriter{buf: append(buf[:0], packMagic...), sum: sha256.New()}
	p.buf = append(p.buf, make([]byte, saltSize)...)
	rand.Read(p.buf[len(packMagic):])
	p.sum.Write(p.buf)
	return p
}

// Add appends a chunk, one zstd frame, and returns its offset.
func (p *PackWriter) Add(frame []byte) int64 {
	at := int64(len(p.buf))
	p.buf = append(p.buf, frame...)
	p.sum.Write(frame)
	return at
}

// Size is the number of bytes so far.
func (p *PackWriter) Size() int64 { return int64(len(p.buf)) }

// Finish returns the pack's name and bytes. Nothing may be added afterwards.
func (p *PackWriter) Finish() (Hash, []byte) {
	var h Hash
	p.sum.Sum(h[:0])
	return h, p.buf
}

// Retire picks the packs of a backup whose blocks its successor should store anew: those of whose chunks less than half is in use, worst first,
// and at most a tenth of all that is in use, so that no single backup pays for all. One may always go: it holds less than half of PackTarget.
func Retire(packs []Pack) []Hash {
	var all int64
	var worst []Pack
	for _, p := range packs {
		all += p.Live
		if p.Live < (p.Size-int64(PackHeader))/2 {
			worst = append(worst, p)
		}
	}
	slices.SortFunc(worst, func(a, b Pack) int {
		return cmp.Or(cmp.Compare(float64(a.Live)/float64(a.Size), float64(b.Live)/float64(b.Size)), bytes.Compare(a.Name[:], b.Name[:]))
	})
	var names []Hash
	budget := all / 10
	for _, p := range worst {
		if budget -= p.Live; budget < 0 && len(names) > 0 {
			break
		}
		names = append(names, p.Name)
	}
	return names
}
