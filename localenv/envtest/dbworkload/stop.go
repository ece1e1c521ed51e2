package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"bdbvault/localenv/envtest/bdbc"
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

// stopper tells a worker what its master wants: to stop (end of standard input, SIGINT, SIGTERM, or the time is over), or to pause
// and go on (lines on standard input).
type stopper struct {
	stop  atomic.Bool
	pause atomic.Bool
}

func (o *stopFlags) begin() *stopper {
	s := &stopper{}
	if !o.noStdin {
		go s.listen()
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

func (s *stopper) listen() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		s.pause.Store(lines.Text() == "pause")
	}
	s.tell()
}

func (s *stopper) tell() {
	s.stop.Store(true)
	time.AfterFunc(hangLimit, func() { os.Exit(3) })
}

// sleep waits, but not beyond a wish to stop or pause.
func (s *stopper) sleep(d time.Duration) {
	for until := time.Now().Add(d); !s.stop.Load() && !s.pause.Load(); {
		left := time.Until(until)
		if left <= 0 {
			return
		}
		time.Sleep(min(left, 20*time.Millisecond))
	}
}

// goOn reports whether to do another piece of work; a worker asks between two transactions. It sits out a pause, which begins with a
// checkpoint: when all workers of an environment pause, the last one's checkpoint has written everything that they did.
func (s *stopper) goOn(env *bdbc.Env) (bool, error) {
	if s.pause.Load() && !s.stop.Load() {
		if err := checkpoint(env); err != nil {
			return false, err
		}
		fmt.Println("paused")
		for s.pause.Load() && !s.stop.Load() {
			time.Sleep(time.Millisecond)
		}
	}
	return !s.stop.Load(), nil
}

// pace spreads work evenly over time.
type pace struct {
	step time.Duration // 0 is no limit
	due  time.Time
}

func newPace(rate float64) *pace {
	p := &pace{due: time.Now()}
	if rate > 0 {
		p.step = time.Duration(float64(time.Second) / rate)
	}
	return p
}

// wait returns when the next piece of work is due. What was missed, in a pause for instance, is not made up for.
func (p *pace) wait(s *stopper) {
	if p.step == 0 {
		return
	}
	p.due = p.due.Add(p.step)
	if late := time.Since(p.due); late > 0 {
		p.due = p.due.Add(max(0, late-time.Second))
	}
	s.sleep(time.Until(p.due))
}
