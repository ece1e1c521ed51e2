package bdbc

/*
#include "shim.h"
*/
import "C"

// EachRecord calls fn for every record of the log, file headers aside, with its decrypted body, which is valid during the call only.
func (e *Env) EachRecord(fn func(lsn LSN, body []byte) error) error {
	var cursor *C.DB_LOGC
	if err := fail(C.shim_log_cursor(e.p, &cursor), "log cursor"); err != nil {
		return err
	}
	r := C.shim_result_new()
	defer C.shim_result_free(r)
	err := walkLog(cursor, r, fn)
	return errorOr(err, fail(C.shim_log_cursor_close(cursor), "close log cursor"))
}

func walkLog(cursor *C.DB_LOGC, r *C.shim_result, fn func(LSN, []byte) error) error {
	for {
		var lsn C.DB_LSN
		code := C.shim_log_next(cursor, &lsn, &r.data)
		if code == C.DB_NOTFOUND {
			return nil
		}
		if code != 0 {
			return fail(code, "read log")
		}
		if err := fn(LSN{uint32(lsn.file), uint32(lsn.offset)}, view(&r.data)); err != nil {
			return err
		}
	}
}
