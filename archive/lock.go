package archive

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"bdbvault/manifest"
	"bdbvault/remote"
)

// Lock asks that whatever a restore needs can't be deleted or replaced for a span from when the backup is finished on, or the log is stored. The zero value
// asks for nothing.
//
// An object is locked for a quarter longer than asked when it is stored, and whenever its lock is extended. A backup that refers to it in that quarter
// has nothing to extend: what its parent's manifest promises is enough. So of daily backups that are to be kept for 30 days about
// each eighth extends the locks of all that it refers to, by one request per object; the others extend none.
type Lock struct {
	Mode remote.LockMode
	For  manifest.Span
}

func (l Lock) asked() bool { return !l.For.IsZero() }

// from is the lock of what is stored, or extended, at t. Stores keep whole seconds.
func (l Lock) from(t time.Time) remote.Retention {
	if !l.asked() {
		return remote.Retention{}
	}
	until := l.For.After(t)
	until = until.Add(until.Sub(t) / 4)
	return remote.Retention{Mode: l.Mode, Until: until.Truncate(time.Second).Add(time.Second).UTC()}
}

// lockers is how many locks are extended at once: round trips, without bodies.
const lockers = 16

// lockedKeys are keys of objects that were locked when they were stored.
type lockedKeys struct {
	mu   sync.Mutex
	keys map[string]bool
}

func (l *lockedKeys) add(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keys == nil {
		l.keys = map[string]bool{}
	}
	l.keys[key] = true
}

// CheckLock locks the repository file as l says. That fails where nothing can be locked (remote.ErrNoLock), or where we may not (remote.ErrDenied): it is found
// out before anything is read of the environment.
func CheckLock(ctx context.Context, bucket *remote.Bucket, l Lock) error {
	_, err := l.repository(ctx, bucket, time.Now())
	return err
}

// repository locks the repository file, and returns what is in force then.
func (l Lock) repository(ctx context.Context, bucket *remote.Bucket, now time.Time) (r remote.Retention, err error) {
	if !l.asked() {
		return r, nil
	}
	if r, err = bucket.ExtendRetention(ctx, manifest.RepositoryKey, l.from(now)); err != nil {
		return r, fmt.Errorf("lock what is stored for %s: %w", l.For, err)
	}
	return r, nil
}

// lockRepository does so at the beginning of a backup.
func (b *backup) lockRepository(ctx context.Context, now time.Time) (err error) {
	b.lock = b.opt.Lock.from(now)
	b.repoLock, err = b.opt.Lock.repository(ctx, b.repo.Bucket, now)
	return err
}

// lockAll makes sure, before the commit, that all that a restore of this backup needs is locked for long enough, and says so in the
// manifest. What it returns is for the manifest itself.
func (b *backup) lockAll(ctx context.Context) (remote.Retention, error) {
	now := time.Now()
	if !b.opt.Lock.asked() {
		if b.parent != nil && b.parent.LockedAt(now) {
			b.progress.Note(unlockedNote(b.parent, "this one"))
		}
		return remote.Retention{}, nil
	}
	if err := b.step("lock"); err != nil {
		return remote.Retention{}, err
	}
	least := b.opt.Lock.For.After(now)
	j := &lockJob{bucket: b.repo.Bucket, promise: b.lock}
	if b.lock.Until.Before(least) { // the backup took longer than the quarter
		b.lock, b.locked.keys = b.opt.Lock.from(now), nil
		j.promise = b.lock
		j.keys = append(j.keys, manifest.RepositoryKey)
	}
	j.lower(remote.Retention{Mode: b.repoLock.Mode, Until: j.promise.Until}) // its time is extended above if it has to be
	j.want = b.lock
	j.keys = append(j.keys, b.unlocked(j, least)...)
	if err := j.run(ctx, b.progress); err != nil {
		return remote.Retention{}, err
	}
	mode := strings.ToLower(string(j.promise.Mode))
	if j.promise.Mode != b.opt.Lock.Mode && mode == manifest.LockGovernance {
		b.progress.Note("what earlier backups locked stays in governance mode: only who may lift such locks could change that; what is stored now is locked as asked")
	}
	b.m.Lock = &manifest.Lock{Mode: mode, Until: j.promise.Until}
	return b.lock, nil
}

func unlockedNote(m *manifest.Manifest, what string) string {
	return fmt.Sprintf("backup %s is locked until %s, but %s is not: no --retain was given", m.ID, m.Lock.Until.Format(time.DateTime+" UTC"), what)
}

// unlocked are the keys of what the backup needs that neither this run has locked nor its parent's promise covers.
func (b *backup) unlocked(j *lockJob, least time.Time) (keys []string) {
	promised := map[string]bool{}
	if p := b.parent; p != nil && p.Lock != nil && !p.Lock.Until.Before(least) {
		for i := range p.Packs {
			promised[manifest.PackKey(b.opt.Env, p.Packs[i].Name)] = true
		}
		for i := range p.Files {
			promised[manifest.MapKey(b.opt.Env, p.Files[i].Map)] = true
		}
	}
	check := func(key string) {
		switch {
		case b.locked.keys[key]:
		case promised[key]:
			j.lower(remote.Retention{Mode: remote.LockMode(strings.ToUpper(b.parent.Lock.Mode)), Until: b.parent.Lock.Until})
		default:
			keys = append(keys, key)
		}
	}
	for i := range b.m.Packs {
		check(manifest.PackKey(b.opt.Env, b.m.Packs[i].Name))
	}
	for h := range b.maps {
		check(manifest.MapKey(b.opt.Env, h))
	}
	for _, n := range b.segments {
		check(n.Key(b.opt.Env))
	}
	return keys
}

// lockJob extends the locks of many objects.
type lockJob struct {
	bucket *remote.Bucket
	want   remote.Retention
	keys   []string

	mu      sync.Mutex
	promise remote.Retention // what is in force for all of them
}

// lower makes the promise no better than what is in force for one of them.
func (j *lockJob) lower(r remote.Retention) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if r.Until.Before(j.promise.Until) {
		j.promise.Until = r.Until
	}
	if r.Mode == remote.Governance {
		j.promise.Mode = r.Mode
	}
}

func (j *lockJob) run(ctx context.Context, progress Progress) error {
	if len(j.keys) == 0 {
		return nil
	}
	progress.Phase(PhaseLock, 0)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(lockers)
	for _, key := range j.keys {
		g.Go(func() error {
			r, err := j.bucket.ExtendRetention(gctx, key, j.want)
			if err != nil {
				return fmt.Errorf("extend the lock of what this backup needs: %w", err)
			}
			j.lower(r)
			return nil
		})
	}
	return g.Wait()
}
