package endtoend

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/minio"
	"bdbvault/remote/remotetest"
	"bdbvault/remote/repository"
)

// TestPruneBesideRestic takes ten backups with bdbvault and with restic, has both remove five of them, and holds time and requests of one against the
// other's. Bdbvault does so in two runs, which are counted together. BDBVAULT_TORTURE=12 makes 768 MiB of data, on which restic needs
// nearly 300 requests.
func TestPruneBesideRestic(t *testing.T) {
	if _, err := exec.LookPath("restic"); err != nil {
		t.Fatalf("%v: .ci/deps test installs it", err)
	}
	bin, err := product()
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(t.TempDir(), "bank")
	envtest.Create(t, home, envtest.Spec{Databases: []envtest.Database{{File: "a.db", Method: "btree", Records: 2000, ValueSize: 200}}})
	server := remotetest.MinIO(t)
	proxy := remotetest.NewProxy(t, server)
	vault, restic := bucketOf(t, server), bucketOf(t, server)
	env := append(os.Environ(), "AWS_ENDPOINT_URL="+proxy.Endpoint, "AWS_ACCESS_KEY_ID="+server.AccessKey, "AWS_SECRET_ACCESS_KEY="+server.SecretKey,
		"AWS_REGION="+server.Region, "BDBVAULT_REPOSITORY=s3://"+vault, "BDBVAULT_STATE_DIR="+t.TempDir(), "RESTIC_PASSWORD=x",
		fmt.Sprintf("RESTIC_REPOSITORY=s3:%s/%s", proxy.Endpoint, restic), "RESTIC_CACHE_DIR="+t.TempDir())
	run := func(args ...string) (took time.Duration, requests []remotetest.Seen) {
		t.Helper()
		proxy.Seen()
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = env
		began := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		return time.Since(began), proxy.Seen()
	}
	run(bin, "init")
	shortenBucket(t, server, vault, 2*time.Second)
	run("restic", "init")
	data := make([]byte, min(torture(), 12)<<26)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(data)
	for range 10 {
		for range len(data) / 4 >> 20 { // a quarter of it is new
			at := int(random.Uint64()>>1) % (len(data) >> 20)
			random.Read(data[at<<20 : (at+1)<<20])
		}
		if err := os.WriteFile(filepath.Join(home, "application.dat"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		run(bin, "backup", "-h", home, "--bulk-safe", "off")
		run("restic", "backup", home)
	}
	theirs, asked := run("restic", "forget", "--keep-last", "5", "--prune")
	first, one := run(bin, "prune", "--keep-last", "5", "--env", "bank")
	time.Sleep(4 * time.Second) // the grace period, by the store's clock
	second, two := run(bin, "prune", "--keep-last", "5", "--env", "bank")
	t.Logf("%d MiB; bdbvault: %v and %v, %d and %d requests; restic: %v, %d requests", len(data)>>20, first, second, len(one), len(two), theirs, len(asked))
	for _, r := range append(one, two...) {
		t.Logf("%s %.60s %s", r.Method, r.Path, r.Query)
	}
	if torture() > 1 && first+second > theirs/10 { // with less data both are done at once
		t.Errorf("prune took %v, restic %v", first+second, theirs)
	}
	// Restic's requests grow with the data, these do not.
	if ours := len(one) + len(two); ours > 35 || len(asked) > 260 && ours > len(asked)/10 {
		t.Errorf("prune sent %d requests, restic %d", ours, len(asked))
	}
}

func bucketOf(t *testing.T, server *remotetest.Server) string {
	t.Helper()
	name, err := server.MakeBucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// shortenBucket gives a repository in a bucket another grace period.
func shortenBucket(t *testing.T, server *remotetest.Server, name string, grace time.Duration) {
	t.Helper()
	drv, err := minio.New(t.Context(), server.Config(name))
	if err != nil {
		t.Fatal(err)
	}
	bucket := remote.New(drv, remote.Options{})
	repo, err := repository.Open(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	repo.Info.GraceSeconds = int64(grace / time.Second)
	data, err := repo.Info.Encode()
	if err == nil {
		err = bucket.Delete(t.Context(), []string{manifest.RepositoryKey})
	}
	if err == nil {
		err = repository.PutOnce(t.Context(), bucket, manifest.RepositoryKey, data)
	}
	if err != nil {
		t.Fatal(err)
	}
}
