package restore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/file"
	"bdbvault/remote/repository"
)

// TestUploaded counts what a backup added to its parent's objects.
func TestUploaded(t *testing.T) {
	a, b, c := manifest.Hash{1}, manifest.Hash{2}, manifest.Hash{3}
	parent := &manifest.Manifest{ID: "p", Packs: []manifest.Pack{{Name: a, Size: 10}}, Files: []manifest.File{{Map: b, MapSize: 1}}}
	m := &manifest.Manifest{Parent: "p", Packs: []manifest.Pack{{Name: a, Size: 10}, {Name: c, Size: 5}}, Files: []manifest.File{{Map: b, MapSize: 1}, {Map: c, MapSize: 2}}}
	if n := uploaded(m, parent); n != 7 {
		t.Errorf("uploaded %d, want 7", n)
	}
	if n := uploaded(parent, nil); n != 11 {
		t.Errorf("uploaded %d, want 11", n)
	}
}

// stock is a repository of environment "test" in a directory, for tests that put into it what they like.
type stock struct {
	t      testing.TB
	repo   *repository.Repository
	bucket *remote.Bucket
	dir    string // of the store, if it is a directory
}

func newStock(t testing.TB) *stock {
	t.Helper()
	dir := t.TempDir()
	drv, err := file.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := initStock(t, remote.New(drv, remote.Options{RetryFor: -1}))
	s.dir = dir
	return s
}

func initStock(t testing.TB, b *remote.Bucket) *stock {
	t.Helper()
	repo, err := repository.Init(t.Context(), b, "test")
	if err != nil {
		t.Fatal(err)
	}
	return &stock{t: t, repo: repo, bucket: b}
}

func (s *stock) put(key string, data []byte) {
	s.t.Helper()
	if s.dir != "" { // without waiting for the disk
		path := filepath.Join(s.dir, key)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600)); err != nil {
			s.t.Fatal(err)
		}
		return
	}
	err := s.bucket.Put(s.t.Context(), key, bytes.NewReader(data), int64(len(data)), remote.PutOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
}

// full puts the manifest of a backup without files that needs the log from its consistent-at's file on.
func (s *stock) full(line manifest.Timeline, started time.Time, at bdb.LSN, commit time.Time) manifest.BackupID {
	s.t.Helper()
	m := manifest.New("test", manifest.BackupID(started.UTC().Format("20060102T150405Z")+"-4f3a"))
	m.Timeline, m.Started, m.Finished, m.Look = line, started, started.Add(time.Second), time.Now()
	m.Dirs, m.LogDir = []manifest.Dir{{Name: "."}}, "."
	m.NeededFrom, m.BegunAt, m.ConsistentAt, m.ConsistentTime = bdb.LSN{File: at.File, Offset: 28}, at, at, commit
	data, err := m.Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	s.put(manifest.ManifestKey("test", m.ID), data)
	return m.ID
}

// names puts segments that have nothing but their names.
func (s *stock) names(list ...manifest.SegmentName) {
	s.t.Helper()
	for _, n := range list {
		s.put(n.Key("test"), nil)
	}
}

func TestReadHistory(t *testing.T) {
	s := newStock(t)
	old, now := manifest.Timeline{9}, manifest.Timeline{1}
	noon := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	at := func(min int) time.Time { return noon.Add(time.Duration(min) * time.Minute) }
	seg := func(line manifest.Timeline, file, start, end uint32, min int, sealed bool) manifest.SegmentName {
		return manifest.SegmentName{Timeline: line, File: file, Start: start, End: end, LastCommit: at(min).Unix(), Sealed: sealed}
	}
	first := s.full(old, at(0), bdb.LSN{File: 3, Offset: 100}, at(0))
	lost := s.full(old, at(10), bdb.LSN{File: 4, Offset: 900}, at(10)) // its log is not all there
	second := s.full(now, at(20), bdb.LSN{File: 1, Offset: 500}, at(20))
	third := s.full(now, at(30), bdb.LSN{File: 2, Offset: 200}, at(30))
	s.put("test/backups/20261120T130000Z-0000.json", []byte("{"))
	s.names(seg(old, 3, 0, 400, 5, true), seg(old, 4, 0, 300, 8, false), seg(old, 4, 700, 950, 11, true), seg(old, 5, 0, 50, 12, false),
		seg(now, 1, 0, 500, 20, false), seg(now, 1, 0, 800, 25, true), seg(now, 2, 0, 100, 28, false), seg(now, 2, 100, 400, 40, false))
	h, err := ReadHistory(t.Context(), s.repo, "")
	if err != nil {
		t.Fatal(err)
	}
	want := []Range{
		{Timeline: old, From: bdb.LSN{File: 3, Offset: 100}, To: bdb.LSN{File: 4, Offset: 300}, FromTime: at(0), ToTime: at(8), Backups: []manifest.BackupID{first}},
		{Timeline: now, From: bdb.LSN{File: 1, Offset: 500}, To: bdb.LSN{File: 2, Offset: 400}, FromTime: at(20), ToTime: at(40), Backups: []manifest.BackupID{second, third}},
	}
	if got := fmt.Sprint(h.Ranges); got != fmt.Sprint(want) {
		t.Errorf("ranges\n%v, want\n%v", got, fmt.Sprint(want))
	}
	var states []string
	for _, b := range h.Backups {
		states = append(states, b.State)
	}
	if !slices.Equal(states, []string{StateOK, StateGap, StateOK, StateOK, StateDamaged}) || h.Backups[1].ID != lost {
		t.Errorf("states %v", states)
	}
	if len(h.Timelines) != 2 || h.Timelines[1].Segments != 3 || h.Timelines[1].Timeline != now {
		t.Fatalf("timelines %+v", h.Timelines)
	}
	if got := fmt.Sprint(h.Timelines[0].Gaps()); got != fmt.Sprint([]Gap{{old, bdb.LSN{File: 4, Offset: 300}, bdb.LSN{File: 4, Offset: 700}}}) {
		t.Errorf("gaps %v", got)
	}
}
