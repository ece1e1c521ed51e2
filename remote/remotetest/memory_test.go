package remotetest

import (
	"testing"
	"time"

	"bdbvault/remote"
)

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) remote.Driver { return NewMemory(time.Now) })
}
