package envtest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Bank is the workload with an invariant, as it is created with its environment. The zero value is right.
type Bank struct {
	Accounts  int        // 0 is 100
	Payload   int        // bytes of content beside the numbers in each record; 0 is 100
	PageSize  int        // of all its databases that don't say otherwise; 0 is 4096
	Checksum  bool       // likewise
	Databases []Database // where the accounts lie, in turn; nil is a btree, a hash and a queue
	History   string     // access method of the history, "btree" (the default), "recno" or "queue"
}

// BankFile is the database file that describes the bank and holds its counter.
const BankFile = "bank.db"

// HistoryFile is the database file with a row for every commit.
const HistoryFile = "bank-history.db"

// WithDefaults fills in what was left out.
func (b Bank) WithDefaults() Bank {
	setDefault(&b.Accounts, 100)
	setDefault(&b.Payload, 100)
	setDefault(&b.PageSize, 4096)
	if b.History == "" {
		b.History = "btree"
	}
	if b.Databases == nil {
		b.Databases = []Database{{Method: "btree"}, {Method: "hash"}, {Method: "queue"}}
	}
	b.Databases = append([]Database(nil), b.Databases...)
	for i := range b.Databases {
		b.complete(&b.Databases[i], fmt.Sprintf("bank-accounts-%d.db", i))
	}
	return b
}

func (b Bank) complete(d *Database, file string) {
	if d.File == "" {
		d.File = file
	}
	setDefault(&d.PageSize, b.PageSize)
	d.Checksum = d.Checksum || b.Checksum
	setDefault(&d.RecordLen, min(b.Payload+24, d.PageSize-160))
}

// Books are the two databases beside the accounts: the one of BankFile and the history.
func (b Bank) Books() (counter, history Database) {
	counter = Database{File: BankFile, Method: "btree"}
	history = Database{File: HistoryFile, Method: b.History}
	b.complete(&counter, BankFile)
	b.complete(&history, HistoryFile)
	history.RecordLen = min(b.Payload+40, history.PageSize-160)
	return counter, history
}

func setDefault[T int | int64](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// BankOptions says how the bank is run.
type BankOptions struct {
	Processes  int           // writers; 0 is 2
	Rate       float64       // commits per second of all of them together; 0 is as fast as they can
	Durability string        // "sync", "write-nosync" (the default: survives the processes) or "nosync" (not even those)
	Checkpoint time.Duration // how often one more process checkpoints; 0 is never
	RemoveLogs bool          // after a checkpoint it removes log files, as db_archive -d does
	Commits    uint64        // each writer ends after so many; 0 is when it is told to
	Seed       uint64
}

// StartBank runs the bank until the test ends or stops it. Afterwards a writer that failed fails the test.
func StartBank(tb testing.TB, env *Environment, o BankOptions) *Workload {
	tb.Helper()
	w, err := env.RunBank(o)
	if err != nil {
		tb.Fatalf("start bank: %v", err)
	}
	stopAtEnd(tb, w)
	return w
}

// RunBank starts the bank's processes and returns when all are at work.
func (e *Environment) RunBank(o BankOptions) (*Workload, error) {
	setDefault(&o.Processes, 2)
	if o.Durability == "" {
		o.Durability = "write-nosync"
	}
	var calls [][]string
	for i := range o.Processes {
		calls = append(calls, []string{"bank-worker", "--home", e.Home, "--worker", strconv.Itoa(i),
			"--seed", strconv.FormatUint(o.Seed, 10), "--durability", o.Durability,
			"--rate", strconv.FormatFloat(o.Rate/float64(o.Processes), 'f', -1, 64), "--commits", strconv.FormatUint(o.Commits, 10)})
	}
	if o.Checkpoint > 0 {
		calls = append(calls, e.keeper(o.Checkpoint, o.RemoveLogs))
	}
	return e.start(calls)
}

func (e *Environment) keeper(every time.Duration, remove bool) []string {
	return []string{"keeper", "--home", e.Home, "--every", every.String(), "--remove-logs=" + strconv.FormatBool(remove)}
}

// BankReport is what CheckBank found in a copy.
type BankReport struct {
	LastCommit uint64    // the counter: the copy holds commits 1 to LastCommit
	LastTime   time.Time // when the last one was about to commit, by its writer's clock
	Rows       uint64    // of history
	Accounts   int
	Contiguous bool // the history has rows 1 to LastCommit, no gap, none beyond, each as it was written
	SumOK      bool // no money came or went
	BalancesOK bool // every account is, byte for byte, what replaying the history makes it
	Problems   []string
}

// BankError is a copy that no prefix of the bank's commits explains.
type BankError struct{ Report BankReport }

func (e *BankError) Error() string {
	return fmt.Sprintf("bank with %d commits is not consistent: %s", e.Report.LastCommit, strings.Join(e.Report.Problems, "; "))
}

// Err is a *BankError if the copy is not an exact prefix.
func (r BankReport) Err() error {
	if len(r.Problems) > 0 || !r.Contiguous || !r.SumOK || !r.BalancesOK {
		return &BankError{r}
	}
	return nil
}

// CheckBank proves that a closed, recovered home holds exactly the first LastCommit commits. What breaks that is a *BankError.
func CheckBank(home, password string) (BankReport, error) {
	var r BankReport
	if err := run(password, nil, &r, "check-bank", "--json", "--home", home); err != nil {
		return r, err
	}
	return r, r.Err()
}
