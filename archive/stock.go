package archive

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
)

// stock is everything that one environment has in the store, as one listing shows it. Objects have numbers, and what a backup needs is a
// set of them, so that a thousand manifests with their hundred thousand packs fit into little memory.
type stock struct {
	repo     *repository.Repository
	env      string
	date     time.Time // by the store's clock, before anything was listed
	backups  []repository.Stored
	lists    []storedList // of what earlier prunes condemned
	holds    map[manifest.BackupID]bool
	drills   []repository.Stored // records of drills, oldest first
	segments []manifest.StoredSegment
	objects  []object // packs and maps
	number   map[manifest.ObjectName]int
	count    int // of all that was listed, ours or not
}

type storedList struct {
	id     manifest.BackupID
	size   int64
	stored time.Time
}

type object struct {
	manifest.ObjectName
	size   int64
	stored int64 // Unix seconds
}

// set is a set of numbers of objects.
type set []uint64

func (s set) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }
func (s set) add(i int)      { s[i/64] |= 1 << (i % 64) }

func (s set) addAll(t set) {
	for i := range t {
		s[i] |= t[i]
	}
}

// meets reports whether two sets have something in common.
func (s set) meets(t set) bool {
	for i := range s {
		if s[i]&t[i] != 0 {
			return true
		}
	}
	return false
}

func (s set) each(fn func(i int)) {
	for w, word := range s {
		for ; word != 0; word &= word - 1 {
			fn(w*64 + bits.TrailingZeros64(word))
		}
	}
}

func (s *stock) newSet() set { return make(set, len(s.objects)/64+1) }

// takeStock lists an environment, in one pass.
func takeStock(ctx context.Context, repo *repository.Repository, env string) (*stock, error) {
	s := &stock{repo: repo, env: env, holds: map[manifest.BackupID]bool{}, number: map[manifest.ObjectName]int{}}
	date, err := repo.ListEnvironment(ctx, env, func(i remote.Info) error {
		s.note(i)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if date.IsZero() {
		return nil, errNoClock
	}
	s.date = date
	return s, nil
}

var errNoClock = errors.New("the store does not tell its time, by which alone a prune can measure the grace period")

// note sorts an object in. What has no name of ours is not ours, and no prune touches it.
func (s *stock) note(i remote.Info) {
	s.count++
	folder, _, _ := strings.Cut(strings.TrimPrefix(i.Key, s.env+"/"), "/")
	switch folder {
	case "backups":
		if id, err := manifest.ParseManifestKey(s.env, i.Key); err == nil {
			s.backups = append(s.backups, repository.Stored{ID: id, Size: i.Size, Stored: i.Modified})
		}
	case "condemned":
		if id, err := manifest.ParseCondemnedKey(s.env, i.Key); err == nil {
			s.lists = append(s.lists, storedList{id: id, size: i.Size, stored: i.Modified})
		}
	case "drills":
		if id, err := manifest.ParseDrillKey(s.env, i.Key); err == nil {
			s.drills = append(s.drills, repository.Stored{ID: id, Size: i.Size, Stored: i.Modified})
		}
	case "holds":
		if id, err := manifest.ParseHoldKey(s.env, i.Key); err == nil {
			s.holds[id] = true
		}
	case "logs":
		if n, err := manifest.ParseSegmentKey(s.env, i.Key); err == nil && n.Key(s.env) == i.Key {
			s.segments = append(s.segments, manifest.StoredSegment{SegmentName: n, Size: i.Size, Stored: i.Modified.Unix()})
		}
	case "maps", "packs":
		if n, err := manifest.ParseObjectKey(s.env, i.Key); err == nil {
			s.number[n] = len(s.objects)
			s.objects = append(s.objects, object{n, i.Size, i.Modified.Unix()})
		}
	}
}

func (s *stock) grace() time.Duration { return s.repo.Info.Grace() }

// young reports whether something was stored so lately that a run which has not come to its commit may count on it.
func (s *stock) young(stored int64) bool { return s.date.Sub(time.Unix(stored, 0)) <= s.grace() }

// logs sorts the segments by timeline.
func (s *stock) logs(keep func(i int) bool) map[manifest.Timeline]*manifest.Chain {
	names := map[manifest.Timeline][]manifest.SegmentName{}
	for i := range s.segments {
		if n := s.segments[i].SegmentName; keep(i) {
			names[n.Timeline] = append(names[n.Timeline], n)
		}
	}
	chains := map[manifest.Timeline]*manifest.Chain{}
	for t, list := range names {
		chains[t] = manifest.NewChain(t, list)
	}
	return chains
}

// full is a backup in the stock.
type full struct {
	manifest.Full
	stored  repository.Stored
	needs   set
	problem error // why it can't be restored; nil: it can
	void    bool  // it is no backup

	manifest *manifest.Manifest // if it was small enough to be remembered
}

// maxRemembered bounds the manifests that are remembered, in stored bytes. Others are read again if they expire. Tests make it
// smaller.
var maxRemembered int64 = 8 << 20

// fulls reads all manifests. One that can't be read stops everything: what it needs is not known.
func (s *stock) fulls(ctx context.Context) ([]*full, error) {
	list := make([]*full, len(s.backups))
	var remembered atomic.Int64
	chains := s.logs(func(int) bool { return true })
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(manifestReaders)
	for i, b := range s.backups {
		g.Go(func() error {
			m, err := s.repo.AnyManifest(gctx, s.env, b)
			if errors.Is(err, remote.ErrNotFound) {
				return nil // deleted since it was listed
			}
			if err != nil {
				return &UnreadableError{Env: s.env, Backup: b.ID, Err: err}
			}
			list[i] = s.digest(m, chains[m.Timeline])
			list[i].stored, list[i].void = b, m.Void(b.Stored, s.grace())
			if remembered.Add(b.Size) <= maxRemembered {
				list[i].manifest = m
			}
			if list[i].void && s.copied(m) {
				return &CopiedError{Env: s.env, Backup: m.ID}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var fulls []*full
	for _, f := range list {
		if f != nil {
			fulls = append(fulls, f)
		}
	}
	return fulls, nil
}

// manifestReaders is how many manifests are read at once.
const manifestReaders = 8

// digest looks up what a manifest names.
func (s *stock) digest(m *manifest.Manifest, chain *manifest.Chain) *full {
	f := &full{Full: manifest.FactsOf(m), needs: s.newSet()}
	m.EachObject(func(n manifest.ObjectName, size int64) {
		i, ok := s.number[n]
		switch {
		case !ok:
			f.problem = fmt.Errorf("%s is missing", n.Key(s.env))
			return
		case s.objects[i].size != size:
			f.problem = fmt.Errorf("%s has %d bytes instead of %d", n.Key(s.env), s.objects[i].size, size)
		}
		f.needs.add(i)
	})
	if chain == nil {
		chain = manifest.NewChain(m.Timeline, nil)
	}
	if _, err := chain.CoverBackup(m, bdb.LSN{}); err != nil && f.problem == nil {
		f.problem = err
	}
	f.Usable = f.problem == nil
	return f
}

// copied reports whether something that a void manifest names was stored long after the look that found it there. Then the whole repository was
// copied, which gave everything a new age, and no age can be believed.
func (s *stock) copied(m *manifest.Manifest) (yes bool) {
	m.EachObject(func(n manifest.ObjectName, _ int64) {
		if i, ok := s.number[n]; ok && time.Unix(s.objects[i].stored, 0).Sub(m.Look) > s.grace()/2 {
			yes = true
		}
	})
	return yes
}

// readList reads what an earlier prune condemned; nil if it is gone.
func (s *stock) readList(ctx context.Context, l storedList) (*manifest.Condemned, error) {
	key := manifest.CondemnedKey(s.env, l.id)
	data, err := s.repo.Bucket.Get(ctx, key, maxCondemned)
	if errors.Is(err, remote.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := manifest.DecodeCondemned(data)
	if err == nil && (c.ID != l.id || c.Environment != s.env) {
		err = fmt.Errorf("it is the list of prune %s of %s: %w", c.ID, c.Environment, manifest.ErrDamaged)
	}
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", key, err)
	}
	return c, nil
}
