package archive_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"bdbvault/archive"
	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/file"
	"bdbvault/remote/minio"
	"bdbvault/remote/remotetest"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

const (
	scaleEach   = 100  // new packs of a backup
	scaleShared = 3000 // packs that it names
	scaleFiles  = 30
)

// TestPruneScale plans over many backups and packs: 1,000 and 100,000 with BDBVAULT_TORTURE, in a directory and in MinIO; a tenth of each without, in a
// directory, and a fiftieth in MinIO.
func TestPruneScale(t *testing.T) {
	full := os.Getenv("BDBVAULT_TORTURE") != ""
	scale := func(backups int) int {
		if full {
			return 1000
		}
		return backups
	}
	t.Run("directory", func(t *testing.T) {
		dir := t.TempDir()
		drv, err := file.New(dir)
		if err != nil {
			t.Fatal(err)
		}
		planAtScale(t, drv, scale(100), full, func(key string, data []byte) error {
			name := filepath.Join(dir, key)
			if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
				return err
			}
			return os.WriteFile(name, data, 0o600)
		})
	})
	t.Run("MinIO", func(t *testing.T) {
		server := remotetest.MinIO(t)
		drv, err := minio.New(t.Context(), server.Config(server.NewBucket()))
		if err != nil {
			t.Fatal(err)
		}
		planAtScale(t, drv, scale(20), full, func(key string, data []byte) error {
			return drv.Put(t.Context(), key, bytes.NewReader(data), int64(len(data)), remote.PutOptions{})
		})
	})
}

func planAtScale(t *testing.T, drv remote.Driver, backups int, full bool, put func(key string, data []byte) error) {
	bucket := remote.New(drv, remote.Options{RetryFor: -1})
	repo, err := repository.Init(t.Context(), bucket, "test")
	if err != nil {
		t.Fatal(err)
	}
	g := errgroup.Group{}
	g.SetLimit(8)
	now := time.Now().UTC()
	for i := range backups {
		g.Go(func() error { return putScaled(put, i, now.Add(time.Duration(i-backups)*time.Hour), now) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	debug.FreeOSMemory()
	peak, stop := memoryPeak()
	began, cpu := time.Now(), cpuTime(t)
	var listed time.Duration
	res, err := archive.Prune(t.Context(), repo, archive.PruneOptions{Env: "test", Policy: manifest.Policy{Last: backups * 19 / 20}, DryRun: true, Step: func(string) error {
		listed = time.Since(began)
		return nil
	}})
	took := time.Since(began)
	cpu = cpuTime(t) - cpu
	stop()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d packs and %d manifests are planned in %v, listing in %v of that, with %v of CPU, %d MiB and %+v requests", backups*scaleEach, backups,
		took.Round(time.Millisecond), listed.Round(time.Millisecond), cpu.Round(time.Millisecond), *peak>>20, bucket.Stats().Requests)
	want := max(0, backups/20*scaleEach-scaleShared+scaleEach)
	if res.Condemned.Packs != want || res.Condemned.Backups != backups/20 {
		t.Errorf("condemned: %+v, want %d packs", res.Condemned, want)
	}
	if *peak > 300<<20 || full && took > 30*time.Second {
		t.Error("that is too much")
	}
	verifyAtScale(t, repo, backups)
}

// verifyAtScale looks through the same, which no backup is too many for either.
func verifyAtScale(t *testing.T, repo *repository.Repository, backups int) {
	debug.FreeOSMemory()
	peak, stop := memoryPeak()
	began, cpu := time.Now(), cpuTime(t)
	res, err := restore.Verify(t.Context(), repo, restore.VerifyOptions{Env: "test"})
	took := time.Since(began)
	cpu = cpuTime(t) - cpu
	stop()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("they are verified in %v, with %v of CPU and %d MiB", took.Round(time.Millisecond), cpu.Round(time.Millisecond), *peak>>20)
	if !res.Sound() || len(res.Backups) != backups || res.Objects < backups*(scaleEach+2) {
		t.Errorf("%d objects, %d backups, damage %v, gaps %v", res.Objects, len(res.Backups), res.Damage, res.Gaps)
	}
	if *peak > 300<<20 {
		t.Error("that is too much")
	}
}

// putScaled stores one backup of an environment of 30 files that names the newest of its packs, each of which holds blocks of two files.
func putScaled(put func(key string, data []byte) error, i int, began, look time.Time) error {
	m := manifest.New("test", manifest.NewBackupID(began))
	m.Timeline, m.Dirs, m.Look, m.Finished = manifest.Timeline{1}, []manifest.Dir{{Name: "."}}, look, m.ID.Time()
	m.NeededFrom, m.ConsistentAt = bdb.LSN{File: uint32(i + 1)}, bdb.LSN{File: uint32(i + 1), Offset: 50}
	n := manifest.SegmentName{Timeline: m.Timeline, File: uint32(i + 1), End: 100, LastCommit: m.Finished.Unix(), Sealed: true}
	if err := put(n.Key("test"), []byte("r")); err != nil {
		return err
	}
	m.Files = make([]manifest.File, scaleFiles)
	for f := range m.Files {
		m.Files[f] = manifest.File{Path: "data/file" + strconv.Itoa(f) + ".db", PageSize: 4096, BlockSize: 4096, Map: manifest.Hash{0xaa, byte(f)}, MapSize: 1}
		if i == 0 {
			if err := put(manifest.MapKey("test", m.Files[f].Map), []byte("m")); err != nil {
				return err
			}
		}
	}
	for k := max(0, (i+1)*scaleEach-scaleShared); k < (i+1)*scaleEach; k++ {
		p := manifest.Pack{Size: 1, Live: 1}
		binary.BigEndian.PutUint64(p.Name[:], uint64(k)*0x9e3779b97f4a7c15)
		binary.BigEndian.PutUint64(p.Name[24:], uint64(k)*0x9e3779b97f4a7c15)
		for f := range 2 {
			m.Files[(k+f)%scaleFiles].Uses = append(m.Files[(k+f)%scaleFiles].Uses, manifest.PackUse{Pack: len(m.Packs), Live: 1 << 20})
		}
		m.Packs = append(m.Packs, p)
		if k >= i*scaleEach {
			if err := put(manifest.PackKey("test", p.Name), []byte("p")); err != nil {
				return err
			}
		}
	}
	data, err := m.Encode()
	if err != nil {
		return err
	}
	return put(manifest.ManifestKey("test", m.ID), data)
}

// cpuTime is what this process has used.
func cpuTime(t *testing.T) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// memoryPeak watches how much memory the program has from the system, until stopped.
func memoryPeak() (peak *uint64, stop func()) {
	peak = new(uint64)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			*peak = max(*peak, m.Sys-m.HeapReleased)
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
