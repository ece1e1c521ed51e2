package archive

import (
	"context"
	"fmt"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

const (
	// heardPause is how long nothing is listened to after something was heard. A busy log is written thousands of times a second; what happens meanwhile is
	// one event in the kernel's queue. No log file becomes removable so soon after it was begun. A watch that ships more often listens more often.
	heardPause = 20 * time.Millisecond
	// quietAfter tells that the queue is empty.
	quietAfter = time.Millisecond
	maxDrain   = 1 << 16
)

// listen takes in new log files and passes on that something may have changed, until ctx ends or the log is another. It hears of changes from the
// kernel where it can, and looks every PollEvery besides: nobody hears of what other hosts write to a shared file system.
func (s *sitting) listen(ctx context.Context) error {
	ear, err := newEar()
	if err == nil {
		defer ear.Close()
		err = ear.Add(s.env.LogDir.Path)
	}
	if err != nil {
		s.w.note(fmt.Sprintf("changes of %s are not heard of, so it is looked at every %v: %v", s.env.LogDir.Path, s.w.opt.PollEvery, err))
	}
	var events chan fsnotify.Event
	var errs chan error
	if ear != nil {
		events, errs = ear.Events, ear.Errors
	}
	tick := time.NewTicker(s.w.opt.PollEvery)
	defer tick.Stop()
	for heard := false; ; {
		if !heard {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			case <-events:
				heard = true
			case <-errs: // the queue ran over
				heard = true
			}
		}
		if err := s.takeIn(ctx); err != nil {
			return err
		}
		select {
		case s.stirred <- struct{}{}:
		default:
		}
		if heard {
			heard = sleep(ctx, min(heardPause, s.w.opt.ShipEvery)) && drain(events, errs)
		}
	}
}

// sleep reports whether ctx still goes on afterwards.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// drain takes in what was heard meanwhile, and reports whether there was anything.
func drain(events chan fsnotify.Event, errs chan error) (heard bool) {
	quiet := time.NewTimer(quietAfter)
	defer quiet.Stop()
	for range maxDrain {
		select {
		case <-events:
		case <-errs:
		case <-quiet.C:
			return heard
		}
		heard = true
	}
	return heard
}

// takeIn holds log files that are new. Its errors mean that the log is another.
func (s *sitting) takeIn(ctx context.Context) error {
	s.reading.RLock()
	stirred := s.log.Stirred()
	s.reading.RUnlock()
	if !stirred {
		return nil
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	if err := s.log.Refresh(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// maxHeld is how many log files one watch holds at most: a quarter of the files that the process may open. What an application removes beyond that before it
// is stored is lost to the chain.
func maxHeld() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 256
	}
	return int(min(limit.Cur/4, 1<<16))
}

// newEar hears of changes. Tests make it deaf.
var newEar = fsnotify.NewWatcher

// leastFree is the share of a file system, in percent, below which log files without a name are let go. Tests change it.
var leastFree = 5

// lookAtHeld is how often that is looked at.
const lookAtHeld = time.Second

// makeRoom lets go of log files that the application has removed when their space is needed: a source that can't write on is worse than a broken chain.
func (s *sitting) makeRoom() {
	if time.Since(s.held) < lookAtHeld {
		return
	}
	s.held = time.Now()
	s.reading.RLock()
	_, removed, _ := s.log.Held()
	s.reading.RUnlock()
	free, err := freePercent(s.env.LogDir.Path)
	if removed == 0 || err != nil || free >= leastFree {
		return
	}
	s.reading.Lock()
	files, size, err := s.log.ReleaseRemoved()
	s.reading.Unlock()
	if files > 0 {
		s.w.report.tell(Event{Kind: EventLogLetGo, Err: err, Bytes: size, Text: fmt.Sprintf(
			"%s is nearly full: %d log files of %d bytes, which the application had removed, are let go although they are not stored", s.env.LogDir.Path, files, size)})
	}
}

func freePercent(dir string) (int, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, err
	}
	if fs.Blocks == 0 {
		return 100, nil
	}
	return int(fs.Bavail * 100 / fs.Blocks), nil
}
