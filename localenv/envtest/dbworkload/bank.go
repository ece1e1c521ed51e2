package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"bdbvault/localenv/envtest/bdbc"
)

// teller is one writer of the bank.
type teller struct {
	env        *bdbc.Env
	ledger     *ledger
	worker     uint32
	durability bdbc.Durability
	random     random
	out        *bufio.Writer
}

func bankWorker(f *flag.FlagSet, args []string) error {
	p := placeFlags(f)
	stop := addStopFlags(f)
	worker := f.Uint("worker", 0, "this writer's `number`, written into the history")
	seed := f.Uint64("seed", 0, "which transfers are made")
	durability := f.String("durability", string(bdbc.WriteNoSync), "what a commit waits for: sync, write-nosync or nosync")
	rate := f.Float64("rate", 0, "commits per second; 0 is as fast as possible")
	commits := f.Uint64("commits", 0, "stop after so many commits; 0 is never")
	f.Parse(args)
	s := stop.begin()
	return withEnv(p.home, bdbc.EnvOptions{Password: p.password, Create: true}, func(env *bdbc.Env) error {
		l, err := openLedger(env, func(name string) string { return name })
		if err != nil {
			return err
		}
		t := &teller{env: env, ledger: l, worker: uint32(*worker), durability: bdbc.Durability(*durability),
			random: seeded(*seed, uint64(*worker)), out: bufio.NewWriter(os.Stdout)}
		return errors.Join(t.work(s, *rate, *commits), l.close())
	})
}

// work makes transfers and reports each when its commit has returned.
func (t *teller) work(s *stopper, rate float64, commits uint64) error {
	t.say("ready")
	pace := newPace(rate)
	for done := uint64(0); commits == 0 || done < commits; done++ {
		if on, err := s.goOn(t.env); !on || err != nil {
			return err
		}
		n, lsn, err := t.transfer(s)
		if err != nil || n == 0 {
			return err
		}
		t.say("commit %d %s", n, lsn)
		pace.wait(s)
	}
	return nil
}

// say reports a line at once. A reader that has gone is noticed by the end of standard input, not here.
func (t *teller) say(format string, args ...any) {
	fmt.Fprintf(t.out, format+"\n", args...)
	t.out.Flush()
}

// transfer repeats one transfer until no deadlock hits it. Commit 0 means that it was told to stop meanwhile.
func (t *teller) transfer(s *stopper) (uint64, bdbc.LSN, error) {
	a := t.random.below(t.ledger.bank.Accounts)
	b := (a + 1 + t.random.below(t.ledger.bank.Accounts-1)) % t.ledger.bank.Accounts
	row := transfer{from: uint32(a), to: uint32(b), amount: int64(1 + t.random.below(100)), worker: t.worker}
	for !s.stop.Load() {
		n, lsn, err := t.try(row)
		if !bdbc.IsDeadlock(err) {
			return n, lsn, err
		}
	}
	return 0, bdbc.LSN{}, nil
}

func (t *teller) try(row transfer) (uint64, bdbc.LSN, error) {
	txn, err := t.env.Begin(false)
	if err != nil {
		return 0, bdbc.LSN{}, err
	}
	n, err := t.change(txn, row)
	if err != nil {
		return 0, bdbc.LSN{}, errors.Join(err, txn.Abort())
	}
	lsn, err := txn.Commit(t.durability)
	return n, lsn, err
}

// change does the transfer. Accounts come in any order, so deadlocks happen; the counter comes after them and stays locked until
// the commit is in the log, which makes the order of the numbers the order of the commits.
func (t *teller) change(txn *bdbc.Txn, row transfer) (uint64, error) {
	from, err := t.ledger.getAccount(txn, int(row.from))
	if err != nil {
		return 0, err
	}
	to, err := t.ledger.getAccount(txn, int(row.to))
	if err != nil {
		return 0, err
	}
	v, err := t.ledger.counter.Get(txn, counterKey, true)
	if err != nil {
		return 0, err
	}
	n := binary.BigEndian.Uint64(v) + 1
	row.when = time.Now().UnixNano()
	return n, errors.Join(
		t.ledger.putAccount(txn, int(row.from), account{from.balance - row.amount, n}),
		t.ledger.putAccount(txn, int(row.to), account{to.balance + row.amount, n}),
		t.ledger.history.Put(txn, t.ledger.historyKey(n), t.ledger.historyValue(n, row)),
		t.ledger.counter.Put(txn, counterKey, binary.BigEndian.AppendUint64(nil, n)))
}

// keeper checkpoints, and removes log files if asked, as an administrator's cron job would.
func keeper(f *flag.FlagSet, args []string) error {
	p := placeFlags(f)
	stop := addStopFlags(f)
	every := f.Duration("every", time.Second, "the `time` between two checkpoints")
	remove := f.Bool("remove-logs", false, "after each, remove the log files that the environment no longer needs")
	f.Parse(args)
	s := stop.begin()
	return withEnv(p.home, bdbc.EnvOptions{Password: p.password}, func(env *bdbc.Env) error {
		fmt.Println("ready")
		for {
			s.sleep(*every)
			if on, err := s.goOn(env); !on || err != nil {
				return err
			}
			if err := tidy(env, *remove); err != nil {
				return err
			}
			fmt.Println("checkpoint")
		}
	})
}

func tidy(env *bdbc.Env, removeLogs bool) error {
	if err := checkpoint(env); err != nil || !removeLogs {
		return err
	}
	return env.RemoveLogs()
}

// checkpoint tries again when libdb finds the file of a dirty page gone or changed, because another process just renamed it or
// removed it: that is a race in the engine's buffer pool, not damage.
func checkpoint(env *bdbc.Env) (err error) {
	for range 20 {
		if err = env.Checkpoint(true); !bdbc.IsFileGone(err) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}
