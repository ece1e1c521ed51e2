package localenv

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"bdbvault/localenv/bdb"
)

// benchSize is how much a benchmark reads, all of it in the page cache.
const benchSize = 256 << 20

// benchFile is a plain btree file.
func benchFile(b *testing.B, dir string) string {
	b.Helper()
	data := make([]byte, benchSize)
	rnd := rand.New(rand.NewPCG(1, 1))
	for at := 0; at < len(data); at += 8 {
		binary.LittleEndian.PutUint64(data[at:], rnd.Uint64())
	}
	const pageSize = 8192
	for at := 0; at < len(data); at += pageSize {
		forgePage(data[at:at+pageSize], uint32(at/pageSize))
	}
	path := filepath.Join(dir, "bench.db")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		b.Fatal(err)
	}
	return path
}

// BenchmarkRead compares a Source, which reads twice, compares and checks, with reading once.
func BenchmarkRead(b *testing.B) {
	for _, parent := range []string{os.TempDir(), "/dev/shm"} {
		dir, err := os.MkdirTemp(parent, "bdbvault-bench-")
		if err != nil {
			b.Fatal(err)
		}
		defer os.RemoveAll(dir)
		benchFile(b, dir)
		s, err := (&Env{Dirs: []Dir{{".", dir}}}).OpenFile(File{Path: "bench.db"})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		if s.Kind() != bdb.KindBtree {
			b.Fatal(s.Kind())
		}
		buf := make([]byte, 1<<20)
		benchWay(b, "plain"+parent, func(off int64) error {
			_, err := s.f.ReadAt(buf, off)
			return err
		})
		benchWay(b, "source"+parent, func(off int64) error {
			_, st, err := s.ReadAt(context.Background(), buf, off)
			if st.Damaged > 0 {
				b.Fatal(st)
			}
			return err
		})
	}
}

func benchWay(b *testing.B, name string, read func(off int64) error) {
	b.Run(name, func(b *testing.B) {
		b.SetBytes(benchSize)
		b.ReportAllocs()
		for b.Loop() {
			for off := int64(0); off < benchSize; off += 1 << 20 {
				if err := read(off); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
