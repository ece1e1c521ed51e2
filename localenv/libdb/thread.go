//go:build cgo

package libdb

import "runtime"

// thread is one thread of the operating system that makes calls one after another: a handle without DB_THREAD belongs to one thread, and
// an environment that tracks its threads has room for few.
type thread struct{ jobs chan func() }

func startThread() *thread {
	t := &thread{jobs: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for job := range t.jobs {
			job()
		}
	}()
	return t
}

// do waits until fn has run.
func (t *thread) do(fn func() error) error {
	result := make(chan error, 1)
	t.jobs <- func() { result <- fn() }
	return <-result
}

func (t *thread) stop() { close(t.jobs) }
