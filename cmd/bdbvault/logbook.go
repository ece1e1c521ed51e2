package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/dustin/go-humanize"

	"bdbvault/archive"
)

// level is how much a line matters.
type level int

const (
	levelDebug level = iota // with --verbose only
	levelInfo
	levelWarning
	levelError
)

// priorities are syslog's, by which systemd's journal sorts the lines of a service.
var priorities = map[level]string{levelDebug: "<7>", levelInfo: "<6>", levelWarning: "<4>", levelError: "<3>"}

// logbook is where watch says what happens: lines on standard error and, with --json, an object a line on standard output. Lines are written
// whole, one after the other.
type logbook struct {
	mu       sync.Mutex
	errs     io.Writer
	out      io.Writer // nil: no objects
	journald bool      // the journal notes time and priority itself
	least    level
}

func newLogbook(c *call, out io.Writer) *logbook {
	b := &logbook{errs: c.App.ErrWriter, least: levelInfo}
	b.journald, _ = journal.StderrIsJournalStream() // what can't be found out is not the journal
	switch {
	case c.Bool(flagQuiet):
		b.least = levelWarning
	case c.Bool(flagVerbose):
		b.least = levelDebug
	}
	if c.Bool(flagJSON) {
		b.out = out
	}
	return b
}

// eventObject is what --json prints of an event.
type eventObject struct {
	Time        time.Time         `json:"time"`
	Environment string            `json:"environment"`
	Event       archive.EventKind `json:"event"`
	Text        string            `json:"text,omitempty"`
	Error       string            `json:"error,omitempty"`
	Ship        *shipObject       `json:"ship,omitempty"`
	Full        *fullObject       `json:"full,omitempty"`
	Drill       *drillObject      `json:"drill,omitempty"`
	LogFile     uint32            `json:"logFile,omitempty"`
	Bytes       int64             `json:"bytes,omitempty"`
}

type shipObject struct {
	Timeline    string    `json:"timeline"`
	From        string    `json:"from"`
	To          string    `json:"to"`
	LastCommit  time.Time `json:"lastCommit,omitzero"`
	Segments    int       `json:"segments"`
	LogBytes    int64     `json:"logBytes"`
	StoredBytes int64     `json:"storedBytes"`
	Commits     int64     `json:"commits"`
}

type fullObject struct {
	ID           string `json:"id"`
	Timeline     string `json:"timeline"`
	NewTimeline  string `json:"newTimeline,omitempty"`
	Bytes        int64  `json:"bytes"`
	ConsistentAt string `json:"consistentAt"`
}

type drillObject struct {
	ID       string    `json:"id"`
	Result   string    `json:"result"`
	Seconds  float64   `json:"seconds"`
	Backup   string    `json:"backup,omitempty"`
	End      string    `json:"end,omitempty"`
	EndTime  time.Time `json:"endTime,omitzero"`
	Verified int       `json:"verified"`
	Bytes    int64     `json:"bytes"`
}

// event writes an event of a watch.
func (b *logbook) event(env string, l level, text string, e *archive.Event) {
	b.write(env, l, text)
	o := eventObject{Time: e.Time.UTC(), Environment: env, Event: e.Kind, Text: text, LogFile: e.LogFile, Bytes: e.Bytes}
	if e.Err != nil {
		o.Error = e.Err.Error()
	}
	if r := e.Ship; r != nil {
		o.Ship = &shipObject{Timeline: r.Timeline.String(), From: r.From.String(), To: r.To.String(), LastCommit: r.LastCommit,
			Segments: r.Segments, LogBytes: r.LogBytes, StoredBytes: r.StoredBytes, Commits: r.Commits}
	}
	if r := e.Full; r != nil {
		m := r.Manifest
		o.Full = &fullObject{ID: string(m.ID), Timeline: m.Timeline.String(), NewTimeline: m.NewTimeline, Bytes: m.Bytes(), ConsistentAt: m.ConsistentAt.String()}
	}
	b.object(o)
}

func (b *logbook) object(o any) {
	if b.out == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	enc := json.NewEncoder(b.out)
	enc.SetEscapeHTML(false)
	enc.Encode(o) // a reader that has gone must not end what protects the environments
}

// write writes a line about an environment, or about all of them.
func (b *logbook) write(env string, l level, text string) {
	if l < b.least {
		return
	}
	if env != "" {
		text = env + ": " + text
	}
	text = strings.ReplaceAll(strings.TrimSpace(text), "\n", " ")
	if b.journald {
		text = priorities[l] + text
	} else {
		text = time.Now().Format("2006-01-02 15:04:05 ") + text
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	fmt.Fprintln(b.errs, text)
}

// eventLine is an event in words, and how much it matters.
func eventLine(e *archive.Event) (level, string) {
	switch e.Kind {
	case archive.EventShipped:
		return levelDebug, fmt.Sprintf("shipped up to %s, %s of log in %s", moment(e.Ship.To, e.Ship.LastCommit), size(e.Ship.LogBytes), count(e.Ship.Segments, "segment"))
	case archive.EventFullBegun:
		return levelInfo, "a full backup begins: " + e.Text
	case archive.EventFullDone:
		m := e.Full.Manifest
		text := fmt.Sprintf("full backup %s is stored: %s, %s of it new", m.ID, size(m.Bytes()), size(e.Full.NewPackBytes+e.Full.NewMapBytes))
		if m.NewTimeline != "" {
			text += "; timeline " + timelineNote(m.Timeline, m.NewTimeline)
		}
		return levelInfo, text
	case archive.EventFullFailed:
		return levelError, withHint("the full backup failed: ", e)
	case archive.EventChainBroken:
		return levelWarning, "the log does not continue what is stored: " + e.Text
	case archive.EventReplaced:
		return levelError, e.Text
	case archive.EventRetrying:
		return levelWarning, withHint("", e)
	case archive.EventReopened, archive.EventFlagLost, archive.EventFlagMissing, archive.EventLogLetGo:
		return levelWarning, e.Text
	case archive.EventLogRemoved:
		return levelDebug, e.Text
	case archive.EventStopped:
		return levelInfo, "stopped"
	}
	return levelInfo, e.Text
}

// withHint adds to what went wrong what to do about it.
func withHint(what string, e *archive.Event) string {
	if h := hint(e.Err); h != "" {
		return what + e.Text + ". " + h
	}
	return what + e.Text
}

// tally sums up ships, which are far too many for a line each.
type tally struct {
	began  time.Time
	ships  int
	log    int64
	stored int64
}

// tallyEvery is how often there is a line about ships.
const tallyEvery = time.Hour

// add counts a ship and returns a line if it is time for one.
func (t *tally) add(e *archive.Event) (line string) {
	if t.began.IsZero() {
		t.began = e.Time
	}
	t.ships++
	t.log += e.Ship.LogBytes
	t.stored += e.Ship.StoredBytes
	took := e.Time.Sub(t.began)
	if took < tallyEvery {
		return ""
	}
	line = fmt.Sprintf("shipped %s times in %s, %s of log stored as %s; up to %s", humanize.Comma(int64(t.ships)), took.Round(time.Minute), size(t.log), size(t.stored),
		moment(e.Ship.To, e.Ship.LastCommit))
	*t = tally{began: e.Time}
	return line
}

// lineWriter passes on what is written to it, line by line.
type lineWriter struct{ say func(string) }

func (w lineWriter) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		if line = strings.TrimSpace(line); line != "" {
			w.say(line)
		}
	}
	return len(p), nil
}
