package main

import (
	"errors"

	"bdbvault/localenv/envtest"
	"bdbvault/localenv/envtest/bdbc"
)

// load fills one new database.
type load struct {
	env    *bdbc.Env
	db     envtest.Database
	spec   envtest.Spec
	filler *filler
	buf    []byte
}

// batchBytes is the content of one loading transaction: large enough that commits cost nothing, small enough for the lock table
// at 512-byte pages.
const batchBytes = 4 << 20

// trimEvery is after how many batches the log is trimmed.
const trimEvery = 32

func (l *load) run() error {
	db, err := l.env.CreateDB(nil, l.db.File, l.db.Name, createOptions(l.db, l.spec.Password != ""))
	if err != nil {
		return err
	}
	total := recordCount(l.db)
	for n, next := 1, 0; next < total && err == nil; n++ {
		if next, err = l.batch(db, next, total); err == nil && l.spec.TrimLog && n%trimEvery == 0 {
			err = tidy(l.env, true)
		}
	}
	if err == nil && l.db.Consume > 0 {
		err = consume(l.env, db, l.db.Consume)
	}
	return errors.Join(err, db.Close())
}

func (l *load) batch(db *bdbc.DB, next, total int) (int, error) {
	txn, err := l.env.Begin(l.db.Bulk)
	if err != nil {
		return next, err
	}
	for size := 0; next < total && size < batchBytes; next++ {
		if err := l.put(db, txn, uint64(next)); err != nil {
			return next, errors.Join(err, txn.Abort())
		}
		size += len(l.buf)
	}
	_, err = txn.Commit(bdbc.NoSync)
	return next, err
}

func (l *load) put(db *bdbc.DB, txn *bdbc.Txn, n uint64) error {
	l.buf = l.value(n)
	switch l.db.Method {
	case "btree", "hash":
		return db.Put(txn, l.key(n), l.buf)
	}
	_, err := db.Append(txn, l.buf)
	return err
}

func (l *load) key(n uint64) []byte {
	if l.db.Dup || l.db.DupSort {
		n /= 3
	}
	return numberKey(n)
}

func (l *load) value(n uint64) []byte {
	seed := l.spec.Seed ^ nameSeed(l.db.String())
	return l.filler.record(l.buf, seed, n, l.size(seed, n))
}

func (l *load) size(seed, n uint64) int {
	r := seeded(seed, n, 1)
	mean := valueSize(l.db)
	switch {
	case l.db.Method == "queue":
		return recordLen(l.db)
	case l.db.Overflow && n%10 == 0:
		return l.db.Page() + r.below(l.db.Page())
	}
	return mean/2 + r.below(mean+1)
}

// consume takes records from the head of a queue, so that its first extents go.
func consume(env *bdbc.Env, db *bdbc.DB, n int) error {
	txn, err := env.Begin(false)
	if err != nil {
		return err
	}
	for range n {
		if err := db.Consume(txn); err != nil {
			return errors.Join(err, txn.Abort())
		}
	}
	_, err = txn.Commit(bdbc.NoSync)
	return err
}
