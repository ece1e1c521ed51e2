package awsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"bdbvault/remote"
)

const (
	defaultStall   = time.Minute
	connectTimeout = 10 * time.Second
	bufferSize     = 128 << 10

	// answerStalls is how many stall timeouts the store has for its answer once all is sent: what was
	// sent may still be in the buffers of a slow line, and then has to be flushed to disks.
	answerStalls = 3

	// expectSize is the body size from which on the store is asked first whether it wants the body. Otherwise a store
	// that refuses closes the connection in the middle of the upload, and its reason may be lost with it.
	expectSize = 1 << 20
)

func newHTTPClient(roots *x509.CertPool, stall time.Duration) *http.Client {
	if stall == 0 {
		stall = defaultStall
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // with HTTP/2 all transfers would share one TCP connection
	base := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dial,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   connectTimeout,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   128,
		ReadBufferSize:        bufferSize,
		WriteBufferSize:       bufferSize,
		DisableCompression:    true, // objects come back as stored
		Protocols:             protocols,
	}
	return &http.Client{
		Transport:     &transport{base: base, stall: stall},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// transport counts requests, notes what answers say besides their bodies, ends transfers that stall, and
// makes all faults of connections a *TransportError. A slow transfer may take as long as it likes.
type transport struct {
	base      http.RoundTripper
	stall     time.Duration
	noConfirm atomic.Bool // the store doesn't answer "Expect: 100-continue"; waiting for it costs a second each time
}

// kindOf is what a store charges a request as.
func kindOf(req *http.Request) remote.Request {
	query := req.URL.Query()
	query.Del("x-id") // the SDK's note of what it does
	query.Del("versionId")
	switch {
	case query.Has("list-type"), query.Has("versions"):
		return remote.RequestList
	case query.Has("retention"):
		return remote.RequestLock
	case query.Has("delete"), req.Method == http.MethodDelete:
		return remote.RequestDelete
	case len(query) > 0:
		return remote.RequestSettings
	}
	switch req.Method {
	case http.MethodPut:
		return remote.RequestPut
	case http.MethodGet:
		return remote.RequestGet
	case http.MethodHead:
		return remote.RequestHead
	}
	return remote.RequestSettings
}

var errStalled = errors.New("no progress")

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	remote.CountRequest(req.Context(), kindOf(req))
	ctx, cancel := context.WithCancelCause(req.Context())
	dog := &watchdog{timeout: t.stall}
	dog.timer = time.AfterFunc(answerStalls*t.stall, func() { cancel(errStalled) })
	confirmed := new(atomic.Bool)
	out, body := t.prepare(req, ctx, dog, confirmed)
	resp, err := t.base.RoundTrip(out)
	dog.answered.Store(true)
	dog.timer.Stop()
	if err != nil {
		defer cancel(nil)
		return nil, t.explain(req, ctx, body, err)
	}
	if out.Header.Get("Expect") != "" && resp.StatusCode < 300 && !confirmed.Load() {
		t.noConfirm.Store(true)
	}
	note(req.Context(), resp)
	resp.Body = &answer{ReadCloser: resp.Body, t: t, req: req, ctx: ctx, cancel: cancel, dog: dog}
	return resp, nil
}

// prepare makes the request to send; the one given may not be changed.
func (t *transport) prepare(req *http.Request, ctx context.Context, dog *watchdog, confirmed *atomic.Bool) (*http.Request, *body) {
	if req.Body == nil || req.Body == http.NoBody || req.ContentLength == 0 {
		return req.WithContext(ctx), nil
	}
	if req.ContentLength >= expectSize && !t.noConfirm.Load() {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got100Continue: func() { confirmed.Store(true) }})
		out := req.Clone(ctx)
		out.Header.Set("Expect", "100-continue")
		out.Proto, out.ProtoMajor, out.ProtoMinor = "HTTP/1.1", 1, 1 // net/http sends but doesn't heed the header without; the AWS SDK leaves them zero
		req = out
	} else {
		req = req.WithContext(ctx)
	}
	b := &body{ReadCloser: req.Body, ctx: ctx, dog: dog, left: req.ContentLength}
	req.Body, req.GetBody = b, nil
	return req, b
}

// explain tells apart who is to blame for err: the caller who cancelled, the source of the body, or the connection.
func (t *transport) explain(req *http.Request, ctx context.Context, b *body, err error) error {
	if req.Context().Err() != nil {
		return req.Context().Err()
	}
	if b != nil {
		if failed := b.failed.Load(); failed != nil {
			return &remote.SourceError{Err: *failed}
		}
	}
	if context.Cause(ctx) == errStalled {
		err = fmt.Errorf("%w for %v", errStalled, t.stall)
	}
	return &TransportError{Host: req.URL.Host, Err: err}
}

// watchdog ends a request that makes no progress.
type watchdog struct {
	timer    *time.Timer
	timeout  time.Duration
	answered atomic.Bool // what is still sent after the answer has begun doesn't matter
}

// rest holds the dog until something is sent.
func (w *watchdog) rest() { w.timer.Stop() }

func (w *watchdog) sent(all bool) {
	switch {
	case w.answered.Load():
	case all:
		w.timer.Reset(answerStalls * w.timeout)
	default:
		w.timer.Reset(w.timeout)
	}
}

// body watches an upload.
type body struct {
	io.ReadCloser
	ctx    context.Context
	dog    *watchdog
	left   int64
	failed atomic.Pointer[error]
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:remote.SendPiece(b.ctx, len(p))])
	b.dog.rest() // a pause of our own is no stall
	if paced := remote.Sending(b.ctx, n); paced != nil {
		return 0, paced
	}
	b.left -= int64(n)
	b.dog.sent(b.left <= 0 || err != nil)
	if err != nil && err != io.EOF {
		b.failed.Store(&err)
	}
	return n, err
}

// answer watches a download. The clock runs only while somebody waits for bytes: a slow reader is no stall.
type answer struct {
	io.ReadCloser
	t      *transport
	req    *http.Request
	ctx    context.Context
	cancel context.CancelCauseFunc
	dog    *watchdog
}

func (a *answer) Read(p []byte) (int, error) {
	a.dog.timer.Reset(a.dog.timeout)
	n, err := a.ReadCloser.Read(p)
	a.dog.timer.Stop()
	remote.CountReceived(a.ctx, n)
	if err != nil && err != io.EOF {
		err = a.t.explain(a.req, a.ctx, nil, err)
	}
	return n, err
}

func (a *answer) Close() error {
	a.dog.timer.Stop()
	a.cancel(nil)
	return a.ReadCloser.Close()
}

// TransportError is a request that got no answer, or not all of it.
type TransportError struct {
	Host string
	Err  error
}

func (e *TransportError) Error() string {
	if errors.Is(e.Err, io.EOF) || errors.Is(e.Err, io.ErrUnexpectedEOF) {
		return e.Host + ": connection closed before the end" // minio-go drops errors that mention EOF
	}
	return e.Host + ": " + e.Err.Error()
}

func (e *TransportError) Unwrap() error { return e.Err }

// Exchange is what the answers to one operation's requests said besides their bodies.
type Exchange struct {
	mu     sync.Mutex
	date   time.Time
	status int
	header http.Header
}

type exchangeKey struct{}

// Watch returns a context whose requests fill the Exchange.
func Watch(ctx context.Context) (context.Context, *Exchange) {
	x := new(Exchange)
	return context.WithValue(ctx, exchangeKey{}, x), x
}

// Date is the store's clock as the first successful answer told it, zero without one.
func (x *Exchange) Date() time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.date
}

func note(ctx context.Context, resp *http.Response) {
	x, ok := ctx.Value(exchangeKey{}).(*Exchange)
	if !ok {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.status, x.header = resp.StatusCode, resp.Header
	if resp.StatusCode < 300 && x.date.IsZero() {
		x.date, _ = http.ParseTime(resp.Header.Get("Date")) // a store without a clock leaves it zero
	}
}
