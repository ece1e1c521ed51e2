// Package status shows how a running watch is doing: to people as a page, to Prometheus as metrics, to load balancers and watchdogs as a
// yes or no, to programs as JSON. It is given plain data, a Snapshot, and knows neither store nor environment.
//
//	/                  the page
//	/metrics           for Prometheus
//	/healthz           200 or 503 and why, one line for each environment; /healthz/NAME for one alone
//	/status.json       everything the page is drawn of
//
// The page is drawn on the server and has no script: style sheet and pictures are part of it, and its Content-Security-Policy forbids
// everything else. It is the same for every reader and nothing can be done through it.
package status

import (
	"encoding/json"
	"net/http"
	"time"

	"bdbvault/archive"
	"bdbvault/restore"
)

// Snapshot is everything that is shown.
type Snapshot struct {
	Now          time.Time     `json:"now"`
	Version      string        `json:"version"`
	Host         string        `json:"host"`
	Repository   string        `json:"repository"`
	Started      time.Time     `json:"started"`
	Environments []Environment `json:"environments"`
}

// Environment is one environment under watch.
type Environment struct {
	Watch     archive.WatchStatus `json:"watch"`
	MaxLag    time.Duration       `json:"-"`                  // past it the environment is not healthy; 0: there is no limit
	Limit     float64             `json:"maxLagSeconds"`      // the same, filled in when it is shown
	History   *restore.History    `json:"history"`            // what the store has, nil until it was read
	HistoryAt time.Time           `json:"historyAt,omitzero"` // when that was
	Drills    Drills              `json:"drills"`
	Events    []Event             `json:"events"`           // newest last
	Healthy   bool                `json:"healthy"`          // filled in when it is shown
	Reason    string              `json:"reason,omitempty"` // why it is not
	Failed    string              `json:"failed,omitempty"` // the watch has ended with this error
	NextTry   time.Time           `json:"nextTry,omitzero"` // when it is started again
}

// Drills are how it stands with rehearsed restores.
type Drills struct {
	Scheduled bool                  `json:"scheduled"`         // the watch does them
	Next      time.Time             `json:"next,omitzero"`     // when the next one is due
	Since     time.Time             `json:"since,omitzero"`    // since when one runs
	Passed    int64                 `json:"passed"`            // of the watch's own since it was started
	Failed    int64                 `json:"failed"`            // likewise
	Problem   string                `json:"problem,omitempty"` // of the last one, if nothing was stored of it
	History   *restore.DrillHistory `json:"history"`           // what the store has, nil until it was read
}

// last is the newest drill, nil if there is none or none is known.
func (d *Drills) last() *restore.DrillSummary {
	if d.History == nil {
		return nil
	}
	return d.History.Last
}

// passed is the newest that passed, likewise.
func (d *Drills) passed() *restore.DrillSummary {
	if d.History == nil {
		return nil
	}
	return d.History.LastPassed
}

// Event is something that happened.
type Event struct {
	Time  time.Time `json:"time"`
	Text  string    `json:"text"`
	Wrong bool      `json:"wrong"` // it should not happen
}

// lag is for how long there has been log that is not in the store.
func (e *Environment) lag() time.Duration {
	return time.Duration(e.Watch.LagSeconds * float64(time.Second))
}

// security forbids whatever the page does not need, which is nearly everything.
func security(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; style-src "+styleSource+"; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// Handler serves what snapshot returns at the moment of each request.
func Handler(snapshot func() Snapshot) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { servePage(w, r, snapshot()) })
	mux.HandleFunc("GET /status.json", func(w http.ResponseWriter, _ *http.Request) { serveJSON(w, snapshot()) })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { serveHealth(w, snapshot(), "") })
	mux.HandleFunc("GET /healthz/{name}", func(w http.ResponseWriter, r *http.Request) { serveHealth(w, snapshot(), r.PathValue("name")) })
	mux.Handle("GET /metrics", metricsHandler(snapshot))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		security(w.Header())
		mux.ServeHTTP(w, r)
	})
}

// Server is an HTTP server for h with limits on everything that a client could hold up.
func Server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}

func serveJSON(w http.ResponseWriter, s Snapshot) {
	for i := range s.Environments {
		e := &s.Environments[i]
		v := judge(e, s.Now)
		e.Healthy, e.Reason, e.Limit = v.Healthy, v.Reason, e.MaxLag.Seconds()
	}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	enc.Encode(s) // a reader that has gone is no error of ours
}
