package endtoend

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"bdbvault/archive"
	"bdbvault/localenv/envtest"
	"bdbvault/remote"
	"bdbvault/remote/file"
	"bdbvault/remote/remotetest"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

// TestImmutable works with a store that replaces and deletes nothing: backups and ships of a live bank, each second one interrupted at a stage
// taken at random.
func TestImmutable(t *testing.T) {
	env, bank := startBank(t)
	v := newVault(t, env.Home)
	drv, err := file.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	record := remotetest.Record(remotetest.Immutable(drv))
	v.repo, err = repository.Init(t.Context(), remote.New(record, remote.Options{RetryFor: time.Second}), "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, seed := range seeds(t, torture()) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		t.Logf("seed %d", seed)
		for range 4 {
			work(t, bank)
			stop := &stopper{at: rnd.IntN(14)}
			if _, err := v.backup(archive.BackupOptions{BulkSafe: archive.BulkOff, Step: stop.step}); err != nil && !errors.Is(err, errStopped) {
				t.Fatalf("backup to be stopped at %s: %v", stop.stage, err)
			}
			v.mustBackup(archive.BackupOptions{ReadAll: rnd.IntN(2) == 0})
			work(t, bank)
			stop = &stopper{at: rnd.IntN(4)}
			_, err := archive.Ship(t.Context(), v.repo, v.env(), archive.ShipOptions{Env: "test", StateDir: v.state, Step: stop.step})
			if err != nil && !errors.Is(err, errStopped) {
				t.Fatalf("ship to be stopped at %s: %v", stop.stage, err)
			}
			v.mustShip()
		}
	}
	if err := bank.Stop(); err != nil {
		t.Fatal(err)
	}
	v.mustShip()
	to, _ := v.mustRestore(restore.Target{})
	check(t, v, to, bank.LastCommitted())
	for _, op := range record.Ops() {
		if op.Name == "delete" {
			t.Errorf("it wanted to delete %s", op.Key)
		}
	}
}

var errStopped = errors.New("stopped by the test")

// stopper ends a run at one of its steps. Steps come from several goroutines.
type stopper struct {
	mu    sync.Mutex
	at    int
	stage string
}

func (s *stopper) step(stage string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at--; s.at >= 0 {
		return nil
	}
	s.stage = stage
	return errStopped
}

// TestObjectLock does the same as users do, on a bucket that keeps every version of every object for a day, with keys that may put, get and
// list, through both clients in turn. Answers get lost and a backup is killed when only its manifest is missing. In the end there is
// one version of each object.
func TestObjectLock(t *testing.T) {
	server := remotetest.MinIO(t)
	admin, bucket := lockedBucket(t, server)
	proxy := remotetest.NewProxy(t, server)
	env, bank := startBank(t)
	base := newCLI(t).at(server, proxy.Endpoint, bucket).with(writerKeys(t, server, bucket)...).with("DB_HOME=" + env.Home)
	turn := 0
	next := func() *cli {
		turn++
		return base.with("BDBVAULT_S3_CLIENT=" + clients[turn%2])
	}
	next().must("init")
	for range 2 {
		next().must("backup")
		work(t, bank)
		next().must("ship")
		work(t, bank)
	}

	lost := loseAnswers(proxy)
	next().must("backup", "--read-all")
	work(t, bank)
	next().must("ship")
	if n := lost(); n < 3 {
		t.Errorf("only %d answers were lost", n)
	}

	stalled := make(chan struct{})
	var once sync.Once
	proxy.Inject(func(r *http.Request) (f remotetest.Fault) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/backups/") {
			f.StallUpload = 1
			once.Do(func() { close(stalled) })
		}
		return f
	})
	work(t, bank)
	before := next().backups()
	r := next().start("backup")
	select {
	case <-stalled:
	case <-time.After(limit):
		t.Fatal("the manifest is never stored")
	}
	r.kill()
	proxy.Inject(nil)
	if after := next().backups(); len(after) != len(before) {
		t.Errorf("listed before the killed backup: %v, after it: %v", before, after)
	}
	if err := envtest.Checkpoint(env.Home, ""); err != nil {
		t.Errorf("the source after the kill: %v", err)
	}
	next().must("backup")
	if err := bank.Stop(); err != nil {
		t.Fatal(err)
	}
	next().must("ship")
	next().restored(bank.LastCommitted())
	oneVersionEach(t, admin, bucket)
}

// lockedBucket makes a bucket in which nothing can be overwritten or deleted for a day, not even by its owner.
func lockedBucket(t *testing.T, server *remotetest.Server) (*minio.Client, string) {
	t.Helper()
	client, err := minio.New(strings.TrimPrefix(server.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, ""), Region: server.Region,
	})
	if err != nil {
		t.Fatal(err)
	}
	const name = "locked"
	mode, days, unit := minio.Compliance, uint(1), minio.Days
	err = client.MakeBucket(t.Context(), name, minio.MakeBucketOptions{ObjectLocking: true, Region: server.Region})
	if err == nil {
		err = client.SetObjectLockConfig(t.Context(), name, &mode, &days, &unit)
	}
	if err != nil {
		t.Fatal(err)
	}
	return client, name
}

// writerKeys are those of somebody who may put, get and list, and nothing else: neither delete, nor lift a lock, nor look at versions.
func writerKeys(t *testing.T, server *remotetest.Server, bucket string) []string {
	t.Helper()
	policy := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["s3:PutObject","s3:GetObject"],"Resource":["arn:aws:s3:::%s/*"]},
		{"Effect":"Allow","Action":["s3:ListBucket"],"Resource":["arn:aws:s3:::%s"]}]}`, bucket, bucket)
	role, err := credentials.NewSTSAssumeRole(server.Endpoint, credentials.STSAssumeRoleOptions{
		AccessKey: server.AccessKey, SecretKey: server.SecretKey, Policy: policy, Location: server.Region, DurationSeconds: 3600,
	})
	if err != nil {
		t.Fatal(err)
	}
	v, err := role.Get()
	if err != nil {
		t.Fatal(err)
	}
	return []string{"AWS_ACCESS_KEY_ID=" + v.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + v.SecretAccessKey, "AWS_SESSION_TOKEN=" + v.SessionToken}
}

// loseAnswers lets the first answer to each PUT get lost, after the server has stored the object. The function returned ends that and counts.
func loseAnswers(proxy *remotetest.Proxy) func() int {
	var mu sync.Mutex
	seen := map[string]bool{}
	proxy.Inject(func(r *http.Request) (f remotetest.Fault) {
		mu.Lock()
		defer mu.Unlock()
		if r.Method == http.MethodPut && !seen[r.URL.Path] {
			seen[r.URL.Path], f.LoseAnswer = true, true
		}
		return f
	})
	return func() int {
		proxy.Inject(nil)
		mu.Lock()
		defer mu.Unlock()
		return len(seen)
	}
}

// oneVersionEach wants that no object was ever replaced, and none deleted.
func oneVersionEach(t *testing.T, admin *minio.Client, bucket string) {
	t.Helper()
	versions := map[string]int{}
	for o := range admin.ListObjects(context.Background(), bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		if versions[o.Key]++; versions[o.Key] > 1 || o.IsDeleteMarker {
			t.Errorf("%s was replaced or deleted", o.Key)
		}
	}
	if len(versions) < 10 {
		t.Errorf("only %d objects are stored", len(versions))
	}
}
