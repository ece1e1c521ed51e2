package restore

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/manifest"
)

// ErrNoBackup says that there is no backup to restore from.
var ErrNoBackup = errors.New("there is no full backup to restore from")

// ErrEnvironment says that it is not clear which environment is meant.
var ErrEnvironment = errors.New("which environment?")

// ErrPassword says that the environment is encrypted and that the password is wrong or was not given.
var ErrPassword = errors.New("the environment is encrypted, and the password is wrong or missing")

// NotFoundError says that an environment has no backup of that id.
type NotFoundError struct {
	Environment string
	Backup      manifest.BackupID
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("environment %s has no backup %s", e.Environment, e.Backup)
}

// UnusableError says why a backup can't be restored.
type UnusableError struct {
	Backup manifest.BackupID
	Err    error
}

func (e *UnusableError) Error() string {
	return fmt.Sprintf("backup %s can't be used: %v", e.Backup, e.Err)
}
func (e *UnusableError) Unwrap() error { return e.Err }

// UnreachableError says that what a restore was to end at is not in the store, and what can be reached instead.
type UnreachableError struct {
	Environment string
	Target      Target
	Ranges      []Range   // of what can be restored, oldest first; empty: not known, or nothing
	Newest      time.Time // the target is a time, and the log that is stored ends with a commit of then: nobody knows of others before the target. Else zero
	Err         error     // why, such as *manifest.GapError; nil: it lies before or behind all that is stored
}

func (e *UnreachableError) Error() string {
	s := fmt.Sprintf("%s of environment %s can't be reached", e.Target, e.Environment)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	for _, r := range e.Ranges {
		s += fmt.Sprintf("; timeline %s can be restored from LSN %s to %s", r.Timeline, r.From, r.To)
	}
	return s
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// AmbiguousError lists the commits of several transactions that had the same id, one after the other.
type AmbiguousError struct {
	Txn     TxnID
	Commits []CommitPoint // in log order, at most MaxMatches of them
}

// MaxMatches is how many commits an AmbiguousError lists.
const MaxMatches = 20

func (e *AmbiguousError) Error() string {
	var list []string
	for _, c := range e.Commits {
		list = append(list, fmt.Sprintf("LSN %s of %s", c.LSN, c.Time.Format(time.RFC3339)))
	}
	return fmt.Sprintf("several transactions had the id %s: %s", e.Txn, strings.Join(list, ", "))
}

// LogEndError says that the log would end before something that the copied pages already hold.
type LogEndError struct {
	End          bdb.LSN
	ConsistentAt bdb.LSN
	MaxPageLSN   bdb.LSN
}

func (e *LogEndError) Error() string {
	if e.End.Before(e.ConsistentAt) {
		return fmt.Sprintf("the log would end at LSN %s, but the copied pages are consistent only from %s on", e.End, e.ConsistentAt)
	}
	return fmt.Sprintf("the log would end at LSN %s, but a copied page holds a change of LSN %s", e.End, e.MaxPageLSN)
}

// TargetError says why a directory can't be restored into.
type TargetError struct {
	Dir      string
	Problem  string
	NotEmpty bool  // something is there that a delta restore could perhaps make use of
	Err      error // may be nil
}

func (e *TargetError) Error() string {
	s := fmt.Sprintf("restore into %s: %s", e.Dir, e.Problem)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *TargetError) Unwrap() error { return e.Err }

// ConfigError names a line of the backup's DB_CONFIG that points outside the home.
type ConfigError struct {
	Line    int    // 0: the directory was not set by DB_CONFIG
	Text    string // the setting, as "set_data_dir /srv/data"
	Problem string
}

func (e *ConfigError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("the environment's %s: %s", e.Text, e.Problem)
	}
	return fmt.Sprintf("DB_CONFIG line %d, %q: %s", e.Line, e.Text, e.Problem)
}

// NameError names a file that the manifest or the log would have outside the target.
type NameError struct {
	Name    string
	LSN     bdb.LSN // the log record that says so; zero: the manifest
	Problem string
}

func (e *NameError) Error() string {
	where := "the manifest"
	if !e.LSN.IsZero() {
		where = fmt.Sprintf("the log at LSN %s", e.LSN)
	}
	return fmt.Sprintf("%s names %q: %s", where, e.Name, e.Problem)
}

// PageRange is a row of pages, both ends included.
type PageRange struct {
	First uint32 `json:"first"`
	Last  uint32 `json:"last"`
}

// FileDamage is what can't be brought back of one file.
type FileDamage struct {
	Path   string      // in the home
	Pages  []PageRange // nil: none of it
	Object string      // the first stored object that is missing or damaged
	Err    error       // what is wrong with it
}

func (d FileDamage) String() string { return fmt.Sprintf("%s: %v", d.place(), d.Err) }

// place is the file and its pages.
func (d FileDamage) place() string {
	pages := make([]string, 0, len(d.Pages))
	for _, p := range d.Pages {
		if len(pages) == 8 {
			pages = append(pages, fmt.Sprintf("and %d more", len(d.Pages)-8))
			break
		}
		pages = append(pages, p.String())
	}
	what := "the whole file"
	if len(pages) > 0 {
		what = "pages " + strings.Join(pages, ", ")
	}
	return d.Path + ", " + what
}

func (p PageRange) String() string {
	if p.First == p.Last {
		return fmt.Sprint(p.First)
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

// LogDamage is a stored piece of the log that is missing or not what it has to be.
type LogDamage struct {
	Object string
	Err    error
}

func (d LogDamage) String() string { return d.Err.Error() }

// ObjectDamage is a stored object with bad bytes of which the restore needed none.
type ObjectDamage struct {
	Object string
	Err    error
}

// DamageError lists what the store can't give back.
type DamageError struct {
	Backup   manifest.BackupID
	Files    []FileDamage
	Logs     []LogDamage
	Objects  []ObjectDamage
	LogGood  bdb.LSN // the log is right up to here, the pages everywhere; zero: it isn't, or not as far as the backup needs it
	Complete bool    // the damage is in bytes that were not needed: the home is whole all the same
}

func (e *DamageError) Error() string {
	var lines []string
	for _, f := range e.Files {
		lines = append(lines, f.String())
	}
	for _, l := range e.Logs {
		lines = append(lines, l.String())
	}
	for _, o := range e.Objects {
		lines = append(lines, o.Err.Error())
	}
	const most = 20
	if n := len(lines); n > most {
		lines = append(lines[:most], fmt.Sprintf("and %d more", n-most))
	}
	head := fmt.Sprintf("backup %s is damaged and can't be brought back whole", e.Backup)
	if e.Complete {
		head = fmt.Sprintf("backup %s was brought back whole, but what is stored of it has damage elsewhere", e.Backup)
	}
	return head + ": " + strings.Join(lines, "; ")
}

// Unwrap makes it a manifest.ErrDamaged.
func (e *DamageError) Unwrap() error { return manifest.ErrDamaged }

// MissingError says that recovery ended, but that the home is not what manifest and log say it must be.
type MissingError struct {
	Missing  []string // what must exist and does not
	Returned []string // what the log removed and is there
	Wrong    []string // there, but not usable, with the reason
}

func (e *MissingError) Error() string {
	var parts []string
	add := func(head string, list []string) {
		if len(list) > 0 {
			parts = append(parts, head+" "+strings.Join(list, ", "))
		}
	}
	add("missing after recovery:", e.Missing)
	add("removed by the log, but there:", e.Returned)
	add("not as it must be:", e.Wrong)
	return strings.Join(parts, "; ")
}

// VerifyError lists databases that the engine finds damaged after recovery.
type VerifyError struct {
	Files []string
	Err   error // of the first
}

func (e *VerifyError) Error() string {
	return fmt.Sprintf("verification of %s: %v", strings.Join(e.Files, ", "), e.Err)
}

func (e *VerifyError) Unwrap() error { return e.Err }

// RecoveryError says that the engine could not recover what was laid down.
type RecoveryError struct {
	End bdb.LSN // how far the log reached that it was given
	Err error
}

func (e *RecoveryError) Error() string { return fmt.Sprintf("recovery up to LSN %s: %v", e.End, e.Err) }
func (e *RecoveryError) Unwrap() error { return e.Err }

// IncompleteError says that a restore of the newest state went well, but not to where it should have come: something that is stored can't be used any more.
type IncompleteError struct {
	Unusable []*UnusableError // newer backups that were passed over
	Gap      *Gap             // in the log behind the backup that was restored
}

func (e *IncompleteError) Error() string {
	var parts []string
	for _, u := range e.Unusable {
		parts = append(parts, u.Error())
	}
	if e.Gap != nil {
		parts = append(parts, fmt.Sprintf("the log from LSN %s to %s of timeline %s is missing, and there is more behind it", e.Gap.After, e.Gap.Before, e.Gap.Timeline))
	}
	return "what could be restored came back whole, but: " + strings.Join(parts, "; ")
}

// Unwrap gives what was wrong with each backup; a gap is a *manifest.GapError.
func (e *IncompleteError) Unwrap() (errs []error) {
	for _, u := range e.Unusable {
		errs = append(errs, u)
	}
	if e.Gap != nil {
		errs = append(errs, &manifest.GapError{Timeline: e.Gap.Timeline, Have: e.Gap.After, Want: e.Gap.Before})
	}
	return errs
}

// IsDamage reports whether an error tells of damage to what is stored, or of a restored home that is not what it must be.
func IsDamage(err error) bool {
	var (
		damage  *DamageError
		missing *MissingError
		verify  *VerifyError
		name    *NameError
	)
	return errors.Is(err, manifest.ErrDamaged) || errors.Is(err, engine.ErrDamaged) ||
		errors.As(err, &damage) || errors.As(err, &missing) || errors.As(err, &verify) || errors.As(err, &name)
}
