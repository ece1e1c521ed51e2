package endtoend

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"bdbvault/localenv/envtest"
	"bdbvault/remote/remotetest"
)

// The policies of the README, by their places there.
const (
	hostKeys = iota
	pruneKeys
	restoreKeys
)

// policy is one of the README's, for a bucket.
func policy(t *testing.T, which int, bucket string) string {
	t.Helper()
	text, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Write-once stores\n")
	blocks := strings.Split(section, "```json\n")
	if len(blocks) < which+2 {
		t.Fatal("the README has no such policy")
	}
	json, _, _ := strings.Cut(blocks[which+1], "```")
	return strings.NewReplacer("vault/db1/", bucket+"/vault/", ":::vault\"", ":::"+bucket+"\"").Replace(json)
}

// allow adds rights to a policy.
func allow(policy, bucket string, actions ...string) string {
	more := fmt.Sprintf(`,{"Effect":"Allow","Action":["%s"],"Resource":["arn:aws:s3:::%[2]s","arn:aws:s3:::%[2]s/*"]}]}`, strings.Join(actions, `","`), bucket)
	return strings.TrimSuffix(strings.TrimSpace(policy), "]}") + more
}

// keysFor are keys that may do what a policy says.
func keysFor(t *testing.T, server *remotetest.Server, policy string) credentials.Value {
	t.Helper()
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
	return v
}

func (c *cli) as(v credentials.Value) *cli {
	return c.with("AWS_ACCESS_KEY_ID="+v.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+v.SecretAccessKey, "AWS_SESSION_TOKEN="+v.SessionToken)
}

// clientOf is a client of the server, by any keys.
func clientOf(t *testing.T, server *remotetest.Server, v credentials.Value) *minio.Client {
	t.Helper()
	client, err := minio.New(strings.TrimPrefix(server.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(v.AccessKeyID, v.SecretAccessKey, v.SessionToken), Region: server.Region,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// lockVault is a bucket with object lock, a repository in it, and a bank.
type lockVault struct {
	t      *testing.T
	server *remotetest.Server
	bucket string
	admin  *minio.Client
	host   *cli // with the keys of the host
	env    *envtest.Environment
	bank   *envtest.Workload
	turn   int
}

func newLockVault(t *testing.T) *lockVault {
	t.Helper()
	v := &lockVault{t: t, server: remotetest.MinIO(t)}
	var err error
	if v.bucket, err = v.server.MakeLockBucket(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.admin = clientOf(t, v.server, credentials.Value{AccessKeyID: v.server.AccessKey, SecretAccessKey: v.server.SecretKey})
	v.env, v.bank = startBank(t)
	v.host = newCLI(t).at(v.server, v.server.Endpoint, v.bucket).as(keysFor(t, v.server, policy(t, hostKeys, v.bucket))).with("DB_HOME=" + v.env.Home)
	return v
}

// next is the host, by one client and the other in turn.
func (v *lockVault) next() *cli {
	v.turn++
	return v.host.with("BDBVAULT_S3_CLIENT=" + clients[v.turn%2])
}

// versions are all versions of all objects.
func (v *lockVault) versions() (list []minio.ObjectInfo) {
	v.t.Helper()
	for o := range v.admin.ListObjects(context.Background(), v.bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			v.t.Fatal(o.Err)
		}
		list = append(list, o)
	}
	return list
}

// purge removes everything that is not locked up to a moment, as somebody who owns the bucket can.
func (v *lockVault) purge(mode minio.RetentionMode, until time.Time) (removed int) {
	v.t.Helper()
	list := v.versions()
	for _, o := range list {
		got, end, err := v.admin.GetObjectRetention(context.Background(), v.bucket, o.Key, o.VersionID)
		older := strings.Contains(o.Key, "/backups/") // the manifests of others promise less
		if err == nil && *got == mode && (older || !end.Before(until)) {
			continue
		}
		removed++
		if err := v.admin.RemoveObject(context.Background(), v.bucket, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID, GovernanceBypass: true}); err != nil {
			v.t.Errorf("remove %s: %v", o.Key, err)
		}
	}
	if len(list)-removed < 10 {
		v.t.Errorf("only %d objects are left", len(list)-removed)
	}
	return removed
}

// TestThief: somebody has the keys of the host that backs up, which may even delete, and destroys all there is: every other object is overwritten,
// the others are deleted; he tries to delete the versions behind that, too, and to shorten their locks. A restore as of a moment before brings
// back every commit, and commands that fail without it say so, and when it was.
func TestThief(t *testing.T) {
	v := newLockVault(t)
	v.next().must("init")
	for range 2 {
		for range 2 {
			v.next().must("backup", "--retain", "30d", "--lock", "governance")
			work(t, v.bank)
		}
		v.next().must("ship", "--retain", "30d")
	}
	if err := v.bank.Stop(); err != nil {
		t.Fatal(err)
	}
	v.next().must("ship", "--retain", "30d")
	if n := v.purge(minio.Governance, time.Now().AddDate(0, 0, 30)); n > 0 {
		t.Errorf("%d objects are not locked", n)
	}
	before := v.next().backups()

	at := v.moment()
	may := allow(policy(t, hostKeys, v.bucket), v.bucket, "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:ListBucketVersions")
	v.destroy(clientOf(t, v.server, keysFor(t, v.server, may)))
	reader := v.host.as(keysFor(t, v.server, policy(t, restoreKeys, v.bucket)))
	to := filepath.Join(t.TempDir(), "now")
	s := reader.run("restore", "--to", to)
	if s.code == 0 || !strings.Contains(s.err, "--as-of") {
		t.Fatalf("no word of what happened in %s", s)
	}
	hinted := strings.Fields(s.err[strings.Index(s.err, "--as-of"):])[1]
	for _, client := range clients {
		c := reader.with("BDBVAULT_S3_CLIENT="+client, "BDBVAULT_AS_OF="+at)
		if got := c.backups(); fmt.Sprint(got) != fmt.Sprint(before) {
			t.Errorf("listed as of %s: %v, before: %v", at, got, before)
		}
		c.must("show", before[0].ID)
		c.must("plan", "--backup", before[1].ID)
		c.restored(v.bank.LastCommitted())
	}
	reader.must("verify", "--read-data", "--as-of", at)
	reader.must("drill", "--as-of", at)
	reader.restored(v.bank.LastCommitted(), "--as-of", hinted)
	v.next().fails(2, []string{"as-of"}, "prune", "--as-of", at, "--keep-last", "1")
}

// moment is one after all that was stored so far, and before all that is stored from now on.
func (v *lockVault) moment() string {
	last := time.Time{}
	for _, o := range v.versions() {
		if o.LastModified.After(last) {
			last = o.LastModified
		}
	}
	at := last.Truncate(time.Second).Add(time.Second)
	select {
	case <-v.t.Context().Done():
	case <-time.After(time.Until(at.Add(time.Second))):
	}
	return at.UTC().Format(time.RFC3339)
}

// destroy does the worst that a client can.
func (v *lockVault) destroy(thief *minio.Client) {
	t, ctx := v.t, v.t.Context()
	t.Helper()
	garbage := []byte("garbage")
	for i, o := range v.versions() {
		for _, bypass := range []bool{false, true} {
			if err := thief.RemoveObject(ctx, v.bucket, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID, GovernanceBypass: bypass}); err == nil {
				t.Errorf("a version of %s could be deleted", o.Key)
			}
			mode, soon := minio.Governance, time.Now().Add(time.Minute)
			err := thief.PutObjectRetention(ctx, v.bucket, o.Key, minio.PutObjectRetentionOptions{
				VersionID: o.VersionID, Mode: &mode, RetainUntilDate: &soon, GovernanceBypass: bypass,
			})
			if err == nil {
				t.Errorf("the lock of %s could be shortened", o.Key)
			}
		}
		if i%2 == 0 {
			if err := thief.RemoveObject(ctx, v.bucket, o.Key, minio.RemoveObjectOptions{}); err != nil {
				t.Errorf("delete %s: %v", o.Key, err)
			}
			continue
		}
		if _, err := thief.PutObject(ctx, v.bucket, o.Key, bytes.NewReader(garbage), int64(len(garbage)), minio.PutObjectOptions{DisableMultipart: true}); err != nil {
			t.Errorf("overwrite %s: %v", o.Key, err)
		}
	}
}

// TestLocksAreExtended: a backup locks for as long as is asked what earlier ones stored, by as few requests as it takes, and
// backups say in which mode and how long.
func TestLocksAreExtended(t *testing.T) {
	v := newLockVault(t)
	v.next().must("init")
	v.next().must("backup") // no lock
	work(t, v.bank)
	if err := v.bank.Stop(); err != nil {
		t.Fatal(err)
	}
	v.next().must("ship")
	requests := func(args ...string) (lock, put int64, until time.Time) {
		t.Helper()
		r := decode[struct {
			Store struct{ Requests struct{ Lock, Put int64 } }
			Lock  struct {
				Mode  string
				Until time.Time
			}
		}](t, v.next().must(append([]string{"backup", "--json"}, args...)...))
		return r.Store.Requests.Lock, r.Store.Requests.Put, r.Lock.Until
	}
	retain := func(span string) []string { return []string{"--retain", span, "--lock", "compliance"} }
	first, _, until := requests(retain("30d")...)
	if least := time.Now().AddDate(0, 0, 30); until.Before(least) || until.After(least.AddDate(0, 0, 8)) {
		t.Errorf("locked until %s", until)
	}
	all := len(v.versions())
	if first < 10 || first > int64(all) {
		t.Errorf("%d requests to lock %d objects", first, all)
	}
	second, _, promised := requests(retain("32d")...)
	if second > first-4 || !promised.Equal(until) { // those for maps and packs are saved; log may have been shipped by anybody
		t.Errorf("%d requests to lock what is locked already; until %s, before until %s", second, promised, until)
	}
	third, _, longer := requests(retain("60d")...)
	if third < first || longer.Before(time.Now().AddDate(0, 0, 60)) {
		t.Errorf("%d requests to extend locks, to %s", third, longer)
	}
	pruned := v.host.as(keysFor(t, v.server, policy(t, pruneKeys, v.bucket))).must("prune", "--keep-last", "1")
	if n := strings.Count(pruned.out, "locked until"); n != 3 || strings.Count(pruned.out, "no rule keeps it") != 1 {
		t.Errorf("%d locked backups stay in %s", n, pruned)
	}
	show := v.next().must("show", "latest")
	if !strings.Contains(show.out, "in compliance mode") {
		t.Errorf("no word of the lock in %s", show)
	}
	v.next().fails(2, []string{"more than 0"}, "backup", "--retain", "0d")
	if n := v.purge(minio.Compliance, time.Now().AddDate(0, 0, 60)); n == 0 {
		t.Error("what no locked backup needs was locked too")
	}
	v.next().restored(0, "--backup", strings.Fields(show.out)[1])
	if s := v.next().must("backup"); !strings.Contains(s.err, "no --retain was given") {
		t.Errorf("no word of the missing lock in %s", s)
	}
}

// TestLockRefused: where nothing can be locked, or not by these keys, that is said before anything is read of the environment.
func TestLockRefused(t *testing.T) {
	v := newLockVault(t)
	v.next().must("init")
	lock := []string{"backup", "--retain", "30d"}
	v.host.as(keysFor(t, v.server, policy(t, pruneKeys, v.bucket))).fails(1, []string{"permission denied", "s3:PutObjectRetention"}, lock...)
	plain := newCLI(t).at(v.server, v.server.Endpoint, v.server.NewBucket()).with("DB_HOME=" + v.env.Home)
	plain.must("init")
	dir := newCLI(t).with("BDBVAULT_REPOSITORY=file://"+filepath.Join(t.TempDir(), "vault"), "DB_HOME="+v.env.Home)
	dir.must("init")
	for _, c := range []*cli{plain, dir, plain.with("BDBVAULT_S3_CLIENT=aws")} {
		c.fails(1, []string{"objects can't be locked there", "leave out --retain"}, lock...)
		if strings.HasPrefix(c.env[len(c.env)-1], "DB_HOME") {
			c.fails(1, []string{"objects can't be locked there"}, "watch", "--retain", "30d")
		}
	}
	for _, args := range [][]string{{"list", "--as-of", "2026-01-01T00:00:00Z"}, {"restore", "--to", t.TempDir(), "--as-of", "2026-01-01T00:00:00Z"}} {
		dir.fails(1, []string{"keeps no versions"}, args...)
	}
	v.next().fails(1, []string{"permission denied", "forbid locks of that length"}, "backup", "--retain", "7d")
	v.next().fails(2, []string{"--lock needs --retain"}, "backup", "--lock", "compliance")
	v.next().fails(2, []string{"want governance or compliance"}, "ship", "--retain", "30d", "--lock", "some")
	if err := v.bank.Stop(); err != nil {
		t.Fatal(err)
	}
}

// TestWithoutDelete: keys that may put, get and list, and lock, are enough for backup, ship and watch, which say no word of it.
func TestWithoutDelete(t *testing.T) {
	v := newLockVault(t)
	v.next().must("init")
	quiet := func(s said) {
		t.Helper()
		for _, word := range []string{"denied", "Denied", "warning", "could not"} {
			if strings.Contains(s.err+s.out, word) {
				t.Errorf("%q in %s", word, s)
			}
		}
	}
	for _, more := range [][]string{nil, {"--retain", "30d"}} {
		quiet(v.next().must(append([]string{"backup"}, more...)...))
		work(t, v.bank)
		quiet(v.next().must(append([]string{"ship"}, more...)...))
	}
	w := v.next().start("watch", "--full-every", "1s", "--ship-every", "200ms", "--retain", "30d")
	began := len(v.next().backups())
	for end := time.Now().Add(limit); len(v.next().backups()) < began+2; {
		if time.Now().After(end) {
			t.Fatal("the watch takes no full backups")
		}
		work(t, v.bank)
	}
	if err := v.bank.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	quiet(w.wait())
	v.next().restored(v.bank.LastCommitted())
	oneVersionEach(t, v.admin, v.bucket)
}
