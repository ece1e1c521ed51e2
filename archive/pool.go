package archive

import (
	"context"
	"runtime"

	"bdbvault/manifest"
)

const (
	extentSize = manifest.MaxChunk
	// uploads is how many packs are under way at once; one more is being filled.
	uploads = 2
	// packBuffer holds a pack that was just short of its target when a last, incompressible chunk came.
	packBuffer = manifest.PackTarget + manifest.MaxChunk + 64<<10
)

// workers is how many goroutines read, and how many compress.
func workers() int { return min(runtime.GOMAXPROCS(0), 8) }

// pool lends a fixed number of things; whoever takes one puts it back. It is the bound on memory.
type pool[T any] chan T

func newPool[T any](n int, make func() T) pool[T] {
	p := newEmptyPool[T](n)
	for range n {
		p <- make()
	}
	return p
}

func newEmptyPool[T any](n int) pool[T] { return make(chan T, n) }

func (p pool[T]) take(ctx context.Context) (t T, err error) {
	select {
	case t = <-p:
		return t, nil
	case <-ctx.Done():
		return t, context.Cause(ctx)
	}
}

func (p pool[T]) put(t T) { p <- t }

// send passes t on unless ctx ends first.
func send[T any](ctx context.Context, ch chan<- T, t T) error {
	select {
	case ch <- t:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// wait waits for done or the end of ctx.
func wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
