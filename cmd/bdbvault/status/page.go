package status

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"time"

	"bdbvault/archive"
)

//go:embed page.html
var pageSource string

//go:embed style.css
var styleText string

// styleSource lets browsers apply this style sheet and no other.
var styleSource = func() string {
	sum := sha256.Sum256([]byte(styleText))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}()

var page = template.Must(template.New("page").Parse(pageSource))

// refresh is how often the page loads itself again unless the reader stops it, in seconds.
const refresh = 10

// view is what the page's template is filled with.
type view struct {
	Style        template.CSS
	Title        string
	Headline     string
	Lead         string
	Troubles     []troubleView
	Tone         string
	Version      string
	Repository   string
	Host         string
	Now          string
	Refresh      int // seconds; 0: not
	RefreshEvery int
	Environments []environmentView
}

type environmentView struct {
	Name, Home string
	Anchor     string
	Verdict    verdict
	Trouble    string // the newest error, while it matters
	Drill      string // what is wrong with drills
	Facts      []fact
	Timeline   *timeline
	Remarks    []string
	Charts     []*bars
	Events     []eventView
}

type troubleView struct{ Link, Name, Reason string }

type fact struct{ Name, Value, Note string }

type eventView struct {
	Stamp string // for machines
	Time  string
	Text  string
	Wrong bool
}

func servePage(w http.ResponseWriter, r *http.Request, s Snapshot) {
	v := newView(&s)
	if r.URL.Query().Get("refresh") != "off" {
		v.Refresh = refresh
	}
	var b bytes.Buffer
	if err := page.Execute(&b, v); err != nil {
		http.Error(w, "the page can't be drawn: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.Write(b.Bytes())
}

func newView(s *Snapshot) *view {
	v := &view{Style: template.CSS(styleText), Version: s.Version, Repository: s.Repository, Host: s.Host, Now: moment(s.Now), RefreshEvery: refresh}
	for i := range s.Environments {
		v.Environments = append(v.Environments, newEnvironmentView(&s.Environments[i], i, s.Now))
	}
	v.Tone = good
	for i, e := range v.Environments {
		if !e.Verdict.Healthy {
			v.Tone = bad
			v.Troubles = append(v.Troubles, troubleView{"#" + e.Anchor, s.Environments[i].Watch.Environment, e.Verdict.Reason})
		}
	}
	v.Headline = headline(v.Environments, len(v.Troubles))
	switch {
	case len(v.Troubles) == 1 && len(v.Environments) == 1: // the headline has its name
		v.Lead, v.Troubles = v.Troubles[0].Reason+".", nil
	case len(v.Troubles) == 0 && len(v.Environments) > 0 && len(struggling(v.Environments)) == 0:
		v.Lead = "Every commit goes to " + s.Repository + "."
	}
	v.Title = v.Headline + " · bdbvault"
	return v
}

func headline(list []environmentView, troubles int) string {
	switch all := len(list); {
	case all == 0:
		return "Nothing is being watched"
	case troubles == 0 && all == 1 && list[0].Verdict.Tone == wait:
		return list[0].Name + " is " + list[0].Verdict.Word
	case troubles == 0 && all == 1:
		return list[0].Name + " is protected"
	case troubles == 0 && len(struggling(list)) > 0:
		first := &list[struggling(list)[0]]
		return fmt.Sprintf("%d environments; %s is %s", all, first.Name, first.Verdict.Word)
	case troubles == 0:
		return fmt.Sprintf("All %d environments are protected", all)
	case all == 1:
		return list[0].Name + " needs attention"
	case troubles == 1:
		return fmt.Sprintf("1 of %d environments needs attention", all)
	default:
		return fmt.Sprintf("%d of %d environments need attention", troubles, all)
	}
}

func newEnvironmentView(e *Environment, i int, now time.Time) environmentView {
	v := environmentView{
		Name: e.Watch.Environment, Home: e.Watch.Home, Anchor: "e" + strconv.Itoa(i), Verdict: judge(e, now),
		Facts: facts(e, now), Timeline: drawTimeline(e, now), Remarks: remarks(e, now),
	}
	if len(e.Watch.History) > 0 || e.lag() > 0 {
		v.Charts = append(v.Charts, drawLag(e, now), drawShips(e, now))
	}
	if b := drawFulls(e); b != nil {
		v.Charts = append(v.Charts, b)
	}
	v.Trouble, v.Drill = trouble(e, now), drillTrouble(&e.Drills)
	for j := len(e.Events) - 1; j >= 0 && len(v.Events) < maxEvents; j-- {
		ev := e.Events[j]
		v.Events = append(v.Events, eventView{Stamp: ev.Time.UTC().Format(time.RFC3339), Time: clock(ev.Time, now), Text: ev.Text, Wrong: ev.Wrong})
	}
	return v
}

// trouble is the error that is in the way at this moment.
func trouble(e *Environment, now time.Time) string {
	w := &e.Watch
	switch {
	case e.Failed != "" && e.NextTry.After(now):
		return fmt.Sprintf("%s. It is tried again in %s.", e.Failed, about(e.NextTry.Sub(now)))
	case e.Failed != "":
		return e.Failed
	case w.State != archive.WatchRetrying || w.LastError == "":
		return ""
	case w.RetryingSince.IsZero():
		return w.LastError
	}
	return fmt.Sprintf("For %s: %s", about(now.Sub(w.RetryingSince)), w.LastError)
}

// struggling are the environments that are healthy, but not well.
func struggling(list []environmentView) (which []int) {
	for i := range list {
		if v := &list[i].Verdict; v.Healthy && v.Tone == wait {
			which = append(which, i)
		}
	}
	return which
}

// maxEvents is how many events are shown.
const maxEvents = 8

func facts(e *Environment, now time.Time) []fact {
	w := &e.Watch
	list := []fact{
		{"Lag", span(e.lag()), limitNote(e.MaxLag)},
		{"Shipped to", w.ShippedTo.String(), agoNote("last ship", w.LastShip, now)},
		{"Last full backup", "none", ""},
		{"Next full backup", "when needed", "no schedule is set"},
	}
	if e.Failed != "" || unreached(w) {
		list[0].Value = "not known"
	}
	if unreached(w) {
		list[2].Value = "not known"
	}
	if w.ShippedTo.IsZero() {
		list[1].Value, list[1].Note = "nothing", ""
	}
	if w.FullID != "" {
		list[2].Value, list[2].Note = about(now.Sub(w.LastFull))+" ago", string(w.FullID)
	}
	switch {
	case !w.FullSince.IsZero():
		list[3].Value, list[3].Note = "running", "for "+about(now.Sub(w.FullSince))
	case w.NextFull.After(now):
		list[3].Value, list[3].Note = "in "+about(w.NextFull.Sub(now)), moment(w.NextFull)
	case !w.NextFull.IsZero():
		list[3].Value, list[3].Note = "due", moment(w.NextFull)
	}
	return append(list, drillFacts(&e.Drills, now)...)
}

// drillFacts tell how it stands with drills.
func drillFacts(d *Drills, now time.Time) []fact {
	list := []fact{{"Last drill", "not known", ""}, {"Restored to", "-", ""}, {"Took", "-", ""}, {"Next drill", "none", "no schedule is set"}}
	last := d.last()
	switch {
	case d.History != nil && last == nil:
		list[0].Value, list[0].Note = "never", "whether this can be restored was not tried"
	case last != nil && last.Passed():
		list[0].Value, list[0].Note = "passed "+about(now.Sub(last.Started))+" ago", string(last.ID)
	case last != nil:
		list[0].Value, list[0].Note = "failed "+about(now.Sub(last.Started))+" ago", string(last.ID)
	}
	if last != nil && !last.Passed() {
		list[1].Name, list[2].Name = "The last that passed went to", "Took"
	}
	if p := d.passed(); p != nil {
		list[1].Value, list[1].Note = p.End.String(), "last commit "+moment(p.EndTime)
		if p.NoLog {
			list[1].Value, list[1].Note = "the copy", "the environment has no log"
		}
		if p.AgeSeconds != nil {
			list[1].Note = fmt.Sprintf("last commit %s, %s old then", moment(p.EndTime), span(time.Duration(*p.AgeSeconds*float64(time.Second))))
		}
		list[2].Value, list[2].Note = span(time.Duration(p.Seconds*float64(time.Second))), fmt.Sprintf("%s, %s verified", bytesOf(p.Bytes), plural(p.Verified, "database"))
	}
	switch {
	case !d.Since.IsZero():
		list[3].Value, list[3].Note = "running", "for "+about(now.Sub(d.Since))
	case d.Next.After(now):
		list[3].Value, list[3].Note = "in "+about(d.Next.Sub(now)), moment(d.Next)
	case !d.Next.IsZero():
		list[3].Value, list[3].Note = "due", moment(d.Next)
	case d.Scheduled:
		list[3].Value, list[3].Note = "to come", "after the first full backup"
	}
	return list
}

// drillTrouble says what went wrong with the last drill: what cannot be restored is not protected, however well it is shipped.
func drillTrouble(d *Drills) string {
	last := d.last()
	switch {
	case d.Problem != "":
		return "The last drill failed, and nothing could be stored of it: " + d.Problem
	case d.History != nil && d.History.Problem != "":
		return "The record of the last drill can't be read: " + d.History.Problem + "."
	case last == nil || last.Passed():
		return ""
	}
	text := fmt.Sprintf("The drill of %s failed in phase %s: %s.", moment(last.Started), last.Phase, last.Error)
	if p := d.passed(); p != nil {
		return text + " The last that passed was on " + moment(p.Started) + "."
	}
	return text
}

// remarks are about what is not as good as it might be.
func remarks(e *Environment, now time.Time) (list []string) {
	w := &e.Watch
	if b := w.Broken; !b.At.IsZero() && now.Sub(b.At) < 7*day {
		what := "The log did not continue what is stored"
		if b.Replaced {
			what = "The environment was replaced"
		}
		list = append(list, what+" on "+moment(b.At)+": "+b.Why+". Nothing between the last commit stored before and the full backup after it can be restored.")
	}
	if f := w.Flag; !f.Held && f.Why != "" && f.Asked != archive.BulkOff {
		list = append(list, "Bulk loads may be missing from the log: "+f.Why+".")
	}
	if !w.Flag.Gap.IsZero() && now.Sub(w.Flag.Gap) < 7*day {
		list = append(list, "The application was restarted on "+moment(w.Flag.Gap)+" and dropped the hot-backup flag: bulk loads of that moment may be missing from the log.")
	}
	if w.Held.RemovedFiles > 0 {
		list = append(list, fmt.Sprintf("%s of log files (%d) that were removed here are kept until they are stored.", bytesOf(w.Held.RemovedBytes), w.Held.RemovedFiles))
	}
	return list
}

func limitNote(limit time.Duration) string {
	if limit <= 0 {
		return "no limit is set"
	}
	return "limit " + span(limit)
}

func agoNote(what string, t, now time.Time) string {
	if t.IsZero() {
		return "nothing shipped yet"
	}
	return fmt.Sprintf("%s %s ago", what, about(now.Sub(t)))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
