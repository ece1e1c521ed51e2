package remotetest

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bdbvault/remote"
)

// Fault is what a Proxy does wrong with one request. The zero value is none.
type Fault struct {
	Status  int         // answer this, without asking the server …
	Code    string      // … with this S3 error code
	Message string      // … and text
	Header  http.Header // … and these besides

	CutUpload   int64 // after so many bytes of the request's body the connection breaks, towards the server too
	CutAnswer   int64 // after so many bytes of the answer's body the connection breaks
	StallUpload int64 // after so many bytes of the request's body nothing moves any more
	StallAnswer int64 // after so many bytes of the answer's body nothing moves any more
	LoseAnswer  bool  // the server does it, but the connection breaks before its answer arrives
	Rate        int   // bytes per second, either way

	Clock time.Duration // by how much the answer's Date is moved
}

// Seen is a request that arrived.
type Seen struct {
	Method, Path, Query string
	Header              http.Header
	Length              int64
	Answer              int64 // bytes of the answer's body; 0 as long as it is under way
}

// Proxy stands between a client and a server. What signatures cover passes through unchanged.
type Proxy struct {
	Endpoint string // http:// or https:// and a loopback port of its own
	CAFile   string // with TLS: the authority behind its certificate

	target string // host:port
	tls    bool
	addr   string
	dir    string
	base   *http.Transport

	mu     sync.Mutex
	server *httptest.Server // nil while down
	done   chan struct{}    // closed to end what is stalled
	inject func(*http.Request) Fault
	seen   []*Seen
}

// NewProxy puts a proxy in front of a server for the time of a test.
func NewProxy(tb testing.TB, server *Server) *Proxy {
	tb.Helper()
	return newProxy(tb, server, false)
}

// NewTLSProxy is NewProxy with TLS towards the client and a certificate that no system trusts.
func NewTLSProxy(tb testing.TB, server *Server) *Proxy {
	tb.Helper()
	return newProxy(tb, server, true)
}

func newProxy(tb testing.TB, server *Server, tls bool) *Proxy {
	tb.Helper()
	p := &Proxy{
		target: strings.TrimPrefix(server.Endpoint, "http://"), tls: tls, addr: "127.0.0.1:0", dir: tb.TempDir(),
		base: &http.Transport{DisableCompression: true, ExpectContinueTimeout: time.Second, MaxIdleConnsPerHost: 64},
	}
	if err := p.Up(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		p.Down()
		p.base.CloseIdleConnections()
	})
	return p
}

// Up makes it answer, again on the same port after Down.
func (p *Proxy) Up() error {
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addr, p.done = l.Addr().String(), make(chan struct{})
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	p.server.Listener.Close() // ours has the right port
	p.server.Listener = l
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0) // it is there to have faults
	if !p.tls {
		p.server.Start()
		p.Endpoint = "http://" + p.addr
		return nil
	}
	p.server.StartTLS()
	p.Endpoint = "https://" + p.addr
	p.CAFile = filepath.Join(p.dir, "ca.pem")
	block := pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw}
	return os.WriteFile(p.CAFile, pem.EncodeToMemory(&block), 0o600)
}

// Down makes it unreachable and breaks all connections.
func (p *Proxy) Down() {
	p.mu.Lock()
	server := p.server
	if server != nil {
		close(p.done)
	}
	p.server = nil
	p.mu.Unlock()
	if server != nil {
		server.CloseClientConnections()
		server.Close()
	}
}

// Inject lets f choose a fault for each request from now on; nil ends that. F may be called by several goroutines at once.
func (p *Proxy) Inject(f func(*http.Request) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inject = f
}

// InjectOnce applies one fault to each of the next n requests with the given method.
func (p *Proxy) InjectOnce(method string, n int, fault Fault) {
	var mu sync.Mutex
	p.Inject(func(r *http.Request) Fault {
		mu.Lock()
		defer mu.Unlock()
		if r.Method != method || n == 0 {
			return Fault{}
		}
		n--
		return fault
	})
}

// Seen returns the requests so far, and forgets them.
func (p *Proxy) Seen() (seen []Seen) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.seen {
		seen = append(seen, *s)
	}
	p.seen = nil
	return seen
}

// Tally is what the requests seen come to, as remote.Stats counts. It forgets them.
func (p *Proxy) Tally() (t remote.Stats) {
	for _, s := range p.Seen() {
		query, _ := url.ParseQuery(s.Query) // one of ours
		switch {
		case query.Has("list-type"), query.Has("versions"):
			t.Requests.List++
		case query.Has("retention"):
			t.Requests.Lock++
		case query.Has("delete"), s.Method == http.MethodDelete:
			t.Requests.Delete++
		case query.Has("versioning"), query.Has("object-lock"), query.Has("policy"):
			t.Requests.Settings++
		case s.Method == http.MethodPut:
			t.Requests.Put++
		case s.Method == http.MethodGet:
			t.Requests.Get++
		case s.Method == http.MethodHead:
			t.Requests.Head++
		default:
			t.Requests.Settings++
		}
		t.Sent += max(0, s.Length)
		t.Received += s.Answer
	}
	return t
}

func (p *Proxy) arrive(r *http.Request) (*Seen, Fault, <-chan struct{}) {
	seen := &Seen{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone(), Length: r.ContentLength}
	p.mu.Lock()
	p.seen = append(p.seen, seen)
	inject, done := p.inject, p.done
	p.mu.Unlock()
	if inject == nil {
		return seen, Fault{}, done
	}
	return seen, inject(r), done
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	seen, f, done := p.arrive(r)
	if f.Status != 0 {
		f.answer(w)
		return
	}
	resp, err := p.base.RoundTrip(p.forward(r, f, done))
	if err != nil {
		panic(http.ErrAbortHandler) // net/http's way to break the connection
	}
	defer resp.Body.Close()
	if f.LoseAnswer {
		io.Copy(io.Discard, resp.Body) // until the server is through with it
		panic(http.ErrAbortHandler)
	}
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		w.Header().Set("Date", date.Add(f.Clock).UTC().Format(http.TimeFormat))
	}
	// Counted before the last byte is on its way, so that who has it all finds it counted. A break makes it wrong.
	if r.Method != http.MethodHead {
		p.mu.Lock()
		seen.Answer = max(0, resp.ContentLength)
		p.mu.Unlock()
	}
	w.WriteHeader(resp.StatusCode)
	body := &faulty{r: resp.Body, cut: f.CutAnswer, stall: f.StallAnswer, rate: f.Rate, done: done}
	if _, err := io.Copy(flusher{w}, body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func (f Fault) answer(w http.ResponseWriter) {
	for name, values := range f.Header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", "application/xml")
	text := fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>`+"\n<Error><Code>%s</Code><Message>%s</Message></Error>", f.Code, f.Message)
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(f.Status)
	io.WriteString(w, text) // the client may have gone
}

// forward makes the request to the server. Path and query go as they came: they are signed.
func (p *Proxy) forward(r *http.Request, f Fault, done <-chan struct{}) *http.Request {
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host = "http", p.target
	out.URL.Opaque, _, _ = strings.Cut(r.RequestURI, "?")
	if r.ContentLength != 0 {
		out.Body = io.NopCloser(&faulty{r: r.Body, cut: f.CutUpload, stall: f.StallUpload, rate: f.Rate, done: done})
	}
	return out
}

var errCut = errors.New("cut by the proxy")

// faulty is a body with which something is wrong.
type faulty struct {
	r          io.Reader
	cut, stall int64 // 0: never
	rate       int
	n          int64
	done       <-chan struct{}
}

func (f *faulty) Read(p []byte) (int, error) {
	if f.cut > 0 && f.n >= f.cut {
		return 0, errCut
	}
	if f.stall > 0 && f.n >= f.stall {
		<-f.done
		return 0, errCut
	}
	for _, limit := range []int64{f.cut, f.stall} {
		if limit > 0 {
			p = p[:min(int64(len(p)), limit-f.n)]
		}
	}
	n, err := f.r.Read(p)
	f.n += int64(n)
	if f.rate > 0 {
		select {
		case <-time.After(time.Duration(n) * time.Second / time.Duration(f.rate)):
		case <-f.done:
			return 0, errCut
		}
	}
	return n, err
}

// flusher sends each piece at once, so that a cut is where it should be.
type flusher struct{ w http.ResponseWriter }

func (f flusher) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if flush, ok := f.w.(http.Flusher); ok {
		flush.Flush()
	}
	return n, err
}
