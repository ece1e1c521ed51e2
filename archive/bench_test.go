package archive_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/file"
	"bdbvault/remote/repository"
)

// discard is a store that keeps of packs only the name and the size, so that a benchmark measures the way out and not a disk.
type discard struct {
	remote.Driver
	packs map[string]int64
}

func (d *discard) Put(ctx context.Context, key string, body io.ReaderAt, size int64, opt remote.PutOptions) error {
	if size < 1<<20 {
		return d.Driver.Put(ctx, key, body, size, opt)
	}
	return d.Driver.Put(ctx, key, io.NewSectionReader(zeroReader{}, 0, size), size, remote.PutOptions{})
}

type zeroReader struct{}

func (zeroReader) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

// BenchmarkFullBackup measures the way out, from the page cache to finished packs, in bytes of databases. BDBVAULT_BENCH_HOME names an
// environment to take instead of a small one made here.
func BenchmarkFullBackup(b *testing.B) {
	home := os.Getenv("BDBVAULT_BENCH_HOME")
	if home == "" {
		home = filepath.Join(b.TempDir(), "home")
		envtest.Create(b, home, envtest.Spec{Databases: []envtest.Database{
			{File: "a.db", Method: "btree", PageSize: 8192, Bytes: 64 << 20, ValueSize: 400},
			{File: "b.db", Method: "btree", PageSize: 16384, Bytes: 64 << 20, ValueSize: 1200, Checksum: true},
		}})
	}
	env, err := localenv.Open(home, nil)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		drv, err := file.New(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		repo, err := repository.Init(b.Context(), remote.New(&discard{Driver: drv}, remote.Options{RetryFor: time.Second}), "bench")
		if err != nil {
			b.Fatal(err)
		}
		res, err := archive.Backup(b.Context(), repo, env, archive.BackupOptions{Env: "bench", StateDir: b.TempDir(), BulkSafe: archive.BulkOff})
		if err == nil || res != nil {
			b.SetBytes(total(res.Manifest))
			continue
		}
		b.Fatal(err)
	}
}

func total(m *manifest.Manifest) int64 { return m.Bytes() }
