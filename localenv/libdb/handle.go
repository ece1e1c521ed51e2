//go:build cgo

package libdb

/*
#cgo LDFLAGS: -ldb
#include <stdint.h>
#include <stdlib.h>
#include <db.h>

// What a handle's callbacks find in app_private: who they are for, and the last percentage told, because the library reports one for
// each log record.
typedef struct {
	uintptr_t owner;
	int percent;
} vault_state;

extern void vaultText(uintptr_t owner, char *text);
extern void vaultPercent(uintptr_t owner, int percent);

static void vault_err(const DB_ENV *env, const char *prefix, const char *text) {
	vaultText(((vault_state *)env->app_private)->owner, (char *)text);
}

static void vault_msg(const DB_ENV *env, const char *text) {
	vaultText(((vault_state *)env->app_private)->owner, (char *)text);
}

static void vault_feedback(DB_ENV *env, int opcode, int percent) {
	vault_state *s = env->app_private;
	if (opcode != DB_RECOVER || percent <= s->percent)
		return;
	s->percent = percent;
	vaultPercent(s->owner, percent);
}

static int vault_create(DB_ENV **env, uintptr_t owner) {
	vault_state *s;
	int ret;
	if ((s = malloc(sizeof *s)) == NULL)
		return DB_RUNRECOVERY;
	if ((ret = db_env_create(env, 0)) != 0) {
		free(s);
		return ret;
	}
	s->owner = owner;
	s->percent = -1;
	(*env)->app_private = s;
	(*env)->set_errcall(*env, vault_err);
	(*env)->set_msgcall(*env, vault_msg);
	return 0;
}

// The handle is gone, whatever is returned.
static int vault_close(DB_ENV *env) {
	vault_state *s = env->app_private;
	int ret = env->close(env, 0);
	free(s);
	return ret;
}

static int vault_open(DB_ENV *env, const char *home, u_int32_t flags) { return env->open(env, home, flags, 0); }
static int vault_encrypt(DB_ENV *env, const char *password) { return env->set_encrypt(env, password, DB_ENCRYPT_AES); }
static int vault_log_dir(DB_ENV *env, const char *dir) { return env->set_lg_dir(env, dir); }
static int vault_cache(DB_ENV *env, u_int64_t n) {
	return env->set_cachesize(env, (u_int32_t)(n >> 30), (u_int32_t)(n & ((1 << 30) - 1)), 1);
}

// Feedback for recovery, and the text that tells how far it came if the library crashes.
static int vault_watch(DB_ENV *env) {
	int ret = env->set_feedback(env, vault_feedback);
	return ret != 0 ? ret : env->set_verbose(env, DB_VERB_RECOVERY, 1);
}
*/
import "C"

import (
	"runtime/cgo"
	"strings"
	"sync"
	"unsafe"

	"bdbvault/localenv/engine"
)

// handle is a DB_ENV. One goroutine at a time may use it.
type handle struct {
	env      *C.DB_ENV
	self     cgo.Handle
	text     func(string) // told at once what the library says, as far as it is kept; may be nil
	progress func(int)    // may be nil

	mu   sync.Mutex
	said engine.Transcript
}

// newHandle makes a handle that is not open. The caller closes it.
func newHandle(password string, text func(string)) (*handle, error) {
	h := &handle{text: text}
	h.self = cgo.NewHandle(h)
	if ret := C.vault_create(&h.env, C.uintptr_t(h.self)); ret != 0 {
		h.self.Delete()
		return nil, h.failure("make environment handle", ret)
	}
	if password == "" {
		return h, nil
	}
	p := C.CString(password)
	defer C.free(unsafe.Pointer(p))
	if ret := C.vault_encrypt(h.env, p); ret != 0 {
		err := h.failure("set password", ret)
		h.close()
		return nil, err
	}
	return h, nil
}

func (h *handle) close() error {
	ret := C.vault_close(h.env)
	err := h.failure("close environment", ret)
	h.self.Delete()
	return err
}

// open returns the library's result and what it said.
func (h *handle) open(home string, flags C.u_int32_t) (C.int, []string) {
	p := C.CString(home)
	defer C.free(unsafe.Pointer(p))
	ret := C.vault_open(h.env, p, flags)
	return ret, h.spoken()
}

func (h *handle) setCache(bytes int64) error {
	return h.failure("set cache size", C.vault_cache(h.env, C.u_int64_t(bytes)))
}

func (h *handle) setLogDir(dir string) error {
	if dir == "" {
		return nil
	}
	p := C.CString(dir)
	defer C.free(unsafe.Pointer(p))
	return h.failure("set log directory", C.vault_log_dir(h.env, p))
}

func (h *handle) watch(progress func(int)) error {
	h.progress = progress
	return h.failure("watch recovery", C.vault_watch(h.env))
}

// hear takes what the library says.
func (h *handle) hear(text string) {
	h.mu.Lock()
	kept := h.said.Add(text)
	h.mu.Unlock()
	if kept && h.text != nil {
		h.text(text)
	}
}

// spoken returns what the library has said since the last time.
func (h *handle) spoken() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	lines := h.said.Lines()
	h.said = engine.Transcript{}
	return lines
}

// failure is failed with what the library has said.
func (h *handle) failure(op string, ret C.int) error { return failed(op, ret, h.spoken()) }

// failed makes an error of what a call returned and what the library said meanwhile; nil for 0.
func failed(op string, ret C.int, said []string) error {
	if ret == 0 {
		return nil
	}
	e := &engine.EngineError{Op: op, Code: int(ret), Text: said}
	if errno := engine.HostTrouble(said); ret < 0 && errno != 0 {
		e.Code = int(errno)
	}
	if meaning := C.GoString(C.db_strerror(ret)); !strings.Contains(strings.Join(said, "\n"), meaning) {
		e.Text = append(e.Text, meaning)
	}
	return e
}
