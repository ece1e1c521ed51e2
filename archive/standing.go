package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote/repository"
)

// Standing is how an environment stands to what is stored of it.
type Standing struct {
	Backup     *manifest.Manifest // newest that can be used
	Shipped    bdb.LSN            // the log is stored up to here; zero: none of it is
	LastCommit time.Time          // newest commit in the store, to the second; zero: not known
	End        bdb.LSN            // of the log here
	Related    bool               // a database here is in that backup, or the log goes on from there
}

// Stand compares an environment with the repository as the next ship would, and sends nothing. The errors are Ship's: a *ChainError comes with what is known.
func Stand(ctx context.Context, repo *repository.Repository, env *localenv.Env, survey *localenv.Survey, opt ShipOptions) (st *Standing, err error) {
	if opt.Progress == nil {
		opt.Progress = silent{}
	}
	state := frozenState(opt.StateDir, repo, opt.Env)
	m, err := loadParent(ctx, repo, state, opt.Env, opt.Progress.Note)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, fmt.Errorf("environment %s: %w", opt.Env, ErrNoBackup)
	}
	log, err := env.OpenLog(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	st = &Standing{Backup: m, LastCommit: m.ConsistentTime, Related: related(m, survey)}
	if st.End, err = log.End(ctx); err != nil {
		return nil, err
	}
	s := newShipper(repo, state, env, log, opt)
	if err := s.find(ctx, m); err != nil {
		return nil, err
	}
	if s.last != nil {
		st.Shipped = s.last.EndLSN()
		if s.last.LastCommit > 0 {
			st.LastCommit = time.Unix(s.last.LastCommit, 0)
		}
	}
	err = s.continues(ctx)
	st.Related = st.Related || err == nil
	return st, err
}

// related reports whether the backup and the environment have a database in common. An environment without databases has none to compare.
func related(m *manifest.Manifest, survey *localenv.Survey) bool {
	old := indexOld(m)
	for _, d := range survey.Databases {
		if old.sameID(&manifest.File{FileID: d.ID, PartialID: d.Partial}) != nil {
			return true
		}
	}
	return len(old.byID) == 0
}
