package restore

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
)

// planStaged reads the log that was laid down, and finds out whether the home can follow it.
func (s *Standby) planStaged(ctx context.Context) (*restorer, error) {
	r, err := s.restorer()
	if err != nil {
		return nil, err
	}
	r.logDir, r.since = stagedLog, s.st.End
	r.story = newStory(r.lay.at, r.m)
	r.story.start, r.story.needed, r.story.since = bdb.LSN{File: s.st.Needed.File}, s.st.Needed, s.st.End
	r.story.begun = bdb.LSN{} // no checkpoint says more of what is in the files
	if err := r.story.read(ctx, s.t.path(stagedLog), r.key); err != nil {
		return nil, err
	}
	if r.story.end.Before(s.st.End) {
		return nil, rebuildf("the log that was laid down ends at LSN %s, before the home's own end %s", r.story.end, s.st.End)
	}
	r.plan.End, r.result.End = r.story.end, r.story.end
	stages, err := r.replay()
	if err != nil {
		return nil, rebuildf("%v", err)
	}
	if len(stages) > 1 {
		return nil, rebuildf("the log renames or removes a queue that has extents, at LSN %s", stages[0].Until)
	}
	return r, nil
}

// restorer is what a restore would use to go on from where the home stands.
func (s *Standby) restorer() (*restorer, error) {
	plan := &Plan{Environment: s.st.Environment, Backup: s.st.Backup, Timeline: s.st.Timeline, End: s.st.End, Manifest: s.files}
	verify := VerifyNever
	if s.opt.Verify == VerifyAlways {
		verify = VerifyAlways
	}
	r, err := newRestorer(nil, plan, Options{To: s.opt.To, Engine: s.opt.Engine, Verify: verify, Progress: s.opt.Progress, Step: s.opt.Step})
	if err != nil {
		return nil, err
	}
	r.t, r.logs.t = s.t, s.t
	r.result.Notes = nil
	return r, nil
}

// recoverStaged repeats a recovery that was interrupted, over whatever it left.
func (s *Standby) recoverStaged(ctx context.Context) (*restorer, error) {
	r, err := s.planStaged(ctx)
	if _, ok := errors.AsType[*rebuildError](err); err != nil && !ok && ctx.Err() == nil {
		return nil, rebuildf("the log that an interrupted cycle laid down can't be used: %v", err)
	}
	if err != nil {
		return nil, err
	}
	if r.story.end != s.st.To {
		return nil, rebuildf("the log that an interrupted cycle laid down ends at LSN %s instead of %s", r.story.end, s.st.To)
	}
	if err := s.gatherStray(ctx, r); err != nil {
		return nil, err
	}
	if r.opt.Verify = s.opt.Verify; r.opt.Verify == "" {
		r.opt.Verify = VerifyAuto // two recoveries over one another are not what anybody promises
	}
	return r, s.replayStaged(ctx, r)
}

// gatherStray puts files back that an interrupted recovery had moved into its scratch home, and gives up where it can't be known what belongs where.
func (s *Standby) gatherStray(ctx context.Context, r *restorer) error {
	h, err := r.scan(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(h.files, func(f homeFile) bool { return isExtent(f.path) }) {
		return rebuildf("a cycle was interrupted in an environment that has queues with extents")
	}
	if _, err := s.t.root.Lstat(scratchName); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	where := map[bdb.FileID]string{}
	for i := range s.files.Files {
		where[s.files.Files[i].FileID] = r.lay.file(&s.files.Files[i])
	}
	return fs.WalkDir(s.t.root.FS(), scratchName, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || path.Base(name) == "DB_CONFIG" {
			return err
		}
		id, err := s.t.fileID(name, r.key)
		if err != nil {
			return err
		}
		to, known := where[id]
		if id.IsZero() || !known {
			return nil // the log makes it anew
		}
		if _, err := s.t.root.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
			return rebuildf("a cycle was interrupted while files exchanged their names (%s)", to)
		}
		return s.t.root.Rename(name, to)
	})
}

// fileID reads the id of a database; zero if it is none.
func (t *target) fileID(name string, key *bdb.Key) (bdb.FileID, error) {
	f, err := t.root.Open(name)
	if err != nil {
		return bdb.FileID{}, err
	}
	defer f.Close() // only read
	first := make([]byte, 512)
	if _, err := f.ReadAt(first, 0); err != nil && err != io.EOF {
		return bdb.FileID{}, err
	}
	meta, err := bdb.ParseMeta(first, key)
	if err != nil {
		return bdb.FileID{}, nil
	}
	return meta.FileID, nil
}

// replayStaged has the engine recover, checks the home, and makes that the new state.
func (s *Standby) replayStaged(ctx context.Context, r *restorer) (err error) {
	r.startEngine(ctx)
	defer func() { err = errors.Join(err, r.endEngine()) }()
	if err := r.recover(ctx); err != nil {
		return err
	}
	if err := r.check(ctx); err != nil {
		return unfit(err)
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	if err := s.step(ctx, stepSettled); err != nil {
		return err
	}
	h, err := r.scan(ctx)
	if err != nil {
		return err
	}
	m := *s.files
	m.Files = r.describe(h, s.files)
	st := *s.st
	st.Phase, st.To, st.Tries = phaseFollowing, bdb.LSN{}, 0
	st.stand(r.story)
	if err := s.keepAt(&st, &m); err != nil {
		return err
	}
	return s.step(ctx, stepKept)
}

// keepAt is keep, with the mark of the log as it is now.
func (s *Standby) keepAt(st *standbyState, m *manifest.Manifest) (err error) {
	if st.Log, err = s.markLog(); err != nil {
		return err
	}
	return s.keep(st, m)
}

// unfit makes what the check found a reason to build the home anew.
func unfit(err error) error {
	_, missing := errors.AsType[*MissingError](err)
	_, damaged := errors.AsType[*VerifyError](err)
	if missing || damaged {
		return rebuildf("after recovery it is not what it must be: %v", err)
	}
	return err
}

// stand moves the state to the end of a log that was replayed.
func (st *standbyState) stand(s *story) {
	st.End, st.Prepared = s.end, s.history.Prepared()
	if !s.last.IsZero() {
		st.EndTime = s.last
	}
	if !s.ckp.IsZero() {
		st.Needed = s.ckp
	}
	if st.Created == nil {
		st.Created, st.Seen = map[bdb.FileID]bdb.LSN{}, map[bdb.FileID]bool{}
	}
	if st.Names == nil {
		st.Names = map[string]bool{}
	}
	for id, names := range s.names {
		st.Seen[id] = true
		for _, name := range names {
			st.Names[path.Base(name)] = true
		}
	}
	for _, f := range s.history.Files() {
		switch {
		case f.State == bdb.FileRemoved:
			delete(st.Created, f.ID)
			delete(st.Seen, f.ID)
		case !f.CreatedBy().IsZero():
			st.Created[f.ID] = f.CreatedBy()
		}
	}
}

// describe lists what is in the home, with what is known of each file.
func (r *restorer) describe(h *home, known *manifest.Manifest) (list []manifest.File) {
	byID, byPath := map[[partialID]byte][]*manifest.File{}, map[string]*manifest.File{}
	for i := range known.Files {
		f := &known.Files[i]
		byPath[r.lay.file(f)] = f
		byID[firstPart(f.FileID)] = append(byID[firstPart(f.FileID)], f)
	}
	for _, found := range h.files {
		f := byPath[found.path]
		if !found.id.IsZero() && (f == nil || !sameID(f, found.id)) {
			f = nil
			for _, same := range byID[firstPart(found.id)] {
				if sameID(same, found.id) {
					f = same
				}
			}
		}
		list = append(list, r.describeFile(&found, f))
	}
	return list
}

// describeFile describes one file. What the log made has the attributes that a restore would give it.
func (r *restorer) describeFile(found *homeFile, known *manifest.File) manifest.File {
	f := manifest.File{PageSize: 4096, BlockSize: 4096, Mode: uint32(r.modeOfNew().Perm())}
	if known != nil {
		f = *known
	}
	f.Uses = nil
	if known == nil || r.lay.file(known) != found.path {
		f.Dir, f.Path = 0, found.path
	}
	f.Kind, f.FileID, f.PartialID, f.Size = found.kind, found.id, false, found.size
	return f
}

func (r *restorer) modeOfNew() fs.FileMode {
	_, file, _ := r.owners()
	if !file.known {
		return 0o600
	}
	return file.mode
}
