package remote

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Trial is one thing that was tried on a store.
type Trial struct {
	Tried bool
	Err   error // why it did not work; its Kind tells a refusal (Denied) from a fault
}

// Worked reports that it was tried and went well.
func (t Trial) Worked() bool { return t.Tried && t.Err == nil }

// Refused reports that the store does not allow it.
func (t Trial) Refused() bool { return t.Tried && errors.Is(t.Err, ErrDenied) }

// Examination is what a store did when it was tried out.
type Examination struct {
	Put       Trial
	Get       Trial // whole, and what was put
	Range     Trial
	List      Trial // and the object that was just put is in the list
	IfAbsent  Trial // of several who create one key at once, one succeeds; Unsupported: the store can't tell
	Overwrite Trial // an object was replaced
	Altered   Trial // the store took a body that is not the one announced
	Delete    Trial
	Outside   Trial // keys beyond the repository's prefix can be listed
	Reach     Trial
	Settings  Trial

	Answered bool          // the store deals with these credentials' requests, if only to refuse them; else no more than put and list was tried
	Skew     time.Duration // by how much the store's clock is ahead of this host's; to about a second
	HasClock bool          // the store told its time

	OtherBuckets int  // that these credentials can list
	ReadsPolicy  bool // they may read the bucket's policy
	Facts        Facts

	Latency    map[string]Latency // of small puts, gets and lists, by these words
	Throughput Trial
	Up, Down   float64 // bytes a second, of one object of ThroughputSize

	Left      int   // objects that could not be removed again
	LeftBytes int64 // and their size
	LeftAt    string
	Stats     Stats
}

// Latency is how long single requests took.
type Latency struct {
	Requests int
	P50, P95 time.Duration
}

// ThroughputSize is the size of the object that throughput is measured with: about that of a pack.
const ThroughputSize = 16 << 20

// ExamineOptions say how thoroughly to examine. The zero value does everything.
type ExamineOptions struct {
	Quick bool          // without throughput, and fewer requests for latency
	Each  time.Duration // for each trial; 0: half a minute
}

const (
	eachTrial    = 30 * time.Second
	cleanLimit   = 15 * time.Second // for removing what was put
	smallSize    = 1 << 10
	manySamples  = 20
	fewSamples   = 5
	examinePause = 2 * time.Second // how long faults may last: what has to be tried again for longer is worth a report
)

// examiner is one Examine.
type examiner struct {
	*Examination
	outer *Bucket
	b     *Bucket // of keys that nobody else has
	opt   ExamineOptions
	put   []string // keys
}

// Examine tries out what is wanted of a store, on new objects below the repository's prefix whose names begin with "doctor-", and removes them again, also
// when ctx ends. Nothing else is touched, and nothing of what else is asked changes anything. The error is that of ctx; whatever else goes wrong is in the result.
func (b *Bucket) Examine(ctx context.Context, opt ExamineOptions) (*Examination, error) {
	opt.Each = cmp.Or(opt.Each, eachTrial)
	e := &examiner{Examination: &Examination{Latency: map[string]Latency{}}, outer: b, b: b.scratch("doctor-" + strings.ToLower(rand.Text())), opt: opt}
	e.LeftAt = e.b.prefix
	defer func() { e.Stats = e.b.Stats() }()
	defer e.clean(ctx)
	e.basics(ctx)
	if e.Answered = e.List.Tried && !e.List.hopeless(); e.Answered {
		e.conditions(ctx)
		e.rights(ctx)
		e.measure(ctx)
	}
	return e.Examination, ctx.Err()
}

// scratch is a part of b for keys that begin with name, with little patience.
func (b *Bucket) scratch(name string) *Bucket {
	opt := b.opt
	if opt.RetryFor > examinePause {
		opt.RetryFor = examinePause
	}
	return &Bucket{d: b.d, opt: opt, prefix: b.prefix + name + "-", stats: new(counters)}
}

// try runs one trial within its time.
func (e *examiner) try(ctx context.Context, t *Trial, fn func(context.Context) error) bool {
	if ctx.Err() != nil {
		return false
	}
	limited, cancel := context.WithTimeoutCause(ctx, e.opt.Each, fmt.Errorf("no answer within %s", e.opt.Each))
	defer cancel()
	counted, _ := e.b.begin(limited) // what asks the driver without the Bucket is counted, too
	t.Tried, t.Err = true, fn(counted)
	if ctx.Err() == nil && limited.Err() != nil && t.Err != nil {
		t.Err = &Error{Op: "wait", Store: e.b.String(), Kind: Unreachable, Err: context.Cause(limited)}
	}
	return t.Err == nil
}

// store puts one object, and remembers that it has to go.
func (e *examiner) store(ctx context.Context, key string, body []byte, opt PutOptions) error {
	e.put = append(e.put, key)
	return e.b.Put(ctx, key, bytes.NewReader(body), int64(len(body)), opt)
}

// hopeless reports that the store does not do anything for us: it is not asked again and again.
func (t Trial) hopeless() bool {
	switch KindOf(t.Err) {
	case Unreachable, Untrusted, NoBucket, Auth, Expired, WrongRegion, ClockSkew, Transient, Invalid, Canceled:
		return true
	}
	return false
}

func random(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.Read(b) // never fails
	return b
}

// basics are what every backup and every restore does.
func (e *examiner) basics(ctx context.Context) {
	const key = "basic"
	body := random(smallSize)
	put := e.try(ctx, &e.Put, func(ctx context.Context) error { return e.store(ctx, key, body, PutOptions{}) })
	if e.Put.hopeless() {
		return
	}
	e.try(ctx, &e.List, func(ctx context.Context) error { return e.list(ctx, key, put) })
	if !put {
		return
	}
	e.try(ctx, &e.Get, func(ctx context.Context) error { return e.get(ctx, key, body) })
	e.try(ctx, &e.Range, func(ctx context.Context) error {
		part := make([]byte, smallSize/4)
		err := e.b.ReadRange(ctx, key, part, smallSize/2)
		if err == nil && !bytes.Equal(part, body[smallSize/2:smallSize/2+len(part)]) {
			err = errors.New("other bytes come back than were stored there")
		}
		return err
	})
}

func (e *examiner) get(ctx context.Context, key string, body []byte) error {
	got, err := e.b.Get(ctx, key, int64(len(body)))
	if err == nil && !bytes.Equal(got, body) {
		err = fmt.Errorf("other bytes come back (%d of %d) than were stored", len(got), len(body))
	}
	return err
}

// list looks for the object just put, and at the store's clock.
func (e *examiner) list(ctx context.Context, key string, put bool) error {
	found := false
	before := time.Now()
	date, err := e.b.List(ctx, "", "", func(i Info) error {
		found = found || i.Key == key && i.Size == smallSize
		return nil
	})
	if !date.IsZero() {
		e.HasClock, e.Skew = true, skew(date, before, time.Now())
	}
	if err == nil && put && !found {
		err = errors.New("the object just stored is not in the list")
	}
	return err
}

// skew is how far date lies outside of the time in which the store answered. Dates in answers are cut to the second.
func skew(date, before, after time.Time) time.Duration {
	switch {
	case date.Add(time.Second).Before(before):
		return date.Sub(before).Round(time.Second)
	case date.After(after):
		return date.Sub(after).Round(time.Second)
	}
	return 0
}

// conditions are the promises on which backups rely when several write, or when bytes change on the way.
func (e *examiner) conditions(ctx context.Context) {
	if !e.Put.Worked() {
		return
	}
	e.try(ctx, &e.IfAbsent, func(ctx context.Context) error {
		ok, err := e.b.SupportsIfAbsent(ctx)
		if err == nil && !ok {
			err = &Error{Op: "put if absent", Store: e.b.String(), Kind: Unsupported}
		}
		return err
	})
	e.try(ctx, &e.Altered, func(ctx context.Context) error {
		body := random(smallSize)
		return e.store(WithRetry(ctx, Retry{For: -1}), "altered", body, PutOptions{HasSHA256: true, SHA256: sha256.Sum256(body[1:])})
	})
	e.try(ctx, &e.Overwrite, func(ctx context.Context) error {
		body := random(smallSize)
		if err := e.store(ctx, "basic", body, PutOptions{}); err != nil {
			return err
		}
		return e.get(ctx, "basic", body)
	})
	e.try(ctx, &e.Delete, func(ctx context.Context) error {
		if err := e.b.Delete(ctx, []string{"basic"}); err != nil {
			return err
		}
		_, err := e.b.Stat(ctx, "basic")
		switch {
		case err == nil:
			return errors.New("the store says that it is deleted, but it is still there")
		case errors.Is(err, ErrNotFound):
			return nil
		}
		return err
	})
}

// rights are what the credentials may see beside the repository, and how the bucket is set.
func (e *examiner) rights(ctx context.Context) {
	e.try(ctx, &e.Settings, func(ctx context.Context) (err error) {
		e.Facts, err = e.outer.Facts(ctx)
		return err
	})
	if e.outer.prefix != "" {
		e.try(ctx, &e.Outside, e.lookOutside)
	}
	if r, ok := e.b.d.(Reacher); ok {
		e.try(ctx, &e.Reach, func(ctx context.Context) (err error) {
			e.OtherBuckets, e.ReadsPolicy, err = r.Reach(ctx)
			return err
		})
	}
}

// Reacher is a driver that can find out what else its credentials may do.
type Reacher interface {
	// Reach counts the other buckets that the credentials can list, and tries whether they may read the policy of their own. It only reads; a refusal is an
	// answer and no error.
	Reach(ctx context.Context) (otherBuckets int, readsPolicy bool, err error)
}

// lookOutside succeeds if a key is seen that is not below the repository's prefix, or if the store would show it.
func (e *examiner) lookOutside(ctx context.Context) error {
	enough := &Error{Kind: Canceled}
	first := func(Info) error { return enough }
	for _, after := range []string{"", strings.TrimSuffix(e.outer.prefix, "/") + "0"} { // before everything, and behind all keys of ours
		if _, err := e.b.d.List(ctx, "", after, first); err != nil && err != enough {
			return e.b.fail(ctx, opList, "", err)
		}
	}
	return nil
}

// measure takes times. Where nothing can be removed again little is put.
func (e *examiner) measure(ctx context.Context) {
	n := manySamples
	if e.opt.Quick || !e.Delete.Worked() {
		n = fewSamples
	}
	if e.Put.Worked() {
		body := random(smallSize)
		e.sample(ctx, "put", n, func(ctx context.Context, i int) error {
			return e.store(ctx, fmt.Sprintf("small-%d", i), body, PutOptions{})
		})
		e.sample(ctx, "get", n, func(ctx context.Context, i int) error { return e.get(ctx, fmt.Sprintf("small-%d", i), body) })
	}
	e.sample(ctx, "list", n, func(ctx context.Context, _ int) error {
		_, err := e.b.List(ctx, "", "", func(Info) error { return nil })
		return err
	})
	if !e.opt.Quick && e.Delete.Worked() {
		e.try(ctx, &e.Throughput, e.throughput)
	}
}

// sample takes the time of n requests, as long as they succeed.
func (e *examiner) sample(ctx context.Context, what string, n int, request func(context.Context, int) error) {
	var took []time.Duration
	var t Trial
	e.try(ctx, &t, func(ctx context.Context) error {
		for i := range n {
			began := time.Now()
			if err := request(ctx, i); err != nil {
				return err
			}
			took = append(took, time.Since(began))
		}
		return nil
	})
	if len(took) > 0 {
		slices.Sort(took)
		e.Latency[what] = Latency{Requests: len(took), P50: rank(took, 50), P95: rank(took, 95)}
	}
}

// rank is the smallest of the sorted times that p percent of them do not exceed.
func rank(sorted []time.Duration, p int) time.Duration { return sorted[(len(sorted)*p+99)/100-1] }

func (e *examiner) throughput(ctx context.Context) error {
	body := random(ThroughputSize)
	opt := PutOptions{HasSHA256: true, SHA256: sha256.Sum256(body)}
	began := time.Now()
	if err := e.store(ctx, "large", body, opt); err != nil {
		return err
	}
	e.Up = ThroughputSize / time.Since(began).Seconds()
	began = time.Now()
	r, err := e.b.Open(ctx, "large", 0, ThroughputSize)
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.Copy(h, r)
	e.Down = ThroughputSize / time.Since(began).Seconds()
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if !bytes.Equal(h.Sum(nil), opt.SHA256[:]) {
		return errors.New("other bytes come back than were stored")
	}
	return nil
}

// clean removes what was put, and counts what stays. It goes on for a while after ctx has ended.
func (e *examiner) clean(ctx context.Context) {
	if len(e.put) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(cleanLimit, e.opt.Each))
	defer cancel()
	if !e.b.mayPut.Load() { // what the store has of ours then, if anything, came there without its saying so
		_ = e.b.Delete(WithRetry(ctx, Retry{For: -1}), e.put)
		return
	}
	keys := map[string]int64{}
	for _, key := range e.put {
		keys[key] = 0
	}
	e.listInto(ctx, keys) // the race has keys of its own
	all := slices.Sorted(maps.Keys(keys))
	err := e.b.Delete(ctx, all)
	left := map[string]int64{}
	if !e.listInto(ctx, left) && err != nil && e.Put.Worked() {
		left = keys
	}
	for _, size := range left {
		e.Left++
		e.LeftBytes += size
	}
}

// listInto adds the objects that are there.
func (e *examiner) listInto(ctx context.Context, keys map[string]int64) bool {
	_, err := e.b.List(ctx, "", "", func(i Info) error {
		keys[i.Key] = i.Size
		return nil
	})
	return err == nil
}
