package archive

import (
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	maxShipPause   = 15 * time.Second
	firstFullPause = 5 * time.Second
	maxFullPause   = 10 * time.Minute
	// shipPatience is how long a ship goes on trying by itself. Then the watch looks again what there is to send, which may be more by then.
	shipPatience = 2 * time.Second
)

// pause spaces the tries of something that fails: longer and longer.
type pause struct {
	exp   *backoff.ExponentialBackOff
	since time.Time // of the first failure in a row; zero: none
	until time.Time
}

func newPause(first, longest time.Duration) pause {
	exp := backoff.NewExponentialBackOff()
	exp.InitialInterval, exp.Multiplier, exp.MaxInterval = min(first, longest), 2, longest
	exp.Reset()
	return pause{exp: exp}
}

// result takes in what became of a try.
func (p *pause) result(err error) {
	if err == nil {
		p.since, p.until = time.Time{}, time.Time{}
		p.exp.Reset()
		return
	}
	if p.since.IsZero() {
		p.since = time.Now()
	}
	p.until = time.Now().Add(p.exp.NextBackOff())
}

func (p *pause) failing() bool { return !p.since.IsZero() }

func (p *pause) left() time.Duration { return time.Until(p.until) }

func (p *pause) ready() bool { return p.left() <= 0 }
