package remote

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	firstWait = 100 * time.Millisecond
	longWait  = 15 * time.Second

	// maxDoubts limits further tries after answers that are final as a rule but may be mistaken: a damaged upload, which is
	// a bad cable or else a wrong hash, and what Bucket.Put takes for a mistake.
	maxDoubts = 2
)

// patience decides how long to wait before the next try, and when to give up: once faults have lasted for limit
// without any progress between them. It belongs to one operation.
type patience struct {
	exp     *backoff.ExponentialBackOff
	limit   time.Duration
	since   time.Time // of the first fault since the last progress; zero if none
	atLeast time.Duration
	doubts  int
	doubt   func(Kind) bool // says which more errors may be mistaken; may be nil
}

func (b *Bucket) newPatience(ctx context.Context) *patience {
	exp := backoff.NewExponentialBackOff()
	exp.InitialInterval, exp.Multiplier, exp.MaxInterval = firstWait, 2, longWait
	exp.Reset()
	p := &patience{exp: exp, limit: b.opt.RetryFor}
	if r, ok := ctx.Value(retryKey{}).(Retry); ok && r.For != 0 {
		p.limit = r.For
	}
	return p
}

// Retry says how operations deal with faults, in place of the Bucket's Options.
type Retry struct {
	For time.Duration                       // as Options.RetryFor; 0: as the Bucket has it
	On  func(err error, wait time.Duration) // is told as well as Options.OnRetry; may be nil
}

type retryKey struct{}

// WithRetry makes a context whose operations follow r.
func WithRetry(ctx context.Context, r Retry) context.Context {
	return context.WithValue(ctx, retryKey{}, r)
}

// NextBackOff implements backoff.BackOff.
func (p *patience) NextBackOff() time.Duration {
	if p.since.IsZero() {
		p.since = time.Now()
	}
	left := p.limit - time.Since(p.since)
	if left <= 0 {
		return backoff.Stop
	}
	// The last pause is cut short rather than dropped, so that one try happens when the time is up.
	return min(max(p.exp.NextBackOff(), p.atLeast), left)
}

// Reset implements backoff.BackOff. It does nothing: one patience lasts through several rounds of a download.
func (p *patience) Reset() {}

// moved notes progress: faults from here on are new ones.
func (p *patience) moved() {
	if !p.since.IsZero() {
		p.since = time.Time{}
		p.exp.Reset()
	}
}

// again reports whether trying once more makes sense after err.
func (p *patience) again(err error) bool {
	kind := KindOf(err)
	doubtful := kind == Damaged || p.doubt != nil && p.doubt(kind)
	if doubtful {
		p.doubts++
	}
	var hint interface{ RetryAfter() time.Duration }
	p.atLeast = 0
	if errors.As(err, &hint) {
		p.atLeast = min(hint.RetryAfter(), time.Minute)
	}
	return kind.mayPass() || doubtful && p.doubts <= maxDoubts
}

// do runs try until it succeeds, fails for good, p is exhausted or ctx ends.
func (b *Bucket) do(ctx context.Context, op operation, key string, p *patience, try func(context.Context) error) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := b.attempt(ctx, op, key, try)
		if err == nil || p.again(err) {
			return struct{}{}, err
		}
		return struct{}{}, backoff.Permanent(err)
	}, backoff.WithBackOff(p), backoff.WithMaxElapsedTime(0), backoff.WithNotify(b.notifier(ctx)))
	if err != nil {
		return b.fail(ctx, op, key, err)
	}
	return nil
}

func (b *Bucket) attempt(ctx context.Context, op operation, key string, try func(context.Context) error) error {
	if ctx.Err() != nil {
		return b.fail(ctx, op, key, ctx.Err())
	}
	ctx, c := b.begin(ctx)
	err := try(ctx)
	c.end(op)
	if err != nil {
		return b.fail(ctx, op, key, err)
	}
	return nil
}

// notifier tells those who want to know of each fault.
func (b *Bucket) notifier(ctx context.Context) func(error, time.Duration) {
	r, _ := ctx.Value(retryKey{}).(Retry)
	return func(err error, wait time.Duration) {
		b.stats.retries.Add(1)
		for _, tell := range []func(error, time.Duration){b.opt.OnRetry, r.On} {
			if tell != nil {
				tell(err, wait)
			}
		}
	}
}

// fail makes an *Error of err, whatever it is.
func (b *Bucket) fail(ctx context.Context, op operation, key string, err error) error {
	if ctx.Err() != nil {
		return &Error{Op: op.String(), Key: key, Store: b.String(), Kind: Canceled, Err: ended(ctx)}
	}
	if e, ok := err.(*Error); ok {
		full := *e
		if full.Op == "" {
			full.Op = op.String()
		}
		if full.Key == "" {
			full.Key = key
		}
		full.Store = b.String()
		return &full
	}
	return &Error{Op: op.String(), Key: key, Store: b.String(), Kind: b.kind(err), Err: err}
}

// kind of a driver's error.
func (b *Bucket) kind(err error) Kind {
	var e *Error
	var s sentinel
	var source *SourceError
	switch {
	case err == nil, errors.As(err, &source):
		return Unknown
	case errors.As(err, &e):
		return e.Kind
	case errors.As(err, &s):
		return Kind(s)
	}
	return b.d.Classify(err)
}

// ended says why ctx ended, in an error that is also context.Canceled or context.DeadlineExceeded.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
