package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
)

const (
	// manifestReads is how many manifests are read side by side.
	manifestReads = 8
	// maxSmall bounds holds and marks, maxCondemned lists of what is condemned.
	maxSmall     = 1 << 20
	maxCondemned = 1 << 30
)

func kind(n manifest.ObjectName) string {
	if n.Pack {
		return KindPack
	}
	return KindMap
}

// kindOf is the kind of an object that can be marked.
func kindOf(env, key string) string {
	if n, err := manifest.ParseObjectKey(env, key); err == nil {
		return kind(n)
	}
	return KindSegment
}

// numbers is a set of numbers of objects. It grows as they do.
type numbers []uint64

func (s numbers) has(i int) bool { return i/64 < len(s) && s[i/64]&(1<<(i%64)) != 0 }

func (s *numbers) add(i int) {
	for len(*s) <= i/64 {
		*s = append(*s, 0)
	}
	(*s)[i/64] |= 1 << (i % 64)
}

func (s *numbers) addAll(t numbers) {
	for len(*s) < len(t) {
		*s = append(*s, 0)
	}
	for i := range t {
		(*s)[i] |= t[i]
	}
}

func (s numbers) meets(t numbers) bool {
	for i := range min(len(s), len(t)) {
		if s[i]&t[i] != 0 {
			return true
		}
	}
	return false
}

// inventory is everything that one list shows of an environment. Objects have numbers, so that a thousand backups of a hundred thousand packs fit
// into little memory.
type inventory struct {
	env      string
	date     time.Time // by the store's clock; zero: it does not tell
	backups  []repository.Stored
	lists    []repository.Stored // of what was condemned
	held     []manifest.BackupID
	marks    []string // keys of objects that were found damaged
	small    []small
	segments []manifest.StoredSegment
	names    map[manifest.SegmentName]bool
	objects  []manifest.ObjectName
	sizes    []int64 // of the objects; -1: it is not there
	number   map[manifest.ObjectName]int
	count    int
	bytes    int64
}

func takeInventory(ctx context.Context, repo *repository.Repository, env string) (*inventory, error) {
	s := &inventory{env: env, number: map[manifest.ObjectName]int{}, names: map[manifest.SegmentName]bool{}}
	date, err := repo.ListEnvironment(ctx, env, func(i remote.Info) error {
		s.note(i)
		return nil
	})
	s.date = date
	return s, err
}

// note sorts an object in. What has no name of ours is not ours.
func (s *inventory) note(i remote.Info) {
	s.count++
	s.bytes += i.Size
	folder, _, _ := strings.Cut(strings.TrimPrefix(i.Key, s.env+"/"), "/")
	switch folder {
	case "backups":
		if id, err := manifest.ParseManifestKey(s.env, i.Key); err == nil {
			s.backups = append(s.backups, repository.Stored{ID: id, Size: i.Size, Stored: i.Modified})
		}
	case "condemned":
		if id, err := manifest.ParseCondemnedKey(s.env, i.Key); err == nil {
			s.lists = append(s.lists, repository.Stored{ID: id, Size: i.Size, Stored: i.Modified})
		}
	case "holds":
		if id, err := manifest.ParseHoldKey(s.env, i.Key); err == nil {
			s.held = append(s.held, id)
		}
	case "damaged":
		if key, err := manifest.ParseDamagedKey(s.env, i.Key); err == nil {
			s.marks = append(s.marks, key)
			s.small = append(s.small, small{i.Key, KindMark, i.Size})
		}
	case "drills":
		if _, err := manifest.ParseDrillKey(s.env, i.Key); err == nil {
			s.small = append(s.small, small{i.Key, KindDrill, i.Size})
		}
	case "logs":
		if n, err := manifest.ParseSegmentKey(s.env, i.Key); err == nil && n.Key(s.env) == i.Key {
			s.segments = append(s.segments, manifest.StoredSegment{SegmentName: n, Size: i.Size, Stored: i.Modified.Unix()})
			s.names[n] = true
		}
	case "maps", "packs":
		if n, err := manifest.ParseObjectKey(s.env, i.Key); err == nil {
			s.add(n, i.Size)
		}
	}
}

func (s *inventory) add(n manifest.ObjectName, size int64) int {
	i := len(s.objects)
	s.number[n] = i
	s.objects, s.sizes = append(s.objects, n), append(s.sizes, size)
	return i
}

// find is the number of a pack or a map.
func (s *inventory) find(key string) (i int, ok bool) {
	n, err := manifest.ParseObjectKey(s.env, key)
	if err == nil {
		i, ok = s.number[n]
	}
	return i, ok
}

// holds reports whether a pack, a map or a segment is there.
func (s *inventory) holds(key string) bool {
	if i, ok := s.find(key); ok {
		return s.sizes[i] >= 0
	}
	n, err := manifest.ParseSegmentKey(s.env, key)
	return err == nil && s.names[n]
}

// checked is a backup, as far as its manifest tells.
type checked struct {
	VerifiedBackup
	facts  manifest.Full
	stored repository.Stored
	list   *repository.Stored // in which a prune has embedded it; nil: it stands where it belongs
	parent manifest.BackupID
	needs  numbers
}

// structure reads all manifests, lists and holds, and looks for what they name.
func (v *verifier) structure(ctx context.Context) error {
	s := v.store
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(manifestReads)
	for _, b := range s.backups {
		g.Go(func() error { return v.manifest(gctx, b) })
	}
	for _, l := range s.lists {
		g.Go(func() error { return v.condemned(gctx, l) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	slices.SortFunc(v.backups, func(a, b *checked) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return v.holds(ctx)
}

func (v *verifier) manifest(ctx context.Context, b repository.Stored) error {
	m, err := v.repo.AnyManifest(ctx, v.opt.Env, b)
	c := &checked{stored: b, VerifiedBackup: VerifiedBackup{ID: b.ID, State: StateOK}}
	_, newer := errors.AsType[*manifest.FormatError](err)
	switch {
	case errors.Is(err, remote.ErrNotFound): // a prune took it
		return nil
	case newer:
		c.State, c.Problem = StateNewer, err.Error()
	case err != nil && !inStore(err):
		return err
	case err != nil:
		c.State = StateDamaged
		d := v.fail(manifest.ManifestKey(v.opt.Env, b.ID), KindManifest, err)
		d.Backups, c.Problem = []manifest.BackupID{b.ID}, d.Problem
	case m.Void(b.Stored, v.repo.Info.Grace()):
		c.State, c.Problem = StateVoid, (&repository.VoidError{ID: b.ID}).Error()
	}
	v.digest(c, m)
	return nil
}

// digest adds a backup, with what its manifest names. What a void one names may be gone.
func (v *verifier) digest(c *checked, m *manifest.Manifest) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.backups = append(v.backups, c)
	if m == nil {
		return
	}
	c.facts, c.parent = manifest.FactsOf(m), m.Parent
	c.Timeline, c.ConsistentAt, c.ConsistentTime = m.Timeline, m.ConsistentAt, m.ConsistentTime
	m.EachObject(func(n manifest.ObjectName, size int64) { v.need(c, n, size) })
}

// need looks for an object that a manifest names.
func (v *verifier) need(c *checked, n manifest.ObjectName, size int64) {
	i, ok := v.store.number[n]
	if !ok {
		if c.State == StateVoid {
			return
		}
		i = v.store.add(n, -1)
	}
	c.needs.add(i)
	switch have := v.store.sizes[i]; {
	case c.State == StateVoid, have == size:
	case have < 0:
		v.failLocked(n.Key(v.opt.Env), kind(n), remote.ErrNotFound)
	default:
		v.failLocked(n.Key(v.opt.Env), kind(n), fmt.Errorf("%d bytes instead of %d: %w", have, size, manifest.ErrDamaged))
	}
}

// condemned reads what a prune has condemned. Until the grace period is over, what its backups need must be there.
func (v *verifier) condemned(ctx context.Context, l repository.Stored) error {
	key := manifest.CondemnedKey(v.opt.Env, l.ID)
	data, err := v.repo.Bucket.Get(ctx, key, maxCondemned)
	if errors.Is(err, remote.ErrNotFound) {
		return nil // its prune has just finished
	}
	if err != nil && !inStore(err) {
		return err
	}
	var c *manifest.Condemned
	if err == nil {
		c, err = manifest.DecodeCondemned(data)
	}
	if _, newer := errors.AsType[*manifest.FormatError](err); newer {
		v.note("%s: %v", key, err)
		return nil
	}
	if err == nil && (c.ID != l.ID || c.Environment != v.opt.Env) {
		err = fmt.Errorf("it is the list of prune %s of %s: %w", c.ID, c.Environment, manifest.ErrDamaged)
	}
	if err != nil {
		v.fail(key, KindCondemned, err)
		return nil
	}
	v.doom(c)
	if v.store.date.Sub(l.Stored) > v.repo.Info.Grace() {
		return nil // by now nobody can undo it
	}
	for _, m := range c.Manifests {
		v.digest(&checked{list: &l, VerifiedBackup: VerifiedBackup{ID: m.ID, State: StatePruned}}, m)
	}
	return nil
}

// doom notes what a prune will delete.
func (v *verifier) doom(c *manifest.Condemned) {
	v.mu.Lock()
	defer v.mu.Unlock()
	c.EachObject(func(n manifest.ObjectName) { v.doomed[n] = true })
}

// holds looks whether what is held is there.
func (v *verifier) holds(ctx context.Context) error {
	for _, id := range v.store.held {
		key := manifest.HoldKey(v.opt.Env, id)
		data, err := v.repo.Bucket.Get(ctx, key, maxSmall)
		if errors.Is(err, remote.ErrNotFound) {
			continue // released
		}
		if err != nil && !inStore(err) {
			return err
		}
		var h *manifest.Hold
		if err == nil {
			h, err = manifest.DecodeHold(data)
		}
		if err == nil && (h.Backup != id || h.Environment != v.opt.Env) {
			err = fmt.Errorf("it holds backup %s of %s: %w", h.Backup, h.Environment, manifest.ErrDamaged)
		}
		if _, newer := errors.AsType[*manifest.FormatError](err); err != nil && !newer {
			v.fail(key, KindHold, err)
		}
		if slices.ContainsFunc(v.backups, func(c *checked) bool { return c.ID == id }) {
			continue
		}
		name := manifest.ManifestKey(v.opt.Env, id)
		if _, err := v.repo.Bucket.Stat(ctx, name); errors.Is(err, remote.ErrNotFound) {
			v.fail(name, KindManifest, fmt.Errorf("it is held: %w", err)).Backups = []manifest.BackupID{id}
		} else if err != nil {
			return err
		}
	}
	return nil
}
