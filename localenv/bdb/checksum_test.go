package bdb

import (
	"math/rand/v2"
	"testing"
)

// plainChecksum is the definition, byte by byte.
func plainChecksum(data []byte) (h uint32) {
	for _, b := range data {
		h = h*33 + uint32(b)
	}
	return h
}

func randomBytes(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

func TestChecksumMatchesDefinition(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := range 200 {
		data := randomBytes(rnd, n)
		if got, want := Checksum(data), plainChecksum(data); got != want {
			t.Errorf("Checksum of %d bytes = %#x, want %#x", n, got, want)
		}
	}
	full := make([]byte, 4096)
	for i := range full {
		full[i] = 0xff // every lane at its largest
	}
	if got, want := Checksum(full), plainChecksum(full); got != want {
		t.Errorf("Checksum of ones = %#x, want %#x", got, want)
	}
}

func TestChecksumInParts(t *testing.T) {
	data := randomBytes(rand.New(rand.NewPCG(3, 4)), 300)
	for _, hole := range []int{0, 1, 4, 20} {
		for at := 0; at+hole <= len(data); at += 7 {
			zeroed := append([]byte(nil), data...)
			clear(zeroed[at : at+hole])
			h := UpdateChecksum(SkipChecksum(UpdateChecksum(0, data[:at]), hole), data[at+hole:])
			if h != plainChecksum(zeroed) {
				t.Fatalf("parts around %d zero bytes at %d differ from the whole", hole, at)
			}
		}
	}
}

func BenchmarkChecksum(b *testing.B) {
	page := randomBytes(rand.New(rand.NewPCG(5, 6)), 8192)
	b.SetBytes(int64(len(page)))
	for b.Loop() {
		Checksum(page)
	}
}
