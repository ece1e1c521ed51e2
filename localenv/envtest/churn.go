package envtest

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// Kinds of change that ChurnOptions.Without can name.
const (
	ChurnRenames  = "renames"  // of files and of databases inside them
	ChurnRemoves  = "removes"  // likewise
	ChurnTruncate = "truncate" // DB->truncate
	ChurnCompact  = "compact"  // DB->compact, which gives pages back to the file system
	ChurnExtents  = "extents"  // of queues
	ChurnInside   = "inside"   // files that hold several databases
	ChurnQueue    = "queue"
	ChurnHeap     = "heap"
	ChurnHash     = "hash"
	ChurnRecno    = "recno"
	ChurnDup      = "dup"      // databases with duplicates
	ChurnOverflow = "overflow" // values larger than a page
	ChurnAborts   = "aborts"   // transactions that end so
)

// ChurnOptions says how databases come and go.
type ChurnOptions struct {
	Processes  int           // 0 is 1; each has its own databases
	Rate       float64       // steps per second of all of them together; 0 is as fast as they can
	Files      int           // how many database files each keeps, about; 0 is 8
	Rows       int           // how many records one step writes, at most; 0 is 200
	PageSize   int           // 0 is a mix
	Without    []string      // what is left out
	Folder     string        // put the databases into this folder, which must exist, as in "sub"
	Checkpoint time.Duration // how often one more process checkpoints; 0 is never
	RemoveLogs bool          // after a checkpoint it removes log files, as db_archive -d does
	Seed       uint64
}

// StartChurn runs the churn until the test ends or stops it. Afterwards a worker that failed fails the test.
func StartChurn(tb testing.TB, env *Environment, o ChurnOptions) *Workload {
	tb.Helper()
	w, err := env.RunChurn(o)
	if err != nil {
		tb.Fatalf("start churn: %v", err)
	}
	stopAtEnd(tb, w)
	return w
}

// RunChurn starts processes that create, fill, truncate, compact, rename and remove databases of all kinds, commit most of that and
// abort some. It has no invariant of its own: compare its results by Dump.
//
// What makes libdb 5.3.28 crash or hang is left out. Its recovery has limits of its own, whoever calls it: with queue extents and
// renames together it loses records of queues, so a test that compares restores leaves one of them out; and over some ten thousand
// steps a file that shrank and grew again (ChurnTruncate, ChurnCompact) can make it fail with a log sequence error.
func (e *Environment) RunChurn(o ChurnOptions) (*Workload, error) {
	setDefault(&o.Processes, 1)
	setDefault(&o.Files, 8)
	setDefault(&o.Rows, 200)
	var calls [][]string
	for i := range o.Processes {
		calls = append(calls, []string{"churn-worker", "--home", e.Home, "--worker", strconv.Itoa(i), "--seed", strconv.FormatUint(o.Seed, 10),
			"--rate", strconv.FormatFloat(o.Rate/float64(o.Processes), 'f', -1, 64), "--files", strconv.Itoa(o.Files),
			"--rows", strconv.Itoa(o.Rows), "--page-size", strconv.Itoa(o.PageSize), "--folder", o.Folder,
			"--without", strings.Join(o.Without, ",")})
	}
	if o.Checkpoint > 0 {
		calls = append(calls, e.keeper(o.Checkpoint, o.RemoveLogs))
	}
	return e.start(calls)
}
