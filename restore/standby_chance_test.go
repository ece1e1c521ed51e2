package restore_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bdbvault/localenv/envtest"
	"bdbvault/restore"
)

// standbyHistory plays a random history on an environment, with a transaction that stays open over several ships.
type standbyHistory struct {
	*envtest.TestHold
	*rand.Rand
	t       *testing.T
	live    map[string]string // databases by name, with their methods, as committed
	open    map[string]string // those of the names in busy that the open transaction sees; nil: there is none
	busy    map[string]bool   // names that it has touched
	spent   map[string]bool   // that it has given up
	moved   bool              // it has renamed, made or removed something
	ready   bool              // it is prepared
	heavy   bool              // writes, truncation and compaction too
	extents bool
	story   []string
}

const historyNames = 7

func (c *standbyHistory) say(format string, args ...any) {
	c.story = append(c.story, fmt.Sprintf(format, args...))
}

// pick picks a name: one that is there, or one that is free.
func (c *standbyHistory) pick(view map[string]string, there bool, open bool) (string, bool) {
	var names []string
	for i := range historyNames {
		name := fmt.Sprintf("n%d.db", i)
		_, exists := view[name]
		_, committed := c.live[name]
		switch {
		case exists != there, !open && c.busy[name], open && !there && (c.spent[name] || committed):
		default:
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "", false
	}
	return names[c.IntN(len(names))], true
}

// step does one thing to one database, in the transaction txn, whose view of names it changes.
func (c *standbyHistory) step(txn string, view map[string]string) {
	c.t.Helper()
	open := txn == "open"
	touch := func(names ...string) {
		for _, name := range names {
			if !open {
				continue
			}
			c.busy[name] = true
			delete(c.open, name)
			if method, ok := view[name]; ok {
				c.open[name] = method
			}
		}
	}
	kind := c.IntN(10)
	at, ok := c.pick(view, true, open)
	free, room := c.pick(view, false, open)
	switch {
	case kind < 3 && room:
		d := envtest.Database{File: free, Method: []string{"btree", "hash", "recno", "queue", "heap"}[c.IntN(5)], PageSize: 512, Records: c.IntN(40) + 1}
		if d.Method == "queue" {
			d.RecordLen = 60
			if c.extents && c.IntN(2) == 0 {
				d.Extent = 2
			}
		}
		c.say("%s create %s %s %d", txn, d.Method, free, d.Extent)
		c.Create(txn, d)
		view[free] = d.Method
		touch(free)
		c.moved = c.moved || open
	case !ok:
	case kind < 5 && room:
		c.say("%s rename %s %s", txn, at, free)
		c.Rename(txn, at, free)
		view[free] = view[at]
		delete(view, at)
		touch(at, free)
		if open {
			c.moved, c.spent[at] = true, true
		}
	case kind < 6:
		c.say("%s remove %s", txn, at)
		c.Remove(txn, at)
		delete(view, at)
		touch(at)
		if open {
			c.moved, c.spent[at] = true, true
		}
	case open && c.moved: // libdb does not always undo writes to what the same transaction has renamed
	case kind < 7 && c.heavy && view[at] != "heap":
		c.say("%s truncate %s", txn, at)
		touch(at)
		c.Truncate(txn, at)
	case kind < 8 && c.heavy && view[at] == "btree":
		c.say("%s delete %s", txn, at)
		touch(at)
		_, _ = c.Do(envtest.Step{Do: envtest.DoDelete, Txn: txn, File: at, From: 0, Count: 5}) // some may be gone
	case kind < 8 && c.heavy && view[at] == "queue":
		c.say("%s consume %s", txn, at)
		touch(at)
		_, _ = c.Do(envtest.Step{Do: envtest.DoConsume, Txn: txn, File: at, Count: 3})
	default:
		touch(at)
		c.say("%s put %s", txn, at)
		c.Put(txn, at, c.IntN(60)+1, c.IntN(40)+1)
	}
}

// view is what the open transaction sees.
func (c *standbyHistory) view() map[string]string {
	view := maps.Clone(c.live)
	for name := range c.busy {
		delete(view, name)
	}
	maps.Copy(view, c.open)
	return view
}

// turn does one thing: to a database, or with the open transaction.
func (c *standbyHistory) turn() {
	c.t.Helper()
	switch k := c.IntN(20); {
	case k < 8:
		c.step("", c.live)
	case k < 10:
		c.say("checkpoint")
		c.Checkpoint()
	case c.open == nil:
		c.say("begin")
		c.Begin("open")
		c.open, c.busy, c.spent, c.moved, c.ready = map[string]string{}, map[string]bool{}, map[string]bool{}, false, false
	case k < 16 && !c.ready:
		c.step("open", c.view())
	case k < 17 && !c.ready:
		c.say("prepare")
		c.Prepare("open")
		c.ready = true
	default:
		c.resolve(c.IntN(3) > 0)
	}
}

// resolve ends the open transaction. What it did to names becomes everybody's, if it is committed.
func (c *standbyHistory) resolve(commit bool) {
	c.t.Helper()
	if !commit {
		c.say("abort")
		c.Abort("open")
	} else {
		c.say("commit")
		c.Commit("open")
		for name := range c.busy {
			delete(c.live, name)
			if method, ok := c.open[name]; ok {
				c.live[name] = method
			}
		}
	}
	c.open, c.busy = nil, map[string]bool{}
}

// chanceSeed is the seed of random histories. BDBVAULT_SEED repeats one.
func chanceSeed(t *testing.T) uint64 {
	text := os.Getenv("BDBVAULT_SEED")
	if text == "" {
		return rand.Uint64()
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("BDBVAULT_SEED: %v", err)
	}
	return seed
}

func torture() int {
	n, err := strconv.Atoi(os.Getenv("BDBVAULT_TORTURE"))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// TestStandbyByChance has a standby follow random histories of databases that are made, renamed, removed and written, with transactions that are in
// flight or prepared when log is shipped. After every cycle it must hold what a restore to the same LSN holds.
func TestStandbyByChance(t *testing.T) {
	seed := chanceSeed(t)
	for i := range 2 * torture() {
		t.Run(fmt.Sprintf("%d-%d", seed, i), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, uint64(i)))
			spec := envtest.Spec{LogFileSize: 24 << 10, Config: []string{"set_lg_bsize 4096"}}
			spec.Password = []string{"", "", "secret"}[rnd.IntN(3)]
			switch rnd.IntN(3) {
			case 1:
				spec.DataDirs, spec.LogDir = []string{"d1", "d2"}, "logs"
			case 2:
				spec.DataDirs, spec.CreateDir = []string{"d1", "."}, "d1"
			}
			env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), spec)
			c := &standbyHistory{TestHold: envtest.StartHold(t, env), Rand: rnd, t: t, live: map[string]string{}, busy: map[string]bool{}, heavy: rnd.IntN(2) == 0,
				extents: i%3 == 2}
			for range rnd.IntN(6) {
				c.turn()
			}
			followHistory(t, env, c)
		})
	}
}

func followHistory(t *testing.T, env *envtest.Environment, c *standbyHistory) {
	p := newPacker(t, env.Password)
	c.FlushLog()
	p.full(env.Home, nil)
	opt := restore.StandbyOptions{To: filepath.Join(t.TempDir(), "to")}
	opt.Engine.Password = env.Password
	actions := map[string]int{}
	for range 6 {
		if c.IntN(12) == 0 {
			c.FlushLog()
			p.full(env.Home, nil)
			c.say("FULL")
		}
		for range c.IntN(8) {
			c.turn()
		}
		c.FlushLog()
		p.ship(env.Home)
		c.disturb(p, opt)
		s, err := restore.OpenStandby(opt)
		p.must(err)
		res, err := s.Cycle(t.Context(), p.repo)
		if err != nil {
			t.Fatalf("%v\n%s", err, strings.Join(c.story, "\n"))
		}
		s.Close()
		c.say("CYCLE to %s: %s %s", res.End, res.Action, res.Why)
		actions[res.Action]++
		if res.Why != "" {
			t.Logf("built anew: %s", res.Why)
		}
		if diff := compareFresh(t, p, res, opt); len(diff) > 0 {
			t.Fatalf("first: restored, second: standby:\n%s\n%s", strings.Join(diff, "\n"), strings.Join(c.story, "\n"))
		}
	}
	t.Log(actions)
}

// compareFresh says in what the standby differs from a restore to the same LSN.
func compareFresh(t *testing.T, p *packer, res *restore.CycleResult, opt restore.StandbyOptions) []string {
	t.Helper()
	plan, err := restore.MakePlan(t.Context(), p.repo, envName, restore.Target{LSN: res.End})
	p.must(err)
	fresh := filepath.Join(t.TempDir(), "fresh")
	_, err = restore.Restore(t.Context(), p.repo, plan, restore.Options{To: fresh, Engine: opt.Engine, Verify: restore.VerifyNever})
	p.must(err)
	diff := envtest.Diff(dump(t, fresh, opt.Engine.Password), dump(t, opt.To, opt.Engine.Password))
	if err := envtest.Verify(opt.To, opt.Engine.Password); err != nil {
		diff = append(diff, err.Error())
	}
	if a, b := tree(t, fresh), tree(t, opt.To); !slices.Equal(a, b) {
		diff = append(diff, fmt.Sprintf("files: %v and %v", a, b))
	}
	p.must(os.RemoveAll(fresh))
	return diff
}

// tree lists the files of a home but for the log, extents, of which some may be left over, and bdbvault's own.
func tree(t *testing.T, home string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(home, func(name string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !strings.HasPrefix(e.Name(), "log.") && !strings.HasPrefix(e.Name(), ".bdbvault-") &&
			!strings.HasPrefix(e.Name(), "__dbq.") {
			rel, _ := filepath.Rel(home, name)
			list = append(list, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
