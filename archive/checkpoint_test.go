package archive

import (
	"context"
	"testing"

	"bdbvault/localenv/engine"
)

// failing is an engine of which so many checkpoints fail.
type failing struct {
	engine.Engine
	err          error
	times, calls int
}

func (f *failing) Checkpoint(context.Context) error {
	if f.calls++; f.calls <= f.times {
		return f.err
	}
	return nil
}

// TestCheckpointAgain: a checkpoint that libdb gave up over one file is taken again, but not one that can't be taken.
func TestCheckpointAgain(t *testing.T) {
	gaveUp := &engine.EngineError{Op: "checkpoint", Text: []string{"BDB3037 a.db: file size not a multiple of the pagesize"}}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx   context.Context
		eng   failing
		calls int
		ok    bool
	}{
		"at once":     {t.Context(), failing{}, 1, true},
		"once more":   {t.Context(), failing{err: gaveUp, times: 1}, 2, true},
		"never":       {t.Context(), failing{err: gaveUp, times: 100}, checkpointTries, false},
		"can't join":  {t.Context(), failing{err: &engine.EngineError{Op: "checkpoint", Kind: engine.ErrNotJoinable}, times: 1}, 1, false},
		"child died":  {t.Context(), failing{err: &engine.ChildError{}, times: 1}, 1, false},
		"interrupted": {cancelled, failing{err: gaveUp, times: 100}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := checkpoint(c.ctx, &c.eng); (err == nil) != c.ok || c.eng.calls != c.calls {
				t.Errorf("%d calls, %v", c.eng.calls, err)
			}
		})
	}
}
