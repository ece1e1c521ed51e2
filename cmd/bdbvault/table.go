package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
)

// table lines up columns.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer) *table { return &table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

func (t *table) row(cells ...string) { fmt.Fprintln(t.w, strings.Join(cells, "\t")) }

// flush prints what was given; an error of the writer beneath shows where all text is written at once.
func (t *table) flush() { t.w.Flush() }

// stamp is a moment in local time with its zone, or "-".
func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05 MST")
}

// unix is the moment of a log record, zero if unknown.
func unix(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// moment is a place in the log with the time of the last commit before it, if that is known.
func moment(lsn bdb.LSN, last time.Time) string {
	if lsn.IsZero() {
		return "the copy itself: there is no log"
	}
	if last.IsZero() {
		return "LSN " + lsn.String()
	}
	return fmt.Sprintf("LSN %s, last commit %s", lsn, stamp(last))
}

// count is a number with its noun.
func count(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "s"):
		what += "e"
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// timelineNote is a timeline, and why a backup began it if it did.
func timelineNote(t manifest.Timeline, why string) string {
	if why == "" {
		return t.String()
	}
	return fmt.Sprintf("%s, new: %s", t, why)
}

// duration is a time taken, as exact as a person wants it.
func duration(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func bulkNote(b manifest.BulkSafe) string {
	switch {
	case b.Held:
		return "yes"
	case b.Why != "":
		return "not proven: " + b.Why
	}
	return "not proven"
}

// indent sets a hint apart from the error it belongs to.
func indent(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }
