package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// tick is the unit of CPU times in /proc: USER_HZ, which is 100 on all architectures that Go runs on.
const tick = 10 * time.Millisecond

// procStat is what /proc/PID/stat tells.
type procStat struct {
	name   string
	parent int
	cpu    time.Duration // user and system, without children
}

func readStat(pid int) (procStat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	return parseStat(text)
}

// parseStat finds the fields after the name, which may itself contain spaces and parentheses.
func parseStat(text []byte) (s procStat, err error) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return s, fmt.Errorf("no name in %q", text)
	}
	s.name = string(text[open+1 : end])
	f := strings.Fields(string(text[end+1:])) // f[0] is field 3, the state
	if len(f) < 13 {
		return s, fmt.Errorf("too few fields in %q", text)
	}
	if s.parent, err = strconv.Atoi(f[1]); err != nil {
		return s, err
	}
	for _, v := range f[11:13] {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return s, err
		}
		s.cpu += time.Duration(n) * tick
	}
	return s, nil
}

// peakMemory is the largest resident set of a process so far, in bytes; 0 if it has ended.
func peakMemory(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	return parsePeak(string(text))
}

func parsePeak(status string) int64 {
	for line := range strings.Lines(status) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == "VmHWM:" && f[2] == "kB" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n * kib
		}
	}
	return 0
}

// childNamed finds a child of this process by its program's name.
func childNamed(name string) (int, error) {
	for _, pid := range processes() {
		if s, err := readStat(pid); err == nil && s.name == name && s.parent == os.Getpid() {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("no child process %s", name)
}

func processes() []int {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1) // what could be read is what there is
	var pids []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// family is what was seen of processes and their descendants while they ran.
type family struct {
	peak      int64         // largest of those that were started, bytes
	childPeak int64         // largest of their descendants
	childCPU  time.Duration // of all descendants together
}

// watchInterval costs a few tenths of a percent of one CPU, and misses as much of a child's last moments.
const watchInterval = 50 * time.Millisecond

// watcher samples processes.
type watcher struct {
	roots map[int]bool
	known map[int]bool // true: one of ours
	cpu   map[int]time.Duration
	seen  family
	done  chan struct{}
	group sync.WaitGroup
}

// newWatcher remembers what runs already, so it comes before the processes to be watched are started.
func newWatcher() *watcher {
	w := &watcher{roots: map[int]bool{}, known: map[int]bool{}, cpu: map[int]time.Duration{}, done: make(chan struct{})}
	for _, pid := range processes() {
		w.known[pid] = false
	}
	return w
}

// begin samples these processes and their descendants from now on.
func (w *watcher) begin(pids []int) {
	for _, pid := range pids {
		w.roots[pid], w.known[pid] = true, true
	}
	w.group.Go(w.run)
}

// end returns what was seen.
func (w *watcher) end() family {
	close(w.done)
	w.group.Wait()
	for _, c := range w.cpu {
		w.seen.childCPU += c
	}
	return w.seen
}

func (w *watcher) run() {
	t := time.NewTicker(watchInterval)
	defer t.Stop()
	for {
		w.look()
		select {
		case <-t.C:
		case <-w.done:
			return
		}
	}
}

// look reads only what it must: of processes that were seen before, those that belong to the family.
func (w *watcher) look() {
	for _, pid := range processes() {
		ours, known := w.known[pid]
		if known && !ours {
			continue
		}
		s, err := readStat(pid)
		if err != nil {
			continue
		}
		if !known {
			ours = w.known[s.parent]
			w.known[pid] = ours
		}
		if ours {
			w.note(pid, s)
		}
	}
}

func (w *watcher) note(pid int, s procStat) {
	peak := peakMemory(pid)
	if w.roots[pid] {
		w.seen.peak = max(w.seen.peak, peak)
		return
	}
	w.seen.childPeak = max(w.seen.childPeak, peak)
	w.cpu[pid] = max(w.cpu[pid], s.cpu)
}
