package main

import (
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestFillerShrinks(t *testing.T) {
	for _, want := range []float64{2, 3, 4} {
		f := newFiller(want)
		var all []byte
		for n := range uint64(20000) {
			all = append(all, f.record(nil, 1, n, 400)...)
		}
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			t.Fatal(err)
		}
		small := len(enc.EncodeAll(all, nil))
		t.Logf("ratio wanted %v, got %.2f", want, float64(len(all))/float64(small))
	}
}

func BenchmarkFiller(b *testing.B) {
	f := newFiller(3)
	buf := make([]byte, 400)
	b.SetBytes(400)
	for b.Loop() {
		r := seeded(1, 2)
		f.fill(buf, &r)
	}
}
