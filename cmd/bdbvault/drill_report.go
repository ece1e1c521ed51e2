package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"bdbvault/manifest"
)

// universal is a moment in a report, which says the same wherever it is printed.
func universal(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

func seconds(s float64) string { return duration(time.Duration(s * float64(time.Second))) }

// verdictWords are what a drill came to, for somebody who reads one line.
var verdictWords = map[manifest.DrillResult]string{
	manifest.DrillPassed:  "PASSED: everything that was asked for came back, and every database verified",
	manifest.DrillFailed:  "FAILED: nothing was proven; something else than what is stored was in the way",
	manifest.DrillDamaged: "FAILED: what is stored is damaged or incomplete",
}

// text is the report of a drill, made of its record alone.
func (d *drillEntry) text(w io.Writer) {
	fmt.Fprintf(w, "bdbvault: drill of environment %s\n\n", d.Environment)
	d.facts(w)
	d.troubles(w)
	d.phases(w)
	d.databases(w)
	for _, n := range d.Notes {
		fmt.Fprintf(w, "\nnote: %s\n", n)
	}
	if d.SHA256 == nil {
		fmt.Fprintf(w, "\nThe record of this drill could not be stored: this report is all there is.\n")
		return
	}
	fmt.Fprintf(w, "\nrecord  %s in the repository\nSHA-256 %s\n", d.Object, d.SHA256)
}

func (d *drillEntry) facts(w io.Writer) {
	t := newTable(w)
	t.row("verdict", verdictWords[d.Result])
	t.row("drill", string(d.ID))
	t.row("began", universal(d.Started)+d.clock())
	t.row("ended", fmt.Sprintf("%s, after %s", universal(d.Finished), duration(d.Duration())))
	t.row("run by", d.runBy())
	t.row("made with", d.madeWith())
	t.row("repository", fmt.Sprintf("%s, id %s", d.Location, d.Repository))
	t.row("asked for", d.Target)
	if d.Backup == "" {
		t.flush()
		return
	}
	t.row("backup", fmt.Sprintf("%s, begun %s, of %s on %s", d.Backup, universal(d.BackupStarted), orDash(d.BackupHome), orDash(d.BackupHost)))
	if d.BackupSHA256 != nil {
		t.row("manifest", "SHA-256 "+d.BackupSHA256.String())
	}
	t.row("timeline", d.Timeline.String())
	t.row(d.reach()...)
	t.row("data", fmt.Sprintf("%s in %s%s", size(d.Bytes), count(d.Files, "file"), encryptedNote(d.Encrypted)))
	if !d.NoLog {
		t.row("log", fmt.Sprintf("%s in %s", size(d.LogBytes), count(d.Segments, "segment"))+d.replayed())
	}
	t.row("databases", d.verified())
	t.row("fetched", fmt.Sprintf("%s in %s", size(d.Received), count(int(d.requests()), "request")))
	t.row("left on the host", d.left())
	t.flush()
}

func encryptedNote(yes bool) string {
	if yes {
		return ", encrypted"
	}
	return ""
}

// clock says how far host and store agree about the time, which everything that is said about ages rests on.
func (d *drillEntry) clock() string {
	if d.StoreClock.IsZero() {
		return ", by the clock of the host; the store told none"
	}
	return ", by the clock of the host; the store's said " + universal(d.StoreClock)
}

func (d *drillEntry) runBy() string {
	how := "by hand"
	if d.Scheduled {
		how = "by the schedule of a watch"
	}
	return fmt.Sprintf("%s on %s, %s", d.User, orDash(d.Host), how)
}

func (d *drillEntry) madeWith() string {
	if d.Engine == "" {
		return d.Tool
	}
	return d.Tool + ", engine " + d.Engine
}

// reach is how far the restore came, or would have come.
func (d *drillEntry) reach() []string {
	what := "restored to"
	if d.Verified == 0 && d.Result != manifest.DrillPassed {
		what = "was to reach"
	}
	if d.NoLog {
		return []string{what, "what was copied: the environment had no log"}
	}
	text := "LSN " + d.End.String()
	if !d.EndTime.IsZero() {
		text += ", last commit " + universal(d.EndTime)
	}
	if d.AgeSeconds != nil {
		text += fmt.Sprintf(", %s old when the drill began", seconds(*d.AgeSeconds))
	}
	return []string{what, text}
}

func (d *drillEntry) replayed() string {
	if d.RecoveryPasses == 0 {
		return ""
	}
	return fmt.Sprintf(", with %s; recovered in %s", count(int(d.Commits), "commit"), count(d.RecoveryPasses, "pass"))
}

func (d *drillEntry) verified() string {
	if d.DatabaseCount == 0 {
		return "none was looked at"
	}
	text := fmt.Sprintf("%s verified, %s", count(d.Verified, "database"), count(int(d.Pages), "page"))
	if n := d.DatabaseCount - d.Verified; n > 0 {
		text += fmt.Sprintf("; %d did not", n)
	}
	return text
}

func (d *drillEntry) requests() int64 {
	q := d.Requests
	return q.Put + q.Open + q.Stat + q.List + q.Delete
}

func (d *drillEntry) left() string {
	switch {
	case d.Cleared:
		return "nothing"
	case d.Kept != "":
		return d.Kept
	}
	return "what was restored"
}

// troubles say what went wrong.
func (d *drillEntry) troubles(w io.Writer) {
	if d.Error == "" {
		return
	}
	fmt.Fprintf(w, "\nfailed in phase %s:\n%s\n", d.Phase, indent(d.Error))
	if len(d.Damage) > 0 {
		fmt.Fprintf(w, "\ndamage:\n%s\n", indent(strings.Join(d.Damage, "\n")))
	}
}

func (d *drillEntry) phases(w io.Writer) {
	fmt.Fprintln(w)
	t := newTable(w)
	t.row("PHASE", "TIME", "WORKED ON", "FETCHED", "REQUESTS")
	amount := func(n int64) string {
		if n == 0 {
			return "-"
		}
		return size(n)
	}
	for _, p := range d.Phases {
		t.row(p.Name, seconds(p.Seconds), amount(p.Bytes), amount(p.Received), fmt.Sprint(p.Requests))
	}
	t.row("all", duration(d.Duration()), "", amount(d.Received), fmt.Sprint(d.requests()))
	t.flush()
}

func (d *drillEntry) databases(w io.Writer) {
	if len(d.Databases) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := newTable(w)
	t.row("DATABASE", "KIND", "PAGES", "VERIFIED")
	for _, b := range d.Databases {
		verified := "yes"
		if b.Problem != "" {
			verified = "no: " + strings.ReplaceAll(b.Problem, "\n", "; ")
		}
		t.row(b.Path, string(b.Kind), fmt.Sprint(b.Pages), verified)
	}
	t.flush()
	if more := d.DatabaseCount - len(d.Databases); more > 0 {
		fmt.Fprintf(w, "and %d more\n", more)
	}
}
