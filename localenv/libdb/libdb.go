//go:build cgo

package libdb

/*
#include <db.h>
*/
import "C"

import (
	"fmt"

	"bdbvault/localenv/engine"
)

// Available tells whether this program has the library built in.
const Available = true

// New makes an engine. For a live environment it also is an io.Closer, which leaves it.
func New(opt engine.Options) (engine.Engine, error) {
	if opt.Home != "" {
		return newLive(opt), nil
	}
	return &offline{opt: opt}, nil
}

func version() string {
	var major, minor, patch C.int
	C.db_version(&major, &minor, &patch)
	return fmt.Sprintf("libdb %d.%d.%d", major, minor, patch)
}

func unsupported(op, why string) error {
	return &engine.EngineError{Op: op, Kind: engine.ErrNotSupported, Text: []string{why}}
}
