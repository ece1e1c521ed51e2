package repository_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/remotetest"
	"bdbvault/remote/repository"
)

// TestListOfManyPacks: whatever packs there are, and wherever the list is cut, each object is told once.
func TestListOfManyPacks(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b := remote.New(remotetest.NewMemory(func() time.Time { return now }), remote.Options{RetryFor: -1})
	r, err := repository.Init(t.Context(), b, "test")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	add := func(key string) {
		put(t, b, "a/"+key, nil)
		want["a/"+key] = true
	}
	for _, key := range []string{"backups/x", "maps/" + manifest.Hash{1}.String(), "packs/00/odd", "packs/ff/zz", "strange"} {
		add(key)
	}
	put(t, b, "b/packs/00/x", nil)
	for i := range 300 { // many of them begin with ffff
		h := manifest.Hash(sha256.Sum256(fmt.Append(nil, i)))
		if i%3 == 0 {
			h = manifest.Hash{0xff, 0xff, byte(i), byte(i >> 8)}
		}
		add(manifest.PackKey("a", h)[2:])
	}
	for many := range 310 {
		restore := repository.ManyPacks(many + 1)
		var keys, packs []string
		date, err := r.ListEnvironment(t.Context(), "a", func(i remote.Info) error { keys = append(keys, i.Key); return nil })
		if err != nil || !date.Equal(now) {
			t.Fatal(date, err)
		}
		if _, err := r.ListPacks(t.Context(), "a", func(i remote.Info) error { packs = append(packs, i.Key); return nil }); err != nil {
			t.Fatal(err)
		}
		restore()
		if slices.Sort(keys); !slices.Equal(keys, slices.Sorted(maps.Keys(want))) {
			t.Fatalf("%d objects instead of %d, cut behind %d packs", len(keys), len(want), many+1)
		}
		if len(packs) != 302 {
			t.Fatalf("%d packs, cut behind %d", len(packs), many+1)
		}
	}
}

// TestListOfManyPacksStops: an error of one part ends all, and is told.
func TestListOfManyPacksStops(t *testing.T) {
	defer repository.ManyPacks(10)()
	b := remote.New(remotetest.NewMemory(time.Now), remote.Options{RetryFor: -1})
	r, err := repository.Init(t.Context(), b, "test")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		put(t, b, manifest.PackKey("a", sha256.Sum256(fmt.Append(nil, i))), nil)
	}
	stop, seen := errors.New("stop"), 0
	_, err = r.ListPacks(context.Background(), "a", func(remote.Info) error {
		if seen++; seen > 100 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) {
		t.Errorf("after %d: %v", seen, err)
	}
}
