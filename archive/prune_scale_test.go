package archive_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/file"
	"bdbvault/remote/repository"
)

// TestPruneScale plans over many backups and packs: 1,000 and 100,000 with BDBVAULT_TORTURE, a tenth of each without.
func TestPruneScale(t *testing.T) {
	backups := 100
	if n, _ := strconv.Atoi(os.Getenv("BDBVAULT_TORTURE")); n > 1 {
		backups = 1000
	}
	const each, shared = 100, 3000 // new packs of a backup, and how many it names
	dir := t.TempDir()
	drv, err := file.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	bucket := remote.New(drv, remote.Options{RetryFor: -1})
	repo, err := repository.Init(t.Context(), bucket, "test")
	if err != nil {
		t.Fatal(err)
	}
	write := func(key string, data []byte) {
		name := filepath.Join(dir, key)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now().UTC()
	var packs []manifest.Pack
	for i := range backups {
		m := manifest.New("test", manifest.NewBackupID(now.Add(time.Duration(i-backups)*time.Hour)))
		m.Timeline, m.Dirs, m.Look, m.Finished = manifest.Timeline{1}, []manifest.Dir{{Name: "."}}, now, m.ID.Time()
		m.NeededFrom, m.ConsistentAt = bdb.LSN{File: uint32(i + 1)}, bdb.LSN{File: uint32(i + 1), Offset: 50}
		n := manifest.SegmentName{Timeline: m.Timeline, File: uint32(i + 1), End: 100, LastCommit: m.Finished.Unix(), Sealed: true}
		write(n.Key("test"), []byte("r"))
		for k := range each {
			p := manifest.Pack{Size: 1, Live: 1}
			binary.BigEndian.PutUint64(p.Name[:], uint64(i*each+k)*0x9e3779b97f4a7c15)
			packs = append(packs, p)
			write(manifest.PackKey("test", p.Name), []byte("p"))
		}
		m.Packs = packs[max(0, len(packs)-shared):]
		data, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		write(manifest.ManifestKey("test", m.ID), data)
	}
	runtime.GC()
	peak, stop := heapPeak()
	began := time.Now()
	res, err := archive.Prune(t.Context(), repo, archive.PruneOptions{Env: "test", Policy: manifest.Policy{Last: backups / 2}, DryRun: true})
	took := time.Since(began)
	stop()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d packs and %d manifests are planned in %v and %d MiB of heap", len(packs), backups, took.Round(time.Millisecond), *peak>>20)
	if want := backups / 2 * each; res.Condemned.Packs != want-shared+each || res.Condemned.Backups != backups/2 {
		t.Errorf("condemned: %+v, want %d packs", res.Condemned, want-shared+each)
	}
	if took > 30*time.Second || *peak > 300<<20 {
		t.Error("that is too much")
	}
}

// heapPeak watches how much memory the program has from the system, until stopped.
func heapPeak() (peak *uint64, stop func()) {
	peak = new(uint64)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			*peak = max(*peak, m.HeapInuse+m.StackInuse)
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	}()
	return peak, func() { close(done); <-ended }
}
