package localenv

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"bdbvault/localenv/bdb"
)

// benchFile is a plain btree file of 1 GiB in the page cache.
func benchFile(b *testing.B, dir string) string {
	path := filepath.Join(dir, "bench.db")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	const pageSize = 8192
	buf := make([]byte, 1<<20)
	rnd := rand.New(rand.NewPCG(1, 1))
	pgno := uint32(0)
	for range 1024 {
		for i := range buf {
			buf[i] = byte(rnd.Uint32())
		}
		for at := 0; at < len(buf); at += pageSize {
			forgePage(buf[at:at+pageSize], pgno)
			pgno++
		}
		if _, err := f.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	f.Sync()
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return path
}

func BenchmarkRead(b *testing.B) {
	for _, dir := range []string{b.TempDir(), "/dev/shm"} {
		path := benchFile(b, dir)
		defer os.Remove(path)
		s, err := (&Env{Dirs: []Dir{{".", dir}}}).OpenFile(File{Path: "bench.db"})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		if s.Kind() != bdb.KindBtree {
			b.Fatal(s.Kind())
		}
		buf := make([]byte, 1<<20)
		b.Run("plain "+dir, func(b *testing.B) {
			b.SetBytes(1 << 30)
			for b.Loop() {
				for off := int64(0); off < 1<<30; off += int64(len(buf)) {
					s.f.ReadAt(buf, off)
				}
			}
		})
		b.Run("ReadAt "+dir, func(b *testing.B) {
			b.SetBytes(1 << 30)
			b.ReportAllocs()
			for b.Loop() {
				for off := int64(0); off < 1<<30; off += int64(len(buf)) {
					n, st, err := s.ReadAt(context.Background(), buf, off)
					if err != nil || n < len(buf) || len(st.Bad) > 0 {
						b.Fatal(n, st, err)
					}
				}
			}
		})
	}
}
