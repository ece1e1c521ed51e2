package remotetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	awscredentials "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"bdbvault/remote/awsconf"
)

// Instance is a real S3 server on a loopback port of its own. It may be stopped and started; port and data stay.
type Instance struct {
	Endpoint  string // http://127.0.0.1:port
	AccessKey string
	SecretKey string
	Region    string // the one and only that the server accepts
	Kind      string // minio or versitygw

	addr   string
	dir    string
	bin    string
	launch func(*Instance) *exec.Cmd

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited <-chan struct{} // closed when cmd has ended
	output bytes.Buffer    // of cmd, read after it ended
}

// StartMinIO starts MinIO with its data below dir. The caller ends it with Kill.
func StartMinIO(ctx context.Context, dir string) (*Instance, error) {
	return start(ctx, dir, minioProgram, func(s *Instance) *exec.Cmd {
		cmd := exec.Command(s.bin, "server", "--quiet", "--address", s.addr, filepath.Join(s.dir, "data"))
		cmd.Env = append(os.Environ(), "HOME="+s.dir, "MINIO_ROOT_USER="+s.AccessKey, "MINIO_ROOT_PASSWORD="+s.SecretKey,
			"MINIO_REGION="+s.Region, "MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_SCANNER_SPEED=slowest",
			// On a busy machine its watchdog takes the disk for broken.
			"_MINIO_DRIVE_ACTIVE_MONITORING=off", "MINIO_DRIVE_MAX_TIMEOUT=10m")
		return cmd
	})
}

// StartVersityGW starts versitygw on its POSIX back end with the data below dir. The caller ends it with Kill.
func StartVersityGW(ctx context.Context, dir string) (*Instance, error) {
	for _, sub := range []string{"iam", "versions"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	return start(ctx, dir, versityProgram, func(s *Instance) *exec.Cmd {
		cmd := exec.Command(s.bin, "--quiet", "--keep-alive", "--region", s.Region, "--port", s.addr,
			"--iam-dir", filepath.Join(s.dir, "iam"), "posix", "--versioning-dir", filepath.Join(s.dir, "versions"), filepath.Join(s.dir, "data"))
		cmd.Env = append(os.Environ(), "HOME="+s.dir, "ROOT_ACCESS_KEY="+s.AccessKey, "ROOT_SECRET_KEY="+s.SecretKey)
		return cmd
	})
}

func start(ctx context.Context, dir string, p program, launch func(*Instance) *exec.Cmd) (*Instance, error) {
	bin, err := p.path(ctx)
	if err != nil {
		return nil, err
	}
	s := &Instance{AccessKey: "tester", SecretKey: rand.Text(), Region: "us-east-1", Kind: p.name, dir: dir, bin: bin, launch: launch}
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		return nil, err
	}
	// Another process may take the port before the server does.
	for range 5 {
		if s.addr, err = freeAddr(); err != nil {
			return nil, err
		}
		s.Endpoint = "http://" + s.addr
		if err = s.Start(); err == nil {
			return s, nil
		}
	}
	return nil, err
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// Start starts the server and waits until it answers.
func (s *Instance) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return errors.New("server is running")
	}
	cmd := s.launch(s)
	s.output.Reset()
	cmd.Stdout, cmd.Stderr = &s.output, &s.output
	cmd.Dir = s.dir
	// A test binary that is killed takes the server with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	exited, err := startLocked(cmd)
	if err != nil {
		return err
	}
	s.cmd, s.exited = cmd, exited
	if err := s.ready(); err != nil {
		return errors.Join(err, s.end(syscall.SIGKILL))
	}
	return nil
}

func (s *Instance) ready() error {
	client, err := s.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		_, err := client.ListBuckets(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("%s ended: %s", s.Kind, s.output.String())
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w", s.Kind, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the server in an orderly way.
func (s *Instance) Stop() error { return s.signal(syscall.SIGTERM) }

// Kill ends it as a crash would.
func (s *Instance) Kill() error { return s.signal(syscall.SIGKILL) }

func (s *Instance) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end(sig)
}

func (s *Instance) end(sig syscall.Signal) error {
	if s.cmd == nil {
		return nil
	}
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.exited:
	case <-time.After(20 * time.Second):
		s.cmd.Process.Kill() // reported below in any case
		<-s.exited
		return fmt.Errorf("%s had to be killed", s.Kind)
	}
	s.cmd = nil
	return nil
}

func (s *Instance) client() (*minio.Client, error) {
	return minio.New(s.addr, &minio.Options{
		Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Region: s.Region, MaxRetries: 1,
	})
}

// MakeBucket makes a bucket with a new name.
func (s *Instance) MakeBucket(ctx context.Context) (string, error) {
	client, err := s.client()
	if err != nil {
		return "", err
	}
	name := "bucket-" + strings.ToLower(rand.Text())
	return name, client.MakeBucket(ctx, name, minio.MakeBucketOptions{Region: s.Region})
}

// Config is for a driver that uses the bucket with all rights.
func (s *Instance) Config(bucket string) awsconf.Config {
	return awsconf.Config{
		Bucket: bucket, Region: s.Region, Endpoint: s.Endpoint,
		Credentials: awscredentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
	}
}

// ReadOnly is Config for a user of the server's own who may read and list the bucket but not write or delete.
func (s *Instance) ReadOnly(ctx context.Context, bucket string) (awsconf.Config, error) {
	c := s.Config(bucket)
	policy := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["reader"]},`+
		`"Action":["s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::%s","arn:aws:s3:::%s/*"]}]}`, bucket, bucket)
	var v credentials.Value
	var err error
	if s.Kind == "minio" {
		v, err = s.assumeRole(strings.Replace(policy, `"Principal":{"AWS":["reader"]},`, "", 1))
	} else {
		v, err = s.createUser(ctx, bucket, policy)
	}
	c.Credentials = awscredentials.NewStaticCredentialsProvider(v.AccessKeyID, v.SecretAccessKey, v.SessionToken)
	return c, err
}

// Limited are temporary keys of MinIO's that a policy limits, as the environment variables of the AWS tools.
func (s *Instance) Limited(policy string) ([]string, error) {
	v, err := s.assumeRole(policy)
	return []string{"AWS_ACCESS_KEY_ID=" + v.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + v.SecretAccessKey, "AWS_SESSION_TOKEN=" + v.SessionToken}, err
}

// assumeRole asks MinIO for temporary keys that a policy limits.
func (s *Instance) assumeRole(policy string) (credentials.Value, error) {
	role, err := credentials.NewSTSAssumeRole(s.Endpoint, credentials.STSAssumeRoleOptions{
		AccessKey: s.AccessKey, SecretKey: s.SecretKey, Policy: policy, Location: s.Region, DurationSeconds: 3600,
	})
	if err != nil {
		return credentials.Value{}, err
	}
	return role.Get()
}

// createUser makes a user of versitygw and lets the bucket's policy say what it may.
func (s *Instance) createUser(ctx context.Context, bucket, policy string) (credentials.Value, error) {
	v := credentials.Value{AccessKeyID: "reader", SecretAccessKey: "secret-of-reader"}
	cmd := exec.CommandContext(ctx, s.bin, "admin", "--access", s.AccessKey, "--secret", s.SecretKey, "--endpoint-url", s.Endpoint,
		"--region", s.Region, "create-user", "--access", v.AccessKeyID, "--secret", v.SecretAccessKey, "--role", "user")
	if out, err := cmd.CombinedOutput(); err != nil {
		return v, fmt.Errorf("create user: %w\n%s", err, out)
	}
	client, err := s.client()
	if err != nil {
		return v, err
	}
	return v, client.SetBucketPolicy(ctx, bucket, policy)
}

// Server is an Instance that lives as long as a test and fails it when something goes wrong.
type Server struct {
	*Instance
	tb testing.TB
}

// MinIO starts MinIO for a test.
func MinIO(tb testing.TB) *Server {
	tb.Helper()
	return serve(tb, StartMinIO)
}

// VersityGW starts versitygw for a test.
func VersityGW(tb testing.TB) *Server {
	tb.Helper()
	return serve(tb, StartVersityGW)
}

func serve(tb testing.TB, start func(context.Context, string) (*Instance, error)) *Server {
	tb.Helper()
	i, err := start(context.Background(), tb.TempDir())
	s := &Server{i, tb}
	s.must(err)
	tb.Cleanup(s.Kill)
	return s
}

func (s *Server) must(err error) {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatal(err)
	}
}

// Start starts it again after Stop or Kill.
func (s *Server) Start() { s.tb.Helper(); s.must(s.Instance.Start()) }

// Stop ends it in an orderly way.
func (s *Server) Stop() { s.tb.Helper(); s.must(s.Instance.Stop()) }

// Kill ends it as a crash would.
func (s *Server) Kill() { s.tb.Helper(); s.must(s.Instance.Kill()) }

// NewBucket makes an empty bucket. In subtests use MakeBucket: an error here ends the test that started the server.
func (s *Server) NewBucket() string {
	s.tb.Helper()
	name, err := s.MakeBucket(context.Background())
	s.must(err)
	return name
}
