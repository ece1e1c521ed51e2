package remotetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	awscredentials "github.com/aws/aws-sdk-go-v2/credentials"

	"bdbvault/remote"
	"bdbvault/remote/awsconf"
)

// OpenS3 is the New of an S3 driver.
type OpenS3 func(context.Context, awsconf.Config) (remote.Driver, error)

// RunS3 is Run and what else an S3 driver must get right with a real server behind a real network. Start is MinIO or VersityGW.
func RunS3(t *testing.T, start func(testing.TB) *Server, open OpenS3) {
	s := &s3suite{server: start(t), start: start, open: open}
	t.Run("conformance", func(t *testing.T) {
		Run(t, func(t *testing.T) remote.Driver { return s.driver(t, s.server.Config(s.bucket(t))) })
	})
	tests := []struct {
		name string
		run  func(*testing.T)
	}{
		{"refused", s.refused},
		{"read-only user", s.readOnlyUser},
		{"refused by the proxy", s.injectedRefusals},
		{"unreachable", s.unreachable},
		{"failing for a while", s.failing},
		{"one retry layer", s.oneLayer},
		{"counts", s.counts},
		{"rates", s.rates},
		{"storage class", s.storageClass},
		{"cut answers", s.cutAnswers},
		{"cut uploads", s.cutUploads},
		{"lost answers", s.lostAnswers},
		{"stalls", s.stalls},
		{"slow", s.slow},
		{"TLS", s.tls},
		{"payload hash", s.payloadHash},
		{"locked objects", s.locked},
		{"retention", s.retention},
		{"no object lock", s.noLock},
		{"past versions", s.pastVersions},
		{"versions in pages", s.versionPages},
		{"server killed", s.killed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t)
		})
	}
}

type s3suite struct {
	server *Server
	start  func(testing.TB) *Server
	open   OpenS3
}

// bucket makes an empty one.
func (s *s3suite) bucket(t *testing.T) string {
	t.Helper()
	name, err := s.server.MakeBucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func (s *s3suite) driver(t *testing.T, c awsconf.Config) remote.Driver {
	t.Helper()
	d, err := s.open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// behind returns a bucket behind a proxy, with what Config and Options say; both may be zero.
func (s *s3suite) behind(t *testing.T, stall time.Duration, opt remote.Options) (*remote.Bucket, *Proxy) {
	t.Helper()
	p := NewProxy(t, s.server)
	c := s.server.Config(s.bucket(t))
	c.Endpoint, c.StallTimeout = p.Endpoint, stall
	return remote.New(s.driver(t, c), opt), p
}

// each runs every operation on a bucket and hands over its error.
func each(ctx context.Context, b *remote.Bucket, check func(op, key string, err error)) {
	small, large := random(100), random(3<<20)
	check("put", "key", b.Put(ctx, "key", bytes.NewReader(small), int64(len(small)), remote.PutOptions{}))
	check("put large", "key", b.Put(ctx, "key", bytes.NewReader(large), int64(len(large)), remote.PutOptions{}))
	_, err := b.Open(ctx, "key", 0, -1)
	check("open", "key", err)
	_, err = b.Stat(ctx, "key")
	check("stat", "key", err)
	_, err = b.List(ctx, "ke", "", func(remote.Info) error { return nil })
	check("list", "ke", err)
	check("delete", "key", b.Delete(ctx, []string{"key"}))
}

// refused asks wrongly: each operation must say what is wrong, at once.
func (s *s3suite) refused(t *testing.T) {
	name := s.bucket(t)
	keys := func(access, secret string) func(*awsconf.Config) {
		return func(c *awsconf.Config) {
			c.Credentials = awscredentials.NewStaticCredentialsProvider(access, secret, "")
		}
	}
	wrong := []struct {
		name   string
		kind   remote.Kind
		change func(*awsconf.Config)
	}{
		{"missing bucket", remote.NoBucket, func(c *awsconf.Config) { c.Bucket += "-not" }},
		{"unknown access key", remote.Auth, keys("nobody", s.server.SecretKey)},
		{"wrong secret key", remote.Auth, keys(s.server.AccessKey, "not the secret")},
		{"no credentials", remote.Auth, func(c *awsconf.Config) { c.Credentials = awscredentials.StaticCredentialsProvider{} }},
		{"wrong region", remote.WrongRegion, func(c *awsconf.Config) { c.Region = "eu-west-7" }},
	}
	for _, w := range wrong {
		t.Run(w.name, func(t *testing.T) {
			c := s.server.Config(name)
			w.change(&c)
			b := remote.New(s.driver(t, c), remote.Options{OnRetry: func(err error, _ time.Duration) { t.Errorf("retried: %v", err) }})
			each(t.Context(), b, func(op, key string, err error) {
				t.Run(op, func(t *testing.T) { wantKind(t, err, w.kind, key, b) })
			})
		})
	}
}

// readOnlyUser is a user of the server's own who may only read.
func (s *s3suite) readOnlyUser(t *testing.T) {
	name := s.bucket(t)
	owner := bucket(s.driver(t, s.server.Config(name)), "")
	put(t, owner, "key", []byte("readable"), remote.PutOptions{})
	c, err := s.server.ReadOnly(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	b := remote.New(s.driver(t, c), remote.Options{})
	if got := read(t, b, "key", 0, -1); string(got) != "readable" {
		t.Errorf("got %q", got)
	}
	if got := keys(t, b, "", ""); !slices.Equal(got, []string{"key"}) {
		t.Errorf("listed %q", got)
	}
	for _, size := range []int{5, 3 << 20} {
		for _, absent := range []bool{false, true} {
			err := b.Put(t.Context(), "new", bytes.NewReader(random(size)), int64(size), remote.PutOptions{IfAbsent: absent})
			wantKind(t, err, remote.Denied, "new", b)
		}
	}
	wantKind(t, b.Delete(t.Context(), []string{"key"}), remote.Denied, "key", b)
	wantKind(t, b.Delete(t.Context(), []string{"key", "new"}), remote.Denied, "", b)

	c.Bucket = s.bucket(t)
	foreign := remote.New(s.driver(t, c), remote.Options{})
	each(t.Context(), foreign, func(op, key string, err error) {
		t.Run(op, func(t *testing.T) { wantKind(t, err, remote.Denied, key, foreign) })
	})
}

// injectedRefusals are answers that servers give in states which are hard to bring about; recorded from them.
func (s *s3suite) injectedRefusals(t *testing.T) {
	answers := []struct {
		status int
		code   string
		kind   remote.Kind
	}{
		{400, "ExpiredToken", remote.Expired},
		{403, "RequestTimeTooSkewed", remote.ClockSkew},
		{507, "XMinioStorageFull", remote.Full},
		{507, "InsufficientStorage", remote.Full},
		{400, "QuotaExceeded", remote.Full},
		{405, "MethodNotAllowed", remote.ReadOnly},
		{301, "PermanentRedirect", remote.WrongRegion},
		{403, "InvalidObjectState", remote.Archived},
		{400, "InvalidStorageClass", remote.NoClass},
	}
	b, p := s.behind(t, 0, remote.Options{OnRetry: func(err error, _ time.Duration) { t.Errorf("retried: %v", err) }})
	for _, a := range answers {
		p.Inject(func(*http.Request) Fault { return Fault{Status: a.status, Code: a.code, Message: "some text."} })
		each(t.Context(), b, func(op, key string, err error) {
			t.Run(a.code+" "+op, func(t *testing.T) { wantKind(t, err, a.kind, key, b) })
		})
	}
}

func (s *s3suite) unreachable(t *testing.T) {
	b, p := s.behind(t, 0, remote.Options{RetryFor: 300 * time.Millisecond})
	p.Down()
	err := b.Put(t.Context(), "key", strings.NewReader("x"), 1, remote.PutOptions{})
	wantKind(t, err, remote.Unreachable, "key", b)
	if b.Stats().Requests.Put < 2 {
		t.Errorf("%+v", b.Stats())
	}

	var up sync.Once
	b = remote.New(s.driver(t, awsconf.Config{
		Bucket: s.bucket(t), Region: s.server.Region, Endpoint: p.Endpoint, Credentials: s.server.Config("").Credentials,
	}), remote.Options{OnRetry: func(err error, _ time.Duration) {
		if !errors.Is(err, remote.ErrUnreachable) {
			t.Error(err)
		}
		up.Do(func() {
			if err := p.Up(); err != nil {
				t.Error(err)
			}
		})
	}})
	put(t, b, "key", []byte("back"), remote.PutOptions{})
}

// failing answers with errors that pass.
func (s *s3suite) failing(t *testing.T) {
	b, p := s.behind(t, 0, remote.Options{})
	answers := []Fault{
		{Status: 503, Code: "SlowDown"}, {Status: 500, Code: "InternalError"}, {Status: 429, Code: "TooManyRequests"}, {Status: 408, Code: "RequestTimeout"},
		{Status: 400, Code: "RequestTimeout"}, {Status: 502}, {Status: 409, Code: "ConditionalRequestConflict"},
	}
	for i, f := range answers {
		p.InjectOnce("PUT", 2, f)
		put(t, b, "key", random(2<<20), remote.PutOptions{})
		if got := b.Stats(); got.Retries != int64(2*(i+1)) || got.Requests.Put != int64(3*(i+1)) {
			t.Errorf("after %d %s: %+v", f.Status, f.Code, got)
		}
	}
	for _, method := range []string{"GET", "HEAD", "POST"} {
		var mu sync.Mutex
		failures := 0
		p.Inject(func(r *http.Request) Fault {
			mu.Lock()
			defer mu.Unlock()
			if failures++; r.Method == method && failures <= 2 {
				return Fault{Status: 503, Code: "SlowDown"}
			}
			return Fault{}
		})
		p.Seen()
		read(t, b, "key", 0, -1)
		if _, err := b.Stat(t.Context(), "key"); err != nil {
			t.Error(err)
		}
		keys(t, b, "", "")
		if err := b.Delete(t.Context(), []string{"nothing"}); err != nil {
			t.Error(err)
		}
	}
	p.Inject(nil)
	p.InjectOnce("PUT", 1, Fault{Status: 503, Code: "SlowDown", Header: http.Header{"Retry-After": {"1"}}})
	started := time.Now()
	put(t, b, "key", nil, remote.PutOptions{})
	if time.Since(started) < time.Second {
		t.Error("did not wait as long as the store asked to")
	}
}

// oneLayer counts requests: a driver sends one per attempt, also after a lot of failures.
func (s *s3suite) oneLayer(t *testing.T) {
	b, p := s.behind(t, 0, remote.Options{RetryFor: -1})
	p.Inject(func(*http.Request) Fault { return Fault{Status: 503, Code: "SlowDown"} })
	const rounds = 5
	for range rounds {
		each(t.Context(), b, func(op, key string, err error) { wantKind(t, err, remote.Transient, key, b) })
	}
	if n, counted := int64(len(p.Seen())), b.Stats().Requests.Total(); n != 6*rounds || counted != n {
		t.Errorf("%d requests, %d counted, for %d attempts", n, counted, 6*rounds)
	}
	p.Inject(nil)
	put(t, b, "key", []byte("x"), remote.PutOptions{})
}

// counts holds what a Bucket counts against what arrives at the store, of all operations, of those that fail, and of those that take several requests.
func (s *s3suite) counts(t *testing.T) {
	b, p := s.behind(t, 0, remote.Options{})
	for _, key := range []string{"one", "two", "three"} {
		put(t, b, key, random(3<<20), remote.PutOptions{IfAbsent: true})
		read(t, b, key, 0, -1)
		read(t, b, key, 1000, 5000)
	}
	keys(t, b, "", "")
	for _, key := range []string{"one", "none"} {
		if _, err := b.Stat(t.Context(), key); err != nil && !errors.Is(err, remote.ErrNotFound) {
			t.Error(err)
		}
	}
	if err := b.Put(t.Context(), "one", bytes.NewReader([]byte("x")), 1, remote.PutOptions{IfAbsent: true}); !errors.Is(err, remote.ErrExists) {
		t.Error(err)
	}
	if _, err := b.SupportsIfAbsent(t.Context()); err != nil {
		t.Error(err)
	}
	if err := b.Delete(t.Context(), []string{"one", "two", "none"}); err != nil {
		t.Error(err)
	}
	got, want := b.Stats(), p.Tally()
	if got.Retries > 0 {
		t.Skip("the machine is so busy that connections broke, of which both sides count differently")
	}
	got.BytesUp, got.BytesDown = 0, 0
	if got != want || got.Requests.Total() < 15 {
		t.Errorf("counted %+v, the store has seen %+v", got, want)
	}
}

// rates lets transfers take as long as they should.
func (s *s3suite) rates(t *testing.T) {
	const size, perSecond = 1 << 20, 512 << 10
	b, _ := s.behind(t, 0, remote.Options{Up: remote.NewRate(perSecond), Down: remote.NewRate(2 * perSecond)})
	data := random(size)
	began := time.Now()
	put(t, b, "key", data, remote.PutOptions{})
	sent := time.Now()
	if got := read(t, b, "key", 0, -1); !bytes.Equal(got, data) {
		t.Error("other bytes")
	}
	if up, down := sent.Sub(began), time.Since(sent); up < 1900*time.Millisecond || down < 900*time.Millisecond {
		t.Errorf("a transfer of two seconds took %v, one of a second %v", up, down)
	}
}

// storageClass goes with the upload; an unknown one is refused where the store looks.
func (s *s3suite) storageClass(t *testing.T) {
	b, p := s.behind(t, 0, remote.Options{RetryFor: -1, StorageClass: func(key string) string {
		return map[string]string{"reduced": "REDUCED_REDUNDANCY", "wrong": "NO_SUCH_CLASS"}[key]
	}})
	for key, want := range map[string]string{"reduced": "REDUCED_REDUNDANCY", "plain": ""} {
		put(t, b, key, []byte(key), remote.PutOptions{})
		if seen := p.Seen(); len(seen) != 1 || seen[0].Header.Get("X-Amz-Storage-Class") != want {
			t.Errorf("%s: sent %+v", key, seen)
		}
		read(t, b, key, 0, -1)
		p.Seen()
	}
	if err := b.Put(t.Context(), "wrong", strings.NewReader("x"), 1, remote.PutOptions{}); err != nil {
		wantKind(t, err, remote.NoClass, "wrong", b)
	}
}

// cutAnswers breaks every download a bit later; all must come together in the end.
func (s *s3suite) cutAnswers(t *testing.T) {
	b, p := s.behind(t, 0, remote.Options{})
	data := random(3 << 20)
	put(t, b, "key", data, remote.PutOptions{})
	for _, r := range [][2]int64{{0, -1}, {0, 3 << 20}, {1 << 20, 1 << 20}, {1 << 20, -1}} {
		p.InjectOnce("GET", 3, Fault{CutAnswer: 300_000})
		end := int64(len(data))
		if r[1] > 0 {
			end = r[0] + r[1]
		}
		p.Seen()
		if got := read(t, b, "key", r[0], r[1]); !bytes.Equal(got, data[r[0]:end]) {
			t.Errorf("range %v: got %d other bytes", r, len(got))
		}
		if n := len(p.Seen()); n != 4 {
			t.Errorf("range %v took %d requests", r, n)
		}
	}
	p.InjectOnce("GET", 2, Fault{CutAnswer: 100})
	if got := keys(t, b, "", ""); len(got) != 1 {
		t.Errorf("listed %q", got)
	}
	p.InjectOnce("POST", 2, Fault{CutAnswer: 20})
	if err := b.Delete(t.Context(), []string{"key"}); err != nil {
		t.Error(err)
	}
}

func (s *s3suite) cutUploads(t *testing.T) {
	b, p := s.behind(t, 0, remote.Options{})
	data := random(3 << 20)
	for _, absent := range []bool{false, true} {
		p.InjectOnce("PUT", 2, Fault{CutUpload: 1 << 20})
		key := map[bool]string{false: "key", true: "marker"}[absent]
		put(t, b, key, data, remote.PutOptions{IfAbsent: absent})
		if got := read(t, b, key, 0, -1); !bytes.Equal(got, data) {
			t.Error("other bytes are stored")
		}
	}
	if got := b.Stats(); got.Retries != 4 || got.BytesUp != 2*3<<20 {
		t.Errorf("%+v", got)
	}
}

// lostAnswers: the store did it, but nobody heard.
func (s *s3suite) lostAnswers(t *testing.T) {
	b, p := s.behind(t, 0, remote.Options{})
	for _, size := range []int{0, 10, 2 << 20} {
		key := "marker " + string(rune('a'+size%26))
		p.InjectOnce("PUT", 2, Fault{LoseAnswer: true})
		put(t, b, key, random(size), remote.PutOptions{IfAbsent: true})
		if got := read(t, b, key, 0, -1); !bytes.Equal(got, random(size)) {
			t.Error("other bytes are stored")
		}
	}
	// The object in the way of the second try is another writer's.
	p.Inject(func(r *http.Request) Fault {
		if r.Method != http.MethodPut {
			return Fault{}
		}
		p.Inject(nil)
		put(t, b, "other", []byte("theirs"), remote.PutOptions{IfAbsent: true})
		return Fault{LoseAnswer: true}
	})
	err := b.Put(t.Context(), "other", strings.NewReader("my own"), 6, remote.PutOptions{IfAbsent: true})
	wantKind(t, err, remote.Exists, "other", b)

	p.InjectOnce("POST", 1, Fault{LoseAnswer: true})
	if err := b.Delete(t.Context(), []string{"other"}); err != nil {
		t.Error(err)
	}
}

// stalls are connections on which nothing moves any more.
func (s *s3suite) stalls(t *testing.T) {
	b, p := s.behind(t, 400*time.Millisecond, remote.Options{})
	data := random(16 << 20) // more than the buffers between hold
	p.InjectOnce("PUT", 1, Fault{StallUpload: 1 << 20})
	put(t, b, "key", data, remote.PutOptions{})
	p.InjectOnce("GET", 1, Fault{StallAnswer: 1 << 20})
	if got := read(t, b, "key", 0, -1); !bytes.Equal(got, data) {
		t.Error("other bytes")
	}
	if got := b.Stats().Retries; got != 2 {
		t.Errorf("%d retries", got)
	}
	// A reader that takes its time is no stall.
	r, err := b.Open(t.Context(), "key", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(600 * time.Millisecond) // the thing under test is that time passes
	got, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if got := b.Stats().Retries; got != 2 {
		t.Errorf("%d retries", got)
	}
}

// slow transfers take longer than the stall timeout, but never stand still for so long.
func (s *s3suite) slow(t *testing.T) {
	b, p := s.behind(t, 2*time.Second, remote.Options{RetryFor: -1})
	p.Inject(func(*http.Request) Fault { return Fault{Rate: 4 << 20} })
	data := random(12 << 20)
	put(t, b, "key", data, remote.PutOptions{})
	if got := read(t, b, "key", 0, -1); !bytes.Equal(got, data) {
		t.Error("other bytes")
	}
}

func (s *s3suite) tls(t *testing.T) {
	p := NewTLSProxy(t, s.server)
	c := s.server.Config(s.bucket(t))
	c.Endpoint, c.CAFile = p.Endpoint, p.CAFile
	b := bucket(s.driver(t, c), "")
	data := random(2 << 20)
	put(t, b, "key", data, remote.PutOptions{IfAbsent: true})
	if got := read(t, b, "key", 0, -1); !bytes.Equal(got, data) {
		t.Error("other bytes")
	}
	once := remote.Options{OnRetry: func(err error, _ time.Duration) { t.Errorf("retried: %v", err) }}
	c.CAFile = ""
	stranger := remote.New(s.driver(t, c), once)
	each(t.Context(), stranger, func(op, key string, err error) { wantKind(t, err, remote.Untrusted, key, stranger) })
	c.Endpoint = "https" + strings.TrimPrefix(s.server.Endpoint, "http")
	plain := remote.New(s.driver(t, c), once)
	_, err := plain.Stat(t.Context(), "key")
	wantKind(t, err, remote.Untrusted, "key", plain)
	c.CAFile = p.CAFile + ".not"
	if _, err := s.open(t.Context(), c); !errors.Is(err, remote.ErrInvalid) {
		t.Errorf("missing CA file: %v", err)
	}
}

// payloadHash looks at what goes over the wire: the object as it is, under the hash that was given.
func (s *s3suite) payloadHash(t *testing.T) {
	p := NewProxy(t, s.server)
	c := s.server.Config(s.bucket(t))
	c.Endpoint = p.Endpoint
	d := s.driver(t, c)
	data := random(2 << 20)
	sum := sha256.Sum256(data)
	for _, opt := range []remote.PutOptions{{}, {HasSHA256: true, SHA256: sum}} {
		body := &countingBody{ReaderAt: bytes.NewReader(data)}
		if err := d.Put(t.Context(), "key", body, int64(len(data)), opt); err != nil {
			t.Fatal(err)
		}
		if opt.HasSHA256 && body.n > int64(len(data)) {
			t.Errorf("%d bytes were read to send %d", body.n, len(data))
		}
		seen := p.Seen()
		if len(seen) != 1 || seen[0].Length != int64(len(data)) || seen[0].Header.Get("X-Amz-Content-Sha256") != hex.EncodeToString(sum[:]) ||
			seen[0].Header.Get("Content-Encoding") != "" || seen[0].Header.Get("X-Amz-Trailer") != "" || seen[0].Header.Get("Expect") == "" {
			t.Errorf("sent %d: %+v", len(seen), seen)
		}
	}
}

// locked answers as AWS does in a bucket whose objects are locked: uploads need a checksum in a header.
func (s *s3suite) locked(t *testing.T) {
	b, p := s.behind(t, 0, remote.Options{RetryFor: -1})
	p.Inject(func(r *http.Request) (f Fault) {
		if r.Method == http.MethodPut && r.Header.Get("Content-Md5") == "" && r.Header.Get("X-Amz-Checksum-Sha256") == "" {
			f = Fault{Status: http.StatusBadRequest, Code: "InvalidRequest",
				Message: "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"}
		}
		return f
	})
	for _, key := range []string{"first", "second"} {
		put(t, b, key, random(1000), remote.PutOptions{IfAbsent: true})
	}
	if n := len(p.Seen()); n != 3 {
		t.Errorf("%d requests for two objects, of which only the first needs a second try", n)
	}
	p.Inject(nil)
	read(t, b, "second", 0, -1)
}

type countingBody struct {
	io.ReaderAt
	n int64
}

func (c *countingBody) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.n += int64(n)
	return n, err
}

// killed ends the server in the middle of an upload and of a download, and starts it again.
func (s *s3suite) killed(t *testing.T) {
	server := s.start(t)
	var restarts sync.WaitGroup
	crash := func() {
		if err := server.Instance.Kill(); err != nil {
			t.Error(err)
		}
		restarts.Go(func() {
			if err := server.Instance.Start(); err != nil {
				t.Error(err)
			}
		})
	}
	b := remote.New(s.driver(t, server.Config(server.NewBucket())), remote.Options{})
	data := random(16 << 20)
	body := &trigger{ReaderAt: bytes.NewReader(data), at: 10 << 20, do: crash}
	opt := remote.PutOptions{IfAbsent: true, HasSHA256: true, SHA256: sha256.Sum256(data)}
	if err := b.Put(t.Context(), "key", body, int64(len(data)), opt); err != nil {
		t.Fatal(err)
	}
	restarts.Wait()
	r, err := b.Open(t.Context(), "key", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(data))
	if _, err := io.ReadFull(r, got[:1<<20]); err != nil {
		t.Fatal(err)
	}
	crash()
	_, err = io.ReadFull(r, got[1<<20:])
	restarts.Wait()
	if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, data) {
		t.Errorf("download: %v", err)
	}
	if b.Stats().Retries == 0 {
		t.Error("the server did not die in time")
	}
}
