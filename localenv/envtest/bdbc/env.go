package bdbc

/*
#include "shim.h"
*/
import "C"

import "fmt"

// LSN is a place in the log.
type LSN struct{ File, Offset uint32 }

func (l LSN) String() string { return fmt.Sprintf("%d/%d", l.File, l.Offset) }

// EnvOptions says how to open an environment. The zero value joins an existing transactional one.
type EnvOptions struct {
	Password string
	Create   bool  // make region files if there are none
	Private  bool  // cache only, in this process's memory: no regions, no log, no locks; for reading a closed home
	Log      bool  // with Private: the log too, to read it
	Recover  bool  // run ordinary recovery first, over regions made anew
	Cache    int64 // bytes; 0 is 8 MiB; a DB_CONFIG and existing regions win over it
}

func (o EnvOptions) flags() C.u_int32_t {
	if o.Private {
		f := C.u_int32_t(C.DB_CREATE | C.DB_PRIVATE | C.DB_INIT_MPOOL)
		if o.Log {
			f |= C.DB_INIT_LOG
		}
		return f
	}
	f := C.u_int32_t(C.DB_INIT_MPOOL | C.DB_INIT_LOCK | C.DB_INIT_LOG | C.DB_INIT_TXN)
	if o.Create {
		f |= C.DB_CREATE
	}
	if o.Recover {
		f |= C.DB_CREATE | C.DB_RECOVER
	}
	return f
}

// Env is an open environment.
type Env struct {
	p       *C.DB_ENV
	private bool
}

// OpenEnv opens the environment in home. The caller closes it, after its databases.
func OpenEnv(home string, o EnvOptions) (*Env, error) {
	e := &Env{private: o.Private}
	if err := fail(C.db_env_create(&e.p, 0), "make environment handle"); err != nil {
		return nil, err
	}
	if err := e.configure(o); err != nil {
		e.Close()
		return nil, err
	}
	h, free := cstring(home)
	defer free()
	if err := fail(C.shim_env_open(e.p, h, o.flags()), "open environment %s", home); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

func (e *Env) configure(o EnvOptions) error {
	C.shim_env_messages(e.p)
	cache := o.Cache
	if cache == 0 {
		cache = 8 << 20
	}
	if err := fail(C.shim_env_cache(e.p, C.u_int64_t(cache)), "set cache size"); err != nil {
		return err
	}
	if !o.Private {
		if err := fail(C.shim_env_limits(e.p, 40000, 200), "set lock limits"); err != nil {
			return err
		}
	}
	if o.Password == "" {
		return nil
	}
	pw, free := cstring(o.Password)
	defer free()
	return fail(C.shim_env_encrypt(e.p, pw), "set password")
}

// Close leaves the environment. The handle is gone, whatever it returns.
func (e *Env) Close() error {
	return fail(C.shim_env_close(e.p), "close environment")
}

// Checkpoint writes a checkpoint, with force even if nothing was logged since the last one.
func (e *Env) Checkpoint(force bool) error {
	var flags C.u_int32_t
	if force {
		flags = C.DB_FORCE
	}
	return fail(C.shim_checkpoint(e.p, flags), "checkpoint")
}

// FlushLog forces all log records to disk.
func (e *Env) FlushLog() error { return fail(C.shim_log_flush(e.p), "flush log") }

// RemoveLogs removes the log files that the environment no longer needs, as db_archive -d does.
func (e *Env) RemoveLogs() error { return fail(C.shim_log_remove(e.p), "remove log files") }

// LogEnd is where the next log record will go.
func (e *Env) LogEnd() (LSN, error) {
	var file, offset C.u_int32_t
	err := fail(C.shim_log_end(e.p, &file, &offset), "log statistics")
	return LSN{uint32(file), uint32(offset)}, err
}

// autoCommit is what a call without a transaction needs to make its own.
func (e *Env) autoCommit(t *Txn) C.u_int32_t {
	if t != nil || e.private {
		return 0
	}
	return C.DB_AUTO_COMMIT
}

// Remove removes a database file, or one database in it. Without a transaction it makes its own.
func (e *Env) Remove(t *Txn, file, sub string) error {
	f, freeFile := cstring(file)
	s, freeSub := cstring(sub)
	defer freeFile()
	defer freeSub()
	return fail(C.shim_dbremove(e.p, t.c(), f, s, e.autoCommit(t)), "remove database %s %s", file, sub)
}

// Rename gives a database file, or one database in it, another name. Without a transaction it makes its own.
func (e *Env) Rename(t *Txn, file, sub, to string) error {
	f, freeFile := cstring(file)
	s, freeSub := cstring(sub)
	n, freeTo := cstring(to)
	defer freeFile()
	defer freeSub()
	defer freeTo()
	return fail(C.shim_dbrename(e.p, t.c(), f, s, n, e.autoCommit(t)), "rename database %s %s to %s", file, sub, to)
}

// LogBytes is the length of the log since its first file, with removed files counted as full.
func (e *Env) LogBytes() (int64, error) {
	var n C.u_int64_t
	err := fail(C.shim_log_bytes(e.p, &n), "log statistics")
	return int64(n), err
}
