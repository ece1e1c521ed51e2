package status

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"bdbvault/archive"
)

func get(t *testing.T, s Snapshot, path string) (code int, header http.Header, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(func() Snapshot { return s }).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	data, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, w.Header(), string(data)
}

// TestVerdict: what each condition is called, and whether it is healthy.
func TestVerdict(t *testing.T) {
	change := func(e Environment, f func(*Environment)) Environment {
		f(&e)
		return e
	}
	short := func(e *Environment) { e.Watch.State, e.Watch.LagSeconds = archive.WatchRetrying, 5 }
	for name, c := range map[string]struct {
		env     Environment
		word    string
		tone    string
		healthy bool
	}{
		"idle":       {healthySample(), "protected", good, true},
		"shipping":   {change(healthySample(), func(e *Environment) { e.Watch.State, e.Watch.LagSeconds = archive.WatchShipping, 1 }), "protected", good, true},
		"full":       {change(healthySample(), func(e *Environment) { e.Watch.State = archive.WatchBackingUp }), "backing up", good, true},
		"hiccup":     {change(healthySample(), short), "retrying", wait, true},
		"outage":     {retryingSample(), "retrying", bad, false},
		"slow":       {laggingSample(), "lagging", bad, false},
		"no limit":   {change(laggingSample(), func(e *Environment) { e.MaxLag = 0 }), "protected", good, true},
		"first full": {newSample(), "first full backup", wait, false},
		"no full":    {change(newSample(), func(e *Environment) { e.Watch.State = archive.WatchRetrying }), "retrying", wait, false},
		"no store":   {change(newSample(), unreachedNow), "retrying", bad, false},
		"first look": {change(newSample(), func(e *Environment) { e.Watch.State = archive.WatchStarting }), "starting", wait, false},
		"broken":     {change(healthySample(), brokeBefore(10*time.Minute, false)), "protected anew", wait, true},
		"replaced":   {change(healthySample(), brokeBefore(10*time.Minute, true)), "replaced", bad, false},
		"long ago":   {change(healthySample(), brokeBefore(2*time.Hour, true)), "protected", good, true},
		"starting":   {change(healthySample(), func(e *Environment) { e.Watch.State = archive.WatchStarting }), "starting", wait, true},
		"failed":     {failedSample(), "failed", bad, false},
	} {
		v := judge(&c.env, noon)
		if v.Word != c.word || v.Tone != c.tone || v.Healthy != c.healthy || v.Healthy != (v.Reason == "") || v.Says == "" {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func unreachedNow(e *Environment) {
	e.Watch = archive.WatchStatus{Environment: "mail", State: archive.WatchRetrying, LastError: "connection refused", RetryingSince: noon.Add(-time.Minute)}
}

func brokeBefore(d time.Duration, replaced bool) func(*Environment) {
	return func(e *Environment) {
		e.Watch.Broken = archive.Break{At: noon.Add(-d), Why: "log file 7 was removed before it was shipped", Replaced: replaced}
	}
}

// TestWhatIsNotKnown: of a store that was not reached nothing is said that nobody knows, and a break of the chain stands where people look.
func TestWhatIsNotKnown(t *testing.T) {
	e := newSample()
	unreachedNow(&e)
	if _, _, body := get(t, sampleOf(e), "/healthz"); body != "mail: the store was not reached yet: connection refused\n" {
		t.Errorf("%q", body)
	}
	_, _, page := get(t, sampleOf(e), "/")
	_, _, metrics := get(t, sampleOf(e), "/metrics")
	for _, lie := range []string{"no full backup", "Nothing can be restored"} {
		if strings.Contains(page, lie) {
			t.Errorf("the page says %q", lie)
		}
	}
	for _, name := range []string{"bdbvault_lag_seconds", "bdbvault_last_full_timestamp_seconds", "bdbvault_last_ship_timestamp_seconds", "bdbvault_last_chain_break_timestamp_seconds"} {
		if strings.Contains(metrics, "\n"+name) {
			t.Errorf("there is a %s", name)
		}
	}
	e = healthySample()
	brokeBefore(10*time.Minute, false)(&e)
	if code, _, body := get(t, sampleOf(e), "/healthz"); code != 200 || !strings.Contains(body, "broke 10 min ago: log file 7 was removed") {
		t.Errorf("%d %q", code, body)
	}
	if _, _, body := get(t, sampleOf(e), "/metrics"); !strings.Contains(body, `bdbvault_last_chain_break_timestamp_seconds{environment="bank"} 1.`) {
		t.Error("no metric tells of the break")
	}
}

func TestHealth(t *testing.T) {
	for path, want := range map[string]struct {
		code int
		text string
	}{
		"/healthz":                  {503, "directory-server: lag is 26 h, more than 1 min\n"},
		"/healthz/bank":             {200, "bank: ok, lag 0 s\n"},
		"/healthz/directory-server": {503, "directory-server: lag is 26 h, more than 1 min\n"},
		"/healthz/mail":             {503, "mail: there is no full backup yet\n"},
		"/healthz/wiki":             {503, "wiki: the watch has ended: open environment /var/lib/wiki: permission denied\n"},
		"/healthz/nobody":           {404, "no such environment\n"},
	} {
		if code, _, body := get(t, everySample(), path); code != want.code || !strings.Contains(body, want.text) {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
	if code, _, body := get(t, sampleOf(healthySample()), "/healthz"); code != 200 {
		t.Errorf("a healthy one: %d %q", code, body)
	}
}

// TestHeaders: nothing may be added to what is served, nothing is served but what is meant to be, and nothing can be done through it.
func TestHeaders(t *testing.T) {
	for _, path := range []string{"/", "/metrics", "/healthz", "/status.json", "/nothing"} {
		code, h, body := get(t, everySample(), path)
		if csp := h.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; style-src 'sha256-") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: Content-Security-Policy %q", path, csp)
		}
		if path == "/nothing" && code != 404 {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	w := httptest.NewRecorder()
	Handler(everySample).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST / answers %d", w.Code)
	}
	_, _, on := get(t, everySample(), "/")
	_, _, off := get(t, everySample(), "/?refresh=off")
	if !strings.Contains(on, `http-equiv="refresh"`) || strings.Contains(off, `http-equiv="refresh"`) {
		t.Error("refreshing can't be stopped, or does not begin")
	}
}

func TestJSON(t *testing.T) {
	_, h, body := get(t, everySample(), "/status.json")
	var got struct {
		Repository   string
		Environments []struct {
			Healthy bool
			Reason  string
			MaxLag  float64 `json:"maxLagSeconds"`
			Watch   struct {
				Environment string
				LagSeconds  float64
				ShippedTo   string
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || h.Get("Content-Type") != "application/json" {
		t.Fatalf("%v, %s", err, h.Get("Content-Type"))
	}
	e := got.Environments
	if len(e) != 5 || !e[0].Healthy || e[1].Healthy || e[1].Watch.LagSeconds != 26*3600 || e[1].MaxLag != 60 || e[0].Watch.ShippedTo != "1155/1976006" || e[3].Reason == "" {
		t.Errorf("got %+v", got)
	}
}

// TestMetrics: names, units and help are as Prometheus wants them, and the numbers are the snapshot's.
func TestMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(newCollector(everySample))
	problems, err := testutil.GatherAndLint(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	_, _, body := get(t, everySample(), "/metrics")
	for _, line := range []string{
		`bdbvault_lag_seconds{environment="directory-server"} 93600`,
		`bdbvault_healthy{environment="bank"} 1`,
		`bdbvault_healthy{environment="directory-server"} 0`,
		`bdbvault_state{environment="directory-server",state="retrying"} 1`,
		`bdbvault_state{environment="directory-server",state="idle"} 0`,
		`bdbvault_ships_total{environment="bank"} 88001`,
		`bdbvault_store_requests_total{environment="bank",operation="put"} 88211`,
		`bdbvault_last_full_timestamp_seconds{environment="bank"} 1.`,
		`bdbvault_hot_backup_flag_held{environment="bank"} 1`,
		`bdbvault_last_drill_success{environment="bank"} 1`,
		`bdbvault_last_drill_success{environment="directory-server"} 0`,
		`bdbvault_last_successful_drill_duration_seconds{environment="directory-server"} 94`,
		`bdbvault_last_successful_drill_restored_age_seconds{environment="bank"} 1.4`,
		`bdbvault_last_successful_drill_bytes{environment="bank"} 5.32676608e+08`,
		`bdbvault_last_successful_drill_timestamp_seconds{environment="bank"} 1.`,
		`bdbvault_next_drill_timestamp_seconds{environment="bank"} 1.`,
		`bdbvault_drill_failures_total{environment="directory-server"} 1`,
		`bdbvault_build_info{version="0.1.0"} 1`,
		"process_resident_memory_bytes ",
	} {
		if !strings.Contains(body, "\n"+line) {
			t.Errorf("no %s", line)
		}
	}
}

// TestHeadlines: the first line says the worst there is.
func TestHeadlines(t *testing.T) {
	hiccup := healthySample()
	hiccup.Watch.State, hiccup.Watch.LagSeconds = archive.WatchRetrying, 5
	for want, list := range map[string][]Environment{
		"Nothing is being watched":            nil,
		"bank is protected":                   {healthySample()},
		"bank is retrying":                    {hiccup},
		"shop needs attention":                {laggingSample()},
		"All 2 environments are protected":    {healthySample(), healthySample()},
		"2 environments; bank is retrying":    {healthySample(), hiccup},
		"1 of 2 environments needs attention": {healthySample(), laggingSample()},
		"2 of 3 environments need attention":  {hiccup, failedSample(), laggingSample()},
	} {
		s := sampleOf(list...)
		if v := newView(&s); v.Headline != want || strings.Contains(v.Lead, "Every commit") != strings.Contains(want, "protected") {
			t.Errorf("got %q and %q, want %q", v.Headline, v.Lead, want)
		}
	}
}

// TestReadmeNamesMetrics: who writes an alarm finds every metric described.
func TestReadmeNamesMetrics(t *testing.T) {
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	descs := make(chan *prometheus.Desc, 100)
	newCollector(everySample).Describe(descs)
	close(descs)
	for d := range descs {
		_, name, _ := strings.Cut(d.String(), `fqName: "`)
		if name, _, _ = strings.Cut(name, `"`); !strings.Contains(string(readme), name) {
			t.Errorf("README says nothing of %s", name)
		}
	}
}

// TestTimeline: what can be restored, and what can't, is drawn where it belongs.
func TestTimeline(t *testing.T) {
	e := retryingSample()
	tl := drawTimeline(&e, noon)
	if len(tl.Held) != 2 || len(tl.Lost) != 1 || tl.Late == nil || len(tl.Fulls) != 5 {
		t.Fatalf("got %+v", tl)
	}
	// From 12 days ago: the gap is from 6 days 3 hours to 5 days ago, and the last 26 hours are late.
	a := axis{from: noon.Add(-12 * day), to: noon}
	if want := a.block(noon.Add(-6*day-3*time.Hour), noon.Add(-5*day), tl.Lost[0].Title); tl.Lost[0] != want {
		t.Errorf("lost %+v, want %+v", tl.Lost[0], want)
	}
	if want := a.block(noon.Add(-26*time.Hour), noon, tl.Late.Title); *tl.Late != want {
		t.Errorf("late %+v, want %+v", *tl.Late, want)
	}
	if !strings.Contains(tl.Desc, "with one gap") || !strings.Contains(tl.Desc, "The last 26 h are not in the store yet.") {
		t.Errorf("it is described as %q", tl.Desc)
	}

	quiet := healthySample() // nothing was committed for hours, and all of it is in the store: it can be restored as it is now
	quiet.Watch.ShippedCommit, quiet.Watch.NewestCommit = noon.Add(-5*time.Hour), noon.Add(-5*time.Hour)
	quiet.History.Ranges[0].ToTime = noon.Add(-5 * time.Hour)
	if tl := drawTimeline(&quiet, noon); tl.Late != nil || len(tl.Lost) > 0 || !strings.Contains(tl.Desc, "without a gap") {
		t.Errorf("a quiet one is drawn as %+v", tl)
	}
	unread := healthySample() // the store's history is not known yet: the last full backup and what was shipped since are
	unread.History = nil
	if tl := drawTimeline(&unread, noon); len(tl.Held) != 1 || len(tl.Fulls) != 1 {
		t.Errorf("an unread one is drawn as %+v", tl)
	}
	fresh := newSample()
	if tl := drawTimeline(&fresh, noon); tl != nil {
		t.Errorf("of nothing, %+v is drawn", tl)
	}
}

// TestLagBars: an outage shows although nothing was stored in it.
func TestLagBars(t *testing.T) {
	e := laggingSample()
	b := drawLag(&e, noon)
	over := 0
	for _, bar := range b.Bars {
		if bar.Class == "over" {
			over++
		}
	}
	// For 192 seconds at 12:04:31: at the ends of 12:02 and 12:03 and now it is more than the minute allowed.
	if over != 3 || b.Limit == 0 || !strings.Contains(b.Desc, "3 min 12 s") {
		t.Errorf("%d bars are over the limit; %+v", over, b)
	}
}

// TestAxis: ticks stand at round moments of the host's day, however long it is, and there are not many.
func TestAxis(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	local := time.Local
	time.Local = berlin
	defer func() { time.Local = local }()
	for _, length := range []time.Duration{10 * time.Minute, time.Hour, 7 * time.Hour, day, 3 * day, 14 * day, 100 * day, 900 * day, 4000 * day} {
		a := axis{from: time.Date(2026, 10, 22, 21, 13, 0, 0, berlin), to: time.Date(2026, 10, 22, 21, 13, 0, 0, berlin).Add(length)}
		ticks := a.ticks()
		if len(ticks) < 2 || len(ticks) > 8 {
			t.Errorf("%s: %d ticks", length, len(ticks))
		}
		for _, tick := range ticks[1:] {
			if length >= 14*day && strings.Contains(tick.Text, ":") {
				t.Errorf("%s: %q is no day", length, tick.Text)
			}
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 800 * time.Millisecond: "0.8 s", 42 * time.Second: "42 s", 60 * time.Second: "1 min", 192 * time.Second: "3 min 12 s",
		26 * time.Hour: "26 h", 49*time.Hour + time.Minute: "2 d 1 h", -time.Second: "0 s",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
}
