package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bdbvault/localenv/envtest"
	"bdbvault/remote"
	"bdbvault/remote/minio"
	"bdbvault/remote/remotetest"
)

// patient runs bdbvault doctor and other commands as processes, which permissions bind even if the test is root's.
type patient struct {
	t       *testing.T
	program string
	env     []string
}

func newPatient(t *testing.T, env ...string) *patient {
	t.Helper()
	p := &patient{t: t, program: product(t)}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "BDBVAULT_") && !strings.HasPrefix(v, "AWS_") && !strings.HasPrefix(v, "DB_HOME") {
			p.env = append(p.env, v)
		}
	}
	p.env = append(p.env, "AWS_EC2_METADATA_DISABLED=true", "BDBVAULT_STATE_DIR="+filepath.Join(t.TempDir(), "state"))
	p.env = append(p.env, env...)
	return p
}

func (p *patient) command(args ...string) *exec.Cmd {
	args = append([]string{p.program}, args...)
	if os.Geteuid() == 0 {
		args = append([]string{"setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = p.env
	return cmd
}

func (p *patient) must(args ...string) {
	p.t.Helper()
	if out, err := p.command(args...).CombinedOutput(); err != nil {
		p.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// examine runs doctor, which has to end with this exit code.
func (p *patient) examine(code int, args ...string) *doctorReport {
	p.t.Helper()
	cmd := p.command(append([]string{"doctor", "--json"}, args...)...)
	out, err := cmd.Output()
	if got := cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("exit code %d, want %d: %v\n%s\n%s", got, code, err, out, stderrOf(err))
	}
	r, failed := &doctorReport{}, struct{ Result *doctorReport }{}
	if err := errors.Join(json.Unmarshal(out, r), json.Unmarshal(out, &failed)); err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
	if failed.Result != nil {
		return failed.Result
	}
	return r
}

// wants holds verdicts, by the ids of checks, against what was found; "warning: words" wants words in it too.
func (p *patient) wants(r *doctorReport, verdicts map[string]string) {
	p.t.Helper()
	for id, want := range verdicts {
		c := r.find(id)
		verdict, words, _ := strings.Cut(want, ": ")
		if string(c.Verdict) != verdict || !strings.Contains(c.Found, words) {
			p.t.Errorf("%s is %s: %s (want %s)", id, c.Verdict, c.Found, want)
		}
		if (c.Verdict == warning || c.Verdict == problem) && c.Advice == "" {
			p.t.Errorf("%s: %s says not what to do", id, c.Found)
		}
	}
}

// TestDoctorEnvironment puts into real homes what doctor has to see.
func TestDoctorEnvironment(t *testing.T) {
	t.Parallel()
	home := filepath.Join(t.TempDir(), "bank")
	env := envtest.Create(t, home, envtest.Spec{LogFileSize: 1 << 20, DataDirs: []string{filepath.Join(home, "data")}, Databases: []envtest.Database{
		{File: "plain.db", Method: "btree", Records: 10}, {File: "gone.db", Method: "btree", Records: 10}, {File: "broken.db", Method: "hash", Checksum: true, Records: 10},
	}})
	hold := envtest.StartHold(t, env)
	hold.Put("", "gone.db", 10, 1)
	p := newPatient(t)
	p.wants(p.examine(0, "-h", home), map[string]string{
		"home": "fine: in 4 files", "config": "fine", "directories": "warning: set_data_dir /", "left-out": "fine", "databases": "fine: 2 btree, 1 hash",
		"checksums": "warning: 2 of 3", "log": "fine: 1 file", "log-version": "fine: 19", "log-removal": "fine: none", "checkpoint": "fine", "prepared": "fine",
		"named": "fine", "encryption": "fine: off", "open": "fine: dbworkload", "engine": "fine: libdb 5.3", "replication": "fine", "registry": "fine",
		"state": "fine", "open-files": "fine", "clock": "fine",
	})
	p.wants(p.examine(0, "-h", home, "--bulk-safe", "off", "--password", "none"), map[string]string{"engine": "unknown: not tried", "encryption": "warning: off"})

	hold.Begin("two")
	hold.Put("two", "plain.db", 50, 1)
	hold.Prepare("two")
	hold.FlushLog()
	data := filepath.Join(home, "data")
	writeFiles(t, map[string]string{filepath.Join(home, "__db.rep.gen"): "x", filepath.Join(home, "__db.register"): "x"})
	appendTo(t, filepath.Join(home, "DB_CONFIG"), "set_flags DB_LOG_AUTOREMOVE\nset_open_flags DB_REGISTER\nset_lgg_max 5\n")
	if err := errors.Join(os.Symlink("nowhere", filepath.Join(data, "link")), os.Remove(filepath.Join(data, "gone.db")),
		scribble(filepath.Join(data, "broken.db"))); err != nil {
		t.Fatal(err)
	}
	p.wants(p.examine(exitDamage, "-h", home), map[string]string{
		"config": "warning: set_lgg_max", "left-out": "warning: nowhere", "databases": "problem: broken.db", "log-removal": "warning: DB_LOG_AUTOREMOVE",
		"prepared": "warning: 1 transaction", "named": "warning: gone.db", "engine": "warning: db_register", "replication": "warning", "registry": "warning",
	})
	p.wants(p.examine(exitDamage, "-h", home, "--bulk-safe", "require"), map[string]string{"engine": "problem: db_register"})

	state := filepath.Join(t.TempDir(), "locked")
	if err := os.Mkdir(state, 0o500); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(data, "plain.db")
	if err := os.Chmod(plain, 0); err != nil {
		t.Fatal(err)
	}
	p.wants(p.examine(exitDamage, "-h", home, "--state-dir", filepath.Join(state, "new")), map[string]string{"home": "problem: plain.db can't be read", "state": "problem: permission denied"})
	if err := os.Chmod(plain, 0o600); err != nil {
		t.Fatal(err)
	}
	hold.Create("", envtest.Database{File: filepath.Join(t.TempDir(), "far.db"), Method: "btree", Records: 1})
	appendTo(t, filepath.Join(home, "DB_CONFIG"), "set_flags DB_LOG_AUTOREMOVE perhaps\nset_open_flags DB_PRIVATE\n")
	p.wants(p.examine(exitDamage, "-h", home), map[string]string{"config": "problem: perhaps", "named": "problem: far.db", "open": "warning: private"})
	writeFiles(t, map[string]string{filepath.Join(home, ".bdbvault-standby"): "{}"})
	p.wants(p.examine(exitDamage, "-h", home), map[string]string{"home": "problem: standby"})
	writeFiles(t, map[string]string{filepath.Join(home, ".bdbvault-restore"): "{}"})
	p.wants(p.examine(exitDamage, "-h", home), map[string]string{"home": "problem: restore"})
}

func writeFiles(t *testing.T, files map[string]string) {
	t.Helper()
	for path, text := range files {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writeFiles(t, map[string]string{path: string(old) + text})
}

// scribble spoils what a metadata page's checksum covers.
func scribble(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte{0xff}, 300)
	return errors.Join(err, f.Close())
}

// TestDoctorOddHomes are homes of which there is little to say, or of which the rest must not be said.
func TestDoctorOddHomes(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	empty, log := t.TempDir(), t.TempDir()
	p.wants(p.examine(exitFailed, "-h", empty), map[string]string{"home": "problem: not a Berkeley DB environment"})
	p.wants(p.examine(exitFailed, "-h", filepath.Join(empty, "none")), map[string]string{"home": "problem: no such file"})
	p.examine(exitUsage)
	p.examine(exitUsage, "-h", empty, "--bulk-safe", "perhaps")
	p.examine(exitUsage, "-r", "nothing")

	secret := filepath.Join(t.TempDir(), "secret")
	envtest.Create(t, secret, envtest.Spec{Password: "open sesame", LogFileSize: 64 << 10, Databases: []envtest.Database{{File: "a.db", Method: "btree", Records: 2000}}})
	p.wants(p.examine(0, "-h", secret), map[string]string{
		"encryption": "warning: no password", "named": "unknown", "prepared": "unknown", "checkpoint": "unknown", "log-version": "unknown", "engine": "warning: password"})
	p.wants(p.examine(0, "-h", secret, "-P", "open sesame"), map[string]string{"encryption": "fine: fits", "named": "fine", "checksums": "fine", "engine": "fine"})
	p.wants(p.examine(exitFailed, "-h", secret, "-P", "open barley"), map[string]string{"encryption": "problem: not the environment's"})

	if err := os.Remove(filepath.Join(secret, "log.0000000002")); err != nil {
		t.Fatal(err)
	}
	p.wants(p.examine(exitFailed, "-h", secret, "-P", "open sesame", "--bulk-safe", "off"), map[string]string{"log": "problem: log file 2 is missing"})
	for _, name := range []string{"__db.001", "__db.002", "__db.003"} {
		if err := os.Remove(filepath.Join(secret, name)); err != nil {
			t.Fatal(err)
		}
	}
	p.wants(p.examine(exitFailed, "-h", secret, "-P", "open sesame"), map[string]string{"open": "fine: nobody", "engine": "fine: closed"})

	writeFiles(t, map[string]string{filepath.Join(log, "DB_CONFIG"): "log_set_config DB_LOG_IN_MEMORY\n"})
	p.wants(p.examine(exitFailed, "-h", log), map[string]string{"log": "problem: in memory"})
	writeFiles(t, map[string]string{filepath.Join(log, "DB_CONFIG"): "set_cachesize 0 1 1\n"})
	p.wants(p.examine(exitFailed, "-h", log), map[string]string{"log": "problem: none", "databases": "fine: none"})
}

// TestDoctorArchive compares an environment with what is stored of it.
func TestDoctorArchive(t *testing.T) {
	t.Parallel()
	repo, home := filepath.Join(t.TempDir(), "repo"), filepath.Join(t.TempDir(), "bank")
	env := envtest.Create(t, home, envtest.Spec{Bank: &envtest.Bank{}})
	p := newPatient(t, "BDBVAULT_REPOSITORY=file://"+repo, "DB_HOME="+home)
	p.wants(p.examine(exitFailed), map[string]string{"connection": "problem: no such file", "put": "problem"})
	if err := os.Mkdir(repo, 0o755); err != nil {
		t.Fatal(err)
	}
	p.wants(p.examine(0), map[string]string{"connection": "warning: mode 755", "repository": "warning: none yet", "overwrite": "warning: directory",
		"put": "fine", "get": "fine", "range": "fine", "list": "fine", "if-absent": "fine", "upload-check": "fine", "delete": "fine", "left": "fine: nothing", "store-clock": "fine", "throughput": "fine"})
	p.must("init")
	if err := os.Chmod(repo, 0o500); err != nil {
		t.Fatal(err)
	}
	p.wants(p.examine(exitFailed, "--quick"), map[string]string{"put": "problem: permission denied", "list": "fine", "repository": "fine", "get": "unknown"})
	if err := os.Chmod(repo, 0o700); err != nil {
		t.Fatal(err)
	}
	p.wants(p.examine(0, "--quick"), map[string]string{"connection": "fine", "repository": "fine", "backup": "warning: none yet"})
	p.must("backup", "--quiet")
	p.wants(p.examine(0, "--quick"), map[string]string{"backup": "fine: begun", "chain": "fine: all of it"})
	if err := env.GrowLog(1<<20, 1); err != nil {
		t.Fatal(err)
	}
	p.wants(p.examine(0, "--quick"), map[string]string{"backup": "fine", "chain": "fine: which the log here continues"})

	other := filepath.Join(t.TempDir(), "bank")
	envtest.Create(t, other, envtest.Spec{Bank: &envtest.Bank{}})
	p.wants(p.examine(exitFailed, "--quick", "-h", other), map[string]string{"backup": "problem: another environment", "chain": "problem"})
	p.must("restore", "--to", filepath.Join(t.TempDir(), "restored"), "--quiet")
	restored := filepath.Join(t.TempDir(), "bank")
	p.must("restore", "--to", restored, "--quiet")
	p.wants(p.examine(exitChain, "--quick", "-h", restored), map[string]string{"backup": "fine", "chain": "problem: restored"})
}

// store is a bucket of MinIO's for doctor.
type store struct {
	*remotetest.Server
	*patient
	bucket string
}

func (s *store) patientWith(keys []string, endpoint string) *patient {
	return newPatient(s.t, append([]string{"BDBVAULT_REPOSITORY=s3://" + s.bucket + "/prod/db1", "AWS_ENDPOINT_URL=" + endpoint, "AWS_REGION=" + s.Region}, keys...)...)
}

func rootKeys(s *remotetest.Server) []string {
	return []string{"AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey}
}

// policy allows actions on the objects of the repository and on its bucket.
func (s *store) policy(onObjects, onBucket string) string {
	return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":[%[2]s],"Resource":["arn:aws:s3:::%[1]s/prod/db1/*"]},
		{"Effect":"Allow","Action":[%[3]s],"Resource":["arn:aws:s3:::%[1]s"]},
		{"Effect":"Allow","Action":["s3:ListBucket"],"Resource":["arn:aws:s3:::%[1]s"],"Condition":{"StringLike":{"s3:prefix":["prod/db1/*"]}}}]}`,
		s.bucket, onObjects, onBucket)
}

// limited is doctor with keys that may do little.
func (s *store) limited(onObjects, onBucket string) *patient {
	s.t.Helper()
	keys, err := s.Limited(s.policy(onObjects, onBucket))
	if err != nil {
		s.t.Fatal(err)
	}
	return s.patientWith(keys, s.Endpoint)
}

// limitedTo is doctor with keys that may do all, in another bucket.
func (s *store) limitedTo(bucket string) *patient {
	s.t.Helper()
	keys, err := s.Limited(fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:*"],"Resource":["arn:aws:s3:::%[1]s","arn:aws:s3:::%[1]s/*"]}]}`, bucket))
	if err != nil {
		s.t.Fatal(err)
	}
	return s.patientWith(keys, s.Endpoint)
}

const settings = `"s3:GetBucketVersioning","s3:GetBucketObjectLockConfiguration"`

// objects counts what is in the bucket.
func (s *store) objects() (n int) {
	s.t.Helper()
	d, err := minio.New(s.t.Context(), s.Config(s.bucket))
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := d.List(s.t.Context(), "", "", func(remote.Info) error { n++; return nil }); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// TestDoctorStore tries out real servers, as somebody who may do all, little, or nothing.
func TestDoctorStore(t *testing.T) {
	t.Parallel()
	server := remotetest.MinIO(t)
	bucket := func(t *testing.T, make func(context.Context) (string, error)) *store {
		t.Helper()
		name, err := make(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s := &store{Server: server, bucket: name}
		s.patient = &patient{t: t}
		s.patient = s.patientWith(rootKeys(server), server.Endpoint)
		return s
	}
	t.Run("all is well", func(t *testing.T) {
		s := bucket(t, server.MakeLockBucket)
		home := filepath.Join(t.TempDir(), "bank")
		env := envtest.Create(t, home, envtest.Spec{Databases: []envtest.Database{{File: "a.db", Method: "btree", Checksum: true, Records: 100}}})
		hold := envtest.StartHold(t, env)
		hold.Checkpoint()
		p := s.limited(`"s3:PutObject","s3:GetObject"`, settings)
		p.must("init")
		p.must("backup", "-h", home, "--quiet")
		r := p.examine(0, "-h", home, "--quick")
		for _, c := range r.Checks {
			if c.Verdict != fine && c.ID != "space" && c.ID != "memory" && c.ID != "file-system" { // these are the test's host's
				t.Errorf("%s is %s: %s", c.ID, c.Verdict, c.Found)
			}
		}
		p.wants(r, map[string]string{"delete": "fine: refused", "versioning": "fine: on", "object-lock": "fine: --retain", "overwrite": "fine: old version stays",
			"permissions": "fine", "left": "fine: can't remove", "chain": "fine"})
		if r.Fine < 35 {
			t.Errorf("%d checks are fine", r.Fine)
		}
	})
	t.Run("all rights", func(t *testing.T) {
		s := bucket(t, server.MakeBucket)
		for _, client := range []string{"aws", "minio"} {
			s.wants(s.examine(0, "--s3-client", client, "--path-style"), map[string]string{
				"put": "fine", "get": "fine", "range": "fine", "list": "fine", "if-absent": "fine", "upload-check": "fine: refused", "overwrite": "warning: old content is gone",
				"delete": "fine: works", "versioning": "warning: off", "object-lock": "warning: off", "left": "fine: nothing", "store-clock": "fine", "latency": "fine: put",
				"throughput": "fine: MiB/s", "connection": "fine: this host", "repository": "warning: none yet",
				"permissions": "warning: delete, list "})
		}
		if n := s.objects(); n > 0 {
			t.Errorf("%d objects are left", n)
		}
	})
	t.Run("read only", func(t *testing.T) {
		s := bucket(t, server.MakeBucket)
		p := s.limited(`"s3:GetObject"`, `"s3:GetBucketLocation"`)
		p.wants(p.examine(exitFailed), map[string]string{"put": "problem: permission denied", "get": "unknown", "list": "fine", "versioning": "unknown: may not ask", "permissions": "fine"})
	})
	t.Run("no bucket, no rights, no store", func(t *testing.T) {
		s := bucket(t, server.MakeBucket)
		s.wants(s.examine(exitFailed, "-r", "s3://no-such-bucket/x"), map[string]string{"put": "problem: no such bucket", "list": "unknown"})
		p := s.limitedTo("elsewhere")
		p.wants(p.examine(exitFailed), map[string]string{"put": "problem: denied", "list": "problem: denied"})
		p = s.patientWith(rootKeys(server), "http://127.0.0.1:1")
		p.wants(p.examine(exitFailed), map[string]string{"put": "problem: can't be reached", "list": "unknown", "store-clock": "unknown"})
		p.wants(p.examine(exitFailed, "--ca-file", "/nowhere"), map[string]string{"connection": "problem: nowhere"})
	})
	t.Run("clocks", func(t *testing.T) {
		s, proxy := bucket(t, server.MakeBucket), remotetest.NewProxy(t, server)
		p := s.patientWith(rootKeys(server), proxy.Endpoint)
		proxy.Inject(func(*http.Request) remotetest.Fault { return remotetest.Fault{Clock: 10 * time.Minute} })
		p.wants(p.examine(0, "--quick"), map[string]string{"store-clock": "warning: ahead of"})
		proxy.Inject(func(*http.Request) remotetest.Fault {
			return remotetest.Fault{Status: http.StatusForbidden, Code: "RequestTimeTooSkewed", Message: "The difference is too large."}
		})
		p.wants(p.examine(exitFailed, "--quick"), map[string]string{"put": "problem: clock", "store-clock": "problem: refuses every request"})
	})
	t.Run("interrupted", func(t *testing.T) {
		s, proxy := bucket(t, server.MakeBucket), remotetest.NewProxy(t, server)
		stalled := make(chan struct{}, 100)
		proxy.Inject(func(r *http.Request) (f remotetest.Fault) {
			if strings.HasSuffix(r.URL.Path, "-large") && r.Method == http.MethodPut {
				stalled <- struct{}{}
				f.StallUpload = 1
			}
			return f
		})
		cmd := s.patientWith(rootKeys(server), proxy.Endpoint).command("doctor")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-stalled:
		case <-time.After(patience):
			t.Error("it never came to the large upload")
		}
		cmd.Process.Signal(syscall.SIGINT)
		cmd.Wait() // its exit code is looked at
		if code := cmd.ProcessState.ExitCode(); code != exitInterrupted {
			t.Errorf("exit code %d", code)
		}
		if n := s.objects(); n > 0 {
			t.Errorf("%d objects are left", n)
		}
	})
}

// TestDoctorVersityGW: another server, and keys of a user of its own who may read only.
func TestDoctorVersityGW(t *testing.T) {
	t.Parallel()
	server := remotetest.VersityGW(t)
	s := &store{Server: server, bucket: server.NewBucket(), patient: &patient{t: t}}
	s.patient = s.patientWith(rootKeys(server), server.Endpoint)
	s.wants(s.examine(0, "--quick"), map[string]string{"put": "fine", "get": "fine", "range": "fine", "list": "fine", "delete": "fine: works", "left": "fine: nothing", "upload-check": "fine"})
	if n := s.objects(); n > 0 {
		t.Errorf("%d objects are left", n)
	}
}
