package remote

import (
	"context"
	"sync/atomic"
)

type operation int

const (
	opPut operation = iota
	opOpen
	opStat
	opList
	opDelete
	opLock
	opFacts
)

func (o operation) String() string {
	return [...]string{"put", "open", "stat", "list", "delete", "lock", "settings"}[o]
}

// Request is a kind of request, as stores charge for them. One operation of a Bucket may take several, of several kinds.
type Request int

// The kinds of requests.
const (
	RequestPut Request = iota
	RequestGet
	RequestHead
	RequestList // a page
	RequestDelete
	RequestLock     // of objects, asked for or extended
	RequestSettings // of the bucket, and whatever else there is
	requestKinds    // how many
)

// request is what an operation is if the driver doesn't tell.
func (o operation) request() Request {
	return [...]Request{RequestPut, RequestGet, RequestHead, RequestList, RequestDelete, RequestLock, RequestSettings}[o]
}

// Requests counts requests to the store, failed ones and second tries included.
type Requests struct {
	Put      int64 `json:"put"`
	Get      int64 `json:"get"`
	Head     int64 `json:"head"`
	List     int64 `json:"list"` // pages
	Delete   int64 `json:"delete"`
	Lock     int64 `json:"lock,omitempty"`     // locks of objects, asked for or extended
	Settings int64 `json:"settings,omitempty"` // of the bucket, asked for
}

// Total is the sum of all.
func (r Requests) Total() (n int64) {
	for _, k := range r.ByKind() {
		n += k.N
	}
	return n
}

// RequestCount is how many requests of one kind there were.
type RequestCount struct {
	Kind string // as in Requests' JSON
	N    int64
}

// ByKind is the same as a list.
func (r Requests) ByKind() []RequestCount {
	return []RequestCount{{"put", r.Put}, {"get", r.Get}, {"head", r.Head}, {"list", r.List}, {"delete", r.Delete}, {"lock", r.Lock}, {"settings", r.Settings}}
}

// Stats is what a Bucket has done so far.
type Stats struct {
	Requests  Requests `json:"requests"`
	Retries   int64    `json:"retries"`
	Sent      int64    `json:"bytesSent"`     // in bodies of requests, failed ones and second tries included
	Received  int64    `json:"bytesReceived"` // in bodies of answers
	BytesUp   int64    `json:"-"`             // in objects that were stored, each once
	BytesDown int64    `json:"-"`             // of objects, as handed to readers
}

// Add adds what another Bucket has done.
func (s *Stats) Add(o Stats) {
	s.Requests.Put += o.Requests.Put
	s.Requests.Get += o.Requests.Get
	s.Requests.Head += o.Requests.Head
	s.Requests.List += o.Requests.List
	s.Requests.Delete += o.Requests.Delete
	s.Requests.Lock += o.Requests.Lock
	s.Requests.Settings += o.Requests.Settings
	s.Retries += o.Retries
	s.Sent += o.Sent
	s.Received += o.Received
	s.BytesUp += o.BytesUp
	s.BytesDown += o.BytesDown
}

type counters struct {
	requests       [requestKinds]atomic.Int64
	retries        atomic.Int64
	sent, received atomic.Int64
	up, down       atomic.Int64
}

// Stats may be called at any time, also while operations run.
func (b *Bucket) Stats() Stats {
	n := func(r Request) int64 { return b.stats.requests[r].Load() }
	return Stats{
		Requests: Requests{Put: n(RequestPut), Get: n(RequestGet), Head: n(RequestHead), List: n(RequestList),
			Delete: n(RequestDelete), Lock: n(RequestLock), Settings: n(RequestSettings)},
		Retries:   b.stats.retries.Load(),
		Sent:      b.stats.sent.Load(),
		Received:  b.stats.received.Load(),
		BytesUp:   b.stats.up.Load(),
		BytesDown: b.stats.down.Load(),
	}
}

// call is one attempt. It travels in the attempt's context, in which drivers tell what they do.
type call struct {
	b    *Bucket
	told atomic.Bool // of a request
}

type callKey struct{}

func (b *Bucket) begin(ctx context.Context) (context.Context, *call) {
	c := &call{b: b}
	return context.WithValue(ctx, callKey{}, c), c
}

// end takes an attempt of which the driver told nothing as one request.
func (c *call) end(op operation) {
	if !c.told.Load() {
		c.b.stats.requests[op.request()].Add(1)
	}
}

func callOf(ctx context.Context) (*call, bool) {
	c, ok := ctx.Value(callKey{}).(*call)
	return c, ok
}

// CountRequest is for drivers: they call it with the context of the operation for each request that they send.
// A driver that never does is taken to send one per operation.
func CountRequest(ctx context.Context, r Request) {
	if c, ok := callOf(ctx); ok {
		c.told.Store(true)
		c.b.stats.requests[r].Add(1)
	}
}

// CountReceived is for drivers: n bytes of an answer's body have come.
func CountReceived(ctx context.Context, n int) {
	if c, ok := callOf(ctx); ok {
		c.b.stats.received.Add(int64(n))
	}
}
