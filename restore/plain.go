package restore

import (
	"context"
	"fmt"

	"bdbvault/manifest"
)

// NoLogError says that something was asked for, of a backup of an environment that had no log, that only a log makes possible.
type NoLogError struct {
	Backup manifest.BackupID
	What   string
}

func (e *NoLogError) Error() string {
	return fmt.Sprintf("backup %s is of an environment without a log: it can be restored as it is, but %s is not to be had from it", e.Backup, e.What)
}

// planPlain is the plan for a backup that has no log: what was copied is what comes back.
func (p *planner) planPlain(m *manifest.Manifest) (*Plan, error) {
	t := p.target
	early := !t.At.IsZero() && t.At.Before(m.Finished)
	switch {
	case !t.LSN.IsZero(), t.BeforeTxn != 0, early && t.Backup != "":
		return nil, &NoLogError{Backup: m.ID, What: t.String()}
	case early:
		return nil, errTooEarly
	}
	plan := &Plan{
		Environment: p.env, Backup: m.ID, Timeline: m.Timeline, Started: m.Started, Files: len(m.Files), Bytes: m.Bytes(), NoLog: true,
		Encrypted: m.Encrypted, Notes: p.notes, PassedOver: p.passed, Target: p.target, Manifest: m,
	}
	plan.addData()
	return plan, nil
}

// checkPlain is check where nothing had to be recovered.
func (r *restorer) checkPlain(ctx context.Context) error {
	r.startEngine(ctx)
	r.story = newStory(r.lay.at, r.m)
	r.dirs = r.story.searchDirs(r.lay, r.m)
	scratch, err := newScratch(r.t, r.lay.create, r.dirs) // for the engine that verifies
	if err == nil {
		err = scratch.config()
	}
	if err != nil {
		return err
	}
	return r.check(ctx)
}
