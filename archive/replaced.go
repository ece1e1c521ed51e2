package archive

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"time"

	"bdbvault/manifest"
	"bdbvault/remote"
)

const (
	// lateBy is how much later than the parent's last look, which found it there, an object may seem to have been stored. Stores' clocks are not one clock.
	lateBy = time.Minute
	// samples is how many objects that are later are read: enough to tell a copied repository, in which all are, from one that somebody has written to.
	samples = 8
)

// suspects are objects of the parent that were stored again since it saw them, by their keys. None of ours does that: they are copies, or no longer
// what they were.
type suspects struct {
	since time.Time // zero: there is no parent
	ours  map[manifest.Hash]bool
	keys  map[string]manifest.Hash
}

func newSuspects(parent *manifest.Manifest) *suspects {
	s := &suspects{ours: map[manifest.Hash]bool{}, keys: map[string]manifest.Hash{}}
	if parent == nil {
		return s
	}
	s.since = parent.Look.Add(lateBy)
	for i := range parent.Packs {
		s.ours[parent.Packs[i].Name] = true
	}
	for i := range parent.Files {
		s.ours[parent.Files[i].Map] = true
	}
	return s
}

func (s *suspects) add(h manifest.Hash, i remote.Info) {
	if s.ours[h] && i.Modified.After(s.since) {
		s.keys[i.Key] = h
	}
}

// lost reads some of them. If one is not what its name says, somebody has written to the store, and none is trusted.
func (s *suspects) lost(ctx context.Context, bucket *remote.Bucket) (map[manifest.Hash]string, error) {
	n := 0
	for key, h := range s.keys { // in random order
		if n++; n > samples {
			break
		}
		same, err := hasName(ctx, bucket, key, h)
		if err != nil {
			return nil, err
		}
		if same {
			continue
		}
		lost := map[manifest.Hash]string{}
		for _, h := range s.keys {
			lost[h] = "replaced in the store since the last backup"
		}
		return lost, nil
	}
	return nil, nil
}

// hasName reports whether an object's bytes have the hash that it is named by.
func hasName(ctx context.Context, bucket *remote.Bucket, key string, h manifest.Hash) (bool, error) {
	rc, err := bucket.Open(ctx, key, 0, -1)
	if errors.Is(err, remote.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, rc)
	return manifest.Hash(sum.Sum(nil)) == h, errors.Join(err, rc.Close())
}
