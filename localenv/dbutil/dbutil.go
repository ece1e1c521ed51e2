package dbutil

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
)

// New finds the programs and makes an engine of them.
func New(opt engine.Options) (engine.Engine, error) {
	if opt.Password != "" {
		return nil, unsupported("start dbutil", "the db_ programs take a password only as an argument, which every user of this host can read")
	}
	if opt.LogDir != "" {
		return nil, unsupported("start dbutil", "the db_ programs can't be told of a log directory that DB_CONFIG does not name")
	}
	p, err := findPrograms(opt.DBBin)
	if err != nil {
		return nil, unsupported("start dbutil", err.Error())
	}
	u := &util{opt: opt, programs: p}
	if u.version, err = u.askVersion(); err != nil {
		return nil, err
	}
	return u, nil
}

func unsupported(op, why string) error {
	return &engine.EngineError{Op: op, Kind: engine.ErrNotSupported, Text: []string{why}}
}

// util implements engine.Engine.
type util struct {
	opt      engine.Options
	programs programs
	version  string

	live sync.Mutex // one program at a time joins the live environment
}

var versionText = regexp.MustCompile(`Berkeley DB ([0-9]+\.[0-9]+\.[0-9]+)`)

func (u *util) askVersion() (string, error) {
	r := newRun(context.Background(), u.programs.path("recover"), nil, "-V")
	if err := r.do("start dbutil"); err != nil {
		return "", err
	}
	m := versionText.FindStringSubmatch(strings.Join(r.said(), "\n"))
	if m == nil {
		return "", unsupported("start dbutil", fmt.Sprintf("%s is no program of Berkeley DB", r.cmd.Path))
	}
	return "dbutil " + m[1], nil
}

func (u *util) Version() string { return u.version }

func (u *util) HotBackup(context.Context, func(context.Context) error) error {
	return unsupported("hot backup", "the db_ programs can't hold the hot-backup flag")
}

// Checkpoint does not heed ctx once the program has started: it must not be killed.
func (u *util) Checkpoint(ctx context.Context) error {
	if u.opt.Home == "" {
		return unsupported("checkpoint", "this engine serves no live environment")
	}
	u.live.Lock()
	defer u.live.Unlock()
	if err := engine.CheckJoinable(u.opt.Home); err != nil {
		return err
	}
	if err := engine.CheckLogEnd(ctx, u.opt.Home, u.opt.LogEnd, u.position); err != nil {
		return err
	}
	return u.checkpoint()
}

func (u *util) checkpoint() error {
	const op = "checkpoint"
	done := make(chan struct{})
	finished := sync.OnceFunc(func() { close(done) }) // left alone, it goes on checkpointing
	hear := func(line string) {
		if strings.Contains(line, "checkpoint complete") {
			finished()
		}
	}
	r := newRun(context.Background(), u.programs.path("checkpoint"), hear, "-v", "-k", "1", "-h", u.opt.Home)
	if err := r.cmd.Start(); err != nil {
		return &engine.EngineError{Op: op, Text: []string{err.Error()}}
	}
	stop := make(chan struct{})
	var stopper sync.WaitGroup
	stopper.Go(func() { terminate(r, done, stop) })
	err := r.finish(op)
	close(stop)
	stopper.Wait()
	select {
	case <-done:
		if e, ok := errors.AsType[*engine.ChildError](err); ok && e.Signal == "SIGTERM" {
			return nil
		}
	default:
	}
	return explainJoin(err)
}

// terminate asks the program to leave once it has done its work, again and again: it looks for the request only before it goes to sleep.
func terminate(r *run, done, stop <-chan struct{}) {
	select {
	case <-done:
	case <-stop:
		return
	}
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		_ = r.cmd.Process.Signal(syscall.SIGTERM) // one that has gone needs none
		select {
		case <-again.C:
		case <-stop:
			return
		}
	}
}

// explainJoin finds out why a program that wanted to join the environment gave up.
func explainJoin(err error) error {
	e, ok := errors.AsType[*engine.EngineError](err)
	if !ok {
		return err
	}
	said := strings.Join(e.Text, "\n")
	switch {
	case strings.Contains(said, "no encryption key supplied"):
		e.Kind = engine.ErrPassword
	case strings.Contains(said, "DB_ENV->open"):
		e.Kind = engine.ErrNotJoinable
	}
	return e
}

// logNumbers are the lines of db_stat -e that tell where the log is.
var logNumbers = regexp.MustCompile(`^([0-9]+)\s+(Current|On-disk) log file (number|offset)$`)

func (u *util) position() (engine.LogPosition, error) {
	var p engine.LogPosition
	found := 0
	hear := func(line string) {
		m := logNumbers.FindStringSubmatch(line)
		if m == nil {
			return
		}
		lsn := &p.End
		if m[2] == "On-disk" {
			lsn = &p.Synced
		}
		found += setPart(lsn, m[3], m[1])
	}
	err := newRun(context.Background(), u.programs.path("stat"), hear, "-e", "-h", u.opt.Home).do("read log statistics")
	if err != nil {
		return p, explainJoin(err)
	}
	if found != 4 {
		return p, &engine.EngineError{Op: "read log statistics", Text: []string{"db_stat doesn't say where the log ends"}}
	}
	return p, nil
}

// setPart returns how many numbers it took: 1 or 0.
func setPart(lsn *bdb.LSN, part, number string) int {
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return 0
	}
	if part == "number" {
		lsn.File = uint32(n)
	} else {
		lsn.Offset = uint32(n)
	}
	return 1
}

// Recover takes its cache size from home's DB_CONFIG. Releases that can't tell their progress are run without.
func (u *util) Recover(ctx context.Context, home string, opt engine.RecoverOptions) error {
	if err := engine.CheckRecoverable(home, ""); err != nil {
		return err
	}
	err := u.recover(ctx, home, opt, "-c", "-v", "-f", "-h", home)
	if e, ok := errors.AsType[*engine.EngineError](err); ok && strings.Contains(strings.Join(e.Text, "\n"), "usage:") {
		err = u.recover(ctx, home, opt, "-c", "-v", "-h", home)
	}
	return err
}

func (u *util) recover(ctx context.Context, home string, opt engine.RecoverOptions, args ...string) error {
	hear := func(line string) {
		if m := progress.FindStringSubmatch(line); m != nil && opt.Progress != nil {
			n, _ := strconv.Atoi(m[1]) // digits, and few
			opt.Progress(n)
		}
	}
	op := "recover " + home
	r := newRun(ctx, u.programs.path("recover"), hear, args...)
	r.stdout.say, r.stderr.say = u.opt.Message, u.opt.Message
	if err := r.do(op); err != nil {
		return err
	}
	if engine.RecoveryGaveUp(r.said()) {
		return &engine.EngineError{Op: op, Code: int(syscall.ENOSPC), Text: r.said()}
	}
	return nil
}

func (u *util) Verify(ctx context.Context, home, file string) error {
	if engine.RegionsOf(home) != (engine.Regions{}) {
		return &engine.EngineError{Op: "verify " + file, Text: []string{"home " + home + " has region files, and db_verify would join the environment"}}
	}
	return engine.VerifyTwice(home, file, u.opt, func(_ string, order bool) error { return u.verify(ctx, home, file, order) })
}

func (u *util) verify(ctx context.Context, home, file string, order bool) error {
	args := []string{"-h", home, "--", file}
	if !order {
		args = append([]string{"-o"}, args...)
	}
	op := "verify " + file
	r := newRun(ctx, u.programs.path("verify"), nil, args...) // it may say a line for each record
	err := r.do(op)
	if err == nil && engine.SaysDamaged(r.said()) {
		err = &engine.EngineError{Op: op, Text: r.said()} // a partition was bad, and the result was lost
	}
	if e, ok := errors.AsType[*engine.EngineError](err); ok && e.Code == 0 {
		e.Kind = engine.ErrDamaged
	}
	return err
}
