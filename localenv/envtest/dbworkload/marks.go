package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"path"
	"strings"

	"bdbvault/localenv/bdb"
	"bdbvault/localenv/envtest"
	"bdbvault/localenv/envtest/bdbc"
)

// Record types, from fileops.src and txn.src.
const (
	recRegop  = 10
	recCkp    = 11
	recChild  = 12
	recRename = 146
)

// txnCommit is the opcode of a __txn_regop that commits (dbinc/txn.h).
const txnCommit = 1

var errShortRecord = errors.New("log record is shorter than its kind")

func logMarks(f *flag.FlagSet, args []string) error {
	p := placeFlags(f)
	f.Parse(args)
	tracker := &logTracker{open: map[uint32][]envtest.Rename{}}
	o := bdbc.EnvOptions{Private: true, Log: true, Password: p.password}
	err := withEnv(p.home, o, func(env *bdbc.Env) error { return env.EachRecord(tracker.add) })
	if err != nil {
		return err
	}
	return printJSON(tracker.found)
}

// logTracker collects checkpoints and follows renames to the end of their transactions. They happen in child transactions, whose parents commit. The
// extents of a queue and the partitions of a database are renamed before the file itself, so a transaction's renames all count from
// the first.
type logTracker struct {
	open  map[uint32][]envtest.Rename
	found envtest.LogMarks
}

func (r *logTracker) add(lsn bdbc.LSN, body []byte) error {
	f := &fields{rest: body}
	kind, txn, prev := f.number(), f.number(), bdbc.LSN{File: f.number(), Offset: f.number()}
	if f.err != nil {
		return f.err
	}
	if prev == (bdbc.LSN{}) {
		delete(r.open, txn) // the first record of a transaction: ids are used again
	}
	switch kind {
	case recRename:
		old, to := f.name(), f.name()
		if !internal(old) && !internal(to) {
			r.open[txn] = append(r.open[txn], envtest.Rename{LSN: bdb.LSN(lsn), Old: old, New: to})
		}
	case recCkp:
		needed := bdb.LSN{File: f.number(), Offset: f.number()}
		r.found.Checkpoints = append(r.found.Checkpoints, envtest.LogCheckpoint{LSN: bdb.LSN(lsn), Needed: needed})
	case recChild:
		child := f.number()
		r.open[txn] = append(r.open[txn], r.open[child]...)
		delete(r.open, child)
	case recRegop:
		if f.number() == txnCommit {
			r.commit(r.open[txn])
		}
		delete(r.open, txn)
	}
	return f.err
}

func (r *logTracker) commit(all []envtest.Rename) {
	for _, n := range all {
		if base := path.Base(n.Old); strings.HasPrefix(base, "__dbq.") || strings.HasPrefix(base, "__dbp.") {
			continue
		}
		n.LSN = all[0].LSN
		r.found.Renames = append(r.found.Renames, n)
	}
}

// internal names are the engine's: databases are made and removed under them.
func internal(name string) bool { return strings.HasPrefix(path.Base(name), "__db.") }

// fields takes a record's body apart.
type fields struct {
	rest []byte
	err  error
}

func (f *fields) take(n int) []byte {
	if f.err != nil || n > len(f.rest) {
		f.err = errShortRecord
		return nil
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) number() uint32 {
	if b := f.take(4); b != nil {
		return binary.NativeEndian.Uint32(b)
	}
	return 0
}

func (f *fields) name() string {
	return strings.TrimRight(string(f.take(int(f.number()))), "\x00")
}
