package remote

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// Rate limits how many bytes a second move, of all transfers together that have it. Several Buckets may share one. Nil is no limit.
type Rate struct{ limiter *rate.Limiter }

const (
	// MinRate is the lowest rate, in bytes a second. With less, parallel uploads would each stand still for longer than stores wait for them.
	MinRate = 32 << 10

	// maxPiece is how much moves at once, at most; at low rates it is what moves in a sixteenth of a second.
	maxPiece = 64 << 10
)

// NewRate makes a limit of so many bytes a second, at least MinRate.
func NewRate(perSecond int64) *Rate {
	perSecond = max(perSecond, MinRate)
	return &Rate{rate.NewLimiter(rate.Limit(perSecond), int(min(perSecond/16, maxPiece)))}
}

// piece is how many of n bytes may move at once.
func (r *Rate) piece(n int) int {
	if r == nil {
		return n
	}
	return min(n, r.limiter.Burst())
}

// Wait returns when n more bytes may move.
func (r *Rate) Wait(ctx context.Context, n int) error {
	for r != nil && n > 0 {
		piece := r.piece(n)
		if err := r.waitPiece(ctx, piece); err != nil {
			return err
		}
		n -= piece
	}
	return nil
}

// waitPiece does without the limiter's own waiting, which fails at once where a deadline would come first: that would be no timeout to those above.
func (r *Rate) waitPiece(ctx context.Context, n int) error {
	turn := r.limiter.ReserveN(time.Now(), n)
	pause := turn.Delay()
	if pause == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		turn.Cancel() // others need not wait for what won't move
		return ctx.Err()
	}
}

// SendPiece is for drivers: it says how many of n bytes they may send at once.
func SendPiece(ctx context.Context, n int) int {
	if c, ok := callOf(ctx); ok {
		return c.b.opt.Up.piece(n)
	}
	return n
}

// Sending is for drivers: it counts n bytes of a request's body that are about to be sent, and returns when the rate allows them.
func Sending(ctx context.Context, n int) error {
	c, ok := callOf(ctx)
	if !ok {
		return nil
	}
	c.b.stats.sent.Add(int64(n))
	return c.b.opt.Up.Wait(ctx, n)
}
