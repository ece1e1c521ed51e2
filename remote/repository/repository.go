// Package repository reads and writes manifest's objects in a remote.Bucket: it joins a pure format with an object's key, and
// nothing more. Both ways, archive's and restore's, use it; neither decision nor policy lives here.
package repository

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"bdbvault/manifest"
	"bdbvault/remote"
)

const (
	maxRepository = 1 << 20
	// maxManifest bounds a manifest: some hundred bytes per file and pack, so a million of them.
	maxManifest = 512 << 20
)

// ErrExists says that there is a repository already.
var ErrExists = errors.New("there is a repository already")

// ErrNone says that there is no repository.
var ErrNone = errors.New("no repository there")

// DamagedError says that the repository's own file is damaged, which says nothing of all else.
type DamagedError struct{ Err error }

func (e *DamagedError) Error() string {
	return fmt.Sprintf("object %s: %v", manifest.RepositoryKey, e.Err)
}
func (e *DamagedError) Unwrap() error { return e.Err }

// Repository is an opened repository.
type Repository struct {
	Bucket *remote.Bucket
	Info   manifest.Repository
}

// Init makes a repository. ErrExists if there is one already, which stays untouched.
func Init(ctx context.Context, b *remote.Bucket, tool string) (*Repository, error) {
	info := manifest.NewRepository(time.Now(), tool)
	data, err := info.Encode()
	if err != nil {
		return nil, err
	}
	// Stores that don't honour put-if-absent would replace an existing repository file: look first.
	switch _, err := b.Stat(ctx, manifest.RepositoryKey); {
	case err == nil:
		return nil, ErrExists
	case !errors.Is(err, remote.ErrNotFound):
		return nil, err
	}
	if err := PutOnce(ctx, b, manifest.RepositoryKey, data); err != nil {
		if errors.Is(err, remote.ErrExists) {
			return nil, ErrExists
		}
		return nil, err
	}
	return &Repository{Bucket: b, Info: info}, nil
}

// Open opens a repository; ErrNone if the bucket holds none.
func Open(ctx context.Context, b *remote.Bucket) (*Repository, error) {
	data, err := b.Get(ctx, manifest.RepositoryKey, maxRepository)
	if err != nil {
		if errors.Is(err, remote.ErrNotFound) {
			return nil, fmt.Errorf("%w: %w", ErrNone, err)
		}
		return nil, err
	}
	info, err := manifest.DecodeRepository(data)
	if errors.Is(err, manifest.ErrDamaged) {
		return nil, &DamagedError{err}
	}
	if err != nil {
		return nil, err
	}
	return &Repository{Bucket: b, Info: info}, nil
}

// PutOnce stores data under key unless there is something already (remote.ErrExists).
func PutOnce(ctx context.Context, b *remote.Bucket, key string, data []byte) error {
	return PutLocked(ctx, b, key, data, remote.Retention{})
}

// PutLocked is PutOnce of an object that is locked from the start.
func PutLocked(ctx context.Context, b *remote.Bucket, key string, data []byte, r remote.Retention) error {
	return b.Put(ctx, key, bytes.NewReader(data), int64(len(data)),
		remote.PutOptions{IfAbsent: true, SHA256: sha256.Sum256(data), HasSHA256: true, Retain: r})
}

var errEnough = errors.New("enough")

// Environments lists the names of the environments that have anything in the repository: one request per environment, and one more.
func (r *Repository) Environments(ctx context.Context) ([]string, error) {
	var names []string
	after := ""
	for {
		next := ""
		_, err := r.Bucket.List(ctx, "", after, func(i remote.Info) error {
			name, _, dir := strings.Cut(i.Key, "/")
			if dir && manifest.CheckEnv(name) == nil {
				next = name
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return nil, err
		}
		if next == "" {
			return names, nil
		}
		names = append(names, next)
		after = next + "0" // '0' comes after '/': behind every key that begins with "name/"
	}
}

// Stored is a manifest's id, and when it was stored by the store's clock.
type Stored struct {
	ID     manifest.BackupID
	Size   int64
	Stored time.Time
}

// Backups lists an environment's manifests by id, those after the given id only (empty: all).
func (r *Repository) Backups(ctx context.Context, env string, after manifest.BackupID) ([]Stored, error) {
	from := ""
	if after != "" {
		from = manifest.ManifestKey(env, after)
	}
	var list []Stored
	_, err := r.listIDs(ctx, manifest.BackupsPrefix(env), from, func(key string) (manifest.BackupID, error) { return manifest.ParseManifestKey(env, key) }, &list)
	return list, err
}

// listIDs adds to list what stands below a prefix and has an id for its name, and tells the store's clock.
func (r *Repository) listIDs(ctx context.Context, prefix, after string, parse func(key string) (manifest.BackupID, error), list *[]Stored) (time.Time, error) {
	return r.Bucket.List(ctx, prefix, after, func(i remote.Info) error {
		if id, err := parse(i.Key); err == nil {
			*list = append(*list, Stored{ID: id, Size: i.Size, Stored: i.Modified})
		}
		return nil
	})
}

// VoidError says that a manifest was stored too late after its last look to be believed.
type VoidError struct{ ID manifest.BackupID }

func (e *VoidError) Error() string {
	return fmt.Sprintf("backup %s was committed too late after its last look at the store and is void", e.ID)
}

// Manifest loads the manifest of a listed backup; *VoidError if it must not be used.
func (r *Repository) Manifest(ctx context.Context, env string, s Stored) (*manifest.Manifest, error) {
	data, err := r.Bucket.Get(ctx, manifest.ManifestKey(env, s.ID), maxManifest)
	if err != nil {
		return nil, err
	}
	return r.CheckManifest(env, s, data)
}

// AnyManifest is Manifest, but loads void ones too. They are no backups.
func (r *Repository) AnyManifest(ctx context.Context, env string, s Stored) (*manifest.Manifest, error) {
	data, err := r.Bucket.Get(ctx, manifest.ManifestKey(env, s.ID), maxManifest)
	if err != nil {
		return nil, err
	}
	return decodeNamed(env, s.ID, data)
}

// CheckManifest decodes the bytes of a stored manifest and checks that it is the one named.
func (r *Repository) CheckManifest(env string, s Stored, data []byte) (*manifest.Manifest, error) {
	m, err := decodeNamed(env, s.ID, data)
	if err != nil {
		return nil, err
	}
	if m.Void(s.Stored, r.Info.Grace()) {
		return nil, &VoidError{ID: m.ID}
	}
	return m, nil
}

func decodeNamed(env string, id manifest.BackupID, data []byte) (*manifest.Manifest, error) {
	key := manifest.ManifestKey(env, id)
	m, err := manifest.DecodeManifest(data)
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", key, err)
	}
	if m.ID != id || m.Environment != env {
		return nil, fmt.Errorf("object %s: it is the manifest of backup %s of %s: %w", key, m.ID, m.Environment, manifest.ErrDamaged)
	}
	return m, nil
}

// Segments lists the segments of a timeline, those after the given one only (nil: all), in the order of their names.
func (r *Repository) Segments(ctx context.Context, env string, t manifest.Timeline, after *manifest.SegmentName) ([]manifest.SegmentName, error) {
	var list []manifest.SegmentName
	err := r.EachSegment(ctx, env, t, after, func(s manifest.SegmentName, _ int64) { list = append(list, s) })
	return list, err
}

// EachSegment calls fn as Segments lists, with the size of each object in bytes.
func (r *Repository) EachSegment(ctx context.Context, env string, t manifest.Timeline, after *manifest.SegmentName, fn func(s manifest.SegmentName, size int64)) error {
	from := ""
	if after != nil {
		from = after.Key(env)
	}
	_, err := r.Bucket.List(ctx, manifest.TimelinePrefix(env, t), from, func(i remote.Info) error {
		if s, err := manifest.ParseSegmentKey(env, i.Key); err == nil {
			fn(s, i.Size)
		}
		return nil
	})
	return err
}

// SegmentHeader reads the header of a stored segment with one request. It asks for all of the segment, of which a list tells no size here, and
// stops reading behind the header.
func (r *Repository) SegmentHeader(ctx context.Context, env string, s manifest.SegmentName) (*manifest.SegmentHeader, error) {
	rc, err := r.Bucket.Open(ctx, s.Key(env), 0, -1)
	if err != nil {
		return nil, err
	}
	defer rc.Close() // what is not read can't be lost
	h, err := manifest.ReadSegmentHeader(rc)
	if err == nil && (h.Name() != s || h.Environment != env) {
		err = fmt.Errorf("its header names %s of %s: %w", h.Name(), h.Environment, manifest.ErrDamaged)
	}
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", s.Key(env), err)
	}
	return h, nil
}

// CopySegment writes the records of a stored segment to w, checked: an error may come after bytes were written.
func (r *Repository) CopySegment(ctx context.Context, env string, s manifest.SegmentName, w io.Writer) (h *manifest.SegmentHeader, err error) {
	rc, err := r.Bucket.Open(ctx, s.Key(env), 0, -1)
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, rc.Close())
		if err != nil {
			err = fmt.Errorf("object %s: %w", s.Key(env), err)
		}
	}()
	sr, err := manifest.NewSegmentReader(rc)
	if err != nil {
		return nil, err
	}
	defer sr.Close()
	if sr.Header.Name() != s || sr.Header.Environment != env {
		return nil, fmt.Errorf("its header names %s of %s: %w", sr.Header.Name(), sr.Header.Environment, manifest.ErrDamaged)
	}
	_, err = io.Copy(w, sr)
	return sr.Header, err
}

// CopyMap writes the bytes of a map object to w and checks that they have the name they were asked for by.
func (r *Repository) CopyMap(ctx context.Context, env string, name manifest.Hash, w io.Writer) (size int64, err error) {
	key := manifest.MapKey(env, name)
	rc, err := r.Bucket.Open(ctx, key, 0, -1)
	if err != nil {
		return 0, err
	}
	sum := sha256.New()
	size, err = io.Copy(io.MultiWriter(w, sum), rc)
	if err = errors.Join(err, rc.Close()); err != nil {
		return size, fmt.Errorf("object %s: %w", key, err)
	}
	if manifest.Hash(sum.Sum(nil)) != name {
		return size, fmt.Errorf("object %s: its bytes do not have its name: %w", key, manifest.ErrDamaged)
	}
	return size, nil
}
