package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// errInterrupted is the cause of a context that a signal ended.
var errInterrupted = errors.New("interrupted")

// interruptible returns a context that SIGINT, SIGTERM or SIGHUP cancels. Further signals change nothing, until the process has exited:
// the engine's child may hold the hot-backup flag of a live environment and has to be let out in order, however impatient somebody is.
func interruptible(errs io.Writer) context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	ch := make(chan os.Signal, 1)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) { // as under nohup
			signal.Notify(ch, s)
		}
	}
	// A reader of our output that goes away (a pager, a mail program) is an error of that write, not the end of a backup.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go func() {
		for s := range ch {
			if ctx.Err() == nil {
				fmt.Fprintf(errs, "\nbdbvault: %v: ending in order …\n", s)
			} else {
				fmt.Fprintf(errs, "bdbvault: %v: already ending, please wait …\n", s)
			}
			cancel(errInterrupted)
		}
	}()
	return ctx
}

// interrupted reports whether a signal ended ctx.
func interrupted(ctx context.Context) bool { return errors.Is(context.Cause(ctx), errInterrupted) }
