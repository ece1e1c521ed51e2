//go:build cgo

package libdb

// #include <stdint.h>
import "C"

import "runtime/cgo"

//export vaultText
func vaultText(owner C.uintptr_t, text *C.char) {
	cgo.Handle(owner).Value().(*handle).hear(C.GoString(text))
}

//export vaultPercent
func vaultPercent(owner C.uintptr_t, percent C.int) {
	if h := cgo.Handle(owner).Value().(*handle); h.progress != nil {
		h.progress(int(percent))
	}
}
