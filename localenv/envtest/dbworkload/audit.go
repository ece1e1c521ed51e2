package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"time"

	"bdbvault/localenv/envtest"
	"bdbvault/localenv/envtest/bdbc"
)

// maxProblems is how many findings a report lists; one is enough to fail.
const maxProblems = 10

// audit replays the history of a copy and compares the accounts with it.
type audit struct {
	ledger   *ledger
	report   envtest.BankReport
	accounts []account
}

func checkBank(f *flag.FlagSet, args []string) error {
	p := placeFlags(f)
	asJSON := f.Bool("json", false, "print the findings in JSON, and let the reader judge them")
	f.Parse(args)
	return withFiles(p, func(env *bdbc.Env, files []databaseFile) error {
		l, err := openLedger(env, pathOf(files))
		if err != nil {
			return err
		}
		a := &audit{ledger: l}
		err = errors.Join(a.run(), l.close())
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(a.report)
		}
		return a.judge()
	})
}

// judge says it in words.
func (a *audit) judge() error {
	if err := a.report.Err(); err != nil {
		return err
	}
	fmt.Printf("consistent: %d commits, each exactly once, the last at %s; %d accounts hold what these commits left\n",
		a.report.LastCommit, a.report.LastTime.Format(time.RFC3339), a.report.Accounts)
	return nil
}

// pathOf looks a database up by the name that the application knows it by.
func pathOf(files []databaseFile) func(string) string {
	return func(name string) string {
		for _, f := range files {
			if f.name == name {
				return f.path
			}
		}
		return name
	}
}

func (a *audit) problem(format string, args ...any) {
	if len(a.report.Problems) < maxProblems {
		a.report.Problems = append(a.report.Problems, fmt.Sprintf(format, args...))
	}
}

func (a *audit) run() error {
	v, err := a.ledger.counter.Get(nil, counterKey, false)
	if err != nil {
		return err
	}
	if len(v) != 8 {
		return fmt.Errorf("the counter has %d bytes", len(v))
	}
	a.report.LastCommit = binary.BigEndian.Uint64(v)
	a.report.Accounts = a.ledger.bank.Accounts
	a.accounts = make([]account, a.report.Accounts)
	for i := range a.accounts {
		a.accounts[i].balance = startBalance
	}
	if err := a.replayHistory(); err != nil {
		return err
	}
	return a.compareAccounts()
}

func (a *audit) replayHistory() error {
	a.report.Contiguous = true
	err := a.ledger.history.Each(nil, func(key, value []byte) error {
		a.report.Rows++
		if !a.row(a.ledger.historyNumber(key), value) {
			a.report.Contiguous = false
		}
		return nil
	})
	if a.report.Rows != a.report.LastCommit {
		a.report.Contiguous = false
		a.problem("the counter is %d, the history has %d rows", a.report.LastCommit, a.report.Rows)
	}
	return err
}

func (a *audit) row(n uint64, value []byte) bool {
	if n != a.report.Rows {
		a.problem("row %d of the history has number %d", a.report.Rows, n)
		return false
	}
	t, ok := parseTransfer(value)
	if !ok || int(t.from) >= len(a.accounts) || int(t.to) >= len(a.accounts) || !bytes.Equal(value, a.ledger.historyValue(n, t)) {
		a.problem("row %d of the history is damaged", n)
		return false
	}
	a.accounts[t.from] = account{a.accounts[t.from].balance - t.amount, n}
	a.accounts[t.to] = account{a.accounts[t.to].balance + t.amount, n}
	a.report.LastTime = time.Unix(0, t.when)
	return true
}

func (a *audit) compareAccounts() error {
	a.report.BalancesOK = true
	var sum int64
	for i, want := range a.accounts {
		db, shape, key := a.ledger.place(i)
		value, err := db.Get(nil, key, false)
		if err != nil && !bdbc.IsNotFound(err) {
			return err
		}
		if err == nil && len(value) >= 8 {
			sum += int64(binary.BigEndian.Uint64(value))
		}
		if err != nil || !bytes.Equal(value, a.ledger.accountValue(shape, i, want)) {
			a.report.BalancesOK = false
			a.problem("account %d in %s is not as commit %d left it", i, db.Name, want.commit)
		}
	}
	a.report.SumOK = sum == int64(len(a.accounts))*startBalance
	if !a.report.SumOK {
		a.problem("all accounts together have %d, not %d", sum, len(a.accounts)*startBalance)
	}
	return a.countAccounts()
}

// countAccounts finds accounts that should not be there.
func (a *audit) countAccounts() error {
	found := 0
	for _, db := range a.ledger.accounts {
		if err := db.Each(nil, func(_, _ []byte) error { found++; return nil }); err != nil {
			return err
		}
	}
	if found != len(a.accounts) {
		a.report.BalancesOK = false
		a.problem("there are %d accounts, not %d", found, len(a.accounts))
	}
	return nil
}
