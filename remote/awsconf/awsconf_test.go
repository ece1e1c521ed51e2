package awsconf

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"

	"bdbvault/remote"
)

// alone hides the environment and files of whoever runs the tests.
func alone(t *testing.T) (dir string) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "") // so that it comes back
			os.Unsetenv(name)
		}
	}
	dir = t.TempDir()
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "config"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "credentials"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	write(t, filepath.Join(dir, "config"), `
[default]
region = eu-central-1
[profile vault]
region = sa-east-1
endpoint_url = https://store.example:9000
aws_access_key_id = PROFILEKEY
aws_secret_access_key = s
`)
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestResolve(t *testing.T) {
	tests := []struct {
		env                   string
		c                     Config
		region, endpoint, key string
		path                  bool
	}{
		{"", Config{}, "eu-central-1", "", "", false},
		{"", Config{Region: "us-west-2", PathStyle: true}, "us-west-2", "", "", true},
		{"AWS_REGION=ap-south-1 AWS_ACCESS_KEY_ID=ENVKEY AWS_SECRET_ACCESS_KEY=s", Config{}, "ap-south-1", "", "ENVKEY", false},
		{"AWS_CONFIG_FILE=/nonexistent", Config{}, "us-east-1", "", "", false},
		{"", Config{Profile: "vault"}, "sa-east-1", "https://store.example:9000", "PROFILEKEY", true},
		{"AWS_PROFILE=vault", Config{}, "sa-east-1", "https://store.example:9000", "PROFILEKEY", true},
		{"AWS_PROFILE=vault", Config{Endpoint: "http://127.0.0.1:1"}, "sa-east-1", "http://127.0.0.1:1", "PROFILEKEY", true},
		{"AWS_ENDPOINT_URL=http://h:1", Config{}, "eu-central-1", "http://h:1", "", true},
		{"AWS_ENDPOINT_URL=http://h:1 AWS_ENDPOINT_URL_S3=http://h:2", Config{}, "eu-central-1", "http://h:2", "", true},
		{"", Config{Endpoint: "https://s3.eu-west-1.amazonaws.com"}, "eu-central-1", "https://s3.eu-west-1.amazonaws.com", "", false},
	}
	for _, test := range tests {
		t.Run(test.env+fmt.Sprintf("%+v", test.c), func(t *testing.T) {
			alone(t)
			for _, v := range strings.Fields(test.env) {
				name, value, _ := strings.Cut(v, "=")
				t.Setenv(name, value)
			}
			test.c.Bucket = "bucket"
			r, err := Resolve(t.Context(), test.c)
			if err != nil {
				t.Fatal(err)
			}
			endpoint := ""
			if r.Endpoint != nil {
				endpoint = r.Endpoint.String()
			}
			if r.AWS.Region != test.region || endpoint != test.endpoint || r.PathStyle != test.path {
				t.Errorf("region %q, endpoint %q, path style %v", r.AWS.Region, endpoint, r.PathStyle)
			}
			v, err := r.AWS.Credentials.Retrieve(t.Context())
			if v.AccessKeyID != test.key || (err == nil) != (test.key != "") || err != nil && Classify(err) != remote.Auth {
				t.Errorf("key %q, %v", v.AccessKeyID, err)
			}
			if has, err := HasEndpoint(t.Context(), test.c); has != (test.endpoint != "") || err != nil {
				t.Errorf("has endpoint: %v, %v", has, err)
			}
		})
	}
}

func TestResolveErrors(t *testing.T) {
	dir := alone(t)
	write(t, filepath.Join(dir, "junk.pem"), "no certificate")
	tests := []struct {
		c    Config
		kind remote.Kind
	}{
		{Config{}, remote.Invalid},
		{Config{Bucket: "b", Profile: "missing"}, remote.Auth},
		{Config{Bucket: "b", Endpoint: "host:9000"}, remote.Invalid},
		{Config{Bucket: "b", Endpoint: "ftp://host"}, remote.Invalid},
		{Config{Bucket: "b", Endpoint: "http://%zz"}, remote.Invalid},
		{Config{Bucket: "b", CAFile: filepath.Join(dir, "missing.pem")}, remote.Invalid},
		{Config{Bucket: "b", CAFile: filepath.Join(dir, "junk.pem")}, remote.Invalid},
	}
	for _, test := range tests {
		_, err := Resolve(t.Context(), test.c)
		if remote.KindOf(err) != test.kind || !strings.Contains(err.Error(), "s3://"+test.c.Bucket) {
			t.Errorf("%+v: %v", test.c, err)
		}
	}
}

// AWS_CA_BUNDLE replaces the system's authorities, Config.CAFile comes on top of either.
func TestAuthorities(t *testing.T) {
	dir := alone(t)
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	ca := filepath.Join(dir, "ca.pem")
	write(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	try := func(c Config) error {
		c.Bucket, c.Endpoint = "b", server.URL
		r, err := Resolve(t.Context(), c)
		if err != nil {
			return err
		}
		resp, err := r.HTTP.Get(server.URL)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	server.Config.ErrorLog = nil
	if err := try(Config{CAFile: ca}); err != nil {
		t.Error(err)
	}
	if err := try(Config{}); Classify(err) != remote.Untrusted {
		t.Error(err)
	}
	t.Setenv("AWS_CA_BUNDLE", ca)
	if err := try(Config{}); err != nil {
		t.Error(err)
	}
}

func TestClassify(t *testing.T) {
	server := func(status int, code string) error { return &ServerError{Status: status, Code: code} }
	tests := []struct {
		err  error
		kind remote.Kind
	}{
		{server(404, "NoSuchKey"), remote.NotFound},
		{server(404, "NoSuchBucket"), remote.NoBucket},
		{server(403, "SignatureDoesNotMatch"), remote.Auth},
		{server(403, "Something"), remote.Denied},
		{server(400, "RequestTimeout"), remote.Transient},
		{server(400, "Something"), remote.Unknown},
		{server(503, ""), remote.Transient},
		{server(520, "520 "), remote.Transient},
		{server(501, "Something"), remote.Unsupported},
		{server(507, "Something"), remote.Full},
		{server(0, "InvalidArgument"), remote.Invalid},
		{&remote.SourceError{Err: server(503, "")}, remote.Unknown},
		{&CredentialsError{&net.OpError{Op: "dial"}}, remote.Auth},
		{&CredentialsError{&ssocreds.InvalidTokenError{}}, remote.Expired},
		{&TransportError{"h", &net.OpError{Op: "dial"}}, remote.Unreachable},
		{&TransportError{"h", &net.OpError{Op: "read"}}, remote.Transient},
		{&TransportError{"h", &net.DNSError{IsNotFound: true}}, remote.Unreachable},
		{&TransportError{"h", http.ErrSchemeMismatch}, remote.Untrusted},
		{&TransportError{"h", io.EOF}, remote.Transient},
		{context.Canceled, remote.Canceled},
		{io.ErrUnexpectedEOF, remote.Transient},
		{errors.New("something"), remote.Unknown},
	}
	for _, test := range tests {
		if got := Classify(fmt.Errorf("wrapped: %w", test.err)); got != test.kind {
			t.Errorf("%#v: got %v, want %v", test.err, got, test.kind)
		}
	}
}

// refusing is a store that answers a request without reading its body, and closes the connection at once, which the
// client sees as a reset: the answer must get through all the same.
func refusing(t *testing.T, continueFirst bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.ReadAtLeast(c, make([]byte, 4096), 100) // the header and perhaps some of the body
			if continueFirst {
				io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			}
			io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nnever")
			c.Close()
		}
	}()
	return "http://" + l.Addr().String()
}

func TestRefusalGetsThrough(t *testing.T) {
	for _, continueFirst := range []bool{false, true} {
		url := refusing(t, continueFirst)
		for range 20 {
			client := newHTTPClient(nil, time.Minute) // anew: a request on the last one's connection, closed meanwhile, would fail
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, io.LimitReader(zeros{}, 8<<20))
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = 8 << 20
			req.Header.Set("Padding", strings.Repeat("x", 100))
			resp, err := client.Do(req)
			if err != nil {
				t.Fatalf("continue %v: %v", continueFirst, err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusForbidden || string(body) != "never" || err != nil {
				t.Errorf("%s %q %v", resp.Status, body, err)
			}
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A store that doesn't know "Expect: 100-continue" costs a second once, not for each upload.
func TestExpectIsGivenUp(t *testing.T) {
	var asked atomic.Int32
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 64<<10)
			n := 0
			for got := 0; got < expectSize; got += n { // header and body, without a word in between
				if n, err = c.Read(buf); err != nil {
					break
				}
				if strings.Contains(string(buf[:n]), "100-continue") {
					asked.Add(1)
				}
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	client := newHTTPClient(nil, time.Minute)
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+l.Addr().String(), io.LimitReader(zeros{}, expectSize))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = expectSize
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
}
