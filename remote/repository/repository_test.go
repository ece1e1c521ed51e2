package repository_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/file"
	"bdbvault/remote/repository"
)

func open(t *testing.T) (*repository.Repository, *remote.Bucket) {
	t.Helper()
	drv, err := file.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := remote.New(drv, remote.Options{RetryFor: -1})
	if _, err := repository.Open(t.Context(), b); !errors.Is(err, repository.ErrNone) {
		t.Fatalf("open where there is none: %v", err)
	}
	if _, err := repository.Init(t.Context(), b, "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := repository.Init(t.Context(), b, "test"); !errors.Is(err, repository.ErrExists) {
		t.Fatalf("made twice: %v", err)
	}
	r, err := repository.Open(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return r, b
}

func put(t *testing.T, b *remote.Bucket, key string, data []byte) {
	t.Helper()
	if err := repository.PutOnce(t.Context(), b, key, data); err != nil {
		t.Fatal(err)
	}
}

func TestEnvironments(t *testing.T) {
	r, b := open(t)
	for _, key := range []string{"a/backups/x", "a/maps/y", "a-b/logs/z", "a.b/packs/00/z", "a0/packs/00/z", "a00/packs/00/z", "probe-x", "a b/x"} {
		put(t, b, key, nil)
	}
	names, err := r.Environments(t.Context())
	if err != nil || !slices.Equal(names, []string{"a-b", "a.b", "a", "a0", "a00"}) {
		t.Errorf("%q %v", names, err)
	}
}

// TestObjectsUnderWrongNames: a whole and valid object that lies where another belongs is damage.
func TestObjectsUnderWrongNames(t *testing.T) {
	ctx := t.Context()
	r, b := open(t)
	m := manifest.New("mail", "20261120T053012Z-4f3a")
	m.Timeline, m.Look, m.Dirs = manifest.Timeline{1}, time.Now(), []manifest.Dir{{Name: "."}}
	m.NeededFrom, m.ConsistentAt = bdb.LSN{File: 1}, bdb.LSN{File: 1, Offset: 9}
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	put(t, b, manifest.ManifestKey("mail", m.ID), data)
	put(t, b, manifest.ManifestKey("mail", "20261120T053013Z-4f3a"), data)
	list, err := r.Backups(ctx, "mail", "")
	if err != nil || len(list) != 2 {
		t.Fatalf("%v %v", list, err)
	}
	if _, err := r.Manifest(ctx, "mail", list[0]); err != nil {
		t.Error(err)
	}
	if _, err := r.Manifest(ctx, "mail", list[1]); !errors.Is(err, manifest.ErrDamaged) {
		t.Errorf("a manifest under another's name: %v", err)
	}
	late := list[0]
	late.Stored = m.Look.Add(r.Info.Grace())
	var void *repository.VoidError
	if _, err := r.Manifest(ctx, "mail", late); !errors.As(err, &void) {
		t.Errorf("a manifest stored too late: %v", err)
	}

	h := &manifest.SegmentHeader{Environment: "mail", Timeline: m.Timeline, File: 1, End: 7}
	var segment bytes.Buffer
	if err := manifest.WriteSegment(&segment, h, strings.NewReader("records")); err != nil {
		t.Fatal(err)
	}
	wrong := h.Name()
	wrong.LastCommit = 5
	for _, n := range []manifest.SegmentName{h.Name(), wrong} {
		put(t, b, n.Key("mail"), segment.Bytes())
		_, herr := r.SegmentHeader(ctx, "mail", n)
		_, cerr := r.CopySegment(ctx, "mail", n, io.Discard)
		if want := n == wrong; errors.Is(herr, manifest.ErrDamaged) != want || errors.Is(cerr, manifest.ErrDamaged) != want {
			t.Errorf("%s: header %v, records %v", n, herr, cerr)
		}
	}
	put(t, b, manifest.MapKey("mail", manifest.Hash{1}), []byte("not that"))
	if _, err := r.CopyMap(ctx, "mail", manifest.Hash{1}, io.Discard); !errors.Is(err, manifest.ErrDamaged) {
		t.Errorf("a map under another's name: %v", err)
	}
}
