package archive

import (
	"context"
	"errors"
	"time"

	"bdbvault/localenv/engine"
)

const (
	checkpointTries = 5
	checkpointPause = 200 * time.Millisecond
)

// checkpoint takes one, at last. libdb's fails over a database file that is being made or removed at the moment when its pages are to be written (BDB3037, "file size not a
// multiple of the pagesize"); that does no harm, and the next one succeeds.
func checkpoint(ctx context.Context, eng engine.Engine) error {
	for n := 1; ; n++ {
		err := eng.Checkpoint(ctx)
		failed, ok := errors.AsType[*engine.EngineError](err)
		if err == nil || !ok || failed.Kind != nil || n == checkpointTries {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(checkpointPause):
		}
	}
}
