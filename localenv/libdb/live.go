//go:build cgo

package libdb

/*
#include <stdlib.h>
#include <db.h>

static int vault_open_flags(DB_ENV *env, u_int32_t *flags) { return env->get_open_flags(env, flags); }
static int vault_hot(DB_ENV *env, int on) { return env->set_flags(env, DB_HOTBACKUP_IN_PROGRESS, on); }
static int vault_checkpoint(DB_ENV *env) { return env->txn_checkpoint(env, 0, 0, DB_FORCE); }

static int vault_log_position(DB_ENV *env, u_int32_t lsn[4]) {
	DB_LOG_STAT *st;
	int ret = env->log_stat(env, &st, 0);
	if (ret != 0)
		return ret;
	lsn[0] = st->st_cur_file;
	lsn[1] = st->st_cur_offset;
	lsn[2] = st->st_disk_file;
	lsn[3] = st->st_disk_offset;
	free(st);
	return 0;
}
*/
import "C"

import (
	"context"
	"errors"
	"slices"
	"strings"

	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
)

// live serves one live environment. What the library says is kept until a call is over: passing it on at once could make the call
// wait for a reader, and the application for the call.
type live struct {
	opt    engine.Options
	thread *thread // makes all calls, and owns the rest

	h       *handle // nil until joined
	regions engine.Regions
}

func newLive(opt engine.Options) *live { return &live{opt: opt, thread: startThread()} }

func (l *live) Version() string { return version() }

func (l *live) Recover(context.Context, string, engine.RecoverOptions) error {
	return unsupported("recover", "this engine serves a live environment")
}

func (l *live) Verify(context.Context, string, string) error {
	return unsupported("verify", "this engine serves a live environment")
}

// HotBackup runs fn elsewhere, so that a checkpoint can be taken meanwhile.
func (l *live) HotBackup(ctx context.Context, fn func(context.Context) error) error {
	var h *handle
	err := l.thread.do(func() (err error) { h, err = l.hold(ctx); return err })
	if err != nil {
		return err
	}
	err = fn(ctx)
	return errors.Join(err, l.thread.do(func() error { return l.reset(h) }))
}

func (l *live) hold(ctx context.Context) (*handle, error) {
	if err := l.enter(ctx); err != nil {
		return nil, err
	}
	const op = "set hot-backup flag"
	ret := C.vault_hot(l.h.env, 1)
	if ret == 0 {
		return l.h, l.h.failure(op, 0)
	}
	// The library counts the flag first, then takes a checkpoint if bulk transactions are active. If that failed, the flag is set.
	err := l.h.failure(op, ret)
	return nil, errors.Join(err, l.h.failure("reset hot-backup flag", C.vault_hot(l.h.env, 0)))
}

// reset undoes hold on the handle that it used; regions that were made anew meanwhile took the flag with them.
func (l *live) reset(h *handle) error {
	if h != l.h {
		return &engine.EngineError{Op: "reset hot-backup flag", Kind: engine.ErrFlagLost}
	}
	return h.failure("reset hot-backup flag", C.vault_hot(h.env, 0))
}

func (l *live) Checkpoint(ctx context.Context) error {
	return l.thread.do(func() error {
		if err := l.enter(ctx); err != nil {
			return err
		}
		return l.h.failure("checkpoint", C.vault_checkpoint(l.h.env))
	})
}

// Close leaves the environment. The engine can't be used any more.
func (l *live) Close() error {
	err := l.thread.do(l.part)
	l.thread.stop()
	return err
}

func (l *live) part() error {
	if l.h == nil {
		return nil
	}
	h := l.h
	l.h = nil
	return h.close()
}

// enter makes sure that the environment is joined and that its regions are those of the log.
func (l *live) enter(ctx context.Context) error {
	if l.h != nil && engine.RegionsOf(l.opt.Home) != l.regions {
		_ = l.part() // the application has made its regions anew; what it left of the old ones can only complain
	}
	if l.h == nil {
		if err := l.join(); err != nil {
			return err
		}
	}
	return engine.CheckLogEnd(ctx, l.opt.Home, l.opt.LogEnd, l.position)
}

// join opens the environment with no flags, and nothing but an existing transactional one.
func (l *live) join() error {
	op := "join " + l.opt.Home
	if err := engine.CheckJoinable(l.opt.Home); err != nil {
		return err
	}
	h, err := newHandle(l.opt.Password, nil)
	if err != nil {
		return err
	}
	if err := h.setLogDir(l.opt.LogDir); err != nil {
		return errors.Join(err, h.close())
	}
	l.regions = engine.RegionsOf(l.opt.Home)
	if ret, lines := h.open(l.opt.Home, 0); ret != 0 {
		_ = h.close() // it was never open
		return notJoinable(op, ret, lines)
	}
	l.h = h
	var flags C.u_int32_t
	ret := C.vault_open_flags(h.env, &flags)
	if ret == 0 && flags&C.DB_INIT_TXN != 0 {
		return nil
	}
	err = errors.Join(h.failure(op, ret), l.part())
	if err == nil {
		err = &engine.EngineError{Op: op, Kind: engine.ErrNotJoinable, Text: []string{"it has no transactions"}}
	}
	return err
}

// passwordTexts are the numbers of what the library says about a password that doesn't fit the environment (src/crypto/crypto.c).
var passwordTexts = []string{"BDB0172", "BDB0174", "BDB0175"}

// notJoinable says what became of an open that failed.
func notJoinable(op string, ret C.int, lines []string) error {
	e := &engine.EngineError{Op: op, Code: int(ret), Text: lines, Kind: engine.ErrNotJoinable}
	switch {
	case slices.ContainsFunc(lines, isAboutPassword):
		e.Kind = engine.ErrPassword
	case len(lines) == 0:
		e.Text = []string{C.GoString(C.db_strerror(ret))}
	}
	return e
}

func isAboutPassword(line string) bool {
	return slices.ContainsFunc(passwordTexts, func(id string) bool { return strings.Contains(line, id) })
}

func (l *live) position() (engine.LogPosition, error) {
	var lsn [4]C.u_int32_t
	err := l.h.failure("read log statistics", C.vault_log_position(l.h.env, &lsn[0]))
	return engine.LogPosition{
		End:    bdb.LSN{File: uint32(lsn[0]), Offset: uint32(lsn[1])},
		Synced: bdb.LSN{File: uint32(lsn[2]), Offset: uint32(lsn[3])},
	}, err
}
