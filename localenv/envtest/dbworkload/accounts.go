package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"bdbvault/localenv/envtest"
	"bdbvault/localenv/envtest/bdbc"
)

// startBalance is what every account begins with.
const startBalance = 1000

var (
	configKey  = []byte("config")
	counterKey = []byte("counter")
)

// ledger is the bank's open databases. An account's number says in which it lies and under which key.
type ledger struct {
	bank     envtest.Bank
	counter  *bdbc.DB
	history  *bdbc.DB
	accounts []*bdbc.DB
	filler   *filler
}

func createBank(env *bdbc.Env, spec envtest.Spec) error {
	l := &ledger{bank: spec.Bank.WithDefaults(), filler: newFiller(0)}
	err := l.create(env, spec.Password != "")
	if err == nil {
		err = l.fill(env)
	}
	return errors.Join(err, l.close())
}

func (l *ledger) create(env *bdbc.Env, encrypted bool) (err error) {
	counter, history := l.bank.Books()
	if l.counter, err = env.CreateDB(nil, counter.File, "", createOptions(counter, encrypted)); err != nil {
		return err
	}
	if l.history, err = env.CreateDB(nil, history.File, "", createOptions(history, encrypted)); err != nil {
		return err
	}
	for _, d := range l.bank.Databases {
		db, err := env.CreateDB(nil, d.File, d.Name, createOptions(d, encrypted))
		if err != nil {
			return err
		}
		l.accounts = append(l.accounts, db)
	}
	return nil
}

func (l *ledger) fill(env *bdbc.Env) error {
	config, err := json.Marshal(l.bank)
	if err != nil {
		return err
	}
	txn, err := env.Begin(false)
	if err != nil {
		return err
	}
	if err := l.fillIn(txn, config); err != nil {
		return errors.Join(err, txn.Abort())
	}
	_, err = txn.Commit(bdbc.Sync)
	return err
}

func (l *ledger) fillIn(txn *bdbc.Txn, config []byte) error {
	if err := l.counter.Put(txn, configKey, config); err != nil {
		return err
	}
	if err := l.counter.Put(txn, counterKey, make([]byte, 8)); err != nil {
		return err
	}
	for a := range l.bank.Accounts {
		if err := l.putAccount(txn, a, account{balance: startBalance}); err != nil {
			return err
		}
	}
	return nil
}

// openLedger finds a bank by what its own counter file says about it. files turns the names of database files into what the
// engine is to open.
func openLedger(env *bdbc.Env, files func(string) string) (*ledger, error) {
	l := &ledger{filler: newFiller(0)}
	if err := l.open(env, files); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *ledger) open(env *bdbc.Env, files func(string) string) (err error) {
	if l.counter, err = env.OpenDB(nil, files(envtest.BankFile), ""); err != nil {
		return err
	}
	config, err := l.counter.Get(nil, configKey, false)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(config, &l.bank); err != nil {
		return fmt.Errorf("%s: description: %w", envtest.BankFile, err)
	}
	if l.history, err = env.OpenDB(nil, files(envtest.HistoryFile), ""); err != nil {
		return err
	}
	for _, d := range l.bank.Databases {
		db, err := env.OpenDB(nil, files(d.File), d.Name)
		if err != nil {
			return err
		}
		l.accounts = append(l.accounts, db)
	}
	return nil
}

func (l *ledger) close() error {
	var errs []error
	for _, db := range append([]*bdbc.DB{l.counter, l.history}, l.accounts...) {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// account is what a record holds beside its content, which follows from account number and commit.
type account struct {
	balance int64
	commit  uint64 // the last one that touched it
}

func (l *ledger) place(a int) (*bdbc.DB, envtest.Database, []byte) {
	i := a % len(l.accounts)
	return l.accounts[i], l.bank.Databases[i], recordKey(l.accounts[i], uint64(a/len(l.accounts)))
}

func (l *ledger) getAccount(txn *bdbc.Txn, a int) (account, error) {
	db, _, key := l.place(a)
	v, err := db.Get(txn, key, txn != nil)
	if err != nil {
		return account{}, err
	}
	if len(v) < 16 {
		return account{}, fmt.Errorf("account %d: record of %d bytes", a, len(v))
	}
	return account{int64(binary.BigEndian.Uint64(v)), binary.BigEndian.Uint64(v[8:])}, nil
}

func (l *ledger) putAccount(txn *bdbc.Txn, a int, acc account) error {
	db, shape, key := l.place(a)
	return db.Put(txn, key, l.accountValue(shape, a, acc))
}

// accountValue is the one and only record that account a has in this state, so that a check can compare bytes.
func (l *ledger) accountValue(shape envtest.Database, a int, acc account) []byte {
	v := binary.BigEndian.AppendUint64(nil, uint64(acc.balance))
	v = binary.BigEndian.AppendUint64(v, acc.commit)
	return l.pad(v, shape, seeded(uint64(a), acc.commit))
}

// pad adds content: up to the record length in a queue, else between half of the payload and all of it.
func (l *ledger) pad(v []byte, shape envtest.Database, r random) []byte {
	n := l.bank.Payload/2 + r.below(l.bank.Payload/2+1)
	if shape.Method == "queue" {
		n = recordLen(shape) - len(v)
	}
	start := len(v)
	v = append(v, make([]byte, n)...)
	l.filler.fill(v[start:], &r)
	return v
}

// transfer is one row of history.
type transfer struct {
	from, to uint32
	amount   int64
	when     int64 // nanoseconds since 1970, by the writer's clock
	worker   uint32
}

const transferSize = 28

func (l *ledger) historyValue(n uint64, t transfer) []byte {
	v := binary.BigEndian.AppendUint32(nil, t.from)
	v = binary.BigEndian.AppendUint32(v, t.to)
	v = binary.BigEndian.AppendUint64(v, uint64(t.amount))
	v = binary.BigEndian.AppendUint64(v, uint64(t.when))
	v = binary.BigEndian.AppendUint32(v, t.worker)
	_, shape := l.bank.Books()
	return l.pad(v, shape, seeded(n))
}

func parseTransfer(v []byte) (transfer, bool) {
	if len(v) < transferSize {
		return transfer{}, false
	}
	be := binary.BigEndian
	return transfer{be.Uint32(v), be.Uint32(v[4:]), int64(be.Uint64(v[8:])), int64(be.Uint64(v[16:])), be.Uint32(v[24:])}, true
}

func (l *ledger) historyKey(n uint64) []byte {
	if l.history.Numbered() {
		return bdbc.Recno(uint32(n))
	}
	return binary.BigEndian.AppendUint64(nil, n)
}

func (l *ledger) historyNumber(key []byte) uint64 {
	if l.history.Numbered() {
		return uint64(bdbc.ParseRecno(key))
	}
	if len(key) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(key)
}
