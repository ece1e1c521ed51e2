//go:build cgo

package libdb_test

import (
	"os"
	"testing"

	"bdbvault/localenv/engine/enginetest"
	"bdbvault/localenv/libdb"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Main(m, libdb.New)) }

func TestEngine(t *testing.T) {
	enginetest.Run(t, enginetest.Subject{Kind: "libdb", HoldsFlag: true, TakesPassword: true})
}
