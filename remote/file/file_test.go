package file_test

import (
	"testing"

	"bdbvault/remote"
	"bdbvault/remote/file"
	"bdbvault/remote/remotetest"
)

func TestConformance(t *testing.T) {
	remotetest.Run(t, func(t *testing.T) remote.Driver {
		d, err := file.New(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}
