package restore

import (
	"context"

	"bdbvault/localenv/engine"
)

// child is the engine's process, which recovers and verifies. It is started while the log is laid down, so that nothing waits for it.
type child struct {
	ready  chan struct{} // closed when the others are set
	client *engine.Client
	err    error
}

// startEngine begins to start the engine.
func (r *restorer) startEngine(ctx context.Context) {
	c := &child{ready: make(chan struct{})}
	r.child = c
	go func() { // endEngine waits for it
		defer close(c.ready)
		c.client, c.err = engine.Start(ctx, r.engineOptions())
	}()
}

// engine is the one that was begun to be started.
func (r *restorer) engine() (*engine.Client, error) {
	<-r.child.ready
	return r.child.client, r.child.err
}

// endEngine has the engine leave, if there is one.
func (r *restorer) endEngine() error {
	if r.child == nil {
		return nil
	}
	if client, err := r.engine(); err == nil {
		return client.Close()
	}
	return nil // it was not needed, or its user has the error
}
