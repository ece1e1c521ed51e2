//go:build cgo

package libdb

/*
#include <stdlib.h>
#include <db.h>

static int vault_sync(DB_ENV *env) { return env->memp_sync(env, NULL); }

// DB->verify frees its handle, whatever it returns.
static int vault_verify(DB_ENV *env, const char *file, u_int32_t flags) {
	DB *db;
	int ret = db_create(&db, env, 0);
	return ret != 0 ? ret : db->verify(db, file, NULL, NULL, flags);
}
*/
import "C"

import (
	"cmp"
	"context"
	"errors"
	"syscall"
	"unsafe"

	"bdbvault/localenv/engine"
)

// Buffer pools. Recovery of random updates is the faster the more of them hit a page that is still there; verification reads each
// page about once.
const (
	recoverCache = 64 << 20
	verifyCache  = 32 << 20
)

const (
	// recoverFlags are those of db_recover -c.
	recoverFlags = C.DB_CREATE | C.DB_INIT_LOG | C.DB_INIT_TXN | C.DB_INIT_MPOOL | C.DB_PRIVATE | C.DB_RECOVER_FATAL
	verifyFlags  = C.DB_CREATE | C.DB_INIT_MPOOL | C.DB_PRIVATE
)

// offline works on files that nobody else has open.
type offline struct{ opt engine.Options }

func (o *offline) Version() string { return version() }

func (o *offline) HotBackup(context.Context, func(context.Context) error) error {
	return unsupported("hot backup", "this engine serves no live environment")
}

func (o *offline) Checkpoint(context.Context) error {
	return unsupported("checkpoint", "this engine serves no live environment")
}

// Recover can't be interrupted: the library has no means for it.
func (o *offline) Recover(_ context.Context, home string, opt engine.RecoverOptions) error {
	if err := engine.CheckRecoverable(home, o.opt.Password); err != nil {
		return err
	}
	h, err := newHandle(o.opt.Password, o.opt.Message)
	if err != nil {
		return err
	}
	op := "recover " + home
	err = errors.Join(h.setCache(cmp.Or(opt.CacheBytes, recoverCache)), h.watch(opt.Progress))
	if err == nil {
		err = h.recover(op, home)
	}
	closeErr := h.close()
	if err != nil {
		return err // why it failed; the close of a broken environment has nothing to add
	}
	return closeErr
}

func (h *handle) recover(op, home string) error {
	ret, lines := h.open(home, recoverFlags)
	if err := failed(op, ret, lines); err != nil {
		return err
	}
	// On a full disk the library calls recovery a success though its checkpoint failed.
	if engine.RecoveryGaveUp(lines) {
		return failed(op, C.int(syscall.ENOSPC), lines)
	}
	return h.failure("write recovered pages", C.vault_sync(h.env))
}

func (o *offline) Verify(_ context.Context, home, file string) error {
	return engine.VerifyTwice(home, file, o.opt, func(password string, order bool) error {
		return verify(home, file, password, order)
	})
}

// verify keeps what the library says to itself: for a database ordered in a way of its own it is a line for each record.
func verify(home, file, password string, order bool) error {
	op := "verify " + file
	h, err := newHandle(password, nil)
	if err != nil {
		return err
	}
	if err = h.setCache(verifyCache); err == nil {
		ret, lines := h.open(home, verifyFlags)
		err = failed(op, ret, lines)
	}
	if err == nil {
		err = h.verify(op, file, order)
	}
	_ = h.close() // nothing was written, and a bad page makes the whole environment refuse to close
	return err
}

func (h *handle) verify(op, file string, order bool) error {
	var flags C.u_int32_t
	if !order {
		flags = C.DB_NOORDERCHK
	}
	p := C.CString(file)
	defer C.free(unsafe.Pointer(p))
	ret := C.vault_verify(h.env, p, flags)
	lines := h.spoken()
	if ret == 0 && engine.SaysDamaged(lines) {
		ret = C.DB_VERIFY_BAD // a partition was bad, and the result was lost
	}
	err := failed(op, ret, lines)
	if e, ok := errors.AsType[*engine.EngineError](err); ok && isDamage(e.Code) {
		e.Kind = engine.ErrDamaged
	}
	return err
}

// isDamage tells what a bad file makes the library return from what a host in trouble does: one of its own codes, among them the one
// after a checksum error, or that something is invalid or, a partition, missing.
func isDamage(code int) bool {
	return code < 0 || code == int(syscall.EINVAL) || code == int(syscall.ENOENT)
}
