package status

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"bdbvault/archive"
)

// Tones say how a condition looks.
const (
	good = "good"
	wait = "wait"
	bad  = "bad"
)

// verdict is what the state of an environment comes to.
type verdict struct {
	Word    string // one or two words
	Tone    string
	Says    string // a sentence for a person
	Healthy bool
	Reason  string // why it isn't, in a line
}

// judge is the only place that knows how good or bad things are: page, /healthz, metrics and status.json agree.
func judge(e *Environment, now time.Time) verdict {
	w := &e.Watch
	v := condition(e, now)
	switch {
	case e.Failed != "":
		v.Reason = "the watch has ended: " + e.Failed
	case e.MaxLag > 0 && e.lag() > e.MaxLag:
		v.Reason = fmt.Sprintf("lag is %s, more than %s", span(e.lag()), span(e.MaxLag))
	case w.FullID == "" && w.State == archive.WatchStarting:
		v.Reason = "starting: the store was not looked at yet"
	case unreached(w):
		v.Reason = "the store was not reached yet: " + w.LastError
	case w.FullID == "":
		v.Reason = "there is no full backup yet"
	case w.Broken.Replaced && lately(w.Broken.At, now):
		v.Reason = fmt.Sprintf("since %s %s", moment(w.Broken.At), w.Broken.Why)
	}
	v.Healthy = v.Reason == ""
	return v
}

// unreached reports whether the watch has not learned yet what the store holds.
func unreached(w *archive.WatchStatus) bool { return w.FullID == "" && !w.RetryingSince.IsZero() }

// afterBreak is how long a break of the chain stands before everything else.
const afterBreak = time.Hour

func lately(t, now time.Time) bool { return !t.IsZero() && now.Sub(t) < afterBreak }

func condition(e *Environment, now time.Time) verdict {
	w := &e.Watch
	lags := e.MaxLag > 0 && e.lag() > e.MaxLag
	switch {
	case e.Failed != "":
		return verdict{Word: "failed", Tone: bad, Says: "This environment is not being protected. " + upTo(e)}
	case w.State == archive.WatchStarting && w.FullID == "":
		return verdict{Word: "starting", Tone: wait, Says: "The watch is looking where it left off."}
	case unreached(w):
		return verdict{Word: "retrying", Tone: bad, Says: "The store was not reached since the watch was started. What it holds is not known yet."}
	case w.State == archive.WatchRetrying:
		v := verdict{Word: "retrying", Tone: wait, Says: "The last attempt failed and is being repeated; nothing is lost while the log stays on this host. " + upTo(e)}
		if lags {
			v.Tone = bad
		}
		return v
	case w.FullID == "" && w.State == archive.WatchBackingUp:
		return verdict{Word: "first full backup", Tone: wait, Says: "The first full backup is under way. Nothing can be restored until it is done."}
	case w.FullID == "":
		return verdict{Word: "no full backup", Tone: bad, Says: "There is no full backup yet, so nothing can be restored."}
	case lags:
		return verdict{Word: "lagging", Tone: bad, Says: fmt.Sprintf("Commits of the last %s are not in the store yet. %s", span(e.lag()), upTo(e))}
	case w.Broken.Replaced && lately(w.Broken.At, now):
		return verdict{Word: "replaced", Tone: bad, Says: "Another environment lies in this place than before. " + upTo(e)}
	case w.State == archive.WatchBackingUp:
		return verdict{Word: "backing up", Tone: good, Says: "A full backup is under way. " + upTo(e)}
	case w.State == archive.WatchStarting:
		return verdict{Word: "starting", Tone: wait, Says: "The watch is looking where it left off. " + upTo(e)}
	}
	if lately(w.Broken.At, now) {
		return verdict{Word: "protected anew", Tone: wait, Says: "The chain of logs broke, and a full backup has begun a new one. " + upTo(e)}
	}
	return verdict{Word: "protected", Tone: good, Says: upTo(e)}
}

// upTo says how far the store reaches.
func upTo(e *Environment) string {
	w := &e.Watch
	switch {
	case w.FullID == "":
		return "Nothing can be restored yet."
	case w.ShippedCommit.IsZero():
		return fmt.Sprintf("The store has the log up to LSN %s.", w.ShippedTo)
	case e.lag() == 0 && e.Failed == "" && w.State != archive.WatchStarting:
		return fmt.Sprintf("Every commit is in the store, the newest of %s.", moment(w.ShippedCommit))
	}
	return fmt.Sprintf("Every commit up to %s is in the store.", moment(w.ShippedCommit))
}

// Trouble is the number of environments that are not healthy, and the first reason.
func (s *Snapshot) Trouble() (n int, first string) {
	for i := range s.Environments {
		e := &s.Environments[i]
		if v := judge(e, s.Now); !v.Healthy {
			n++
			first = firstOf(first, e.Watch.Environment+": "+v.Reason)
		}
	}
	return n, first
}

// serveHealth answers for all environments, or for the one named.
func serveHealth(w http.ResponseWriter, s Snapshot, name string) {
	code, found := http.StatusOK, false
	var b strings.Builder
	for i := range s.Environments {
		e := &s.Environments[i]
		if name != "" && e.Watch.Environment != name {
			continue
		}
		found = true
		v := judge(e, s.Now)
		if v.Healthy {
			fmt.Fprintf(&b, "%s: ok, lag %s%s\n", e.Watch.Environment, span(e.lag()), brokeNote(e, s.Now))
			continue
		}
		code = http.StatusServiceUnavailable
		fmt.Fprintf(&b, "%s: %s\n", e.Watch.Environment, v.Reason)
	}
	if !found {
		code = http.StatusNotFound
		fmt.Fprintf(&b, "no such environment\n")
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	io.WriteString(w, b.String())
}

// brokeNote tells of a break of the chain for a while, although all is well again.
func brokeNote(e *Environment, now time.Time) string {
	b := e.Watch.Broken
	if !lately(b.At, now) {
		return ""
	}
	return fmt.Sprintf("; the chain of logs broke %s ago: %s", about(now.Sub(b.At)), b.Why)
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
