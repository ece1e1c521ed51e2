package main

import (
	"encoding/binary"
	"strconv"
)

// random is a small fast generator (splitmix64): content must come back the same from the same seed, on any Go version.
type random uint64

func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below is a number in [0, n).
func (r *random) below(n int) int { return int(r.next() % uint64(n)) }

// seeded mixes several numbers into one generator.
func seeded(parts ...uint64) random {
	var r random
	for _, p := range parts {
		r = random(r.next() ^ p)
	}
	return r
}

// filler writes content that a compressor shrinks by about a given factor: words of a fixed vocabulary, with random bytes between.
type filler struct {
	words [256][]byte
	raw   uint64 // of 256 pieces, how many are eight random bytes
}

func newFiller(ratio float64) *filler {
	f := &filler{raw: rawShare(ratio)}
	r := seeded(20)
	for i := range f.words {
		w := make([]byte, 5+r.below(9))
		for j := range w {
			w[j] = "etaoinshrdlcumwfgypbvk"[r.below(22)]
		}
		w[len(w)-1] = ' '
		f.words[i] = w
	}
	return f
}

// rawShare is measured, not derived: on pages, words alone shrink about fourfold under zstd -1, random bytes not at all.
func rawShare(ratio float64) uint64 {
	const words = 0.267
	if ratio <= 0 {
		ratio = 3
	}
	share := (1/ratio - words) / (1 - words)
	return uint64(256 * min(1, max(0, share)))
}

func (f *filler) fill(dst []byte, r *random) {
	var raw [8]byte
	for len(dst) > 0 {
		x := r.next()
		n := 0
		if x>>8&0xff < f.raw {
			binary.LittleEndian.PutUint64(raw[:], r.next())
			n = copy(dst, raw[:])
		} else {
			n = copy(dst, f.words[x&0xff])
		}
		dst = dst[n:]
	}
}

// record is the value of record n: its number in decimal, then content, size bytes in all if the number fits.
func (f *filler) record(buf []byte, seed, n uint64, size int) []byte {
	buf = strconv.AppendUint(buf[:0], n, 10)
	buf = append(buf, ' ')
	if len(buf) >= size {
		return buf
	}
	start := len(buf)
	buf = append(buf, make([]byte, size-start)...)
	r := seeded(seed, n)
	f.fill(buf[start:], &r)
	return buf
}
