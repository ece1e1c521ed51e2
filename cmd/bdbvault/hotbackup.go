package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"

	"bdbvault/archive"
	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/localenv/hotcopy"
	"bdbvault/restore"
)

const commandHotbackup = "hotbackup"

// stockName are the names of db_hotbackup: a link of such a name to bdbvault is the command hotbackup.
var stockName = regexp.MustCompile(`^db[0-9]*(\.[0-9]+)*_hotbackup$`)

// asHotbackup tells whether the program was called as db_hotbackup or by the command of ours, and returns its name and its arguments.
func asHotbackup(args []string) (name string, rest []string, ok bool) {
	switch name = filepath.Base(args[0]); {
	case stockName.MatchString(name):
		return name, args[1:], true
	case len(args) > 1 && args[1] == commandHotbackup:
		return "bdbvault " + commandHotbackup, args[2:], true
	}
	return "", nil, false
}

// hotbackupCommand is in the list of commands for the sake of its help: it takes its arguments apart by itself, as db_hotbackup's.
func hotbackupCommand() *cli.Command {
	return &cli.Command{Name: commandHotbackup, Usage: "copy a live environment into a directory, as db_hotbackup does, and recover the copy", SkipFlagParsing: true}
}

// hotbackup is one call of it.
type hotbackup struct {
	hotbackupArgs
	hotbackupVoice
	env    *localenv.Env
	live   *engine.Client // nil: the environment is not joined
	copied *restore.Copied
	step   func(string) error
}

// runHotbackup is the command; its exit code is 0 or above, as that of db_hotbackup.
func runHotbackup(ctx context.Context, name string, args []string, out, errs io.Writer) int {
	h := &hotbackup{hotbackupVoice: hotbackupVoice{name: name, out: out, errs: errs}}
	switch err := h.parse(args); {
	case errors.Is(err, errHelp):
		fmt.Fprint(out, hotbackupHelp(name))
		return exitDone
	case err != nil:
		h.misused(err)
		return exitFailed
	case h.version:
		return h.printVersion(ctx)
	}
	h.started()
	err := h.run(ctx)
	if err != nil {
		h.failed(ctx, err)
		return max(exitFailed, codeOfInterrupt(ctx))
	}
	h.completed()
	return exitDone
}

// codeOfInterrupt is that of a signal, 0 without one.
func codeOfInterrupt(ctx context.Context) int {
	if interrupted(ctx) {
		return exitInterrupted
	}
	return exitDone
}

func (h *hotbackup) run(ctx context.Context) (err error) {
	if err := h.open(ctx); err != nil {
		return errors.Join(err, h.finishWithout(ctx))
	}
	if err := h.checkRecovery(ctx); err != nil {
		return err
	}
	if err := h.join(ctx); err != nil {
		return err
	}
	if h.live != nil {
		defer func() { err = firstError(err, h.live.Close()) }()
	}
	if err := h.claim(); err != nil {
		return err
	}
	defer h.copied.Close()
	if h.update {
		return h.runUpdate(ctx)
	}
	return h.runCopy(ctx)
}

// open finds the environment and refuses what can't be copied. It changes nothing.
func (h *hotbackup) open(ctx context.Context) error {
	env, err := localenv.OpenAs(h.home, bdb.NewKey(h.password), h.directories)
	if err != nil {
		return err
	}
	h.env = env
	if err := h.checkLogDir(); err != nil {
		return err
	}
	if err := archive.CheckSource(env); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(env.Home, localenv.MarkerName)); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("home %s is no environment yet: a restore or a hot backup into it was not finished", h.home)
	}
	if env.Config.LogInMemory {
		return errLogInMemory
	}
	if err := hotcopy.Check(env, !h.keep); err != nil {
		return err
	}
	if err := hotcopy.CheckApart(env, h.backup); err != nil {
		return err
	}
	return h.checkPassword(ctx)
}

var errLogInMemory = errors.New("the environment keeps its log in memory (DB_LOG_IN_MEMORY): nothing on disk tells what recovery of a copy would have to do")

// checkPassword holds the password against the log.
func (h *hotbackup) checkPassword(ctx context.Context) error {
	log, err := h.env.OpenLog(ctx)
	if err != nil {
		return err
	}
	defer log.Close() // only read
	header, err := log.Header(log.Files()[0])
	switch {
	case err != nil:
		return err
	case header.Encrypted && h.password == "":
		return restore.ErrPassword
	case !header.Encrypted && h.password != "":
		return errors.New("the environment is not encrypted, but a password was given")
	}
	return nil
}

func (h *hotbackup) engine() engine.Options {
	return engine.Options{Kind: os.Getenv("BDBVAULT_ENGINE"), DBBin: os.Getenv("BDBVAULT_DB_BIN"), Password: h.password, Note: h.note}
}

// checkRecovery starts the engine once for nothing: that there is none had better show before anything is touched.
func (h *hotbackup) checkRecovery(ctx context.Context) error {
	client, err := engine.Start(ctx, h.engine())
	if err != nil {
		return fmt.Errorf("start the engine that is to recover: %w", err)
	}
	return client.Close()
}

// join starts the engine that joins the environment, if it has to be joined: for a checkpoint, and for the hot-backup flag of a whole copy. An environment that
// nobody has open has no bulk transactions.
func (h *hotbackup) join(ctx context.Context) (err error) {
	if !h.checkpoint && (h.update || engine.RegionsOf(h.env.Home) == (engine.Regions{})) {
		return nil
	}
	o := h.engine()
	o.Home, o.LogEnd, o.LogDir = h.env.Home, (&source{Env: h.env}).logEnd, h.ownLogDir
	h.live, err = engine.Start(ctx, o)
	if err != nil && !h.checkpoint && ctx.Err() == nil {
		h.note(fmt.Sprintf("the environment is not joined, so bulk transactions may be missing from its log: %v", err))
		return nil
	}
	return err
}

// claim makes the backup directory ours.
func (h *hotbackup) claim() (err error) {
	_ = os.Mkdir(h.backup, 0o700) // it may be there, and any trouble shows now
	if _, err := os.ReadDir(h.backup); err != nil {
		return &noBackupDirError{h.backup, err}
	}
	h.copied, err = restore.ClaimCopied(h.backup, h.env.Home, h.update)
	return err
}

// noBackupDirError says that the backup directory can't be used.
type noBackupDirError struct {
	dir string
	err error
}

func (e *noBackupDirError) Error() string {
	return fmt.Sprintf("backup directory %s: %v", e.dir, e.err)
}
func (e *noBackupDirError) Unwrap() error { return e.err }

// forgo leaves the backup directory as it was when something failed before it was touched.
func (h *hotbackup) forgo(err error) error { return errors.Join(err, h.copied.Forgo()) }

// finishWithout brings an update to its end that was interrupted in its recovery, though the environment is not to be had any more: the copy has all that it
// needs for that, and is no home before. Without such an update it does nothing.
func (h *hotbackup) finishWithout(ctx context.Context) error {
	if _, err := os.Lstat(filepath.Join(h.backup, localenv.MarkerName)); err != nil || !h.update || ctx.Err() != nil {
		return nil
	}
	copied, err := restore.ClaimCopied(h.backup, h.home, true)
	if err != nil {
		return err
	}
	defer copied.Close()
	begun := copied.Begun()
	if begun == nil {
		return nil
	}
	h.copied = copied
	h.note("an update of the copy was interrupted: it is finished with the log that it had")
	return h.recover(ctx, begun)
}

func (h *hotbackup) options() hotcopy.Options {
	return hotcopy.Options{Flat: !h.keep, Source: h.home, Target: h.backup, Tell: h.event, Step: h.step}
}

// runCopy makes a whole copy.
func (h *hotbackup) runCopy(ctx context.Context) (err error) {
	c := hotcopy.New(h.env, h.copied.Root(), h.options())
	defer func() { err = firstError(err, c.Close()) }()
	if err := c.CheckNames(ctx); err != nil {
		return h.forgo(err)
	}
	if err := h.takeCheckpoint(ctx); err != nil {
		return h.forgo(err)
	}
	if err := c.Clean(ctx); err != nil {
		return err
	}
	if err := h.withFlag(ctx, c.Files); err != nil {
		return err
	}
	if err := c.Log(ctx); err != nil {
		return err
	}
	return h.recover(ctx, c.Result())
}

// runUpdate brings the log that is new to a copy.
func (h *hotbackup) runUpdate(ctx context.Context) (err error) {
	if begun := h.copied.Begun(); begun != nil {
		h.note("an update of the copy was interrupted: it is finished first")
		if err := h.recoverCopy(ctx, begun); err != nil {
			return err
		}
	}
	if err := h.takeCheckpoint(ctx); err != nil {
		return h.forgo(err)
	}
	u := hotcopy.NewUpdate(h.env, h.copied.Root(), h.options())
	defer func() { err = firstError(err, u.Close()) }()
	if err := u.Stage(ctx); err != nil {
		clean, e := u.Abandon()
		if clean {
			e = errors.Join(e, h.copied.Forgo())
		}
		return errors.Join(err, e)
	}
	if err := u.Move(ctx); err != nil {
		return err
	}
	if err := u.Replace(ctx); err != nil {
		return err
	}
	return h.recover(ctx, u.Result())
}

// takeCheckpoint is -c: a checkpoint, and without -u the removal of log files that are not needed any more.
func (h *hotbackup) takeCheckpoint(ctx context.Context) error {
	if !h.checkpoint {
		return nil
	}
	h.say("BDB5035 %s: force checkpoint", h.home)
	if err := h.live.Checkpoint(ctx); err != nil {
		return err
	}
	if h.update {
		return nil
	}
	h.say("BDB5036 %s: remove unnecessary log files", h.home)
	kept, err := hotcopy.RemoveUnneeded(ctx, h.env)
	if kept != nil {
		h.note("no log files are removed from the environment: " + kept.Reason)
	}
	return err
}

// withFlag calls copy while the hot-backup flag is held, if the environment can be joined.
func (h *hotbackup) withFlag(ctx context.Context, copy func(context.Context) error) error {
	if h.live == nil {
		return copy(ctx)
	}
	ran := false
	var failed error
	err := h.live.HotBackup(ctx, func(ctx context.Context) error {
		ran = true
		failed = copy(ctx)
		return failed
	})
	switch {
	case err == nil, failed != nil, ctx.Err() != nil:
		return err
	case ran:
		h.note(fmt.Sprintf("the hot-backup flag was lost during the backup: %v", err))
		return nil
	}
	h.note(fmt.Sprintf("the hot-backup flag is not held, so bulk transactions may be missing from the log: %v", err))
	return copy(ctx)
}

// recover makes the copy a home.
func (h *hotbackup) recover(ctx context.Context, what *hotcopy.Copy) error {
	if err := h.recoverCopy(ctx, what); err != nil {
		return err
	}
	if !h.debug {
		h.say("BDB5041 %s: remove unnecessary log files", h.backup)
		if err := h.copied.RemoveLog(); err != nil {
			return err
		}
	}
	return h.copied.Finish()
}

func (h *hotbackup) recoverCopy(ctx context.Context, what *hotcopy.Copy) error {
	h.say("BDB5040 %s: run catastrophic recovery", h.backup)
	o := h.engine()
	if h.verbose {
		o.Message = func(text string) { h.say("%s", strings.TrimSpace(text)) }
	}
	res, err := h.copied.Recover(ctx, what, restore.Options{Engine: o, Progress: h, Step: h.step})
	if err == nil && res.VerifySkipped != "" {
		h.say("the databases were not verified: %s", res.VerifySkipped)
	}
	return err
}
