package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"bdbvault/restore"
)

const (
	barInterval = 100 * time.Millisecond
	// Lines come after this time at first and then ever more rarely, so that a long run does not fill a journal.
	firstLine = 3 * time.Second
	rareLine  = time.Minute
)

// progress tells a person how far a command is: with a bar on a terminal, with a line now and then elsewhere. It is the Progress of
// archive and of restore. Add is called for every piece of data by many goroutines, so it does next to nothing.
type progress struct {
	w       io.Writer
	quiet   bool
	verbose bool
	bars    bool

	done atomic.Int64 // of the current phase
	next atomic.Int64 // when to show something again, Unix nanoseconds

	mu    sync.Mutex
	phase phase
	bar   *progressbar.ProgressBar
}

// phase is what is going on.
type phase struct {
	name    string
	total   int64 // 0: unknown
	percent bool  // counted in per cent, not in bytes
	began   time.Time
	gap     time.Duration // until the next line
}

func newProgress(w io.Writer, quiet, verbose bool) *progress {
	f, ok := w.(*os.File)
	return &progress{w: w, quiet: quiet, verbose: verbose, bars: ok && term.IsTerminal(int(f.Fd()))}
}

// phaseNames are restore's phases in words; archive's are words.
var phaseNames = map[string]string{
	restore.PhaseData:    "fetching data",
	restore.PhaseLog:     "fetching log",
	restore.PhaseRecover: "recovering",
	restore.PhaseVerify:  "verifying",
}

// Phase begins a phase of total bytes, 0 if unknown.
func (p *progress) Phase(name string, total int64) {
	if p.quiet {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeBar()
	now := time.Now()
	p.phase = phase{name: name, total: total, percent: name == restore.PhaseRecover, began: now, gap: firstLine}
	if words := phaseNames[name]; words != "" {
		p.phase.name = words
	}
	p.done.Store(0)
	if p.bars {
		p.openBar()
		p.next.Store(now.Add(barInterval).UnixNano())
		return
	}
	fmt.Fprintln(p.w, p.phase.heading())
	p.next.Store(now.Add(p.phase.gap).UnixNano())
}

// Add counts bytes done in this phase.
func (p *progress) Add(n int64) {
	if p.quiet {
		return
	}
	done := p.done.Add(n)
	now := time.Now()
	if now.UnixNano() < p.next.Load() || !p.mu.TryLock() {
		return
	}
	defer p.mu.Unlock()
	if p.bars {
		p.showBar(done)
		p.next.Store(now.Add(barInterval).UnixNano())
		return
	}
	fmt.Fprintln(p.w, p.phase.line(done, now))
	p.phase.gap = min(2*p.phase.gap, rareLine)
	p.next.Store(now.Add(p.phase.gap).UnixNano())
}

// File says that one file is done.
func (p *progress) File(name string) {
	if p.verbose {
		p.say(name)
	}
}

// Note passes on what a person should know.
func (p *progress) Note(text string) { p.say("note: " + text) }

// retrying is told of a fault of the store that may pass.
func (p *progress) retrying(err error, wait time.Duration) {
	p.say(fmt.Sprintf("note: %v; trying again in %s", err, wait.Round(100*time.Millisecond)))
}

// say prints a line, above the bar if there is one.
func (p *progress) say(line string) {
	if p.quiet {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		p.bar.Clear()
	}
	fmt.Fprintln(p.w, line)
	if p.bar != nil {
		p.bar.RenderBlank()
	}
}

// end takes the bar away.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeBar()
}

func (p *progress) openBar() {
	total := p.phase.total
	if total <= 0 {
		total = -1
	}
	p.bar = progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(p.w),
		progressbar.OptionSetDescription(p.phase.name),
		progressbar.OptionShowBytes(!p.phase.percent),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionFullWidth(),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionSetSpinnerChangeInterval(0), // else it starts a goroutine that nobody can wait for
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetRenderBlankState(true))
}

func (p *progress) showBar(done int64) {
	if p.bar != nil && (p.phase.total <= 0 || done < p.phase.total) {
		p.bar.Set64(done)
	}
}

func (p *progress) closeBar() {
	if p.bar != nil {
		p.bar.Clear()
		p.bar.Exit()
		p.bar = nil
	}
}

// heading is the line that a phase begins with.
func (ph *phase) heading() string {
	if ph.total <= 0 || ph.percent {
		return ph.name
	}
	return ph.name + ": " + size(ph.total)
}

// line says how far the phase is, how fast, and how long it will take.
func (ph *phase) line(done int64, now time.Time) string {
	if ph.percent {
		return fmt.Sprintf("%s: %d %%", ph.name, min(done, ph.total))
	}
	rate := float64(done) / now.Sub(ph.began).Seconds()
	if ph.total <= 0 {
		return fmt.Sprintf("%s: %s, %s/s", ph.name, size(done), size(int64(rate)))
	}
	left := "?"
	if rate > 0 {
		left = time.Duration(float64(max(0, ph.total-done)) / rate * float64(time.Second)).Round(time.Second).String()
	}
	return fmt.Sprintf("%s: %s of %s, %d %%, %s/s, %s left",
		ph.name, size(done), size(ph.total), min(100, done*100/ph.total), size(int64(rate)), left)
}

// size is a number of bytes for a person, in powers of 1024.
func size(n int64) string { return humanize.IBytes(uint64(max(0, n))) }
