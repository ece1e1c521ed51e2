package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
)

// Ways of handling bulk transactions (BackupOptions.BulkSafe).
const (
	BulkAuto    = "auto"    // hold the hot-backup flag if the environment can be joined
	BulkRequire = "require" // fail if the flag can't be held
	BulkOff     = "off"     // never join
)

// BackupOptions say how to make a full backup.
type BackupOptions struct {
	Env            string // name of the environment in the repository
	NewEnvironment bool   // begin afresh although the name belongs to another environment
	Checkpoint     bool   // have the engine write a checkpoint first, so that recovery has less to do
	BulkSafe       string // BulkAuto (also ""), BulkRequire or BulkOff
	ReadAll        bool   // read every file, also those whose inode says that they are unchanged
	Lock           Lock   // of all that a restore needs; the zero value locks nothing
	Offline        bool   // nobody has the environment open, which is looked at and not believed; it need not have a log. Nothing is joined
	AllowDamaged   bool   // take pages that are bad on the source's disk, and record them
	StateDir       string
	Engine         engine.Engine // nil: none, the environment is not joined
	Tool           string        // name and version, for the manifest
	Progress       Progress
	// Step is called with the name of each step before it is taken; an error ends the run. It is where tests break things.
	Step func(name string) error
}

// BackupResult says what a backup did.
type BackupResult struct {
	Manifest      *manifest.Manifest
	ManifestSize  int64
	NewPacks      int
	NewPackBytes  int64
	NewMaps       int
	NewMapBytes   int64
	FilesRead     int
	FilesUnread   int // taken over from the parent
	Ship          ShipResult
	PagesNotInLog int64 // pages written without logging
}

// backup is one attempt at a full backup.
type backup struct {
	repo     *repository.Repository
	env      *localenv.Env
	opt      BackupOptions
	progress Progress
	st       *state
	lesson

	log      *localenv.Log
	m        *manifest.Manifest
	parent   *manifest.Manifest
	retired  map[manifest.Hash]bool
	packs    packTable
	journal  *journal
	stored   *storedPacks // what interrupted runs stored
	old      oldFiles     // parent's
	pipe     *pipeline
	jobs     []*fileJob
	dropped  []*fileJob // copied, but another file has the name
	round    int        // how often the environment was listed again
	seen     map[inode]*fileJob
	odd      map[string]bool // left out: names that are not UTF-8
	listing  localenv.Listing
	maps     map[manifest.Hash]int64 // maps that the manifest names, with their sizes
	segments []manifest.SegmentName  // of the timeline, from the needed-from file on
	end      bdb.LSN
	closed   *localenv.Closed // offline: as it was before the first page
	lock     remote.Retention // of what this run stores
	repoLock remote.Retention // of the repository file
	locked   lockedKeys       // what it has stored so
	result   BackupResult
}

type inode struct{ device, inode uint64 }

// maxTries is how often a backup begins anew because of what the store or the application did meanwhile.
const maxTries = 4

// Backup makes a full backup of env. What it returns is stored, whole and committed. The errors to branch on are
// *OtherEnvironmentError, *DamageError, *NotCoveredError, *LogTooShortError and the engine's.
func Backup(ctx context.Context, repo *repository.Repository, env *localenv.Env, opt BackupOptions) (*BackupResult, error) {
	if err := manifest.CheckEnv(opt.Env); err != nil {
		return nil, err
	}
	if opt.Progress == nil {
		opt.Progress = silent{}
	}
	if err := CheckSource(env); err != nil {
		return nil, err
	}
	st, err := openState(opt.StateDir, repo, opt.Env)
	if err != nil {
		return nil, err
	}
	lesson := lesson{avoid: map[manifest.Hash]bool{}}
	for try := 1; ; try++ {
		b := &backup{repo: repo, env: env, opt: opt, progress: opt.Progress, st: st, lesson: lesson,
			seen: map[inode]*fileJob{}, odd: map[string]bool{}, maps: map[manifest.Hash]int64{}}
		res, err := b.run(ctx)
		if try == maxTries || !lesson.learn(err, opt.Progress.Note) {
			return res, err
		}
	}
}

// lesson is what a run has learned from those that failed before it. What they sent is found in the journal, so that another run sends little.
type lesson struct {
	avoid map[manifest.Hash]bool // objects of earlier backups that must not be referred to
	leave manifest.Timeline      // whose stored log must not be counted on
}

// learn reports whether it is worth while to begin anew.
func (l *lesson) learn(err error, note func(string)) bool {
	var moved *queueMovedError
	var gone *logGoneError
	var condemned *logCondemnedError
	var lost *lostError
	switch {
	case errors.As(err, &moved), errors.As(err, &gone):
		note(err.Error() + "; files are copied again")
	case errors.As(err, &condemned):
		note(err.Error() + "; a new timeline begins")
		l.leave = condemned.Timeline
	case errors.As(err, &lost): // what the store has lost is stored anew: the damage ends with this backup
		note(lost.Error() + "; their content is stored anew")
		for h := range lost.names {
			l.avoid[h] = true
		}
	default:
		return false
	}
	return true
}

func (b *backup) step(name string) error {
	if b.opt.Step == nil {
		return nil
	}
	return b.opt.Step(name)
}

func (b *backup) run(ctx context.Context) (res *BackupResult, err error) {
	started := time.Now()
	if err := b.step("begin"); err != nil {
		return nil, err
	}
	if err := b.lockRepository(ctx, started); err != nil {
		return nil, err
	}
	if b.parent, err = loadParent(ctx, b.repo, b.st, b.opt.Env, b.progress.Note); err != nil {
		return nil, err
	}
	b.m = manifest.New(b.opt.Env, b.newID(started))
	b.m.Started = started.UTC()
	if b.opt.NewEnvironment {
		b.parent = nil
	}
	defer func() {
		err = errors.Join(err, b.close())
		if err != nil {
			res = nil
		}
	}()
	if err := b.begin(ctx); err != nil {
		return nil, err
	}
	if err := b.withFlag(ctx, b.copyPages); err != nil {
		return nil, err
	}
	if err := b.finish(ctx); err != nil {
		return nil, err
	}
	return &b.result, nil
}

// newID makes an id that sorts behind the parent's, also within one second and after the clock was set back: the newest backup is the one
// with the last id.
func (b *backup) newID(now time.Time) manifest.BackupID {
	if b.parent != nil && !now.After(b.parent.ID.Time().Add(time.Second)) {
		now = b.parent.ID.Time().Add(time.Second)
	}
	return manifest.NewBackupID(now)
}

// begin takes the checkpoint that was asked for and opens what the run works with.
func (b *backup) begin(ctx context.Context) error {
	if b.opt.Checkpoint {
		if b.opt.Engine == nil {
			return fmt.Errorf("checkpoint: %w", engine.ErrNotSupported)
		}
		if err := checkpoint(ctx, b.opt.Engine); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
	}
	b.old = indexOld(b.parent)
	b.retire()
	spool, err := b.st.spool()
	if err != nil {
		return err
	}
	b.pipe = newPipeline(b, spool)
	return b.openJournal(ctx)
}

// openJournal finds what an interrupted run left in the store.
func (b *backup) openJournal(ctx context.Context) (err error) {
	if b.journal, err = openJournal(b.st); err != nil {
		return err
	}
	if info, err := b.journal.file.Stat(); err != nil || info.Size() == 0 {
		return err
	}
	look, err := b.look(ctx)
	if err != nil {
		return err
	}
	b.stored, err = readJournal(b.st, func(h manifest.Hash, size int64) int {
		if b.avoid[h] || look.condemned[h] || look.damaged[h] || look.packs[h] != size {
			return noPack
		}
		return b.packs.known(h, size)
	})
	return err
}

func (b *backup) close() (err error) {
	for _, j := range slices.Concat(b.jobs, b.dropped) {
		err = errors.Join(err, j.src.Close(), j.letGo())
	}
	if b.log != nil {
		err = errors.Join(err, b.log.Close())
	}
	if b.journal != nil {
		err = errors.Join(err, b.journal.close())
	}
	if b.pipe != nil {
		err = errors.Join(err, b.pipe.spool.Close())
	}
	return errors.Join(err, b.stored.close())
}

// retire picks the parent's packs whose blocks are stored anew: those less than half alive, worst first, a tenth of the environment at most. A
// pack that only shrinks in use would otherwise be kept, and read by restores, for ever.
func (b *backup) retire() {
	b.retired = map[manifest.Hash]bool{}
	if b.parent == nil {
		return
	}
	for _, p := range manifest.Retire(b.parent.Packs) {
		b.retired[p] = true
	}
}

// withFlag runs fn while the engine holds the hot-backup flag, as far as was asked and is possible, and records which it was.
func (b *backup) withFlag(ctx context.Context, fn func(context.Context) error) error {
	if b.opt.Offline {
		b.m.BulkSafe = manifest.BulkSafe{Asked: BulkOff, Why: "nobody had the environment open"}
		return b.whileClosed(ctx, fn)
	}
	mode := b.opt.BulkSafe
	if mode == "" {
		mode = BulkAuto
	}
	b.m.BulkSafe = manifest.BulkSafe{Asked: mode}
	if mode == BulkOff {
		b.m.BulkSafe.Why = "not asked for"
		return fn(ctx)
	}
	ran, failed, err := b.holdFlag(ctx, fn)
	lost := ran && !failed && flagLost(err)
	if mode == BulkRequire || err == nil || (ran && !lost) || ctx.Err() != nil {
		b.m.BulkSafe.Held = err == nil
		return err
	}
	b.m.BulkSafe.Why = err.Error()
	if lost {
		b.progress.Note("the hot-backup flag was lost during the backup: " + err.Error())
		return nil
	}
	if !errors.Is(err, engine.ErrNotJoinable) && !errors.Is(err, engine.ErrNotSupported) {
		b.progress.Note("the hot-backup flag is not held: " + err.Error())
	}
	return fn(ctx)
}

// flagLost tells that the flag was set and nobody held it to the end: regions were made anew, or somebody killed the engine's child.
func flagLost(err error) bool {
	_, died := errors.AsType[*engine.ChildError](err)
	return died || errors.Is(err, engine.ErrFlagLost)
}

// holdFlag reports whether fn was called, and whether it failed, besides the errors of fn and of the flag, which may both be in err.
func (b *backup) holdFlag(ctx context.Context, fn func(context.Context) error) (ran, failed bool, err error) {
	if b.opt.Engine == nil {
		return false, false, fmt.Errorf("no engine: %w", engine.ErrNotSupported)
	}
	err = b.opt.Engine.HotBackup(ctx, func(ctx context.Context) error {
		ran = true
		err := fn(ctx)
		failed = err != nil
		return err
	})
	return ran, failed, err
}

// copyPages is what the flag is held for: from the note of where recovery starts to the end of the log as it is after the last page was read.
func (b *backup) copyPages(ctx context.Context) (err error) {
	if err := b.step("log-open"); err != nil {
		return err
	}
	b.log, err = b.env.OpenLog(ctx)
	if b.opt.Offline && errors.Is(err, localenv.ErrNoLog) {
		b.log, b.m.NoLog = nil, true
		return b.copyFiles(ctx)
	}
	if err != nil {
		return err
	}
	if b.m.NeededFrom, err = neededFrom(ctx, b.log); err != nil {
		return err
	}
	if b.m.BegunAt, err = b.log.End(ctx); err != nil {
		return err
	}
	err = b.followLog(ctx, func(ctx context.Context) error {
		if err := b.copyFiles(ctx); err != nil {
			return err
		}
		return b.step("log-end")
	})
	if err != nil {
		return err
	}
	if err := b.log.Refresh(ctx); err != nil {
		return logLost(err)
	}
	b.end, err = b.log.End(ctx)
	return err
}

// followLog calls fn and holds every log file that appears meanwhile.
func (b *backup) followLog(ctx context.Context, fn func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	following, stop := context.WithCancel(ctx)
	group.Go(func() error {
		return logLost(b.log.Follow(following))
	})
	group.Go(func() error {
		defer stop()
		return fn(ctx)
	})
	return group.Wait()
}

// logLost tells log files that are missing although they were written since the run began.
func logLost(err error) error {
	var gap *localenv.LogGap
	switch {
	case err == nil:
		return nil
	case errors.As(err, &gap):
		return &logGoneError{gap}
	}
	return fmt.Errorf("log: %w", err)
}

// neededFrom is where recovery has to start: the oldest LSN that the last checkpoint needs, or the whole log where there is no checkpoint or
// it can't be read without the password.
func neededFrom(ctx context.Context, log *localenv.Log) (bdb.LSN, error) {
	files := log.Files()
	oldest := bdb.LSN{File: files[0]}
	ckp, ok, err := log.LastCheckpoint(ctx)
	if errors.Is(err, bdb.ErrPassword) || (err == nil && !ok) {
		return oldest, nil
	}
	if err != nil {
		return bdb.LSN{}, fmt.Errorf("find the last checkpoint: %w", err)
	}
	if ckp.CkpLSN.Before(oldest) {
		return bdb.LSN{}, fmt.Errorf("recovery needs the log from LSN %s on, but the oldest log file is number %d: the environment itself can't be recovered",
			ckp.CkpLSN, oldest.File)
	}
	return ckp.CkpLSN, nil
}

// finish ships the log, stores the maps and commits.
func (b *backup) finish(ctx context.Context) error {
	if b.m.NoLog {
		return b.finishPlain(ctx)
	}
	b.m.ConsistentAt = b.end
	var err error
	if b.m.ConsistentHash, err = newPrefixHash(b.log, b.end.File).upTo(ctx, b.end.Offset); err != nil {
		return err
	}
	if err := b.checkHistory(ctx); err != nil {
		return err
	}
	if err := b.checkPages(); err != nil {
		return err
	}
	if err := b.shipLog(ctx); err != nil {
		return err
	}
	if err := b.describe(); err != nil {
		return err
	}
	if err := b.storeMaps(ctx); err != nil {
		return err
	}
	return b.commit(ctx)
}

// checkPages reports pages that are bad for good, and pages from a future that the log does not know.
func (b *backup) checkPages() error {
	var damage DamageError
	for _, j := range b.jobs {
		e := &j.entry
		if len(j.stats.Bad) > 0 {
			damage.Files = append(damage.Files, DamagedFile{j.name(), j.stats.Bad, j.stats.Damaged - int64(len(j.stats.Bad))})
			for _, p := range j.stats.Bad {
				e.Damaged = append(e.Damaged, p.Page)
			}
		}
		if !j.unread {
			e.MaxLSN, e.Unlogged = j.stats.MaxLSN, j.stats.Unlogged
		}
		b.result.PagesNotInLog += e.Unlogged
		if b.m.NoLog {
			if err := j.checkUnlogged(); err != nil {
				return err
			}
		} else if b.end.Compare(e.MaxLSN) <= 0 {
			return &LogTooShortError{File: j.name(), Page: e.MaxLSN, End: b.end}
		}
		if b.m.MaxPageLSN.Before(e.MaxLSN) {
			b.m.MaxPageLSN = e.MaxLSN
		}
		b.m.Pages.Read += j.stats.Pages
		b.m.Pages.Reread += j.stats.Reread
		b.m.Pages.Bad += j.stats.Damaged
		if j.unread {
			b.m.Pages.Skipped += e.Size / int64(e.PageSize)
		}
	}
	if len(damage.Files) > 0 && !b.opt.AllowDamaged {
		return &damage
	}
	return nil
}

// describe fills in what the manifest says of the environment.
func (b *backup) describe() error {
	m := b.m
	m.Host, _ = os.Hostname()
	m.Home, m.Tool = b.env.Home, b.opt.Tool
	if b.opt.Engine != nil {
		m.Engine = b.opt.Engine.Version()
	}
	if b.env.Config.Present {
		text := b.env.Config.Text
		m.DBConfig = &text
	}
	if b.parent != nil {
		m.Parent = b.parent.ID
	}
	m.LogDir = b.env.LogDir.Name
	b.describeLog()
	for _, d := range append(b.env.Dirs[:len(b.env.Dirs):len(b.env.Dirs)], b.env.LogDir) {
		if !utf8.ValidString(d.Name) {
			return fmt.Errorf("directory %q in DB_CONFIG: its name is not UTF-8 and can't be stored: rename it", d.Name)
		}
	}
	for _, d := range b.env.Dirs {
		m.Dirs = append(m.Dirs, manifest.Dir{Name: d.Name})
	}
	b.describeFolders()
	for name := range b.odd {
		m.Skipped = append(m.Skipped, manifest.Skipped{Path: name, Reason: "its name is not UTF-8"})
	}
	for _, s := range b.listing.Skipped {
		m.Skipped = append(m.Skipped, manifest.Skipped{Path: s.Path, Reason: s.Reason})
	}
	return nil
}

func (b *backup) describeFolders() {
	for _, d := range b.listing.Dirs {
		mode := d.Stat.Mode & 0o7777
		switch dir := &b.m.Dirs[d.Dir]; {
		case d.Path == ".":
			dir.Mode, dir.UID, dir.GID = mode, d.Stat.UID, d.Stat.GID
		case !utf8.ValidString(d.Path):
			b.odd[strings.ToValidUTF8(d.Path, "\uFFFD")] = true
		default:
			b.m.Folders = append(b.m.Folders, manifest.Folder{Dir: d.Dir, Path: d.Path, Mode: mode, UID: d.Stat.UID, GID: d.Stat.GID})
		}
	}
}

// putPack stores a finished pack.
func (b *backup) putPack(ctx context.Context, name manifest.Hash, data []byte) error {
	if err := b.step("pack"); err != nil {
		return err
	}
	key := manifest.PackKey(b.opt.Env, name)
	err := b.repo.Bucket.Put(ctx, key, bytes.NewReader(data), int64(len(data)),
		remote.PutOptions{IfAbsent: true, SHA256: name, HasSHA256: true, Retain: b.lock})
	if err != nil {
		return fmt.Errorf("store pack: %w", err)
	}
	b.locked.add(key)
	return b.step("pack-stored")
}
