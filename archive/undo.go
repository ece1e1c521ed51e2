package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
)

// UndoResult says what an undo brought back.
type UndoResult struct {
	Environment string              `json:"environment"`
	Prune       manifest.BackupID   `json:"prune"`
	Backups     []manifest.BackupID `json:"backups"`
	Lost        []PrunedBackup      `json:"lost,omitempty"`           // could not be put back: something that they need is gone
	Still       bool                `json:"stillCondemned,omitempty"` // another prune names some of their objects too: new backups do not use these until it is over
	Unfinished  bool                `json:"unfinished,omitempty"`     // the prune still ran, or was stopped before it had taken all: its list stays, to undo what it takes yet
}

// Undo takes back what one prune condemned, within the grace period. The errors to branch on are *NotCondemnedError and *TooLateError.
func Undo(ctx context.Context, repo *repository.Repository, env string, id manifest.BackupID) (*UndoResult, error) {
	if err := manifest.CheckEnv(env); err != nil {
		return nil, err
	}
	p := &pruner{repo: repo, opt: PruneOptions{Env: env, Progress: silent{}}}
	if err := p.look(ctx); err != nil {
		return nil, err
	}
	at := slices.IndexFunc(p.stock.lists, func(l storedList) bool { return l.id == id })
	if at < 0 {
		return nil, p.notCondemned(id)
	}
	list := p.stock.lists[at]
	if until := p.stock.undoUntil(list.stored); !p.stock.date.Before(until) {
		return nil, &TooLateError{Prune: id, Until: until}
	}
	c, err := p.stock.readList(ctx, list)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, p.notCondemned(id)
	}
	return p.undo(ctx, list, c)
}

// undoUntil is how long a prune whose list was stored at a moment can be undone.
func (s *stock) undoUntil(stored time.Time) time.Time {
	return stored.Add(s.grace() - undoMargin).UTC()
}

// notCondemned tells which prune took a backup that was meant for a prune.
func (p *pruner) notCondemned(id manifest.BackupID) error {
	err := &NotCondemnedError{Env: p.opt.Env, ID: id}
	for _, e := range p.embedded {
		if e.ID == id {
			err.By = e.list.id
		}
	}
	return err
}

func (p *pruner) undo(ctx context.Context, list storedList, c *manifest.Condemned) (*UndoResult, error) {
	res := &UndoResult{Environment: p.opt.Env, Prune: list.id, Backups: []manifest.BackupID{}}
	for _, m := range c.Manifests {
		if here := slices.IndexFunc(p.fulls, func(f *full) bool { return f.ID == m.ID }); here >= 0 {
			res.Unfinished = res.Unfinished || p.stock.mayTake(list, p.fulls[here].stored.Stored)
			continue
		}
		at := slices.IndexFunc(p.embedded, func(e *embedded) bool { return e.ID == m.ID && e.list == list })
		if at < 0 { // the list came to be readable between two looks
			return nil, &NotCondemnedError{Env: p.opt.Env, ID: list.id}
		}
		e := p.embedded[at]
		res.Still = res.Still || p.condemnedTwice(e)
		if !e.Usable {
			res.Lost = append(res.Lost, PrunedBackup{ID: m.ID, Problem: e.problem.Error()})
			continue
		}
		if err := putBack(ctx, p.repo, m, p.stock.date, list.stored, p.isVoid(m.ID)); err != nil {
			return nil, err
		}
		res.Backups = append(res.Backups, m.ID)
	}
	if res.Still || res.Unfinished || len(res.Lost) > 0 {
		return res, nil
	}
	return res, p.repo.Bucket.Delete(ctx, []string{manifest.CondemnedKey(p.opt.Env, list.id)})
}

// condemnedTwice reports whether another list names what a backup needs. The list that is undone then has to stay: a prune that goes on beside this
// may not have seen the manifest, and sees by the list alone that the backup can be had back.
func (p *pruner) condemnedTwice(e *embedded) bool {
	return slices.ContainsFunc(p.named, func(l namedList) bool { return l.id != e.list.id && e.needs.meets(l.objects) })
}

// mayTake reports whether the prune that stored a list may still be about to delete a manifest that the list embeds and that is there: not if the
// manifest was put back since, nor if the prune has stood still for so long that it deletes nothing any more.
func (s *stock) mayTake(l storedList, manifest time.Time) bool {
	return !manifest.After(l.stored) && s.date.Sub(l.stored) <= s.grace()/2
}

// Hold keeps a backup from every prune until it is released. *GoneError if there is none, also if a prune takes it in this moment; *PrunedError
// if one may.
func Hold(ctx context.Context, repo *repository.Repository, env string, id manifest.BackupID, tool string) error {
	key := manifest.ManifestKey(env, id)
	before, err := repo.Bucket.Stat(ctx, key)
	if err != nil {
		return gone(err, &GoneError{Env: env, Backup: id})
	}
	h := manifest.NewHold(env, id)
	h.Created, h.Tool = time.Now().UTC().Truncate(time.Second), tool
	h.Host, _ = os.Hostname()
	data, err := h.Encode()
	if err != nil {
		return err
	}
	if err := repository.PutOnce(ctx, repo.Bucket, manifest.HoldKey(env, id), data); err != nil && !errors.Is(err, remote.ErrExists) {
		return fmt.Errorf("store the hold: %w", err)
	}
	if err := beingPruned(ctx, repo, env, id, before.Modified); err != nil {
		return err
	}
	if _, err := repo.Bucket.Stat(ctx, key); err != nil {
		return gone(err, &GoneError{Env: env, Backup: id, Pruned: true})
	}
	return nil
}

// beingPruned is a *PrunedError if a prune may have looked for holds before there was one, and not yet have deleted the manifest: then its list is
// stored. A list that comes later belongs to a prune that sees the hold.
func beingPruned(ctx context.Context, repo *repository.Repository, env string, id manifest.BackupID, stored time.Time) error {
	s := &stock{repo: repo, env: env}
	var err error
	s.date, err = repo.Bucket.List(ctx, manifest.CondemnedPrefix(env), "", func(i remote.Info) error {
		s.note(i)
		return nil
	})
	if err != nil {
		return err
	}
	for _, l := range s.lists {
		if !s.mayTake(l, stored) {
			continue
		}
		c, err := s.readList(ctx, l)
		if err != nil {
			return err
		}
		if c != nil && slices.ContainsFunc(c.Manifests, func(m *manifest.Manifest) bool { return m.ID == id }) {
			return &PrunedError{Env: env, Backup: id, Prune: l.id}
		}
	}
	return nil
}

func gone(err error, instead *GoneError) error {
	if errors.Is(err, remote.ErrNotFound) {
		return instead
	}
	return err
}

// Release ends a hold, and reports whether there was one.
func Release(ctx context.Context, repo *repository.Repository, env string, id manifest.BackupID) (held bool, err error) {
	key := manifest.HoldKey(env, id)
	_, err = repo.Bucket.Stat(ctx, key)
	if errors.Is(err, remote.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, repo.Bucket.Delete(ctx, []string{key})
}
