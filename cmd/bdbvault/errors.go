package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"bdbvault/archive"
	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

// Exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitChain       = 3 // the log chain is broken: a full backup is needed
	exitDamage      = 4
	exitInterrupted = 130
)

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// outputError says that a result could not be printed.
type outputError struct{ err error }

func (e *outputError) Error() string { return "print the result: " + e.err.Error() }
func (e *outputError) Unwrap() error { return e.err }

func asUsage(err error) error {
	if is[usageError](err) {
		return err
	}
	return usageError{err}
}

// is reports whether there is an E in err's chain.
func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// verdict is what an error comes to: the exit code, what happened, and what to do next.
type verdict struct {
	code int
	text string
	hint string
}

// judge is the only place that knows exit codes.
func judge(ctx context.Context, err error) verdict {
	if err == nil {
		return verdict{}
	}
	v := verdict{text: words(err), hint: hint(err)}
	switch {
	case interrupted(ctx) && errors.Is(err, context.Canceled):
		v = verdict{code: exitInterrupted, text: "interrupted", hint: "Nothing half done was published. The same command goes on from here."}
	case interrupted(ctx):
		v.code = exitInterrupted
	case is[usageError](err), is[*restore.MapError](err):
		v.code = exitUsage
	case is[*unwellError](err):
		e, _ := errors.AsType[*unwellError](err)
		v.code = e.code
	case isDamage(err):
		v.code = exitDamage
	case is[*archive.ChainError](err), errors.Is(err, archive.ErrNoBackup), is[*manifest.GapError](err):
		v.code = exitChain
	default:
		v.code = exitFailed
	}
	return v
}

// words are what happened. Errors below cmd know no local time.
func words(err error) string {
	if e, ok := errors.AsType[*restore.UnreachableError](err); ok {
		return unreachable(e)
	}
	if e, ok := errors.AsType[*restore.AmbiguousError](err); ok {
		s := fmt.Sprintf("several transactions had the id %s; their commits:", e.Txn)
		for _, c := range e.Commits {
			s += fmt.Sprintf("\n  LSN %s of %s", c.LSN, stamp(c.Time))
		}
		return s
	}
	return err.Error()
}

func unreachable(e *restore.UnreachableError) string {
	what := e.Target.String()
	if !e.Target.At.IsZero() {
		what = "the state of " + stamp(e.Target.At)
	}
	s := fmt.Sprintf("%s of %s can't be reached", what, e.Environment)
	switch {
	case e.Err != nil:
		s += ": " + e.Err.Error()
	case !e.Newest.IsZero():
		s += fmt.Sprintf(": the newest commit in the store is of %s, and nothing there shows that no other was made up to that time", stamp(e.Newest))
	}
	if len(e.Ranges) > 0 {
		s += "; what can be restored:"
	}
	for _, r := range e.Ranges {
		s += fmt.Sprintf("\n  timeline %s from %s to %s", r.Timeline, moment(r.From, r.FromTime), moment(r.To, r.ToTime))
	}
	return s
}

func isPastNewest(err error) bool {
	e, ok := errors.AsType[*restore.UnreachableError](err)
	return ok && e.Err == nil && !e.Newest.IsZero()
}

func isDamage(err error) bool {
	return restore.IsDamage(err) || is[*archive.DamageError](err)
}

// hint says what to do next. The order matters where an error has several in its chain: the most telling first.
func hint(err error) string {
	if h := tamperedHint(err); h != "" {
		return h
	}
	switch {
	case is[usageError](err):
		return "See bdbvault --help, or bdbvault COMMAND --help."
	case is[*outputError](err):
		return "What the command was to do is done; only standard output did not take its result."
	case errors.Is(err, repository.ErrNone):
		return "Check -r. If there has never been a repository, make one: bdbvault init -r REPOSITORY"
	case is[*repository.DamagedError](err):
		return "Nothing else depends on what it says. Move it away, and make it anew: bdbvault init. All backups are there again then."
	case errors.Is(err, repository.ErrExists):
		return "Nothing was changed. Just use it, or choose another prefix or directory."
	case errors.Is(err, engine.ErrPassword), errors.Is(err, bdb.ErrPassword), errors.Is(err, restore.ErrPassword):
		return "Give the environment's password by --password-file FILE or " + passwordVariable + "; leave it out if the environment is not encrypted."
	case isPastNewest(err):
		return "The same command without --at restores all that is stored, up to that newest commit. If no commit was made after it, that is the state of the time you asked for."
	case is[*restore.UnreachableError](err):
		return "Without --at, --lsn and --before-txn a restore goes as far as it can. bdbvault list shows all backups and their log."
	case is[*archive.OtherEnvironmentError](err):
		return "Choose another name with --env NAME. If this environment has taken the old one's place for good, begin afresh beside its backups: --new-environment"
	case errors.Is(err, archive.ErrNoBackup):
		return "Take a full backup first: bdbvault backup"
	case is[*archive.ChainError](err):
		return "Take a full backup, which begins a new timeline: bdbvault backup. What was shipped before stays restorable."
	}
	for _, find := range []func(error) string{drillHint, standbyHint, pruneHint, damageHint, diskHint, restoreHint, engineHint, storeHint, localHint} {
		if h := find(err); h != "" {
			return h
		}
	}
	return ""
}

func damageHint(err error) string {
	damage, _ := errors.AsType[*restore.DamageError](err)
	switch {
	case damage != nil && !damage.LogGood.IsZero():
		return fmt.Sprintf("Up to LSN %[1]s the log is right: --backup %[2]s --lsn %[1]s ends there. Take a full backup now: bdbvault backup", damage.LogGood, damage.Backup)
	case is[*archive.DamageError](err):
		return "These pages are bad on this disk. Check it, and verify the databases (db_verify). To keep what is readable: --allow-damaged, which records the pages in the backup."
	case is[*archive.NotCoveredError](err):
		return "Databases outside the data directories of DB_CONFIG can't be backed up. Add their directory there (add_data_dir) or remove them."
	case is[*archive.LogTooShortError](err):
		return "The log was truncated, or files of another environment lie here. Recover the environment (db_recover) before you back it up."
	case is[*manifest.GapError](err):
		return "Log is missing in the store. Restore an older backup with --backup ID, and take a full backup now: bdbvault backup"
	case is[*archive.UnreadableError](err) && errors.Is(err, manifest.ErrDamaged):
		return "If that backup is given up, delete that object by hand; then prune goes on."
	case is[*restore.UnsoundError](err):
		return "Take a full backup now: it refers to nothing that is missing or damaged, and stores that anew (bdbvault backup). Restore the backups that are ok with --backup ID."
	case is[*manifest.FormatError](err):
		return "It was written by a newer bdbvault: use that one."
	case is[*repository.VoidError](err), errors.Is(err, manifest.ErrDamaged), is[*restore.DamageError](err):
		return "Restore another backup with --backup ID (bdbvault list shows them), and take a full backup now: bdbvault backup"
	}
	return ""
}

// diskHint is about this host's disks, whatever was being done; a store has its own words.
func diskHint(err error) string {
	switch {
	case is[*remote.Error](err):
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "The disk is full: make room. The same command then goes on."
	case errors.Is(err, syscall.EROFS):
		return "The file system is mounted read-only."
	case errors.Is(err, syscall.EMFILE):
		return "Raise the limit of open files (ulimit -n, LimitNOFILE= of a unit). Backup and ship hold every log file open; those that are stored need not lie there: bdbvault watch --remove-shipped-logs"
	}
	return ""
}

func isAbsoluteName(err error) bool {
	e, ok := errors.AsType[*restore.NameError](err)
	return ok && filepath.IsAbs(e.Name)
}

func isNotEmpty(err error) bool {
	e, ok := errors.AsType[*restore.TargetError](err)
	return ok && e.NotEmpty
}

func pruneHint(err error) string {
	switch {
	case errors.Is(err, archive.ErrNoEnvironment):
		return "bdbvault list shows what there is."
	case errors.Is(err, archive.ErrNoneUsable):
		return "bdbvault list says what is wrong with each. Take a full backup first: bdbvault backup"
	case is[*archive.CopiedError](err):
		return "Prune where the repository was made. Here, take a full backup into a new repository, and delete this one when it is old enough."
	case is[*archive.GoneError](err):
		return "bdbvault list shows all backups. What a prune took in the last hours can be put back: bdbvault prune --undo ID"
	case is[*archive.PrunedError](err):
		e, _ := errors.AsType[*archive.PrunedError](err)
		return "The hold is stored: the next prune keeps that backup, or puts it back. If you don't want to wait, see with bdbvault list whether it is gone when that prune has ended, and put it back: bdbvault prune --undo " + string(e.Prune)
	case is[*archive.NotCondemnedError](err):
		if e, _ := errors.AsType[*archive.NotCondemnedError](err); e.By != "" {
			return "Take back all of that prune: bdbvault prune --undo " + string(e.By)
		}
		return "prune --dry-run, with any policy, prints the IDs of those that can be undone."
	}
	return ""
}

func restoreHint(err error) string {
	switch {
	case is[*restore.AmbiguousError](err):
		return "Ids come again after every recovery of the environment. Choose one with --lsn, or search only behind a backup with --backup ID."
	case errors.Is(err, restore.ErrEnvironment):
		return "Name one with --env NAME; bdbvault list shows all."
	case errors.Is(err, restore.ErrNoBackup):
		return "bdbvault list shows what there is. Take one with bdbvault backup."
	case is[*restore.NotFoundError](err), is[*noBackupError](err):
		return "bdbvault list shows all backups."
	case is[*restore.TargetError](err) && errors.Is(err, fs.ErrPermission):
		return "Run bdbvault as a user who may write there, or restore into another directory."
	case is[*restore.InUseError](err):
		return "Stop it, and make sure that nothing starts it again before the restore has ended. Or restore into a new directory."
	case isNotEmpty(err):
		return "Restore into a new or an empty directory; or, if it holds an environment that is to be replaced, use what is equal there: --delta"
	case is[*restore.TargetError](err):
		return "Restore into a new or an empty directory. An interrupted restore is resumed by the same command."
	case is[*restore.ConfigError](err):
		return "The environment had a directory outside of its home. Say where that goes: --map-dir OLD=NEW"
	case isAbsoluteName(err):
		return "Nothing was written there. If the environment kept files there, say where that directory goes: --map-dir OLD=NEW"
	case is[*restore.NameError](err):
		return "Such a name comes from a damaged or a forged backup. Nothing was written there."
	case is[*restore.MissingError](err), is[*restore.VerifyError](err):
		return "The restored home is marked unfinished: do not use it. Restore an older backup with --backup ID."
	case is[*restore.LogEndError](err):
		return "Restore another backup with --backup ID; bdbvault list shows them."
	case is[*restore.RecoveryError](err):
		return "The restored home is marked unfinished: do not use it. Try an older backup with --backup ID, or the other engine (--engine libdb, dbutil)."
	}
	return ""
}

func engineHint(err error) string {
	if e, ok := errors.AsType[*engine.HungError](err); ok {
		return fmt.Sprintf("Look why the environment does not answer (db_stat -CA). Process %d ends by itself; do not kill it with SIGKILL.", e.PID)
	}
	switch {
	case errors.Is(err, engine.ErrStaleRegion):
		return "Let the application (or db_recover) recover the environment first, or leave it unjoined: --bulk-safe off and no -c"
	case errors.Is(err, engine.ErrNotJoinable):
		return "Run bdbvault as the user who owns the environment while its application is running, or leave it unjoined: --bulk-safe off and no -c"
	case errors.Is(err, engine.ErrFlagLost):
		return "The application was restarted meanwhile. Take the backup again."
	case errors.Is(err, engine.ErrNotSupported):
		return "bdbvault version shows the engine there is. Choose with --engine libdb (needs a build with cgo) or --engine dbutil --db-bin DIR."
	case is[*engine.ChildError](err):
		return "Check that the application still works. The engine ran in a process of its own, which is gone."
	}
	return ""
}

// storeHints say what to do about a fault of the store.
var storeHints = map[remote.Kind]string{
	remote.NoBucket:    "Make the bucket first (aws s3 mb s3://BUCKET); check the name, --endpoint and --region.",
	remote.Auth:        "Check the keys: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or --profile; and that they belong to this --endpoint.",
	remote.Expired:     "Get new credentials (aws sso login, or a new AWS_SESSION_TOKEN).",
	remote.Denied:      "The keys are known but may not do this. Backup needs to get, put and list below the prefix, restore to get and list, prune and release to delete besides.",
	remote.WrongRegion: "Give the bucket's region with --region or AWS_REGION.",
	remote.ClockSkew:   "Set this host's clock (chronyc makestep, timedatectl).",
	remote.Untrusted:   "Give the store's certificate authority with --ca-file FILE, and check that the host name is the certificate's.",
	remote.Unreachable: "Check --endpoint and the network; --retry-for DURATION waits longer. What is stored already need not be sent again.",
	remote.Transient:   "The store keeps failing; --retry-for DURATION waits longer. What is stored already need not be sent again.",
	remote.Damaged:     "Bytes change on the way to the store: suspect memory, network or a proxy.",
	remote.Full:        "Make room in the store. What is stored already need not be sent again.",
	remote.ReadOnly:    "The store takes no writes: check how it is mounted, or its policy.",
	remote.Archived: "Have the store bring it back, and what else the restore needs: bdbvault plan --objects prints the keys, for " +
		"aws s3api restore-object --bucket BUCKET --key KEY --restore-request Days=7. That takes hours; then the same command goes on.",
	remote.NoClass:     "Check --storage-class against what the store offers.",
	remote.Unsupported: "Try the other client: --s3-client aws or --s3-client minio",
	remote.Invalid:     "Check -r and the settings of the store.",
	remote.NotFound:    "It was in the store once. Look who deletes there (a lifecycle rule?), and take a full backup: bdbvault backup",
}

func storeHint(err error) string {
	e, ok := errors.AsType[*remote.Error](err)
	switch {
	case !ok:
		return ""
	case errors.Is(e, remote.ErrNoLock):
		return "Object lock needs a bucket that was made for it (aws s3api create-bucket --object-lock-enabled-for-bucket; mc mb --with-lock). AWS can switch it on later as well. Or leave out --retain."
	case e.Op == "lock" && e.Kind == remote.Denied:
		return "With --retain the keys need s3:PutObjectRetention and s3:GetObjectRetention besides put, get and list, and no policy may forbid locks of that length."
	case e.Kind == remote.NoBucket && (errors.Is(e, fs.ErrNotExist) || errors.Is(e, syscall.ENOTDIR)):
		return "Check the path, and that the file system is mounted. A new repository: bdbvault init"
	}
	return storeHints[e.Kind]
}

func localHint(err error) string {
	switch {
	case is[*localenv.OpenError](err), is[*localenv.StirredError](err):
		return "Stop the application, and keep it stopped until the backup has ended; or back it up as it runs, without --offline, if it is transactional."
	case is[*archive.UnknownLogError](err):
		return "Such an environment can't be backed up. Have it keep its log on disk, in a directory that DB_CONFIG names (set_lg_dir)."
	case is[*restore.NoLogError](err):
		return "Without LSN, transaction or time: --backup ID. bdbvault list shows which have log."
	case errors.Is(err, localenv.ErrNoLog):
		return "Only transactional environments with their log on disk can be backed up live. One without a log has to be closed: backup --offline"
	case errors.Is(err, localenv.ErrNotEnvironment), errors.Is(err, localenv.ErrNotDirectory):
		return "Check -h: an environment's home is the directory with its DB_CONFIG, or with its log files."
	case errors.Is(err, fs.ErrPermission):
		return "Run bdbvault as root or as the user who owns the files."
	case errors.Is(err, fs.ErrNotExist):
		return "Check the path."
	}
	return ""
}
