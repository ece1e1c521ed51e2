package status

import (
	"math"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"bdbvault/archive"
	"bdbvault/remote"
	"bdbvault/restore"
)

// metric is one of the metrics of an environment.
type metric struct {
	name, help string
	kind       prometheus.ValueType
	value      func(e *Environment, now time.Time) float64
}

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

// metrics are those with the label environment alone. README has a table of them.
var metrics = []metric{
	{"bdbvault_healthy", "Whether /healthz answers 200 for the environment (1) or 503 (0).", gauge,
		func(e *Environment, now time.Time) float64 { return truth(judge(e, now).Healthy) }},
	{"bdbvault_lag_seconds", "Measured recovery point: for how long there has been log that is not in the store.", gauge,
		func(e *Environment, _ time.Time) float64 { return e.knownLag() }},
	{"bdbvault_max_lag_seconds", "The lag past which the environment is not healthy, 0 if there is none.", gauge,
		func(e *Environment, _ time.Time) float64 { return e.MaxLag.Seconds() }},
	{"bdbvault_newest_commit_timestamp_seconds", "Time of the newest commit in the source's log.", gauge,
		func(e *Environment, _ time.Time) float64 { return unix(e.Watch.NewestCommit) }},
	{"bdbvault_shipped_commit_timestamp_seconds", "Time of the newest commit in the store.", gauge,
		func(e *Environment, _ time.Time) float64 { return unix(e.Watch.ShippedCommit) }},
	{"bdbvault_last_ship_timestamp_seconds", "When log was last stored; not there if it was not since the start.", gauge,
		func(e *Environment, _ time.Time) float64 { return unix(e.Watch.LastShip) }},
	{"bdbvault_last_full_timestamp_seconds", "When the newest full backup began; not there if there is none.", gauge,
		func(e *Environment, _ time.Time) float64 { return unix(e.Watch.LastFull) }},
	{"bdbvault_next_full_timestamp_seconds", "When the next full backup is due; not there if no schedule is set.", gauge,
		func(e *Environment, _ time.Time) float64 { return unix(e.Watch.NextFull) }},
	{"bdbvault_last_chain_break_timestamp_seconds", "When the log last did not continue what was stored; not there if that was not since the start.", gauge,
		func(e *Environment, _ time.Time) float64 { return unix(e.Watch.Broken.At) }},
	{"bdbvault_hot_backup_flag_held", "Whether the hot-backup flag is set, so that bulk loads are logged.", gauge,
		func(e *Environment, _ time.Time) float64 { return truth(e.Watch.Flag.Held) }},
	{"bdbvault_held_removed_log_bytes", "Log that was removed on the source and is kept open until it is stored.", gauge,
		func(e *Environment, _ time.Time) float64 { return float64(e.Watch.Held.RemovedBytes) }},
	{"bdbvault_next_drill_timestamp_seconds", "When the next drill is due; not there if no schedule is set.", gauge,
		func(e *Environment, _ time.Time) float64 { return unix(e.Drills.Next) }},
	{"bdbvault_drill_running", "Whether the watch is drilling at this moment.", gauge,
		func(e *Environment, _ time.Time) float64 { return truth(!e.Drills.Since.IsZero()) }},
	{"bdbvault_drills_total", "Drills that the watch did and that passed.", counter,
		func(e *Environment, _ time.Time) float64 { return float64(e.Drills.Passed) }},
	{"bdbvault_drill_failures_total", "Drills that the watch did and that failed.", counter,
		func(e *Environment, _ time.Time) float64 { return float64(e.Drills.Failed) }},
	ofDrill("bdbvault_last_drill_timestamp_seconds", "When the newest drill that is stored began, whoever did it; not there if there is none.", (*Drills).last,
		func(s *restore.DrillSummary) float64 { return unix(s.Started) }),
	ofDrill("bdbvault_last_drill_success", "Whether that drill passed.", (*Drills).last, func(s *restore.DrillSummary) float64 { return truth(s.Passed()) }),
	ofDrill("bdbvault_last_successful_drill_timestamp_seconds", "When the newest drill that passed began; not there if there is none.", (*Drills).passed,
		func(s *restore.DrillSummary) float64 { return unix(s.Started) }),
	ofDrill("bdbvault_last_successful_drill_duration_seconds", "How long that took.", (*Drills).passed, func(s *restore.DrillSummary) float64 { return s.Seconds }),
	ofDrill("bdbvault_last_successful_drill_bytes", "How much that restored: files, and log replayed.", (*Drills).passed,
		func(s *restore.DrillSummary) float64 { return float64(s.Bytes) }),
	ofDrill("bdbvault_last_successful_drill_restored_age_seconds", "How old the newest commit was that it brought back, when it began.", (*Drills).passed,
		func(s *restore.DrillSummary) float64 { return known(s.AgeSeconds) }),
	counts("bdbvault_hot_backup_flag_losses_total", "How often a restart of the application dropped the hot-backup flag.", func(w *archive.WatchStatus) int64 { return w.Flag.Lost }),
	counts("bdbvault_ships_total", "Times that log was stored.", func(w *archive.WatchStatus) int64 { return w.Counters.Ships }),
	counts("bdbvault_ship_failures_total", "Attempts to store log that failed.", func(w *archive.WatchStatus) int64 { return w.Counters.ShipFailures }),
	counts("bdbvault_segments_total", "Segments stored.", func(w *archive.WatchStatus) int64 { return w.Counters.Segments }),
	counts("bdbvault_shipped_log_bytes_total", "Log in stored segments, before compression; what is merged counts again.", func(w *archive.WatchStatus) int64 { return w.Counters.LogBytes }),
	counts("bdbvault_shipped_stored_bytes_total", "Size of stored segments.", func(w *archive.WatchStatus) int64 { return w.Counters.StoredBytes }),
	counts("bdbvault_shipped_commits_total", "Commits in stored segments.", func(w *archive.WatchStatus) int64 { return w.Counters.Commits }),
	counts("bdbvault_fulls_total", "Full backups taken.", func(w *archive.WatchStatus) int64 { return w.Counters.Fulls }),
	counts("bdbvault_full_failures_total", "Full backups that failed.", func(w *archive.WatchStatus) int64 { return w.Counters.FullFailures }),
	counts("bdbvault_full_stored_bytes_total", "Size of the packs and maps that full backups stored.", func(w *archive.WatchStatus) int64 { return w.Counters.FullBytes }),
	counts("bdbvault_chain_breaks_total", "Times that the log did not continue what was stored, each followed by a full backup.", func(w *archive.WatchStatus) int64 { return w.Counters.ChainBreaks }),
	counts("bdbvault_removed_logs_total", "Log files removed from the source after they were stored.", func(w *archive.WatchStatus) int64 { return w.Counters.LogsRemoved }),
	counts("bdbvault_removed_log_bytes_total", "Size of those log files.", func(w *archive.WatchStatus) int64 { return w.Counters.LogBytesRemoved }),
}

func counts(name, help string, value func(*archive.WatchStatus) int64) metric {
	return metric{name, help, counter, func(e *Environment, _ time.Time) float64 { return float64(value(&e.Watch)) }}
}

// ofDrill is a metric of one of the drills, not there if there is none.
func ofDrill(name, help string, which func(*Drills) *restore.DrillSummary, value func(*restore.DrillSummary) float64) metric {
	return metric{name, help, gauge, func(e *Environment, _ time.Time) float64 {
		if s := which(&e.Drills); s != nil {
			return value(s)
		}
		return unknown
	}}
}

// states are all states of a watch, each a value of the label state.
var states = []archive.WatchState{archive.WatchStarting, archive.WatchIdle, archive.WatchShipping, archive.WatchBackingUp, archive.WatchRetrying, archive.WatchStopped}

// knownLag is the lag in seconds, unknown until the watch has found its place.
func (e *Environment) knownLag() float64 {
	if e.lag() == 0 && e.Watch.ShippedTo.IsZero() {
		return unknown
	}
	return e.lag().Seconds()
}

// collector makes metrics of a snapshot at the moment it is asked for them.
type collector struct {
	snapshot func() Snapshot
	plain    []*prometheus.Desc
	state    *prometheus.Desc
	requests *prometheus.Desc
	retries  *prometheus.Desc
	sent     *prometheus.Desc
	received *prometheus.Desc
	build    *prometheus.Desc
}

const byEnvironment = "environment"

func newCollector(snapshot func() Snapshot) *collector {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	c := &collector{
		snapshot: snapshot,
		state:    describe("bdbvault_state", "What the watch is about: 1 for the state it is in.", byEnvironment, "state"),
		requests: describe("bdbvault_store_requests_total", "Requests to the store, failed ones included.", byEnvironment, "operation"),
		retries:  describe("bdbvault_store_retries_total", "Requests that were repeated.", byEnvironment),
		sent:     describe("bdbvault_store_sent_bytes_total", "Bytes sent to the store, second tries included.", byEnvironment),
		received: describe("bdbvault_store_received_bytes_total", "Bytes received from the store.", byEnvironment),
		build:    describe("bdbvault_build_info", "The version that runs; always 1.", "version"),
	}
	for _, m := range metrics {
		c.plain = append(c.plain, describe(m.name, m.help, byEnvironment))
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range append([]*prometheus.Desc{c.state, c.requests, c.retries, c.sent, c.received, c.build}, c.plain...) {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.snapshot()
	ch <- prometheus.MustNewConstMetric(c.build, gauge, 1, s.Version)
	for i := range s.Environments {
		e := &s.Environments[i]
		name := e.Watch.Environment
		for j, m := range metrics {
			if v := m.value(e, s.Now); !math.IsNaN(v) {
				ch <- prometheus.MustNewConstMetric(c.plain[j], m.kind, v, name)
			}
		}
		for _, state := range states {
			ch <- prometheus.MustNewConstMetric(c.state, gauge, truth(e.Watch.State == state), name, string(state))
		}
		c.store(ch, name, e.Watch.Store)
	}
}

func (c *collector) store(ch chan<- prometheus.Metric, name string, s remote.Stats) {
	for _, k := range s.Requests.ByKind() {
		ch <- prometheus.MustNewConstMetric(c.requests, counter, float64(k.N), name, k.Kind)
	}
	ch <- prometheus.MustNewConstMetric(c.retries, counter, float64(s.Retries), name)
	ch <- prometheus.MustNewConstMetric(c.sent, counter, float64(s.Sent), name)
	ch <- prometheus.MustNewConstMetric(c.received, counter, float64(s.Received), name)
}

// metricsHandler serves the environments' metrics, and those of the process and of Go.
func metricsHandler(snapshot func() Snapshot) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(newCollector(snapshot), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// unknown is the value of a metric that is left out: 0 would be a lag that nobody measured, or a moment in 1970.
var unknown = math.NaN()

func known(v *float64) float64 {
	if v == nil {
		return unknown
	}
	return *v
}

// unix is a moment as Prometheus wants it.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return unknown
	}
	return float64(t.UnixMilli()) / 1000
}
