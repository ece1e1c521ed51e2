package s3_test

import (
	"flag"
	"os"
	"testing"

	"bdbvault/remote/remotetest"
	"bdbvault/remote/s3"
)

// TestMain runs more tests side by side than there are processors: most of them wait for a pause to pass.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		os.Exit(2)
	}
	os.Exit(m.Run())
}

func TestMinIO(t *testing.T) { t.Parallel(); remotetest.RunS3(t, remotetest.MinIO, s3.New) }

func TestVersityGW(t *testing.T) { t.Parallel(); remotetest.RunS3(t, remotetest.VersityGW, s3.New) }
