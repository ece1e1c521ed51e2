package main

import (
	"testing"

	"github.com/klauspost/compress/zstd"
)

// The benchmarks rest on content that compresses as told.
func TestFillerShrinks(t *testing.T) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []float64{1.5, 2, 3, 4} {
		f := newFiller(want)
		var all []byte
		for n := range uint64(10000) {
			all = append(all, f.record(nil, 1, n, 400)...)
		}
		if got := float64(len(all)) / float64(len(enc.EncodeAll(all, nil))); got < 0.85*want || got > 1.15*want {
			t.Errorf("content shrinks %.2f-fold, want %v", got, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"7": 7, "1.5KiB": 1536, "50MiB": 50 << 20, "2GiB": 2 << 30} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "3 MiB", "3MB", "1iB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}
