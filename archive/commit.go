package archive

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
)

// look is what the store holds, at a moment of its own clock.
type look struct {
	packs, maps map[manifest.Hash]int64 // sizes
	condemned   map[manifest.Hash]bool
	damaged     map[manifest.Hash]bool // found so by verify
	segments    map[string]bool        // condemned, by the names that SegmentName.String gives
	spoilt      map[string]bool        // segments found damaged
	suspects    *suspects
	date        time.Time // before anything was looked at
}

// maxCondemned bounds a condemned list: a hundred bytes per name, and the manifests of expired backups.
const maxCondemned = 1 << 30

// look lists the environment's packs, maps, condemned lists and marks of damage. The moment is that of the first answer, so that whatever a prune
// condemns later is younger than it.
func (b *backup) look(ctx context.Context) (*look, error) {
	l := &look{packs: map[manifest.Hash]int64{}, maps: map[manifest.Hash]int64{}, condemned: map[manifest.Hash]bool{}, damaged: map[manifest.Hash]bool{},
		segments: map[string]bool{}, spoilt: map[string]bool{}, suspects: newSuspects(b.parent)}
	lists, err := l.unusable(ctx, b.repo.Bucket, b.opt.Env)
	if err != nil {
		return nil, err
	}
	for _, key := range lists {
		if err := l.condemn(ctx, b.repo.Bucket, key); err != nil {
			return nil, err
		}
	}
	env := b.opt.Env
	_, err = b.repo.ListPacks(ctx, env, func(i remote.Info) error {
		if h, err := manifest.ParsePackKey(env, i.Key); err == nil {
			l.packs[h] = i.Size
			l.suspects.add(h, i)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	_, err = b.repo.Bucket.List(ctx, manifest.MapsPrefix(env), "", func(i remote.Info) error {
		if h, err := manifest.ParseMapKey(env, i.Key); err == nil {
			l.maps[h] = i.Size
			l.suspects.add(h, i)
		}
		return nil
	})
	return l, err
}

// unusable notes what verify has found damaged, and returns the keys of the condemned lists.
func (l *look) unusable(ctx context.Context, bucket *remote.Bucket, env string) (lists []string, err error) {
	l.date, err = bucket.List(ctx, manifest.CondemnedPrefix(env), "", func(i remote.Info) error {
		lists = append(lists, i.Key)
		return nil
	})
	if err != nil {
		return nil, err
	}
	_, err = bucket.List(ctx, manifest.DamagedPrefix(env), "", func(i remote.Info) error {
		l.mark(env, i.Key)
		return nil
	})
	return lists, err
}

// mark notes a damaged object. What is no mark of ours says nothing.
func (l *look) mark(env, key string) {
	object, err := manifest.ParseDamagedKey(env, key)
	if err != nil {
		return
	}
	if h, err := manifest.ParsePackKey(env, object); err == nil {
		l.damaged[h] = true
	} else if h, err := manifest.ParseMapKey(env, object); err == nil {
		l.damaged[h] = true
	} else if n, err := manifest.ParseSegmentKey(env, object); err == nil {
		l.spoilt[n.String()] = true
	}
}

func (l *look) condemn(ctx context.Context, bucket *remote.Bucket, key string) error {
	data, err := bucket.Get(ctx, key, maxCondemned)
	if errors.Is(err, remote.ErrNotFound) {
		return nil // its prune has just finished
	}
	if err != nil {
		return err
	}
	c, err := manifest.DecodeCondemned(data)
	if err != nil {
		return fmt.Errorf("object %s: %w", key, err)
	}
	c.EachObject(func(n manifest.ObjectName) { l.condemned[n.Hash] = true })
	for _, name := range c.Segments {
		l.segments[name] = true
	}
	return nil
}

// missing lists what the manifest names and the look did not find as it was stored, or somebody has replaced.
func (l *look) missing(m *manifest.Manifest, maps map[manifest.Hash]int64, replaced map[manifest.Hash]string) map[manifest.Hash]string {
	lost := map[manifest.Hash]string{}
	check := func(h manifest.Hash, want int64, have map[manifest.Hash]int64) {
		size, ok := have[h]
		switch {
		case l.condemned[h]:
			lost[h] = "condemned by a prune"
		case l.damaged[h]:
			lost[h] = "found damaged by verify"
		case !ok:
			lost[h] = "missing from the store"
		case size != want:
			lost[h] = fmt.Sprintf("%d bytes in the store instead of %d", size, want)
		case replaced[h] != "":
			lost[h] = replaced[h]
		}
	}
	for _, p := range m.Packs {
		check(p.Name, p.Size, l.packs)
	}
	for h, size := range maps {
		check(h, size, l.maps)
	}
	return lost
}

// commit looks a last time that all is there, then stores the manifest.
func (b *backup) commit(ctx context.Context) error {
	if err := b.step("look"); err != nil {
		return err
	}
	began := time.Now()
	l, err := b.look(ctx)
	if err != nil {
		return err
	}
	lost, err := l.suspects.lost(ctx, b.repo.Bucket)
	if err != nil {
		return err
	}
	if lost = l.missing(b.m, b.maps, lost); len(lost) > 0 {
		return &lostError{names: lost}
	}
	// Log is listed after the condemned lists: what a prune has deleted since is missing here, what it has not is named there.
	if err := b.completeChain(ctx); err != nil {
		return err
	}
	if err := b.coverWithout(ctx, l.segments); err != nil {
		return err
	}
	// What is damaged stays, so that a restore would choose it although others may hold the same.
	if i := slices.IndexFunc(b.segments, func(n manifest.SegmentName) bool { return l.spoilt[n.String()] }); i >= 0 {
		return &logCondemnedError{Timeline: b.m.Timeline, err: fmt.Errorf("object %s", b.segments[i].Key(b.opt.Env))}
	}
	r, err := b.lockAll(ctx)
	if err != nil {
		return err
	}
	b.m.Look, b.m.Finished = l.date.UTC(), time.Now().UTC()
	data, err := b.m.Encode()
	if err != nil {
		return err
	}
	if err := b.step("commit"); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	key := manifest.ManifestKey(b.opt.Env, b.m.ID)
	if err := repository.PutLocked(ctx, b.repo.Bucket, key, data, r); err != nil {
		return fmt.Errorf("store the manifest: %w", err)
	}
	b.result.Manifest, b.result.ManifestSize = b.m, int64(len(data))
	return b.committed(ctx, data, began)
}

// committed checks that the manifest was not stored so late that it is void, and brings the state up to date. The backup is made: trouble
// with the state is a note. The last look began at looked, by this host's clock.
func (b *backup) committed(ctx context.Context, data []byte, looked time.Time) error {
	if err := b.step("committed"); err != nil {
		return err
	}
	// Half the grace period is hours: only a run that was frozen that long by its own clock has to ask the store's.
	if elapsed(looked) > b.repo.Info.Grace()/8 {
		info, err := b.repo.Bucket.Stat(ctx, manifest.ManifestKey(b.opt.Env, b.m.ID))
		if errors.Is(err, remote.ErrNotFound) {
			return &GoneError{Env: b.opt.Env, Backup: b.m.ID, Pruned: true}
		}
		if err != nil {
			return err
		}
		if b.m.Void(info.Modified, b.repo.Info.Grace()) {
			return &repository.VoidError{ID: b.m.ID}
		}
	}
	err := errors.Join(b.st.write(stateManifest, data), forgetJournal(b.st), b.st.keepMaps(b.m))
	if err != nil {
		b.progress.Note("the backup is complete, but the local state could not be brought up to date: " + err.Error())
	}
	for _, p := range b.m.Packs {
		if b.packs.isNew(p.Name) {
			b.result.NewPacks++
			b.result.NewPackBytes += p.Size
		}
	}
	return nil
}

// checkHistory asserts that every database which the log names and does not remove is in the backup, or is made by the log itself.
func (b *backup) checkHistory(ctx context.Context) error {
	if err := b.step("history"); err != nil {
		return err
	}
	b.resolveNames()
	h := bdb.NewHistory()
	var stray []string
	_, err := b.log.Walk(ctx, bdb.LSN{File: b.m.NeededFrom.File}, func(r *bdb.Record) error {
		if r.LSN.Compare(b.end) >= 0 {
			return errPastEnd
		}
		if c, ok := r.Commit(); ok && !c.Abort {
			b.m.ConsistentTime = c.Time
		}
		for _, name := range b.env.Strays(r) {
			if !slices.Contains(stray, name) {
				stray = append(stray, name)
			}
		}
		return h.Add(r)
	})
	if err != nil && !errors.Is(err, errPastEnd) {
		return fmt.Errorf("walk the log: %w", err)
	}
	if len(stray) > 0 {
		return &NotCoveredError{Names: stray} // no restore could follow this log
	}
	if h.Unreadable() {
		b.progress.Note("the log is encrypted and no password was given: that every database it names is in the backup could not be checked, and the times of commits are not known")
		return nil
	}
	created := map[bdb.FileID]bool{}
	for _, f := range h.Files() {
		created[f.ID] = f.Remade(b.m.BegunAt)
	}
	if err := b.checkCovered(h.Files(), created); err != nil {
		return err
	}
	return b.checkReplay(h)
}

// checkCovered looks for the databases that must be there. One that was last open before the copy began may be gone because it was removed without a
// transaction, of which the log does not tell.
func (b *backup) checkCovered(files []bdb.HistoryFile, created map[bdb.FileID]bool) error {
	var lost []string
	for _, f := range files {
		if f.State != bdb.FileExists || created[f.ID] || b.hasFile(f.ID) || replicationFile(f.Name) {
			continue
		}
		if !f.LastOpen.Before(b.m.BegunAt) {
			lost = append(lost, f.Name)
		}
		b.m.Skipped = append(b.m.Skipped, manifest.Skipped{Path: f.Name, Reason: "named in the log, but not in the environment's directories"})
	}
	if len(lost) > 0 && !b.opt.AllowDamaged {
		return &NotCoveredError{Names: lost}
	}
	return nil
}

// checkReplay asserts that recovery can follow the log from these copies: what it can't, the next backup can, for which that log is over.
func (b *backup) checkReplay(h *bdb.History) error {
	stages, err := h.Replay(b.m.NeededFrom, b.m.BegunAt)
	if err != nil {
		return fmt.Errorf("%w: back up again after the next checkpoint", err)
	}
	if len(stages) > 1 {
		return &queueMovedError{At: stages[0].Until}
	}
	taken := map[journalKey]string{}
	for _, j := range b.jobs {
		place, ok := stages[0].Place(j.entry.Path, j.entry.FileID)
		if !ok || j.entry.FileID.IsZero() {
			continue
		}
		key := journalKey{j.entry.Dir, place}
		if other := taken[key]; other != "" {
			return fmt.Errorf("%s and %s are copies of one database, which recovery would look for at %s: remove one, or back up again after the next checkpoint",
				other, j.name(), place)
		}
		taken[key] = j.name()
	}
	return nil
}

var errPastEnd = errors.New("past the end")

func (b *backup) hasFile(id bdb.FileID) bool {
	for _, j := range b.jobs {
		if sameFileID(j.entry.FileID, j.entry.PartialID, id, false) {
			return true
		}
	}
	return false
}

// replicationFile reports whether a database is one of those that a replication group keeps for each site on its own: never backed up, and made
// anew by the application.
func replicationFile(name string) bool {
	return strings.HasPrefix(path.Base(name), "__db.rep.") || path.Base(name) == "__db.reppg.db"
}
