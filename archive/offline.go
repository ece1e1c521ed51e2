package archive

import (
	"context"
	"fmt"
	"slices"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
)

// UnknownLogError says that an environment without a log on disk had one nevertheless: its pages refer to it.
type UnknownLogError struct {
	File     string
	Page     bdb.LSN
	InMemory bool // DB_CONFIG says that it is in memory
}

func (e *UnknownLogError) Error() string {
	if e.InMemory {
		return "the environment keeps its log in memory (DB_LOG_IN_MEMORY), and nothing on disk tells what is missing in the databases"
	}
	return fmt.Sprintf("there is no log file, but %s has a page of LSN %s: the log is in memory, or in a directory that DB_CONFIG does not name", e.File, e.Page)
}

// EmptyError says that a home has neither log nor databases.
type EmptyError struct{ Home string }

func (e *EmptyError) Error() string {
	return fmt.Sprintf("home %s has neither a log nor a database", e.Home)
}

// whileClosed copies an environment that nobody has open, and looks again at the end.
func (b *backup) whileClosed(ctx context.Context, fn func(context.Context) error) (err error) {
	if b.env.Config.LogInMemory {
		return &UnknownLogError{InMemory: true}
	}
	if b.closed, err = b.env.CheckClosed(ctx); err != nil {
		return err
	}
	b.m.Offline = &manifest.Offline{Unseen: b.closed.Unseen, Regions: b.closed.Regions}
	if err := fn(ctx); err != nil {
		return err
	}
	if b.m.NoLog {
		b.noteUnwritten()
	}
	return b.closed.Same(ctx, b.env)
}

// noteUnwritten tells what can't be known where no log could make up for it.
func (b *backup) noteUnwritten() {
	switch c := b.closed; {
	case len(c.Died) > 0:
		b.progress.Note(fmt.Sprintf("process %d died while it had the environment open: without a log nothing can tell whether its databases are right", c.Died[0]))
	case len(c.Regions) > 0:
		b.progress.Note("region files are there: what the last process that had the environment open did not write to the databases, because it did not close them, is not in the backup")
	}
}

// finishPlain commits a backup that has no log: what was copied is all there is. No other goes on from it, so it has a timeline of its own.
func (b *backup) finishPlain(ctx context.Context) error {
	b.resolveNames()
	if !slices.ContainsFunc(b.jobs, func(j *fileJob) bool { return j.entry.Kind != bdb.KindFile }) {
		return &EmptyError{Home: b.env.Home}
	}
	if err := b.checkPages(); err != nil {
		return err
	}
	b.m.Timeline, b.m.NewTimeline = manifest.NewTimeline(), "the environment has no log"
	b.result.Ship.Timeline = b.m.Timeline
	if err := b.describe(); err != nil {
		return err
	}
	if err := b.storeMaps(ctx); err != nil {
		return err
	}
	if err := b.closed.Same(ctx, b.env); err != nil { // the last moment at which it is known
		return err
	}
	return b.commit(ctx)
}

// checkUnlogged makes sure that a file's pages belong to no log.
func (j *fileJob) checkUnlogged() error {
	if lsn := j.entry.MaxLSN; !lsn.IsZero() && lsn != bdb.NotLogged {
		return &UnknownLogError{File: j.name(), Page: lsn}
	}
	return nil
}

// describeLog fills in what the manifest says of the log, or of what shows without one.
func (b *backup) describeLog() {
	if b.log == nil {
		for _, j := range b.jobs {
			b.m.Encrypted = b.m.Encrypted || j.entry.Encrypted
		}
		return
	}
	b.m.LogVersion = b.log.Version()
	if h, err := b.log.Header(b.m.ConsistentAt.File); err == nil {
		b.m.Encrypted = h.Encrypted
	}
}
