package archive

import (
	"slices"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
)

// tell puts what was decided, and what was done, into a result.
func (p *pruner) tell() *PruneResult {
	r, s := &p.result, p.stock
	r.Environment, r.DryRun, r.Policy = p.opt.Env, p.opt.DryRun, p.opt.Policy.String()
	r.Backups, r.Log = []PrunedBackup{}, []PrunedLog{}
	if p.condemns.segments == nil { // nothing was decided
		return r
	}
	p.tellBackups()
	p.tellLog()
	r.Condemned, r.Pending = p.condemns.amount(s), p.pending.amount(s)
	for _, b := range r.Backups {
		if !b.Keep {
			r.Condemned.Backups++
		}
	}
	r.Undoable, r.Drills = p.undoable(), len(s.oldDrills())
	if r.Pending.Backups = len(p.embedded); p.opt.DryRun {
		r.Deleted = p.removes.amount(s)
	}
	orphans := doomed{s.newSet(), nil}
	p.condemns.objects.each(func(i int) {
		if !p.expired.has(i) {
			orphans.objects.add(i)
		}
	})
	r.Orphans = orphans.amount(s)
	return r
}

// undoable are the earlier prunes that can still be undone.
func (p *pruner) undoable() (list []EarlierPrune) {
	for _, l := range p.stock.lists {
		until := p.stock.undoUntil(l.stored)
		if !p.stock.date.Before(until) || !slices.ContainsFunc(p.named, func(n namedList) bool { return n.id == l.id }) {
			continue
		}
		e := EarlierPrune{Prune: l.id, UndoUntil: until, Backups: []manifest.BackupID{}}
		for _, b := range p.embedded {
			if b.list == l {
				e.Backups = append(e.Backups, b.ID)
			}
		}
		list = append(list, e)
	}
	return list
}

// tellBackups attributes the objects that go to the newest of the backups that go with them.
func (p *pruner) tellBackups() {
	told := p.stock.newSet()
	list := make([]PrunedBackup, len(p.fulls))
	for i := len(p.fulls) - 1; i >= 0; i-- {
		f, v := p.fulls[i], p.policy.Fulls[i]
		b := PrunedBackup{ID: f.ID, Keep: v.Keep, Why: v.Why}
		if f.problem != nil {
			b.Problem = f.problem.Error()
		}
		if !v.Keep {
			f.needs.each(func(n int) {
				if p.condemns.objects.has(n) && !told.has(n) {
					told.add(n)
					b.Frees += p.stock.objects[n].size
				}
			})
		}
		list[i] = b
	}
	p.result.Backups = list
}

// tellLog joins segments of one timeline that follow one another and have the same fate. Superseded ones lie between those that stay and are counted
// together. What an earlier prune condemned or this one deletes is told by its amount alone.
func (p *pruner) tellLog() {
	superseded := map[manifest.Timeline]int{}
	last := -1
	for i := range p.stock.segments {
		s, why := &p.stock.segments[i], p.policy.Segments[i]
		if !why.Keep() && !p.condemns.segments[i] {
			continue
		}
		at := last
		if why == manifest.LogSuperseded {
			if n, ok := superseded[s.Timeline]; ok {
				at = n
			} else {
				at = -1
			}
		}
		if at < 0 || p.result.Log[at].Timeline != s.Timeline || p.result.Log[at].Why != why {
			at = len(p.result.Log)
			p.result.Log = append(p.result.Log, PrunedLog{Timeline: s.Timeline, From: bdb.LSN{File: s.File, Offset: s.Start}.String(), Keep: why.Keep(), Why: why})
		}
		if why == manifest.LogSuperseded {
			superseded[s.Timeline] = at
		} else {
			last = at
		}
		l := &p.result.Log[at]
		l.To = bdb.LSN{File: s.File, Offset: s.End}.String()
		l.Segments++
		l.Bytes += s.Size
	}
}
