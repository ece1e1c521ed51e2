package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
)

// keys are the keys of what is doomed.
func (d *doomed) keys(s *stock) (keys []string) {
	for i := range s.segments {
		if d.segments[i] {
			keys = append(keys, s.segments[i].Key(s.env))
		}
	}
	d.objects.each(func(i int) { keys = append(keys, s.objects[i].Key(s.env)) })
	return keys
}

func (d *doomed) amount(s *stock) (a Amount) {
	for i := range d.segments {
		a.Segments++
		a.Bytes += s.segments[i].Size
	}
	d.objects.each(func(i int) {
		a.Bytes += s.objects[i].size
		if s.objects[i].Pack {
			a.Packs++
		} else {
			a.Maps++
		}
	})
	return a
}

// bounded gives up before what was found out is so old that it may be wrong: a process that was frozen for hours must not go on deleting.
func (p *pruner) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithDeadlineCause(ctx, p.looked.Add(p.stock.grace()/2), errStale)
}

// elapsed is the time since a moment of this host's clock, whether the process stood still meanwhile or the whole machine slept.
func elapsed(since time.Time) time.Duration {
	return max(time.Since(since), time.Now().Round(0).Sub(since.Round(0)))
}

var errStale = errors.New("this run stood still for too long to go on: prune again")

// deleteOver is phase two: deletes what lists name whose grace period is over, and then the lists, without which nothing keeps backups from
// those objects.
func (p *pruner) deleteOver(ctx context.Context) error {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	if err := p.step("delete"); err != nil {
		return err
	}
	keys := p.removes.keys(p.stock)
	if len(keys) > 0 {
		p.opt.Progress.Phase(PhaseDelete, 0)
	}
	if err := p.delete(ctx, keys); err != nil {
		return err
	}
	p.result.Deleted = p.removes.amount(p.stock)
	if err := p.step("deleted"); err != nil {
		return err
	}
	var rest []string
	for _, l := range p.over {
		rest = append(rest, manifest.CondemnedKey(p.opt.Env, l.id))
	}
	for _, f := range p.voids {
		if !p.stock.young(f.stored.Stored.Unix()) {
			rest = append(rest, manifest.ManifestKey(p.opt.Env, f.ID))
		}
	}
	return p.delete(ctx, append(rest, p.stock.oldDrills()...))
}

const (
	// drillsKept is how many records of drills stay in any case, the newest ones.
	drillsKept = 100
	// drillsFor is how long others stay: whoever audits a year finds all of it.
	drillsFor = 400 * 24 * time.Hour
)

// oldDrills are keys of records that nobody asks for any more. Nothing refers to them, so they go without a grace period.
func (s *stock) oldDrills() (keys []string) {
	for _, d := range s.drills[:max(0, len(s.drills)-drillsKept)] {
		if s.date.Sub(d.Stored) > drillsFor {
			keys = append(keys, manifest.DrillKey(s.env, d.ID))
		}
	}
	return keys
}

func (p *pruner) delete(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	if elapsed(p.looked) > p.stock.grace()/2 {
		return errStale
	}
	return unlessStale(ctx, p.repo.Bucket.Delete(ctx, keys))
}

// unlessStale is err, or errStale if that is its reason.
func unlessStale(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errStale) {
		return errStale
	}
	return err
}

// condemn is phase one.
func (p *pruner) condemn(ctx context.Context) error {
	list, err := p.newList(ctx)
	if err != nil || list == nil {
		return err
	}
	if err := p.step("condemn"); err != nil {
		return err
	}
	p.opt.Progress.Phase(PhaseCondemn, 0)
	data, err := list.Encode()
	if err != nil {
		return err
	}
	// From when the list is stored on, its grace period runs, in which these manifests have to be gone.
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	key := manifest.CondemnedKey(p.opt.Env, list.ID)
	if err := repository.PutOnce(ctx, p.repo.Bucket, key, data); err != nil {
		return unlessStale(ctx, fmt.Errorf("store what is condemned: %w", err))
	}
	if err := p.step("condemned"); err != nil {
		return err
	}
	p.result.Prune, p.result.UndoUntil = list.ID, p.stock.undoUntil(p.stock.date)
	return unlessStale(ctx, p.takeManifests(ctx, key, list))
}

// newList is what this run condemns; nil if that is nothing.
func (p *pruner) newList(ctx context.Context) (*manifest.Condemned, error) {
	s := p.stock
	list := manifest.NewCondemned(p.opt.Env, p.listID())
	list.Created, list.Tool, list.Policy = s.date.UTC(), p.opt.Tool, p.opt.Policy.String()
	p.condemns.objects.each(func(i int) {
		if o := s.objects[i]; o.Pack {
			list.Packs = append(list.Packs, o.Hash)
		} else {
			list.Maps = append(list.Maps, o.Hash)
		}
	})
	for i := range s.segments {
		if p.condemns.segments[i] {
			list.Segments = append(list.Segments, s.segments[i].String())
		}
	}
	for i, f := range p.fulls {
		if p.policy.Fulls[i].Keep {
			continue
		}
		m, err := f.manifest, error(nil)
		if m == nil {
			m, err = p.repo.Manifest(ctx, p.opt.Env, f.stored)
		}
		if errors.Is(err, remote.ErrNotFound) {
			continue // another prune was faster
		}
		if err != nil {
			return nil, err
		}
		list.Manifests = append(list.Manifests, m)
	}
	if len(list.Packs)+len(list.Maps)+len(list.Segments)+len(list.Manifests) == 0 {
		return nil, nil
	}
	return list, nil
}

// listID is an id of its own, also among those of this second.
func (p *pruner) listID() manifest.BackupID {
	for {
		id := manifest.NewBackupID(p.stock.date)
		if !slices.ContainsFunc(p.stock.lists, func(l storedList) bool { return l.id == id }) {
			return id
		}
	}
}

// takeManifests deletes the manifests of the backups that expired, if nobody holds them. Whoever asks for a hold looks for the manifest afterwards:
// one that was asked for too late to be seen before is seen after, or fails.
func (p *pruner) takeManifests(ctx context.Context, key string, list *manifest.Condemned) error {
	holds, err := heldBackups(ctx, p.repo, p.opt.Env)
	if err != nil {
		return err
	}
	var keys []string
	var gone []*manifest.Manifest
	for _, m := range list.Manifests {
		if !holds[m.ID] {
			keys = append(keys, manifest.ManifestKey(p.opt.Env, m.ID))
			gone = append(gone, m)
		}
	}
	if err := p.step("expire"); err != nil {
		return err
	}
	if err := p.delete(ctx, keys); err != nil {
		return err
	}
	if err := p.step("expired"); err != nil {
		return err
	}
	if len(gone) == 0 {
		return nil
	}
	if holds, err = heldBackups(ctx, p.repo, p.opt.Env); err != nil {
		return err
	}
	if !slices.ContainsFunc(gone, func(m *manifest.Manifest) bool { return holds[m.ID] }) {
		return nil
	}
	info, err := p.repo.Bucket.Stat(ctx, key)
	if errors.Is(err, remote.ErrNotFound) {
		return nil // somebody has taken back this prune meanwhile
	}
	if err != nil {
		return err
	}
	for _, m := range gone {
		if holds[m.ID] {
			if err := putBack(ctx, p.repo, m, p.stock.date, info.Modified, false); err != nil {
				return err
			}
			p.result.PutBack = append(p.result.PutBack, m.ID)
		}
	}
	return nil
}

func heldBackups(ctx context.Context, repo *repository.Repository, env string) (map[manifest.BackupID]bool, error) {
	holds := map[manifest.BackupID]bool{}
	_, err := repo.Bucket.List(ctx, manifest.HoldsPrefix(env), "", func(i remote.Info) error {
		if id, err := manifest.ParseHoldKey(env, i.Key); err == nil {
			holds[id] = true
		}
		return nil
	})
	return holds, err
}

// putBackHeld puts manifests back that are held and that a prune has taken, because it was killed before it could see the hold.
func (p *pruner) putBackHeld(ctx context.Context) (back []manifest.BackupID, err error) {
	s := p.stock
	if p.opt.DryRun {
		return nil, nil
	}
	for _, e := range p.embedded {
		if !s.holds[e.ID] || slices.ContainsFunc(p.fulls, func(f *full) bool { return f.ID == e.ID }) || slices.Contains(back, e.ID) {
			continue
		}
		c, err := s.readList(ctx, e.list)
		if err != nil || c == nil {
			return back, err
		}
		at := slices.IndexFunc(c.Manifests, func(m *manifest.Manifest) bool { return m.ID == e.ID })
		err = putBack(ctx, p.repo, c.Manifests[at], s.date, e.list.stored, p.isVoid(e.ID))
		if _, late := errors.AsType[*TooLateError](err); late {
			continue
		}
		if err != nil {
			return back, err
		}
		back = append(back, e.ID)
	}
	return back, nil
}

func (p *pruner) isVoid(id manifest.BackupID) bool {
	return slices.ContainsFunc(p.voids, func(f *full) bool { return f.ID == id })
}

// undoMargin is how much sooner than the grace period an undo has to be done. Clocks of stores tell seconds.
const undoMargin = 2 * time.Second

// putBack stores a manifest again under its own name, after everything that it names was found at the moment of the look. What makes it last is
// what makes any manifest last: phase two sees it. So it must not appear after phase two may have begun, however long this process stands still
// before it is sent. The look that it carries is therefore at most half the grace period younger than the list that took it: if it is
// stored when the grace period is over it is void.
func putBack(ctx context.Context, repo *repository.Repository, m *manifest.Manifest, look, condemned time.Time, replace bool) error {
	grace := repo.Info.Grace()
	if until := condemned.Add(grace - undoMargin); !look.Before(until) {
		return &TooLateError{Prune: m.ID, Until: until}
	}
	m.Look = look.UTC()
	if latest := condemned.Add(grace/2 - undoMargin); m.Look.After(latest) {
		m.Look = latest.UTC()
	}
	data, err := m.Encode()
	if err != nil {
		return err
	}
	key := manifest.ManifestKey(m.Environment, m.ID)
	if replace {
		if err := repo.Bucket.Delete(ctx, []string{key}); err != nil {
			return err
		}
	}
	opt := remote.PutOptions{IfAbsent: true, SHA256: sha256.Sum256(data), HasSHA256: true}
	if err := repo.Bucket.Put(ctx, key, bytes.NewReader(data), int64(len(data)), opt); err != nil && !errors.Is(err, remote.ErrExists) {
		return fmt.Errorf("put the manifest back: %w", err)
	}
	info, err := repo.Bucket.Stat(ctx, key)
	if err != nil {
		return err
	}
	if m.Void(info.Modified, grace) {
		return &repository.VoidError{ID: m.ID}
	}
	return nil
}
