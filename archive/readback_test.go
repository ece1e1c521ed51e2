package archive_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"

	"bdbvault/manifest"
)

// readBack is the simplest possible reader of a stored file: block by block, through the map, each hash checked.
func readBack(t *testing.T, b *bench, m *manifest.Manifest, f *manifest.File) []byte {
	t.Helper()
	var object bytes.Buffer
	if _, err := b.repo.CopyMap(t.Context(), m.Environment, f.Map, &object); err != nil {
		t.Fatal(err)
	}
	data := object.Bytes()
	mp, at, err := manifest.ReadMap(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	hashes := data[at:]
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	chunks := make([][]byte, len(mp.Chunks))
	for i, c := range mp.Chunks {
		rc, err := b.repo.Bucket.Open(t.Context(), manifest.PackKey(m.Environment, mp.Packs[c.Pack]), c.Offset, int64(c.Length))
		if err != nil {
			t.Fatal(err)
		}
		frame, err := io.ReadAll(rc)
		rc.Close()
		if err != nil {
			t.Fatal(err)
		}
		if chunks[i], err = dec.DecodeAll(frame, nil); err != nil || len(chunks[i]) != c.Raw {
			t.Fatalf("%s: chunk %d: %d bytes, want %d: %v", f.Path, i, len(chunks[i]), c.Raw, err)
		}
	}
	var out []byte
	for _, r := range mp.Runs {
		for k := range r.Blocks {
			n := min(int64(mp.BlockSize), mp.Size-int64(len(out)))
			if r.Chunk == manifest.Zero {
				out = append(out, make([]byte, n)...)
				continue
			}
			from := (int64(r.Slot) + k) * int64(mp.BlockSize)
			block := chunks[r.Chunk][from : from+n]
			if h := blake3.Sum256(block); !bytes.Equal(h[:], hashes[:manifest.HashSize]) {
				t.Fatalf("%s: the block at %d does not have its hash", f.Path, len(out))
			}
			hashes = hashes[manifest.HashSize:]
			out = append(out, block...)
		}
	}
	return out
}
