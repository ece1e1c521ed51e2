package bdbc

/*
#include "shim.h"
*/
import "C"

import "encoding/binary"

// Durability says what a commit waits for.
type Durability string

const (
	Sync        Durability = "sync"         // until the log is on disk
	WriteNoSync Durability = "write-nosync" // until the operating system has it: survives the process, not the machine
	NoSync      Durability = "nosync"       // nothing
)

func (d Durability) flag() C.u_int32_t {
	switch d {
	case WriteNoSync:
		return C.DB_TXN_WRITE_NOSYNC
	case NoSync:
		return C.DB_TXN_NOSYNC
	}
	return C.DB_TXN_SYNC
}

// Txn is a transaction in progress. Commit and Abort end it, whatever they return.
type Txn struct{ p *C.DB_TXN }

func (t *Txn) c() *C.DB_TXN {
	if t == nil {
		return nil
	}
	return t.p
}

// Begin starts a transaction. A bulk one (DB_TXN_BULK) does not log the content of new pages.
func (e *Env) Begin(bulk bool) (*Txn, error) {
	var flags C.u_int32_t
	if bulk {
		flags = C.DB_TXN_BULK
	}
	t := &Txn{}
	if err := fail(C.shim_begin(e.p, nil, &t.p, flags), "begin transaction"); err != nil {
		return nil, err
	}
	return t, nil
}

// Commit ends the transaction and returns the LSN of its commit record, {0,0} if it logged nothing.
func (t *Txn) Commit(d Durability) (LSN, error) {
	var token [C.DB_TXN_TOKEN_SIZE]byte
	err := fail(C.shim_commit(t.p, d.flag(), (*C.uchar)(&token[0])), "commit")
	// The token is five big-endian words: format, generation, environment, and the LSN (txn.h, DB_COMMIT_INFO).
	return LSN{binary.BigEndian.Uint32(token[12:]), binary.BigEndian.Uint32(token[16:])}, err
}

// Abort undoes the transaction.
func (t *Txn) Abort() error { return fail(C.shim_abort(t.p), "abort") }

// Prepare is the first phase of a two-phase commit: the transaction outlives a crash until somebody resolves it.
func (t *Txn) Prepare(gid [128]byte) error {
	return fail(C.shim_prepare(t.p, ptr(gid[:])), "prepare")
}

// Prepared are the transactions that recovery found prepared, at most 100, with their global ids. Each has to be ended.
func (e *Env) Prepared() (txns []*Txn, gids [][128]byte, err error) {
	var list [100]C.DB_PREPLIST
	var n C.long
	if err := fail(C.shim_txn_recover(e.p, &list[0], C.long(len(list)), &n), "list prepared transactions"); err != nil {
		return nil, nil, err
	}
	for _, p := range list[:n] {
		var gid [128]byte
		for i, b := range p.gid {
			gid[i] = byte(b)
		}
		txns, gids = append(txns, &Txn{p.txn}), append(gids, gid)
	}
	return txns, gids, nil
}
