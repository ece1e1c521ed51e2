package hotcopy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
)

// StagedName is the directory in a target that new log is laid down in before the copy is updated with it.
const StagedName = own + "new"

// Update brings the log that is new to a copy.
type Update struct {
	env  *localenv.Env
	root *os.Root // the target
	opt  Options

	log    *localenv.Log
	moves  []uint32        // log files that the source no longer needs
	linked map[uint32]bool // those of them that are in the staged directory by a link
	since  bdb.LSN
	need   bdb.LSN
	end    bdb.LSN
	crypt  bool
}

// NewUpdate prepares to update the copy in root.
func NewUpdate(env *localenv.Env, root *os.Root, opt Options) *Update {
	return &Update{env: env, root: root, opt: opt, linked: map[uint32]bool{}}
}

// Close lets go of the log.
func (u *Update) Close() error {
	if u.log == nil {
		return nil
	}
	return u.log.Close()
}

// Stage lays the environment's log down beside the copy and finds out whether the copy can follow it. Nothing is taken from the source, and the copy is as
// before. What earlier runs moved there and did not bring to an end is part of it. Errors are *GapError and *StrangerError.
func (u *Update) Stage(ctx context.Context) (err error) {
	if err := u.opt.step(ctx, "stage"); err != nil {
		return err
	}
	if u.log, err = u.env.OpenLog(ctx); err != nil {
		return err
	}
	if u.moves, _, err = unneeded(ctx, u.log); err != nil {
		return err
	}
	if err := u.root.Mkdir(StagedName, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := u.lay(ctx); err != nil {
		return err
	}
	return u.compare(ctx)
}

// lay links or copies all log files.
func (u *Update) lay(ctx context.Context) error {
	moving := map[uint32]bool{}
	for _, n := range u.moves {
		moving[n] = true
	}
	for _, n := range u.log.Files() {
		if err := u.opt.step(ctx, "lay"); err != nil {
			return err
		}
		to := path.Join(StagedName, logName(n))
		if err := u.root.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if moving[n] && os.Link(logPath(u.env, n), path.Join(u.root.Name(), to)) == nil {
			u.linked[n] = true
			continue
		}
		size, err := u.log.EndOf(ctx, n)
		if err != nil {
			return err
		}
		if err := copyLog(ctx, u.log, n, size, u.root, to); err != nil {
			return err
		}
	}
	return syncDir(u.root, StagedName)
}

func syncDir(root *os.Root, dir string) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// compare finds out how far the copy has followed the log.
func (u *Update) compare(ctx context.Context) error {
	staged, err := localenv.OpenLogDir(ctx, path.Join(u.root.Name(), StagedName), u.env.Key())
	if err != nil {
		return err
	}
	defer staged.Close() // only read
	dir := path.Join(u.root.Name(), u.opt.place(u.env.LogDir.Name))
	old, err := localenv.OpenLogDir(ctx, dir, u.env.Key())
	switch {
	case errors.Is(err, localenv.ErrNoLog), errors.Is(err, fs.ErrNotExist):
		return u.fromTheBeginning(ctx, staged)
	case err != nil:
		return err
	}
	defer old.Close() // only read
	lowest, highest := staged.Files()[0], last(old.Files())
	if highest < lowest {
		return &GapError{Removed: highest, Lowest: lowest}
	}
	return u.follow(ctx, staged, old, dir)
}

func last(files []uint32) uint32 { return files[len(files)-1] }

// fromTheBeginning is for a target without a log: all of it has to be there, and nothing else.
func (u *Update) fromTheBeginning(ctx context.Context, staged *localenv.Log) error {
	if lowest := staged.Files()[0]; lowest != 1 {
		return &GapError{Lowest: lowest}
	}
	entries, err := readDir(u.root, ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() && !isOwn(e.Name()) && e.Name() != localenv.MarkerName {
			return &StrangerError{u.root.Name(), "it has files and no log"}
		}
	}
	u.need = bdb.LSN{File: 1}
	return u.finish(ctx, staged)
}

// follow finds the end of what both logs have in common: up to there the copy was recovered. What its own log has behind it may only be what recovery
// wrote there.
func (u *Update) follow(ctx context.Context, staged, old *localenv.Log, dir string) error {
	p := &parallel{old: old, from: max(staged.Files()[0], old.Files()[0])}
	_, err := staged.Walk(ctx, bdb.LSN{File: staged.Files()[0]}, func(r *bdb.Record) error { return p.add(ctx, r) })
	if err != nil && !errors.Is(err, errDiffers) {
		return err
	}
	if p.records == 0 {
		return &StrangerError{dir, fmt.Sprintf("log file %d has no record in common with the environment's", p.from)}
	}
	if err := onlyRecovery(ctx, old, p.end, dir); err != nil {
		return err
	}
	u.since, u.need = p.end, p.ckp.CkpLSN
	if lowest := staged.Files()[0]; u.need.IsZero() && lowest == 1 {
		u.need = bdb.LSN{File: 1}
	} else if u.need.File < lowest {
		return &GapError{Removed: last(old.Files()), Lowest: lowest, Needed: u.need}
	}
	return u.finish(ctx, staged)
}

func (u *Update) finish(ctx context.Context, staged *localenv.Log) (err error) {
	u.end, err = staged.End(ctx)
	if err != nil {
		return err
	}
	h, err := staged.Header(u.end.File)
	u.crypt = h.Encrypted
	return err
}

var errDiffers = errors.New("the logs differ from here on")

// parallel walks two logs side by side.
type parallel struct {
	old     *localenv.Log
	from    uint32 // the first file that both have
	end     bdb.LSN
	records int
	ckp     bdb.Checkpoint // the last one before end
	buf     []byte
}

func (p *parallel) add(ctx context.Context, r *bdb.Record) error {
	if r.LSN.File >= p.from {
		if len(p.buf) < len(r.Raw) {
			p.buf = make([]byte, len(r.Raw))
		}
		n, err := p.old.ReadAt(ctx, r.LSN.File, p.buf[:len(r.Raw)], int64(r.LSN.Offset))
		if errors.Is(err, fs.ErrNotExist) || err == nil && string(p.buf[:n]) != string(r.Raw) {
			return errDiffers
		}
		if err != nil {
			return err
		}
		p.records++
		p.end = r.Next()
	}
	if c, ok := r.Checkpoint(); ok {
		p.ckp = c
	}
	return nil
}

// onlyRecovery refuses a copy that somebody has worked with: its log goes on with more than the checkpoint of a recovery.
func onlyRecovery(ctx context.Context, old *localenv.Log, from bdb.LSN, dir string) error {
	_, err := old.Walk(ctx, from, func(r *bdb.Record) error {
		if !r.OfRecovery() {
			return &StrangerError{dir, fmt.Sprintf("its log has a record at LSN %s that the environment's has not", r.LSN)}
		}
		return nil
	})
	return err
}

// Abandon takes away what Stage laid down. What an earlier run moved there stays; clean says that there is no such thing.
func (u *Update) Abandon() (clean bool, err error) {
	entries, err := readDir(u.root, StagedName)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	clean = true
	for _, e := range entries {
		if _, err := os.Lstat(u.env.LogDir.Path + "/" + e.Name()); err != nil {
			clean = false
			continue
		}
		if err := u.root.Remove(path.Join(StagedName, e.Name())); err != nil {
			return false, err
		}
	}
	if clean {
		err = u.root.Remove(StagedName)
	}
	return clean, err
}

// Move removes from the source the log files that it no longer needs; they are staged. From here on only the staged log has them.
func (u *Update) Move(ctx context.Context) error {
	dir := u.opt.place(u.env.LogDir.Name)
	for _, n := range u.log.Files() {
		from, to := u.opt.shownSource(u.env.LogDir, logName(n)), u.opt.shown(path.Join(dir, logName(n)))
		switch moving := n < u.after(); {
		case moving && u.linked[n]:
			u.opt.tell(Event{What: LogMoved, From: from, To: to, Number: n})
		case moving:
			u.opt.tell(Event{What: LogCopied, From: from, To: to, Number: n})
			u.opt.tell(Event{What: LogRemoved, From: from, Number: n})
		default:
			u.opt.tell(Event{What: LogCopied, From: from, To: to, Number: n})
			continue
		}
		if err := u.opt.step(ctx, "move"); err != nil {
			return err
		}
		if err := os.Remove(logPath(u.env, n)); err != nil && !errors.Is(err, syscall.ENOENT) {
			return err
		}
	}
	u.opt.tell(Event{What: LowestCopied, Number: u.log.Files()[0]})
	return u.opt.step(ctx, "moved")
}

// after is the first log file that stays at the source.
func (u *Update) after() uint32 {
	if len(u.moves) == 0 {
		return 0
	}
	return last(u.moves) + 1
}

// Replace tells of the copy's own log files, which recovery puts the staged ones in the place of.
func (u *Update) Replace(ctx context.Context) error {
	entries, err := readDir(u.root, u.opt.place(u.env.LogDir.Name))
	if err != nil {
		return err
	}
	highest := uint32(0)
	for _, e := range entries {
		if n, log := localenv.ParseLogName(e.Name()); log {
			u.opt.tell(Event{What: TargetRemoved, To: u.opt.shown(path.Join(u.opt.place(u.env.LogDir.Name), e.Name()))})
			highest = max(highest, n)
		}
	}
	if highest > 0 {
		u.opt.tell(Event{What: HighestRemoved, Number: highest})
	}
	return u.opt.step(ctx, "copied")
}

// Result is what recovery has to know.
func (u *Update) Result() *Copy {
	r := describe(u.env, u.opt)
	r.Staged, r.Since, r.Needed, r.End, r.Encrypted = StagedName, u.since, u.need, u.end, u.crypt
	return r
}
