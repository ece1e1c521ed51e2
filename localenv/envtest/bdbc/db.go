package bdbc

/*
#include "shim.h"
*/
import "C"

import (
	"encoding/binary"
	"fmt"
	"unsafe"
)

// Create says what a database is to be. Only Method is used when it exists already.
type Create struct {
	Method    string // "btree", "hash", "recno", "queue", "heap"; "" takes what the file is
	PageSize  int
	BigEndian bool
	Checksum  bool
	Encrypt   bool
	Dup       bool
	DupSort   bool
	Renumber  bool
	NoLog     bool     // DB_TXN_NOT_DURABLE
	RecordLen int      // queue and fixed-length recno
	Extent    int      // queue: pages in an extent file
	Ranges    [][]byte // the first keys, 8 bytes each, of all partitions but the first
}

// DB is an open database.
type DB struct {
	p     *C.DB
	res   *C.shim_result
	parts unsafe.Pointer // what set_partition keeps pointing at
	Name  string
}

var methods = map[string]C.DBTYPE{
	"": C.DB_UNKNOWN, "btree": C.DB_BTREE, "hash": C.DB_HASH, "recno": C.DB_RECNO, "queue": C.DB_QUEUE, "heap": C.DB_HEAP,
}

// OpenDB opens an existing database: for writing in a transactional environment, for reading in a private one.
func (e *Env) OpenDB(t *Txn, file, sub string) (*DB, error) {
	flags := e.autoCommit(t)
	if e.private {
		flags = C.DB_RDONLY
	}
	return e.open(t, file, sub, Create{}, flags)
}

// CreateDB opens a database and makes it if it does not exist.
func (e *Env) CreateDB(t *Txn, file, sub string, c Create) (*DB, error) {
	return e.open(t, file, sub, c, C.DB_CREATE|e.autoCommit(t))
}

func (e *Env) open(t *Txn, file, sub string, c Create, flags C.u_int32_t) (*DB, error) {
	method, ok := methods[c.Method]
	if !ok {
		return nil, fmt.Errorf("unknown access method %q", c.Method)
	}
	d := &DB{Name: file}
	if sub != "" {
		d.Name += ":" + sub
	}
	if err := fail(C.db_create(&d.p, e.p, 0), "make database handle"); err != nil {
		return nil, err
	}
	d.res = C.shim_result_new()
	if err := d.configure(c); err != nil {
		d.Close()
		return nil, err
	}
	f, freeFile := cstring(file)
	s, freeSub := cstring(sub)
	defer freeFile()
	defer freeSub()
	if err := fail(C.shim_open(d.p, t.c(), f, s, method, flags), "open database %s", d.Name); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (c Create) flags() C.u_int32_t {
	var f C.u_int32_t
	for _, o := range []struct {
		on   bool
		flag C.u_int32_t
	}{{c.Checksum, C.DB_CHKSUM}, {c.Encrypt, C.DB_ENCRYPT}, {c.Dup || c.DupSort, C.DB_DUP}, {c.DupSort, C.DB_DUPSORT},
		{c.Renumber, C.DB_RENUMBER}, {c.NoLog, C.DB_TXN_NOT_DURABLE}} {
		if o.on {
			f |= o.flag
		}
	}
	return f
}

func (d *DB) configure(c Create) error {
	steps := []struct {
		on   bool
		name string
		call func() C.int
	}{
		{c.PageSize != 0, "page size", func() C.int { return C.shim_set_pagesize(d.p, C.u_int32_t(c.PageSize)) }},
		{c.flags() != 0, "flags", func() C.int { return C.shim_set_flags(d.p, c.flags()) }},
		{c.BigEndian, "byte order", func() C.int { return C.shim_set_lorder(d.p, 4321) }},
		{c.RecordLen != 0, "record length", func() C.int { return C.shim_set_re_len(d.p, C.u_int32_t(c.RecordLen)) }},
		{c.Extent != 0, "extent size", func() C.int { return C.shim_set_extent(d.p, C.u_int32_t(c.Extent)) }},
		{len(c.Ranges) > 0, "partitions", func() C.int { return d.setRanges(c.Ranges) }},
	}
	for _, s := range steps {
		if !s.on {
			continue
		}
		if err := fail(s.call(), "set %s of %s", s.name, d.Name); err != nil {
			return err
		}
	}
	return nil
}

func (d *DB) setRanges(keys [][]byte) C.int {
	array := C.size_t(len(keys)) * C.sizeof_DBT
	d.parts = C.calloc(1, array+C.size_t(8*len(keys)))
	text := unsafe.Add(d.parts, array)
	for i, k := range keys {
		copy(unsafe.Slice((*byte)(unsafe.Add(text, 8*i)), 8), k)
	}
	return C.shim_partition(d.p, C.u_int32_t(len(keys)+1), (*C.DBT)(d.parts), (*C.uchar)(text))
}

// Close closes the handle. Not before the transaction that opened it has ended, unless that transaction is to abort.
func (d *DB) Close() error {
	err := fail(C.shim_close(d.p, 0), "close database %s", d.Name)
	C.shim_result_free(d.res)
	C.free(d.parts)
	return err
}

// Method is what the database is.
func (d *DB) Method() string {
	t := C.shim_type(d.p)
	for name, m := range methods {
		if m == t {
			return name
		}
	}
	return ""
}

// HoldsDatabases reports whether the file is a directory of named databases, which are this handle's keys.
func (d *DB) HoldsDatabases() bool { return C.shim_multiple(d.p) != 0 }

// Numbered reports whether keys are record numbers.
func (d *DB) Numbered() bool {
	t := C.shim_type(d.p)
	return t == C.DB_RECNO || t == C.DB_QUEUE
}

// Recno is record number n as a key.
func Recno(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

// ParseRecno reads a key of a numbered database.
func ParseRecno(key []byte) uint32 {
	if len(key) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(key)
}

// Put stores a record over what is there, beside it in a database with duplicates.
func (d *DB) Put(t *Txn, key, value []byte) error {
	code := C.shim_put(d.p, t.c(), ptr(key), C.u_int32_t(len(key)), ptr(value), C.u_int32_t(len(value)), 0)
	return fail(code, "put into %s", d.Name)
}

// Append stores a record under a key that the database chooses and returns the key: a record number, or a heap's record id.
func (d *DB) Append(t *Txn, value []byte) ([]byte, error) {
	var key [8]byte
	n := C.u_int32_t(len(key))
	code := C.shim_append(d.p, t.c(), ptr(value), C.u_int32_t(len(value)), (*C.uchar)(&key[0]), &n)
	if code != 0 {
		return nil, fail(code, "append to %s", d.Name)
	}
	return key[:n], nil
}

// Get reads the value at key, with a write lock if the caller means to change it. The bytes are valid until the next call.
func (d *DB) Get(t *Txn, key []byte, forUpdate bool) ([]byte, error) {
	var flags C.u_int32_t
	if forUpdate {
		flags = C.DB_RMW
	}
	if code := C.shim_get(d.p, t.c(), ptr(key), C.u_int32_t(len(key)), d.res, flags); code != 0 {
		return nil, fail(code, "get from %s", d.Name)
	}
	return view(&d.res.data), nil
}

// Consume takes the first record out of a queue.
func (d *DB) Consume(t *Txn) error {
	return fail(C.shim_consume(d.p, t.c(), d.res), "consume from %s", d.Name)
}

// Delete removes the record at key, all of them in a database with duplicates.
func (d *DB) Delete(t *Txn, key []byte) error {
	return fail(C.shim_del(d.p, t.c(), ptr(key), C.u_int32_t(len(key))), "delete from %s", d.Name)
}

// Truncate empties the database.
func (d *DB) Truncate(t *Txn) error { return fail(C.shim_truncate(d.p, t.c()), "truncate %s", d.Name) }

// Compact moves records together and gives the freed pages back to the file system.
func (d *DB) Compact(t *Txn) error { return fail(C.shim_compact(d.p, t.c()), "compact %s", d.Name) }

// Each calls fn for every record in cursor order. The slices are valid during the call only.
func (d *DB) Each(t *Txn, fn func(key, value []byte) error) error {
	r := C.shim_result_new()
	defer C.shim_result_free(r)
	if err := fail(C.shim_cursor(d.p, t.c(), r, 0), "cursor on %s", d.Name); err != nil {
		return err
	}
	err := d.walk(r, fn)
	return errorOr(err, fail(C.shim_cursor_close(r), "close cursor on %s", d.Name))
}

func (d *DB) walk(r *C.shim_result, fn func(key, value []byte) error) error {
	for {
		code := C.shim_cursor_get(r, C.DB_NEXT)
		if code == C.DB_NOTFOUND {
			return nil
		}
		if code != 0 {
			return fail(code, "read %s", d.Name)
		}
		if err := fn(view(&r.key), view(&r.data)); err != nil {
			return err
		}
	}
}

func errorOr(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// Verify checks the structure of a database file, with all databases in it. The engine may crash on a damaged one.
func (e *Env) Verify(file string) error {
	var p *C.DB
	if err := fail(C.db_create(&p, e.p, 0), "make database handle"); err != nil {
		return err
	}
	f, free := cstring(file)
	defer free()
	return fail(C.shim_verify(p, f), "verify %s", file) // the call ends the handle too
}

// RecordLen is the length of a queue's records.
func (d *DB) RecordLen() int {
	var n C.u_int32_t
	if C.shim_get_re_len(d.p, &n) != 0 {
		return 0
	}
	return int(n)
}

// BtreeSize counts a btree's leaf pages and keys. It reads all of it.
func (d *DB) BtreeSize() (leaves, records int, err error) {
	var l, r C.u_int32_t
	err = fail(C.shim_btree_size(d.p, &l, &r), "statistics of %s", d.Name)
	return int(l), int(r), err
}
