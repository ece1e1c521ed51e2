package main

import (
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// burnCommand makes this program burn CPU time: so much of it, spread evenly over so much time.
const burnCommand = "burn"

// burn wants CPU time and wall time. It has as many threads as two Go programs have, bdbvault and the store, because that is how the
// kernel shares a busy machine out.
func burn(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%s: want CPU time and wall time", burnCommand)
	}
	budget, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	over, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	threads := 2 * runtime.NumCPU()
	runtime.GOMAXPROCS(threads)
	began := time.Now()
	var group sync.WaitGroup
	for range threads {
		group.Go(func() { burnEvenly(began, budget, over) })
	}
	group.Wait()
	return nil
}

// burnSlice is how long a thread works or sleeps at a time.
const burnSlice = time.Millisecond

func burnEvenly(began time.Time, budget, over time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		passed := time.Since(began)
		if passed >= over {
			return
		}
		due := time.Duration(float64(budget) * float64(passed) / float64(over))
		if processCPU() >= due {
			time.Sleep(burnSlice)
			continue
		}
		for until := time.Now().Add(burnSlice); time.Now().Before(until); {
		}
	}
}

// processCPU is the CPU time of all threads of this process.
func processCPU() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
