package archive

import (
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/manifest"
	"bdbvault/remote"
)

// Schedule says when full backups are due.
type Schedule interface {
	// Next is when the next one is due if the last one began at after. The zero time: never.
	Next(after time.Time) time.Time
}

// Every is the Schedule of an interval.
type Every time.Duration

// Next implements Schedule.
func (e Every) Next(after time.Time) time.Time { return after.Add(time.Duration(e)) }

// WatchOptions say how to watch an environment.
type WatchOptions struct {
	Env      string // name of the environment in the repository
	StateDir string
	Tool     string // name and version, for manifests

	ShipEvery time.Duration // log is sent at most this often; a second if zero
	PollEvery time.Duration // how often the log is looked at even if nothing is heard of a change; ShipEvery if zero
	Full      Schedule      // of full backups; nil: only when the chain needs one

	// RemoveShippedLogs has log files removed from the source that neither recovery nor the repository needs there any more.
	RemoveShippedLogs bool

	// Of full backups; see BackupOptions. BulkSafe also says whether the hot-backup flag is held for as long as the watch runs.
	BulkSafe     string
	Checkpoint   bool
	ReadAll      bool
	AllowDamaged bool
	Lock         Lock     // also of log
	Progress     Progress // hears of full backups

	// Engine says how to start the child that joins the environment; nil: it is never joined. Home and LogEnd are filled in by the watch.
	Engine *engine.Options

	// OnEvent is told what happens, by several goroutines but one at a time; it must return soon.
	OnEvent func(Event)

	// Step is called with the name of each step before it is taken; an error fails it. It is where tests break things.
	Step func(name string) error
}

// EventKind says what happened.
type EventKind string

// Kinds of events.
const (
	EventStarted     EventKind = "started"         // the watch has found its place in the log
	EventShipped     EventKind = "shipped"         // log was stored; Ship
	EventFullBegun   EventKind = "full begun"      // a full backup begins; Text says why
	EventFullDone    EventKind = "full done"       // it is stored; Full
	EventFullFailed  EventKind = "full failed"     // Err; it is tried again
	EventChainBroken EventKind = "chain broken"    // the log does not continue what is stored; Text says why
	EventReplaced    EventKind = "replaced"        // another environment lies in the home; its history begins beside the old one's, under the same name
	EventRetrying    EventKind = "retrying"        // something fails for the first time, or in another way than before; Err
	EventRecovered   EventKind = "recovered"       // what failed works again
	EventReopened    EventKind = "reopened"        // the environment was gone or made anew, and is looked at afresh
	EventFlagHeld    EventKind = "flag held"       // hot-backup-in-progress is set
	EventFlagLost    EventKind = "flag lost"       // the application made its regions anew: bulk loads since are not in the log
	EventFlagMissing EventKind = "flag not held"   // it can't be set; Err
	EventLogRemoved  EventKind = "log removed"     // a log file was removed from the source; LogFile, Bytes
	EventLogKept     EventKind = "log not removed" // RemoveShippedLogs does not remove anything; Text says why
	EventLogLetGo    EventKind = "log let go"      // removed log files that were held until they are stored had to go; Text says why
	EventNote        EventKind = "note"            // anything else that a person should know
	EventStopped     EventKind = "stopped"         // the watch has ended
)

// Event is something that happened to a watch.
type Event struct {
	Time    time.Time
	Kind    EventKind
	Text    string // one line for a person
	Err     error
	Ship    *ShipResult
	Full    *BackupResult
	LogFile uint32
	Bytes   int64
}

// WatchState says what a watch is about.
type WatchState string

// States of a watch.
const (
	WatchStarting  WatchState = "starting"   // it looks for its place
	WatchIdle      WatchState = "idle"       // all log is stored
	WatchShipping  WatchState = "shipping"   // log is being stored
	WatchBackingUp WatchState = "backing up" // a full backup runs, and log is stored meanwhile if there is a chain that it continues
	WatchRetrying  WatchState = "retrying"   // something fails: LastError
	WatchStopped   WatchState = "stopped"
)

// WatchStatus is what there is to know about a watch at a moment. Times are in UTC.
type WatchStatus struct {
	Environment string            `json:"environment"`
	Home        string            `json:"home"`
	State       WatchState        `json:"state"`
	Started     time.Time         `json:"started"`
	Timeline    manifest.Timeline `json:"timeline"` // zero: none yet

	LogEnd        bdb.LSN   `json:"logEnd"`                 // of the source, as last seen
	ShippedTo     bdb.LSN   `json:"shippedTo"`              // everything before it is stored
	NewestCommit  time.Time `json:"newestCommit,omitzero"`  // of the source, as last read; to the second, by the application's clock
	ShippedCommit time.Time `json:"shippedCommit,omitzero"` // newest in the store

	// LagSeconds is the recovery point: for how long there has been log that is not stored. All that was committed before is. 0: nothing is missing.
	LagSeconds float64   `json:"lagSeconds"`
	LagSince   time.Time `json:"lagSince,omitzero"`

	LastShip time.Time         `json:"lastShip,omitzero"`
	LastFull time.Time         `json:"lastFull,omitzero"` // when it began
	FullID   manifest.BackupID `json:"fullID,omitempty"`
	NextFull time.Time         `json:"nextFull,omitzero"`
	// FullSince is when the full backup that is running began.
	FullSince time.Time `json:"fullSince,omitzero"`

	Flag     FlagStatus    `json:"flag"`
	Held     HeldLog       `json:"held"`
	Counters WatchCounters `json:"counters"`
	Store    remote.Stats  `json:"store"` // of the whole bucket: shared by the environments of one repository

	LastError     string    `json:"lastError,omitempty"` // stays when it has passed
	LastErrorAt   time.Time `json:"lastErrorAt,omitzero"`
	RetryingSince time.Time `json:"retryingSince,omitzero"`

	Broken Break `json:"broken,omitzero"` // the last one since the watch began

	Turned time.Time `json:"turned"` // the loop of the watch went round, which it does while nothing happens too

	History []Sample `json:"history"` // oldest first, of bounded length
}

// Break tells of a moment at which the log did not continue what is stored.
type Break struct {
	At       time.Time `json:"at"`
	Why      string    `json:"why"`
	Replaced bool      `json:"replaced,omitempty"` // another environment lay in the home
}

// FlagStatus tells of the hot-backup flag.
type FlagStatus struct {
	Asked string    `json:"asked"` // BulkAuto, BulkRequire or BulkOff
	Held  bool      `json:"held"`
	Since time.Time `json:"since,omitzero"`  // it has been as it is
	Why   string    `json:"why,omitempty"`   // it is not held
	Lost  int64     `json:"lost"`            // how often an application's restart dropped it
	Gap   time.Time `json:"lostAt,omitzero"` // the last time
}

// HeldLog are the log files that the watch keeps open until they are stored.
type HeldLog struct {
	Files        int   `json:"files"`
	RemovedFiles int   `json:"removedFiles"` // of those, without a name any more: their space is free only when they are let go
	RemovedBytes int64 `json:"removedBytes"`
}

// WatchCounters count since the watch began.
type WatchCounters struct {
	Ships           int64 `json:"ships"`
	Segments        int64 `json:"segments"`
	LogBytes        int64 `json:"logBytes"`    // of the log, in those segments; those that were merged count again
	StoredBytes     int64 `json:"storedBytes"` // of those segments in the store
	Records         int64 `json:"records"`
	Commits         int64 `json:"commits"`
	ShipFailures    int64 `json:"shipFailures"`
	Fulls           int64 `json:"fulls"`
	FullBytes       int64 `json:"fullBytes"` // of packs and maps that they stored
	FullFailures    int64 `json:"fullFailures"`
	ChainBreaks     int64 `json:"chainBreaks"`
	Reopened        int64 `json:"reopened"`
	LogsRemoved     int64 `json:"logsRemoved"`
	LogBytesRemoved int64 `json:"logBytesRemoved"`
	LogsLetGo       int64 `json:"logsLetGo"`
}

// Sample is one thing that was stored. Ships of a minute are one sample.
type Sample struct {
	Time   time.Time `json:"time"` // for ships: the minute's beginning
	Full   bool      `json:"full,omitempty"`
	Count  int64     `json:"count"`
	Bytes  int64     `json:"bytes"`  // of log, or of pages that changed
	Stored int64     `json:"stored"` // in the store
	MaxLag float64   `json:"maxLag"` // seconds
}
