// Package bdbc is the part of libdb's interface that test environments and their workloads need, as thin as it can be: one Go
// method per engine call, engine flags where Go would only rename them, and every failure an *Error with the engine's code.
//
// It is not the product's binding (that one recovers, checkpoints and verifies, nothing else) and shares no code with it, so that
// a mistake in one can't hide in the other. Handles are not free-threaded: one goroutine at a time. The engine's own messages go to
// standard error.
package bdbc

/*
#cgo LDFLAGS: -ldb
#include <errno.h>
#include "shim.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"
)

// Error is a call that the engine refused.
type Error struct {
	Op   string // the call, and what it was about
	Code int    // an errno, or one of the engine's negative codes
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s", e.Op, C.GoString(C.db_strerror(C.int(e.Code))))
}

// fail turns a return value into an error, nil for 0.
func fail(code C.int, format string, args ...any) error {
	if code == 0 {
		return nil
	}
	return &Error{Op: fmt.Sprintf(format, args...), Code: int(code)}
}

func hasCode(err error, codes ...int) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	for _, c := range codes {
		if e.Code == c {
			return true
		}
	}
	return false
}

// IsDeadlock reports whether the transaction must be aborted and may be tried again.
func IsDeadlock(err error) bool {
	return hasCode(err, C.DB_LOCK_DEADLOCK, C.DB_LOCK_NOTGRANTED)
}

// IsNotFound reports whether a key does not exist, or a cursor is at the end.
func IsNotFound(err error) bool { return hasCode(err, C.DB_NOTFOUND, C.DB_KEYEMPTY) }

// IsFileGone reports whether a file was not there, or not what the engine thought it to be.
func IsFileGone(err error) bool { return hasCode(err, C.ENOENT, C.EINVAL) }

// ptr is the address of b's bytes for the length of a call; an empty slice has none.
func ptr(b []byte) unsafe.Pointer {
	return unsafe.Pointer(unsafe.SliceData(b))
}

// view shows the bytes of a DBT that the engine filled, without copying them.
func view(t *C.DBT) []byte {
	return unsafe.Slice((*byte)(t.data), int(t.size))
}

// cstring is nil for "", as the engine wants its missing names, and a free function.
func cstring(s string) (*C.char, func()) {
	if s == "" {
		return nil, func() {}
	}
	p := C.CString(s)
	return p, func() { C.free(unsafe.Pointer(p)) }
}
