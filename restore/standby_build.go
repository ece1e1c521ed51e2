package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
)

// build restores the home from the newest full backup and all log behind it. An interrupted one goes on to the same LSN. Whatever the home holds of an
// earlier build or of following is compared block by block, and fetched where it differs.
func (c *cycle) build(ctx context.Context) error {
	plan, err := c.planBuild(ctx)
	if err == nil && plan.NoLog {
		err = &NoLogError{Backup: plan.Backup, What: "a standby"}
	}
	if err != nil {
		return err
	}
	if c.st == nil || c.st.Backup != plan.Backup || c.st.To != plan.End || c.st.Phase != phaseBuilding {
		made := c.t.made || c.st != nil && c.st.Made
		c.st = &standbyState{Phase: phaseBuilding, Repository: c.repo.Info.ID, Environment: plan.Environment, Made: made,
			Backup: plan.Backup, Timeline: plan.Timeline, Looked: plan.Backup, To: plan.End}
		if err := c.save(); err != nil {
			return err
		}
	}
	r, err := c.restoreHere(ctx, plan)
	if err != nil {
		return err
	}
	return c.built(ctx, plan, r)
}

// planBuild plans the restore that was begun, if it can still be done, else one to the latest.
func (c *cycle) planBuild(ctx context.Context) (*Plan, error) {
	if c.st == nil {
		return MakePlan(ctx, c.repo, c.opt.Env, Target{})
	}
	if c.st.Phase == phaseBuilding && c.st.Backup != "" {
		plan, err := MakePlan(ctx, c.repo, c.st.Environment, Target{Backup: c.st.Backup, LSN: c.st.To})
		if err == nil || ctx.Err() != nil {
			return plan, err
		}
		if _, store := errors.AsType[*remote.Error](err); store && !errors.Is(err, remote.ErrNotFound) {
			return nil, err
		}
		c.note("the restore that was begun can't be finished: %v", err)
	}
	return MakePlan(ctx, c.repo, c.st.Environment, Target{})
}

// restoreHere restores into the home, which is ours.
func (c *cycle) restoreHere(ctx context.Context, plan *Plan) (*restorer, error) {
	opt := Options{To: c.opt.To, Engine: c.opt.Engine, Verify: c.opt.Verify, Progress: c.opt.Progress, Step: c.opt.Step}
	r, err := newRestorer(c.repo, plan, opt)
	if err != nil {
		return nil, err
	}
	if err := r.checkPassword(ctx); err != nil {
		return nil, err
	}
	if err := r.checkEngine(ctx); err != nil {
		return nil, err
	}
	r.t, err = openTarget(c.opt.To, marker{
		Repository: c.repo.Info.ID, Environment: plan.Environment, Backup: plan.Backup, Timeline: plan.Timeline, End: plan.End,
	}, (*target).notInUse)
	if err != nil {
		return nil, err
	}
	defer r.t.close()
	r.t.made, r.t.standby = c.st.Made, true
	r.logs.t, r.result.Home = r.t, r.t.dir
	if err := r.run(ctx); err != nil {
		return nil, err
	}
	if err := r.damage.all(plan.Backup); err != nil {
		c.note("%v", err)
	}
	return r, nil
}

// built makes what was restored the standby's home.
func (c *cycle) built(ctx context.Context, plan *Plan, r *restorer) error {
	r.t = c.t // its own is closed
	h, err := r.scan(ctx)
	if err != nil {
		return err
	}
	m := *plan.Manifest
	m.Files = r.describe(h, plan.Manifest)
	st := *c.st
	st.Phase, st.To, st.Backup, st.Looked = phaseFollowing, bdb.LSN{}, plan.Backup, plan.Backup
	st.Needed, st.EndTime = plan.Manifest.NeededFrom, r.result.EndTime
	st.stand(r.story)
	c.files = &m
	if err := c.keepAt(&st, &m); err != nil {
		return err
	}
	c.result.Action, c.result.Segments = ActionBuilt, plan.Segments
	c.result.LogBytes, c.result.Commits = plan.LogBytes, r.result.Commits
	c.result.Notes = append(c.result.Notes, r.result.Notes...)
	c.idle = 0
	return c.step(ctx, stepKept)
}

// adopt holds the home against a new full backup. If nothing tells that the backup has something that the log did not bring, the home goes on with it:
// only the plain files beside the databases are fetched that have changed.
func (c *cycle) adopt(ctx context.Context) error {
	b := c.news.backup
	switch {
	case b == nil && c.news.looked > c.st.Looked:
		c.st.Looked = c.news.looked
		return c.save()
	case b == nil || c.st.End.Before(b.ConsistentAt):
		return c.keepStarts()
	}
	if why := c.differs(b); why != "" {
		return rebuildf("backup %s has what the log did not bring: %s", b.ID, why)
	}
	if err := c.fetchPlain(ctx, b); err != nil {
		return err
	}
	r, err := c.restorer()
	if err != nil {
		return err
	}
	h, err := r.scan(ctx)
	if err != nil {
		return err
	}
	m := *b
	m.Files = r.describe(h, b)
	st := *c.st
	st.Backup, st.Looked = b.ID, c.news.looked
	st.Created, st.Names = map[bdb.FileID]bdb.LSN{}, nil
	for id, at := range c.st.Created {
		if !at.Before(b.BegunAt) {
			st.Created[id] = at
		}
	}
	st.Starts = c.news.starts
	c.files = &m
	if r, err = c.restorer(); err != nil {
		return err
	}
	if err := r.settle(ctx); err != nil { // attributes may have changed
		return err
	}
	return c.keepAt(&st, &m)
}

// keepStarts remembers where the newest segments begin. It is not worth a write of its own.
func (c *cycle) keepStarts() error {
	c.st.Starts = c.news.starts
	return nil
}

// differs says what the backup has that can't have come by the log; "" if there is nothing.
func (c *cycle) differs(b *manifest.Manifest) string {
	old := c.files
	if text(b.DBConfig) != text(old.DBConfig) || b.LogDir != old.LogDir || !sameDirs(b.Dirs, old.Dirs) {
		return "another DB_CONFIG or other directories"
	}
	here := map[bdb.FileID]*manifest.File{}
	for i := range old.Files {
		here[old.Files[i].FileID] = &old.Files[i]
	}
	there := idSet{}
	for i := range b.Files {
		f := &b.Files[i]
		if f.FileID.IsZero() {
			continue
		}
		there.add(f.FileID, f.PartialID)
		if why := c.unlogged(f, here[f.FileID]); why != "" {
			return why
		}
	}
	for i := range old.Files {
		f := &old.Files[i]
		if made := c.st.Created[f.FileID]; !f.FileID.IsZero() && !there.has(f.FileID) && made.Before(b.BegunAt) {
			return fmt.Sprintf("it has no %s", f.Path)
		}
	}
	return ""
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func sameDirs(a, b []manifest.Dir) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Name != b[i].Name {
			return false
		}
	}
	return true
}

// unlogged says how a database of the backup tells of changes that are not in the log. here is the same one in the home, as it was described when
// the home was last held against a backup.
func (c *cycle) unlogged(f, here *manifest.File) string {
	switch {
	case here == nil:
		return "" // removed since, or the check after recovery would have missed it
	case here.Map == f.Map:
		return ""
	case !c.st.Seen[f.FileID] && !f.PartialID:
		return fmt.Sprintf("%s changed, and the log never names it", f.Path)
	case here.Map == manifest.Hash{} && f.Unlogged > 2, here.Map != manifest.Hash{} && f.Unlogged > here.Unlogged:
		return fmt.Sprintf("%s has %d pages that were written without logging", f.Path, f.Unlogged)
	}
	return ""
}

// plainFiles are the files of the backup that are no databases and new or changed since, and those of the home that it has not.
func (c *cycle) plainFiles(b *manifest.Manifest, lay *layout) (changed []manifest.File, gone []string) {
	old, databases := map[string]*manifest.File{}, map[string]bool{}
	for i := range c.files.Files {
		f := &c.files.Files[i]
		at := lay.file(f)
		old[at] = f
		databases[at] = !f.FileID.IsZero() || f.Kind != bdb.KindFile
	}
	now := map[string]bool{}
	for i := range b.Files {
		f := &b.Files[i]
		at := lay.file(f)
		now[at] = true
		transient := c.st.Names[path.Base(at)] || strings.HasPrefix(path.Base(at), "__db.") // about to become a database, or what stands for one
		if f.Kind == bdb.KindFile && f.FileID.IsZero() && !transient && !databases[at] && (old[at] == nil || old[at].Map != f.Map) {
			changed = append(changed, *f)
		}
	}
	for at := range old {
		if !databases[at] && !now[at] {
			gone = append(gone, at)
		}
	}
	return changed, gone
}

// fetchPlain brings plain files to what the backup has.
func (c *cycle) fetchPlain(ctx context.Context, b *manifest.Manifest) error {
	at, err := resolve(c.opt.To)
	if err != nil {
		return err
	}
	lay, err := newLayout(b, at, nil)
	if err != nil {
		return err
	}
	changed, gone := c.plainFiles(b, lay)
	for _, name := range gone {
		if err := c.t.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	some := *b
	some.Files = changed
	for _, folder := range lay.folders(&some) {
		if err := c.t.root.MkdirAll(folder, 0o700); err != nil {
			return err
		}
	}
	var damage damages
	d := &data{repo: c.repo, m: &some, t: c.t, lay: lay, progress: c.opt.Progress, step: func(string) error { return nil }, damage: &damage}
	return d.run(ctx)
}

// checkPromoted reads the note of a promotion. One that was interrupted behind the note is brought to its end.
func (s *Standby) checkPromoted() error {
	data, err := s.t.root.ReadFile(localenv.PromotedName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var note localenv.Promotion
	if err == nil {
		err = json.Unmarshal(data, &note)
	}
	if err != nil {
		return &StandbyError{Dir: s.t.dir, Problem: "its " + localenv.PromotedName + " can't be read", Err: err}
	}
	if err := s.removeState(); err != nil {
		return err
	}
	return &PromotedError{Dir: s.t.dir, At: note.At, End: note.End}
}
