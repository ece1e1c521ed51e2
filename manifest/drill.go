package manifest

import (
	"fmt"
	"time"

	"bdbvault/localenv/bdb"
)

const drillFormat = 1

// Limits of what a record of a drill names one by one.
const (
	MaxDrillDatabases = 1000
	MaxDrillLines     = 100 // of damage, and of notes
)

// DrillResult is what a drill came to.
type DrillResult string

// Results of a drill.
const (
	DrillPassed  DrillResult = "passed"  // all that was asked for came back, and every database verified
	DrillFailed  DrillResult = "failed"  // something else than what is stored was in the way: no room, no engine, a wrong password
	DrillDamaged DrillResult = "damaged" // what is stored is damaged or incomplete, or did not become what it must be
)

// Drill is the record of one restore drill: what was restored from what, how far it came, how long everything took, and what proves it. It is written
// for drills that failed as well. Nothing in it is needed to restore anything.
type Drill struct {
	Format      int       `json:"format"`
	ID          BackupID  `json:"id"` // by the clock of the host, when the drill began
	Environment string    `json:"environment"`
	Repository  Timeline  `json:"repository"` // its id
	Location    string    `json:"location"`   // of the repository, as the host names it
	Started     time.Time `json:"started"`    // by the clock of the host
	Finished    time.Time `json:"finished"`
	StoreClock  time.Time `json:"storeClock,omitzero"` // the store's, when the drill began; absent if it told none

	Host      string `json:"host"`
	User      string `json:"user"`      // that ran it there
	Scheduled bool   `json:"scheduled"` // by a watch, and not by hand
	Tool      string `json:"tool"`
	Engine    string `json:"engine"` // that recovered and verified; empty: it came not so far

	Target         string    `json:"target"`                   // what was asked for, in words
	Backup         BackupID  `json:"backup"`                   // empty: no plan could be made
	BackupSHA256   *Hash     `json:"backupSHA256,omitempty"`   // of the bytes of the manifest
	BackupStarted  time.Time `json:"backupStarted,omitzero"`   // by the clock of the source
	BackupHost     string    `json:"backupHost,omitempty"`     // the source
	BackupHome     string    `json:"backupHome,omitempty"`     // its home
	Encrypted      bool      `json:"encrypted"`                // the environment is
	Timeline       Timeline  `json:"timeline,omitzero"`        // whose log was replayed
	NoLog          bool      `json:"noLog,omitempty"`          // the environment had none: what was copied is what came back, and there is no End
	End            bdb.LSN   `json:"end,omitzero"`             // the restored history ends just before this LSN
	EndTime        time.Time `json:"endTime,omitzero"`         // of the last commit before it, by the clock of the source
	AgeSeconds     *float64  `json:"ageSeconds,omitempty"`     // how old that commit was when the drill began; absent if it is not known
	Files          int       `json:"files"`                    // of the backup
	Bytes          int64     `json:"bytes"`                    // of these
	LogBytes       int64     `json:"logBytes"`                 // laid down
	Segments       int       `json:"segments"`                 // that held them
	Commits        int64     `json:"commits"`                  // in the log laid down
	RecoveryPasses int       `json:"recoveryPasses,omitempty"` // of the engine over the log

	Phases   []DrillPhase  `json:"phases"` // in order, as far as the drill came
	Requests DrillRequests `json:"requests"`
	Received int64         `json:"received"` // bytes of objects

	Verified      int             `json:"verified"`      // databases that verified
	Pages         int64           `json:"pages"`         // of these
	DatabaseCount int             `json:"databaseCount"` // looked at, with those that did not verify
	Databases     []DrillDatabase `json:"databases"`     // at most MaxDrillDatabases of them

	Result  DrillResult `json:"result"`
	Phase   string      `json:"phase,omitempty"`  // in which it failed
	Error   string      `json:"error,omitempty"`  // and why
	Damage  []string    `json:"damage,omitempty"` // objects, files and databases, at most MaxDrillLines
	Notes   []string    `json:"notes,omitempty"`  // at most MaxDrillLines
	Cleared bool        `json:"cleared"`          // nothing of the restored files was left on the host
}

// DrillPhase is a part of a drill.
type DrillPhase struct {
	Name     string  `json:"name"`
	Seconds  float64 `json:"seconds"`
	Bytes    int64   `json:"bytes"` // worked on: written, laid down, replayed, verified
	Received int64   `json:"received"`
	Requests int64   `json:"requests"`
}

// DrillRequests are the requests that a drill sent to the store, failed ones included.
type DrillRequests struct {
	Put    int64 `json:"put"`
	Open   int64 `json:"open"`
	Stat   int64 `json:"stat"`
	List   int64 `json:"list"`
	Delete int64 `json:"delete"`
}

// DrillDatabase is a database that was looked at after recovery.
type DrillDatabase struct {
	Path    string   `json:"path"` // in the restored home
	Kind    bdb.Kind `json:"kind"`
	Pages   int64    `json:"pages"`
	Problem string   `json:"problem,omitempty"` // why it did not verify
}

// NewDrill returns an empty record of the current format.
func NewDrill(env string, id BackupID) *Drill {
	return &Drill{Format: drillFormat, ID: id, Environment: env, Phases: []DrillPhase{}, Databases: []DrillDatabase{}}
}

// DrillsPrefix is the prefix of the records of an environment's drills.
func DrillsPrefix(env string) string { return env + "/drills/" }

// DrillKey is the key of the record of one drill.
func DrillKey(env string, id BackupID) string { return DrillsPrefix(env) + string(id) + ".json" }

// ParseDrillKey takes the id out of a key below DrillsPrefix.
func ParseDrillKey(env, key string) (BackupID, error) {
	return parseID(DrillsPrefix(env), key, "the record of a drill")
}

// Duration is how long the drill took.
func (d *Drill) Duration() time.Duration { return d.Finished.Sub(d.Started) }

// Check reports the first thing in d that can't be.
func (d *Drill) Check() error {
	if _, err := ParseBackupID(string(d.ID)); err != nil {
		return err
	}
	if err := CheckEnv(d.Environment); err != nil {
		return err
	}
	if d.Backup != "" {
		if _, err := ParseBackupID(string(d.Backup)); err != nil {
			return err
		}
	}
	switch d.Result {
	case DrillPassed, DrillFailed, DrillDamaged:
	default:
		return fmt.Errorf("drill %s: result %q", d.ID, d.Result)
	}
	if d.Format < 1 || d.Result == DrillPassed && (d.Error != "" || d.Backup == "" || d.End.IsZero() != d.NoLog) || d.Result != DrillPassed && d.Error == "" {
		return fmt.Errorf("drill %s: impossible values", d.ID)
	}
	return nil
}

// Encode writes a record.
func (d *Drill) Encode() ([]byte, error) {
	if err := d.Check(); err != nil {
		return nil, fmt.Errorf("encode drill: %w", err)
	}
	return seal("drill", d)
}

// DecodeDrill reads what Encode writes and checks it.
func DecodeDrill(data []byte) (*Drill, error) {
	d := new(Drill)
	if err := unseal("drill", drillFormat, data, d); err != nil {
		return nil, err
	}
	if err := d.Check(); err != nil {
		return nil, fmt.Errorf("drill: %w: %w", err, ErrDamaged)
	}
	return d, nil
}
