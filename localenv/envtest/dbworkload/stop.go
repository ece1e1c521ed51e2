package main

import (
	"flag"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// hangLimit is how long a worker may take to stop before it ends itself, so that it never outlives a test that died.
const hangLimit = 50 * time.Second

// stopFlags are how a worker that runs until told to stop is told.
type stopFlags struct {
	noStdin bool
	after   time.Duration
}

func addStopFlags(f *flag.FlagSet) *stopFlags {
	s := &stopFlags{}
	f.BoolVar(&s.noStdin, "no-stdin", false, "do not stop at the end of standard input (for use in the background of a shell)")
	f.DurationVar(&s.after, "for", 0, "stop after this `time`; 0 is never")
	return s
}

// stopper turns true at the end of standard input, at SIGINT or SIGTERM, or when the time is over.
type stopper struct{ atomic.Bool }

func (o *stopFlags) begin() *stopper {
	s := &stopper{}
	if !o.noStdin {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			s.tell()
		}()
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		s.tell()
	}()
	if o.after > 0 {
		time.AfterFunc(o.after, s.tell)
	}
	return s
}

func (s *stopper) tell() {
	s.Store(true)
	time.AfterFunc(hangLimit, func() { os.Exit(3) })
}

// sleep waits, but not beyond the stop.
func (s *stopper) sleep(d time.Duration) {
	for until := time.Now().Add(d); !s.Load(); {
		left := time.Until(until)
		if left <= 0 {
			return
		}
		time.Sleep(min(left, 20*time.Millisecond))
	}
}
