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
	operations // how many
)

func (o operation) String() string {
	return [operations]string{"put", "open", "stat", "list", "delete", "lock", "settings"}[o]
}

// Requests counts requests to the store, failed ones and second tries included.
type Requests struct {
	Put    int64 `json:"put"`
	Open   int64 `json:"open"`
	Stat   int64 `json:"stat"`
	List   int64 `json:"list"` // pages
	Delete int64 `json:"delete"`
	Lock   int64 `json:"lock,omitempty"`     // locks of objects, asked for or extended
	Facts  int64 `json:"settings,omitempty"` // of the bucket, asked for
}

// Total is the sum of all.
func (r Requests) Total() int64 {
	return r.Put + r.Open + r.Stat + r.List + r.Delete + r.Lock + r.Facts
}

// Stats is what a Bucket has done so far.
type Stats struct {
	Requests  Requests `json:"requests"`
	Retries   int64    `json:"retries"`
	BytesUp   int64    `json:"bytes_up"`   // in objects that were stored, each once
	BytesDown int64    `json:"bytes_down"` // of objects, as handed to readers
}

type counters struct {
	requests [operations]atomic.Int64
	retries  atomic.Int64
	up, down atomic.Int64
}

// Stats may be called at any time, also while operations run.
func (b *Bucket) Stats() Stats {
	n := func(o operation) int64 { return b.stats.requests[o].Load() }
	return Stats{
		Requests:  Requests{Put: n(opPut), Open: n(opOpen), Stat: n(opStat), List: n(opList), Delete: n(opDelete), Lock: n(opLock), Facts: n(opFacts)},
		Retries:   b.stats.retries.Load(),
		BytesUp:   b.stats.up.Load(),
		BytesDown: b.stats.down.Load(),
	}
}

// call counts the requests of one attempt; it travels in the attempt's context.
type call struct{ requests atomic.Int64 }

type callKey struct{}

func (c *counters) begin(ctx context.Context) (context.Context, *call) {
	n := new(call)
	return context.WithValue(ctx, callKey{}, n), n
}

// end takes an attempt for which the driver counted nothing as one request.
func (c *counters) end(op operation, n *call) {
	c.requests[op].Add(max(1, n.requests.Load()))
}

// CountRequest is for drivers: they call it with the context of the operation for each request that they send.
// A driver that never does is taken to send one per operation.
func CountRequest(ctx context.Context) {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		c.requests.Add(1)
	}
}
