package repository

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"bdbvault/manifest"
)

// maxDrill bounds the record of a drill: some thousand lines.
const maxDrill = 16 << 20

// Drills lists the records of an environment's drills by when they began, and of those that began in the same second by when they were stored: those after the
// given id only (empty: all). It tells the store's clock as well.
func (r *Repository) Drills(ctx context.Context, env string, after manifest.BackupID) ([]Stored, time.Time, error) {
	from := ""
	if after != "" {
		from = manifest.DrillKey(env, after)
	}
	var list []Stored
	date, err := r.listIDs(ctx, manifest.DrillsPrefix(env), from, func(key string) (manifest.BackupID, error) { return manifest.ParseDrillKey(env, key) }, &list)
	slices.SortStableFunc(list, func(a, b Stored) int { return cmp.Or(a.ID.Time().Compare(b.ID.Time()), a.Stored.Compare(b.Stored)) })
	return list, date, err
}

// Drill reads the record of a drill, and the SHA-256 of its bytes.
func (r *Repository) Drill(ctx context.Context, env string, id manifest.BackupID) (*manifest.Drill, manifest.Hash, error) {
	key := manifest.DrillKey(env, id)
	data, err := r.Bucket.Get(ctx, key, maxDrill)
	if err != nil {
		return nil, manifest.Hash{}, err
	}
	d, err := manifest.DecodeDrill(data)
	if err == nil && (d.ID != id || d.Environment != env) {
		err = fmt.Errorf("it is the record of drill %s of %s: %w", d.ID, d.Environment, manifest.ErrDamaged)
	}
	if err != nil {
		return nil, manifest.Hash{}, fmt.Errorf("object %s: %w", key, err)
	}
	return d, sha256.Sum256(data), nil
}

// PutDrill stores the record of a drill and returns the SHA-256 of its bytes.
func (r *Repository) PutDrill(ctx context.Context, d *manifest.Drill) (manifest.Hash, error) {
	data, err := d.Encode()
	if err != nil {
		return manifest.Hash{}, err
	}
	return sha256.Sum256(data), PutOnce(ctx, r.Bucket, manifest.DrillKey(d.Environment, d.ID), data)
}

// lastDrills is how many records LastDrills reads at most, behind the newest, to find one that passed.
const lastDrills = 32

// LastDrill is the newest drill of an environment, and the newest that passed.
type LastDrill struct {
	Last, Passed *manifest.Drill // nil: there is none, or, of Passed, none that is not older than many that failed
	Stored       Stored          // the newest; its Stored is when the drill had ended, by the store's clock
	Count        int
	Unread       error // the newest can't be read, so Last is an older one
}

// LastDrill finds the newest drills of an environment.
func (r *Repository) LastDrill(ctx context.Context, env string) (*LastDrill, error) {
	list, _, err := r.Drills(ctx, env, "")
	if err != nil {
		return nil, err
	}
	l := &LastDrill{Count: len(list)}
	if l.Count > 0 {
		l.Stored = list[l.Count-1]
	}
	for i, s := range slices.Backward(list) {
		if l.Passed != nil || len(list)-i > lastDrills {
			break
		}
		d, _, err := r.Drill(ctx, env, s.ID)
		var newer *manifest.FormatError
		switch {
		case errors.Is(err, manifest.ErrDamaged), errors.As(err, &newer):
			if l.Last == nil && l.Unread == nil {
				l.Unread = err
			}
			continue
		case err != nil:
			return nil, err
		}
		if l.Last == nil {
			l.Last = d
		}
		if d.Result == manifest.DrillPassed {
			l.Passed = d
		}
	}
	return l, nil
}

// ManifestHash is the SHA-256 of the stored bytes of a manifest.
func (r *Repository) ManifestHash(ctx context.Context, env string, id manifest.BackupID) (manifest.Hash, error) {
	key := manifest.ManifestKey(env, id)
	rc, err := r.Bucket.Open(ctx, key, 0, -1)
	if err != nil {
		return manifest.Hash{}, err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, rc)
	if err = errors.Join(err, rc.Close()); err != nil {
		return manifest.Hash{}, fmt.Errorf("object %s: %w", key, err)
	}
	return manifest.Hash(sum.Sum(nil)), nil
}
