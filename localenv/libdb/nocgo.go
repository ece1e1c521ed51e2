//go:build !cgo

package libdb

import "bdbvault/localenv/engine"

// Available tells whether this program has the library built in.
const Available = false

// New fails: this program was built without cgo.
func New(engine.Options) (engine.Engine, error) {
	return nil, &engine.EngineError{Op: "start libdb", Kind: engine.ErrNotSupported, Text: []string{"this program was built without the Berkeley DB library"}}
}
