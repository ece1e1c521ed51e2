//go:build !cgo

package libdb

import (
	"errors"
	"testing"

	"bdbvault/localenv/engine"
)

func TestNotBuiltIn(t *testing.T) {
	if e, err := New(engine.Options{}); e != nil || !errors.Is(err, engine.ErrNotSupported) {
		t.Errorf("got %v, %v", e, err)
	}
}
