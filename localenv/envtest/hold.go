package envtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"bdbvault/localenv/bdb"
)

// Step is one command to the process of a Hold.
type Step struct {
	Do       string    // what; see the constants
	Txn      string    // the name that Begin gave; "" is a transaction of the step's own, committed at its end
	Bulk     bool      // Begin: DB_TXN_BULK
	Database *Database // Create: the shape and how many records
	File     string
	Name     string // a database inside File
	To       string // Rename
	From     int    // Put, Delete: the first record's number
	Count    int    // Put, Delete, Consume: how many
	Size     int    // Put: mean length of a value, 0 is 100
	Version  uint64 // Put: another version is another value under the same key
}

// What a Step can do. Keys of btree and hash databases are their numbers in eight digits, from 0; recno and queue count from 1.
const (
	DoBegin      = "begin"
	DoCommit     = "commit"
	DoAbort      = "abort"
	DoPrepare    = "prepare"     // first phase of two; the process may then end, and the transaction lives on
	DoCreate     = "create"      // make a database and fill it
	DoPut        = "put"         // store records; append them in a heap
	DoDelete     = "delete"      // remove records
	DoConsume    = "consume"     // take records from the head of a queue
	DoTruncate   = "truncate"    // empty a database
	DoCompact    = "compact"     // move records together, give pages back to the file system
	DoRemove     = "remove"      // DB_ENV->dbremove
	DoRename     = "rename"      // DB_ENV->dbrename
	DoOpen       = "open"        // keep a handle open until close, as applications do; steps without a transaction use it
	DoClose      = "close"       // close that handle
	DoCheckpoint = "checkpoint"  // even if nothing happened since the last one
	DoRemoveLogs = "remove-logs" // DB_ENV->log_archive(DB_ARCH_REMOVE)
	DoFlushLog   = "flush-log"
	DoLogEnd     = "log-end" // nothing; every step's answer has the end of the log
)

// Answer is what a step came to.
type Answer struct {
	End    bdb.LSN // where the next log record will go
	Commit bdb.LSN // the commit record, if the step wrote one
	Error  string  // the engine's words; "" is success
	Code   int     // the engine's or the system's error number
}

// StepError is a step that the engine refused. Its transaction is still open.
type StepError struct {
	Step   Step
	Answer Answer
}

func (e *StepError) Error() string {
	return fmt.Sprintf("%s %s%s: %s", e.Step.Do, e.Step.File, e.Step.To, e.Answer.Error)
}

// Hold is a process that has an environment open and does single steps on command, so that a test can put the environment into an
// exact state and keep it there.
type Hold struct {
	p     *process
	lines *bufio.Scanner
}

// RunHold starts the process. Close or Kill ends it.
func (e *Environment) RunHold() (*Hold, error) {
	path, err := Tool()
	if err != nil {
		return nil, err
	}
	p, out, err := launch(path, e.Password, []string{"hold", "--home", e.Home})
	if err != nil {
		return nil, err
	}
	h := &Hold{p: p, lines: bufio.NewScanner(out)}
	if !h.lines.Scan() {
		return nil, h.lost()
	}
	return h, nil
}

// lost collects what a process left behind that does not answer any more.
func (h *Hold) lost() error {
	h.p.stdin.Close()
	h.p.wait()
	return fmt.Errorf("dbworkload hold is gone: %w", errors.Join(h.p.err, h.lines.Err()))
}

// Do does one step. A *StepError is the engine's refusal.
func (h *Hold) Do(s Step) (Answer, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return Answer{}, err
	}
	if _, err := h.p.stdin.Write(append(text, '\n')); err != nil {
		return Answer{}, h.lost()
	}
	if !h.lines.Scan() {
		return Answer{}, h.lost()
	}
	var a Answer
	if err := json.Unmarshal(h.lines.Bytes(), &a); err != nil {
		return a, fmt.Errorf("answer to %s: %w", s.Do, err)
	}
	if a.Error != "" {
		return a, &StepError{s, a}
	}
	return a, nil
}

// Close aborts what is open, leaves the environment in order and waits for the process.
func (h *Hold) Close() error {
	h.p.stdin.Close()
	h.p.wait()
	return h.p.err
}

// Kill ends the process with SIGKILL. The environment then needs recovery.
func (h *Hold) Kill() {
	h.p.cmd.Process.Kill()
	h.p.wait()
	h.p.err = nil
}

// PID is the process.
func (h *Hold) PID() int { return h.p.cmd.Process.Pid }

// TestHold is a Hold for a test: a step that fails is fatal to it.
type TestHold struct {
	*Hold
	tb testing.TB
}

// StartHold starts a Hold that ends with the test.
func StartHold(tb testing.TB, env *Environment) *TestHold {
	tb.Helper()
	h, err := env.RunHold()
	if err != nil {
		tb.Fatalf("start hold: %v", err)
	}
	tb.Cleanup(func() {
		if err := h.Close(); err != nil {
			tb.Errorf("hold: %v", err)
		}
	})
	return &TestHold{h, tb}
}

func (h *TestHold) must(s Step) Answer {
	h.tb.Helper()
	a, err := h.Do(s)
	if err != nil {
		h.tb.Fatalf("hold: %v", err)
	}
	return a
}

// Begin starts a transaction under a name.
func (h *TestHold) Begin(txn string) { h.tb.Helper(); h.must(Step{Do: DoBegin, Txn: txn}) }

// BeginBulk starts a DB_TXN_BULK transaction under a name.
func (h *TestHold) BeginBulk(txn string) {
	h.tb.Helper()
	h.must(Step{Do: DoBegin, Txn: txn, Bulk: true})
}

// Commit commits and returns the LSN of the commit record.
func (h *TestHold) Commit(txn string) bdb.LSN {
	h.tb.Helper()
	return h.must(Step{Do: DoCommit, Txn: txn}).Commit
}

// Abort undoes a transaction.
func (h *TestHold) Abort(txn string) { h.tb.Helper(); h.must(Step{Do: DoAbort, Txn: txn}) }

// Prepare does the first phase of a two-phase commit.
func (h *TestHold) Prepare(txn string) { h.tb.Helper(); h.must(Step{Do: DoPrepare, Txn: txn}) }

// Create makes a database and fills it.
func (h *TestHold) Create(txn string, d Database) bdb.LSN {
	h.tb.Helper()
	return h.must(Step{Do: DoCreate, Txn: txn, Database: &d, File: d.File, Name: d.Name}).Commit
}

// Put stores count records from number from on. Like all that follow it returns the commit record's LSN if txn is "".
func (h *TestHold) Put(txn, file string, from, count int) bdb.LSN {
	h.tb.Helper()
	return h.must(Step{Do: DoPut, Txn: txn, File: file, From: from, Count: count}).Commit
}

// Delete removes count records from number from on.
func (h *TestHold) Delete(txn, file string, from, count int) bdb.LSN {
	h.tb.Helper()
	return h.must(Step{Do: DoDelete, Txn: txn, File: file, From: from, Count: count}).Commit
}

// Consume takes count records from the head of a queue.
func (h *TestHold) Consume(txn, file string, count int) bdb.LSN {
	h.tb.Helper()
	return h.must(Step{Do: DoConsume, Txn: txn, File: file, Count: count}).Commit
}

// Truncate empties a database.
func (h *TestHold) Truncate(txn, file string) bdb.LSN {
	h.tb.Helper()
	return h.must(Step{Do: DoTruncate, Txn: txn, File: file}).Commit
}

// Compact moves records together and gives the freed pages back.
func (h *TestHold) Compact(txn, file string) bdb.LSN {
	h.tb.Helper()
	return h.must(Step{Do: DoCompact, Txn: txn, File: file}).Commit
}

// Remove removes a database file.
func (h *TestHold) Remove(txn, file string) bdb.LSN {
	h.tb.Helper()
	return h.must(Step{Do: DoRemove, Txn: txn, File: file}).Commit
}

// Rename gives a database file another name.
func (h *TestHold) Rename(txn, file, to string) bdb.LSN {
	h.tb.Helper()
	return h.must(Step{Do: DoRename, Txn: txn, File: file, To: to}).Commit
}

// Checkpoint writes a checkpoint and returns the end of the log after it.
func (h *TestHold) Checkpoint() bdb.LSN { h.tb.Helper(); return h.must(Step{Do: DoCheckpoint}).End }

// RemoveLogs removes the log files that the environment no longer needs.
func (h *TestHold) RemoveLogs() { h.tb.Helper(); h.must(Step{Do: DoRemoveLogs}) }

// FlushLog forces the log to disk and returns its end.
func (h *TestHold) FlushLog() bdb.LSN { h.tb.Helper(); return h.must(Step{Do: DoFlushLog}).End }

// LogEnd is where the next log record will go.
func (h *TestHold) LogEnd() bdb.LSN { h.tb.Helper(); return h.must(Step{Do: DoLogEnd}).End }
