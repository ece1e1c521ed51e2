package restore

import (
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
)

// clocked is a log whose commits were dated by a clock that somebody set.
type clocked struct {
	*stock
	line    manifest.Timeline
	commits [][]CommitPoint // by log file, from 1 on
}

// shipped puts the log in segments of so many commits, and the log files before the last one whole besides.
func (c *clocked) shipped(commits func() int) {
	prev := uint32(0)
	for f, list := range c.commits {
		log := logOf(prev, list)
		prev = uint32(headLength + (len(list)-1)*commitSize)
		if f < len(c.commits)-1 {
			c.segment(log, f, 0, len(list), true)
		}
		for from := 0; from < len(list); {
			to := min(len(list), from+commits())
			c.segment(log, f, from, to, false)
			from = to
		}
	}
}

func (c *clocked) segment(log []byte, f, from, to int, sealed bool) {
	n := manifest.SegmentName{Timeline: c.line, File: uint32(f + 1), Start: c.at(f, from).Offset, End: c.at(f, to).Offset, Sealed: sealed}
	if from == 0 {
		n.Start = 0
	}
	for _, p := range c.commits[f][from:to] {
		n.LastCommit = max(n.LastCommit, p.Time.Unix())
	}
	c.put(n.Key("test"), segmentOf(c.t, log, n))
}

func (c *clocked) at(f, n int) bdb.LSN {
	return bdb.LSN{File: uint32(f + 1), Offset: uint32(headLength + n*commitSize)}
}

// last is the end of the last commit of a moment or earlier, and the first later one before it.
func (c *clocked) last(at time.Time) (end, step bdb.LSN) {
	var first bdb.LSN
	for f, list := range c.commits {
		for n, p := range list {
			if !p.Time.After(at) {
				end, step = c.at(f, n+1), first
			} else if first.IsZero() {
				first = c.at(f, n)
			}
		}
	}
	return end, step
}

func torture() int {
	n, err := strconv.Atoi(os.Getenv("BDBVAULT_TORTURE"))
	if err != nil {
		return 1
	}
	return max(n, 1)
}

// TestClockSetBack: where the clock of the source was set back by an hour, at any place in files and segments of any size, the restore ends behind the last commit
// of the time asked for, and says which later-dated ones that includes.
func TestClockSetBack(t *testing.T) {
	for i := range 15 * torture() {
		seed := uint64(i)
		if s, err := strconv.ParseUint(os.Getenv("BDBVAULT_SEED"), 10, 64); err == nil {
			seed = s
		}
		rnd := rand.New(rand.NewPCG(seed, 3))
		c := &clocked{stock: newStock(t), line: manifest.Timeline{5}}
		clock := time.Date(2026, 11, 20, 6, 0, 0, 0, time.UTC)
		began := clock
		const all = 600
		perFile, step := 20+rnd.IntN(200), 100+rnd.IntN(400)
		for n := range all {
			if n == step {
				clock = clock.Add(-time.Hour)
			}
			if n%perFile == 0 {
				c.commits = append(c.commits, nil)
			}
			f := &c.commits[len(c.commits)-1]
			*f = append(*f, CommitPoint{Time: clock, Txn: TxnID(0x80000001 + n)})
			clock = clock.Add(time.Duration(10+rnd.IntN(20)) * time.Second)
		}
		size := 1 + rnd.IntN(40)
		c.shipped(func() int { return 1 + rnd.IntN(size) })
		c.full(c.line, began.Add(time.Minute), c.at(0, 10), c.commits[0][9].Time)
		for range 12 {
			at := c.commits[0][9].Time.Add(time.Duration(rnd.Int64N(int64(clock.Sub(c.commits[0][9].Time) - time.Minute))))
			want, later := c.last(at)
			plan, err := MakePlan(t.Context(), c.repo, "", Target{At: at})
			if err != nil {
				t.Fatalf("BDBVAULT_SEED=%d: %s: %v", seed, at, err)
			}
			if plan.End != want || len(plan.Notes) > 0 == later.IsZero() {
				t.Fatalf("BDBVAULT_SEED=%d: %s: ends at %s, want %s; notes %q, step at %s", seed, at, plan.End, want, plan.Notes, later)
			}
		}
	}
}

// TestBeforeTxn: ids that come again are told apart by the log that is searched, and nothing is guessed.
func TestBeforeTxn(t *testing.T) {
	c := &clocked{stock: newStock(t), line: manifest.Timeline{5}}
	noon := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for f := range 4 {
		var list []CommitPoint
		for n := range 20 {
			// Each file follows a recovery, from which on ids are given out anew. The last has one more.
			list = append(list, CommitPoint{Time: noon.Add(time.Duration(f*20+n) * time.Minute), Txn: TxnID(0x80000001 + n)})
		}
		if f == 3 {
			list[15].Txn = 0x80000002
			list[16].Txn = 0x90000000
		}
		c.commits = append(c.commits, list)
	}
	c.shipped(func() int { return 3 })
	first := c.full(c.line, noon.Add(5*time.Minute), c.at(0, 5), c.commits[0][4].Time)
	second := c.full(c.line, noon.Add(45*time.Minute), c.at(2, 5), c.commits[2][4].Time)
	for _, x := range []struct {
		target Target
		end    bdb.LSN
		backup manifest.BackupID
		notes  int
	}{
		{Target{BeforeTxn: 0x90000000}, c.at(3, 16), second, 1},
		{Target{BeforeTxn: 0x90000000, Backup: first}, c.at(3, 16), first, 0},
		{Target{BeforeTxn: 0x80000002, Backup: second}, bdb.LSN{}, "", 2},
		{Target{BeforeTxn: 0x80000007}, bdb.LSN{}, "", 2},
		{Target{BeforeTxn: 0x80000007, Backup: first}, bdb.LSN{}, "", 4},
		{Target{BeforeTxn: 0x8000ffff}, bdb.LSN{}, "", 0},
	} {
		plan, err := MakePlan(t.Context(), c.repo, "", x.target)
		var several *AmbiguousError
		var far *UnreachableError
		switch {
		case !x.end.IsZero():
			if err != nil || plan.End != x.end || plan.Backup != x.backup || len(plan.Notes) != x.notes || plan.EndCommit.LSN != c.at(3, 15) {
				t.Errorf("%s: %+v %v", x.target, plan, err)
			}
		case x.notes > 0:
			if !errors.As(err, &several) || len(several.Commits) != x.notes {
				t.Errorf("%s: %v", x.target, err)
			}
		default:
			if !errors.As(err, &far) || len(far.Ranges) != 1 {
				t.Errorf("%s: %v", x.target, err)
			}
		}
	}
	if _, err := MakePlan(t.Context(), c.repo, "", Target{BeforeTxn: 1, At: noon}); err == nil {
		t.Error("two targets are taken")
	}
}

// TestTimeBetweenBackups: a time behind the last commit is proved to be reached only by a backup that was begun later, on the same log.
func TestTimeBetweenBackups(t *testing.T) {
	c := &clocked{stock: newStock(t), line: manifest.Timeline{5}}
	noon := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	var list []CommitPoint
	for n := range 20 {
		list = append(list, CommitPoint{Time: noon.Add(time.Duration(n) * time.Minute), Txn: 1})
	}
	c.commits = [][]CommitPoint{list}
	c.shipped(func() int { return 3 })
	idle := noon.Add(2 * time.Hour)
	first := c.full(c.line, noon.Add(5*time.Minute), c.at(0, 5), list[4].Time)
	var far *UnreachableError
	if _, err := MakePlan(t.Context(), c.repo, "", Target{At: idle}); !errors.As(err, &far) || far.Err != nil || !far.Newest.Equal(list[19].Time) {
		t.Errorf("nothing shows that there were no more commits: %v", err)
	}
	for _, early := range []time.Time{noon.Add(3 * time.Minute), noon.Add(-time.Hour), noon.Add(-9 * time.Hour)} {
		if _, err := MakePlan(t.Context(), c.repo, "", Target{At: early}); !errors.As(err, &far) || !far.Newest.IsZero() {
			t.Errorf("%s is before the backup: %v", early, err)
		}
	}
	c.full(c.line, idle.Add(time.Hour), c.at(0, 20), list[19].Time)
	for _, at := range []time.Time{idle, list[19].Time} {
		if plan, err := MakePlan(t.Context(), c.repo, "", Target{At: at}); err != nil || plan.End != c.at(0, 20) || plan.Backup != first {
			t.Errorf("%s: %+v %v", at, plan, err)
		}
	}
}
