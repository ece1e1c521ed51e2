package dbutil_test

import (
	"os"
	"testing"

	"bdbvault/localenv/dbutil"
	"bdbvault/localenv/engine/enginetest"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Main(m, dbutil.New)) }

func TestEngine(t *testing.T) {
	enginetest.Run(t, enginetest.Subject{Kind: "dbutil"})
}
