package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bdbvault/manifest"
	"bdbvault/remote/repository"
)

// PruneOptions say what a prune keeps.
type PruneOptions struct {
	Env      string
	Policy   manifest.Policy
	Location *time.Location // in whose calendar hours, days, weeks, … are counted; nil: this host's
	DryRun   bool           // decide and tell, change nothing
	Tool     string         // name and version
	Progress Progress
	Step     func(string) error // see BackupOptions
}

// PruneResult says what stays, what goes, and why.
type PruneResult struct {
	Environment string              `json:"environment"`
	DryRun      bool                `json:"dryRun"`
	Policy      string              `json:"policy"`
	Prune       manifest.BackupID   `json:"prune,omitempty"`    // what this run condemned can be had back by this id
	UndoUntil   time.Time           `json:"undoUntil,omitzero"` // by the store's clock
	Backups     []PrunedBackup      `json:"backups"`            // oldest first
	Log         []PrunedLog         `json:"log"`                // in log order
	Condemned   Amount              `json:"condemned"`          // by this run: deleted by the first one after the grace period
	Pending     Amount              `json:"pending"`            // condemned by earlier runs, whose grace period is not over
	Undoable    []EarlierPrune      `json:"undoable,omitempty"` // those runs, oldest first
	Deleted     Amount              `json:"deleted"`            // by this run
	Orphans     Amount              `json:"orphans"`            // the part of Condemned that no backup needed: what dead runs left
	PutBack     []manifest.BackupID `json:"putBack,omitempty"`  // held in the moment in which a prune took them
	Drills      int                 `json:"drills,omitempty"`   // records of drills that this run deletes, at once
}

// PrunedBackup is the verdict on one backup.
type PrunedBackup struct {
	ID      manifest.BackupID `json:"id"`
	Keep    bool              `json:"keep"`
	Why     []string          `json:"why,omitempty"`
	Problem string            `json:"problem,omitempty"` // why it can't be restored
	Frees   int64             `json:"frees"`             // bytes of packs and maps that go with it
}

// PrunedLog is the verdict on a row of segments of one timeline.
type PrunedLog struct {
	Timeline manifest.Timeline  `json:"timeline"`
	From     string             `json:"from"` // LSN
	To       string             `json:"to"`
	Keep     bool               `json:"keep"`
	Why      manifest.LogReason `json:"why"`
	Segments int                `json:"segments"`
	Bytes    int64              `json:"bytes"`
}

// EarlierPrune is one that can still be undone.
type EarlierPrune struct {
	Prune     manifest.BackupID   `json:"prune"`
	UndoUntil time.Time           `json:"undoUntil"` // by the store's clock
	Backups   []manifest.BackupID `json:"backups"`   // that it took
}

// Amount counts objects.
type Amount struct {
	Backups  int   `json:"backups"`
	Packs    int   `json:"packs"`
	Maps     int   `json:"maps"`
	Segments int   `json:"segments"`
	Bytes    int64 `json:"bytes"` // without manifests
}

// Empty reports whether there is nothing.
func (a Amount) Empty() bool { return a.Backups+a.Packs+a.Maps+a.Segments == 0 }

// maxExpire bounds the manifests that one prune embeds in its list. More backups go by the next prune. Tests make it smaller.
var maxExpire int64 = 32 << 20

// Prune removes what the policy does not keep, in two phases and without locks. It condemns what goes, and deletes what an earlier prune condemned
// longer than the grace period ago and nothing has come to need since.
func Prune(ctx context.Context, repo *repository.Repository, opt PruneOptions) (*PruneResult, error) {
	if err := errors.Join(manifest.CheckEnv(opt.Env), opt.Policy.Check()); err != nil {
		return nil, err
	}
	if opt.Progress == nil {
		opt.Progress = silent{}
	}
	if opt.Location == nil {
		opt.Location = time.Local
	}
	p := &pruner{repo: repo, opt: opt}
	if err := p.look(ctx); err != nil {
		return nil, err
	}
	if p.stock.count == 0 {
		return nil, fmt.Errorf("%w %s", ErrNoEnvironment, opt.Env)
	}
	back, err := p.putBackHeld(ctx)
	if err != nil {
		return nil, err
	}
	if len(back) > 0 { // begin anew with what there is now
		if err := p.look(ctx); err != nil {
			return nil, err
		}
	}
	p.result.PutBack = back
	if len(p.fulls) == 0 {
		opt.Progress.Note("environment " + opt.Env + " has no backup: nothing is removed")
		return p.tell(), nil
	}
	if err := p.decide(); err != nil {
		return nil, err
	}
	if opt.DryRun {
		return p.tell(), nil
	}
	if err := p.deleteOver(ctx); err != nil {
		return nil, err
	}
	if err := p.condemn(ctx); err != nil {
		return nil, err
	}
	return p.tell(), nil
}

// pruner is one run of prune.
type pruner struct {
	repo   *repository.Repository
	opt    PruneOptions
	result PruneResult

	looked   time.Time // when stock was taken, by this host's clock
	stock    *stock
	fulls    []*full // no void ones
	voids    []*full
	over     []storedList // whose grace period is over
	overdue  doomed       // what they name
	pending  doomed       // what the others name
	named    []namedList  // the same, list by list
	embedded []*embedded  // backups that those others can give back

	policy   manifest.Decision
	expired  set // needed by backups that go
	condemns doomed
	removes  doomed
}

// embedded is a backup whose manifest stands in a list that can still be undone.
type embedded struct {
	*full
	list storedList
}

// namedList is what one list names.
type namedList struct {
	id      manifest.BackupID
	objects set
}

// doomed is a set of objects and segments.
type doomed struct {
	objects  set
	segments map[int]bool // by their places in the stock
}

func (s *stock) none() doomed { return doomed{s.newSet(), map[int]bool{}} }

func (p *pruner) step(name string) error {
	if p.opt.Step == nil {
		return nil
	}
	return p.opt.Step(name)
}

// look takes stock and reads what there is to read: manifests and lists.
func (p *pruner) look(ctx context.Context) error {
	p.opt.Progress.Phase(PhaseLook, 0)
	p.looked = time.Now()
	s, err := takeStock(ctx, p.repo, p.opt.Env)
	if err != nil {
		return err
	}
	if err := p.step("listed"); err != nil {
		return err
	}
	all, err := s.fulls(ctx)
	if err != nil {
		return err
	}
	p.stock, p.fulls, p.voids, p.over, p.named, p.embedded = s, nil, nil, nil, nil, nil
	for _, f := range all {
		if f.void {
			p.voids = append(p.voids, f)
		} else {
			p.fulls = append(p.fulls, f)
		}
	}
	p.overdue, p.pending = s.none(), s.none()
	return p.readLists(ctx)
}

// readLists sorts what earlier prunes condemned. A list that can't be read is one by which nobody deletes; once it is old, it goes.
func (p *pruner) readLists(ctx context.Context) error {
	s := p.stock
	chains := s.logs(func(int) bool { return true })
	place := map[manifest.SegmentName]int{}
	for i := range s.segments {
		place[s.segments[i].SegmentName] = i
	}
	for _, l := range s.lists {
		into := &p.pending
		isOver := s.date.Sub(l.stored) > s.grace()
		if isOver {
			into = &p.overdue
			p.over = append(p.over, l)
		}
		c, err := s.readList(ctx, l)
		if errors.Is(err, manifest.ErrDamaged) {
			p.opt.Progress.Note(fmt.Sprintf("what an earlier prune condemned can't be read: %v", err))
			continue
		}
		if err != nil {
			return err
		}
		if c == nil {
			continue
		}
		d := s.none()
		d.addList(s, c, place)
		into.addAll(d)
		p.named = append(p.named, namedList{l.id, d.objects})
		for _, m := range c.Manifests {
			if !isOver {
				p.embedded = append(p.embedded, &embedded{s.digest(m, chains[m.Timeline]), l})
			}
		}
	}
	return nil
}

func (d *doomed) addAll(e doomed) {
	d.objects.addAll(e.objects)
	for i := range e.segments {
		d.segments[i] = true
	}
}

func (d *doomed) addList(s *stock, c *manifest.Condemned, place map[manifest.SegmentName]int) {
	c.EachObject(func(n manifest.ObjectName) {
		if i, ok := s.number[n]; ok {
			d.objects.add(i)
		}
	})
	names, _ := c.SegmentNames() // decoding has checked them
	for _, n := range names {
		if i, ok := place[n]; ok {
			d.segments[i] = true
		}
	}
}

// decide applies the policy and draws the conclusions.
func (p *pruner) decide() error {
	for _, f := range p.fulls {
		if p.stock.holds[f.ID] {
			f.Keep = "held"
		}
	}
	p.applyPolicy()
	size := int64(0)
	later := false
	for i, f := range p.fulls {
		if p.policy.Fulls[i].Keep {
			continue
		}
		if size += f.stored.Size; size > maxExpire && size > f.stored.Size {
			f.Keep, later = "goes by the next prune", true
		}
	}
	if later {
		p.applyPolicy()
	}
	p.conclude()
	return p.prove()
}

func (p *pruner) applyPolicy() {
	h := &manifest.History{Segments: p.stock.segments, Now: p.stock.date.In(p.opt.Location), Young: p.stock.grace()}
	for _, f := range p.fulls {
		h.Fulls = append(h.Fulls, f.Full)
	}
	p.policy = p.opt.Policy.Decide(h)
}

// conclude finds what goes: of what earlier prunes condemned, whatever no backup needs that is listed or can be had back; of the rest, whatever no
// backup needs that stays.
func (p *pruner) conclude() {
	s := p.stock
	kept, expired, guarded := s.newSet(), s.newSet(), s.newSet()
	for i, f := range p.fulls {
		guarded.addAll(f.needs)
		if p.policy.Fulls[i].Keep {
			kept.addAll(f.needs)
		} else {
			expired.addAll(f.needs)
		}
	}
	for _, e := range p.embedded {
		guarded.addAll(e.needs)
	}
	p.removes, p.condemns = s.none(), s.none()
	for i, o := range s.objects {
		switch {
		case p.overdue.objects.has(i) && !guarded.has(i):
			p.removes.objects.add(i)
		case kept.has(i):
		case expired.has(i), !p.pending.objects.has(i) && !s.young(o.stored):
			p.condemns.objects.add(i)
		}
	}
	p.expired = expired
	p.concludeLog()
}

// concludeLog does the same for the log, on which the policy has decided.
func (p *pruner) concludeLog() {
	s := p.stock
	chains := s.logs(func(int) bool { return true })
	needs := func(f *manifest.Full, into map[manifest.SegmentName]bool) {
		if c := chains[f.Timeline]; c != nil {
			for _, n := range c.Follow(f.NeededFrom.File, f.ConsistentAt).Segments {
				into[n] = true
			}
		}
	}
	expired, embedded := map[manifest.SegmentName]bool{}, map[manifest.SegmentName]bool{}
	for i, f := range p.fulls {
		if !p.policy.Fulls[i].Keep {
			needs(&f.Full, expired)
		}
	}
	for _, e := range p.embedded {
		needs(&e.Full, embedded)
	}
	for i := range s.segments {
		n := s.segments[i].SegmentName
		switch {
		case p.policy.Segments[i].Keep():
		case p.overdue.segments[i] && !expired[n] && !embedded[n]:
			p.removes.segments[i] = true
		case expired[n] || !p.pending.segments[i]:
			p.condemns.segments[i] = true
		}
	}
}

// prove plans every restore that has to stay possible, without what goes.
func (p *pruner) prove() error {
	chains := p.stock.logs(func(i int) bool { return !p.removes.segments[i] && !p.condemns.segments[i] })
	usable := 0
	for i, f := range p.fulls {
		if !p.policy.Fulls[i].Keep || !f.Usable {
			continue
		}
		usable++
		if f.needs.meets(p.removes.objects) || f.needs.meets(p.condemns.objects) {
			return fmt.Errorf("prune would take objects of backup %s, which stays: this is a fault of the program, and nothing was removed", f.ID)
		}
		var cover manifest.Cover
		if chain := chains[f.Timeline]; chain != nil {
			cover = chain.Follow(f.NeededFrom.File, f.ConsistentAt)
		}
		if !cover.Covers(f.ConsistentAt) {
			return fmt.Errorf("prune would take log of backup %s, which stays: this is a fault of the program, and nothing was removed", f.ID)
		}
	}
	if usable == 0 {
		return fmt.Errorf("environment %s: %w", p.opt.Env, ErrNoneUsable)
	}
	return nil
}
