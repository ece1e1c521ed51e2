package endtoend

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bdbvault/localenv/envtest"
	"bdbvault/remote"
	"bdbvault/remote/minio"
	"bdbvault/remote/remotetest"
	"bdbvault/restore"
)

// mayLose is how much writing may be lost with a machine that ships every second, on one that has time for it.
const mayLose = 2 * time.Second

// TestMachineDies kills everything on a machine at once, at random: the bank's writers, the watch and its engine. What is restored is an exact prefix of the
// commits, and those that are missing were made within two seconds. The restored environment is the next machine's, which dies as well. BDBVAULT_TORTURE=17
// and more lets 50 machines die.
//
// A test that shares its processors with others can't hold anybody to seconds. So a canary stores an object now and then meanwhile; what it was held up by
// shortly before the end is allowed on top, twice, as a ship does more.
func TestMachineDies(t *testing.T) {
	seed := seeds(t, 1)[0]
	t.Logf("BDBVAULT_SEED=%d", seed)
	server := remotetest.MinIO(t)
	bucket := server.NewBucket()
	m := &mortal{t: t, random: rand.New(rand.NewPCG(seed, 1)), c: newCLI(t).at(server, server.Endpoint, bucket), dir: scratch(t)}
	m.c.must("init")
	drv, err := minio.New(t.Context(), server.Config(bucket))
	if err != nil {
		t.Fatal(err)
	}
	m.store = remote.New(drv, remote.Options{})
	m.home = filepath.Join(m.dir, "bank")
	envtest.Create(t, m.home, envtest.Spec{DataDirs: []string{"data"}, LogFileSize: 512 << 10, Bank: &envtest.Bank{Payload: 200}})
	for range min(50, 3*torture()) {
		m.live()
	}
	slices.Sort(m.lost)
	t.Logf("%d machines died; lost with them: %s; all: %v", len(m.lost), spread(m.lost), m.lost)
	t.Logf("held up by others before their death: %s; %d were not", spread(m.held), m.calm)
}

// mortal is a machine after the other.
type mortal struct {
	t      *testing.T
	random *rand.Rand
	c      *cli
	store  *remote.Bucket
	dir    string
	home   string
	began  time.Time

	commits    uint64 // that the machine began with
	lost, held []time.Duration
	calm       int
}

// live is the life of one machine, and what is left of it.
func (m *mortal) live() {
	t, n := m.t, len(m.lost)
	c := m.c.with(fmt.Sprintf("BDBVAULT_STATE_DIR=%s/state%d", m.dir, n), "DB_HOME="+m.home)
	m.began = time.Now()
	load := envtest.StartBank(t, envtest.Open(m.home, ""), envtest.BankOptions{
		Rate: 200, Checkpoint: 300 * time.Millisecond, RemoveLogs: true, Seed: m.random.Uint64()})
	w := c.start("watch", "--full-every", "3s")
	w.says("the log continues timeline")
	canary := m.canary()
	time.Sleep(time.Duration(m.random.Int64N(int64(4 * time.Second)))) // the machine dies whenever it wants
	engine := engineOf(w.cmd.Process.Pid)
	if engine == 0 {
		t.Errorf("machine %d: the watch has no engine", n)
	}
	victims := append(load.PIDs(), w.cmd.Process.Pid)
	if engine != 0 {
		victims = append(victims, engine)
	}
	m.random.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
	for _, pid := range victims {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	held := canary()
	load.Kill()
	if s := w.wait(); s.code != -1 {
		t.Fatalf("machine %d: %s", n, s)
	}
	m.bury(load, held)
	if t.Failed() {
		t.Fatalf("machine %d: the watch had said:\n%s", n, w.err.String())
	}
}

// bury compares what is restored with what really was, and lets the next machine go on with it.
func (m *mortal) bury(load *envtest.Workload, held time.Duration) {
	m.t.Helper()
	gone := m.home + ".gone"
	if err := os.Rename(m.home, gone); err != nil {
		m.t.Fatal(err)
	}
	res := decode[restore.Result](m.t, m.c.must("restore", "--env", "bank", "--to", m.home, "--json", "--quiet"))
	got, err := envtest.CheckBank(m.home, "")
	if err != nil {
		m.t.Fatalf("restored to %s: %v", res.End, err)
	}
	if want := max(m.commits, commitsBefore(load, res.End)); got.LastCommit < want || got.LastCommit > want+uint64(len(load.PIDs())) {
		m.t.Errorf("restored up to commit %d; before %s, where it ends, is %d", got.LastCommit, res.End, want)
	}
	if err := envtest.RecoverApart(gone, ""); err != nil {
		m.t.Fatal(err)
	}
	truth, err := envtest.CheckBank(gone, "")
	if err != nil {
		m.t.Fatalf("the dead machine: %v", err)
	}
	var lost time.Duration
	if got.LastCommit < truth.LastCommit {
		lost = truth.LastTime.Sub(later(got.LastTime, m.began))
	}
	m.commits = got.LastCommit
	m.lost, m.held = append(m.lost, lost), append(m.held, held)
	if held < mayLose/10 {
		m.calm++
	}
	m.t.Logf("machine %d: %d commits, of which %d of the last %v are lost; held up for %v", len(m.lost), truth.LastCommit, truth.LastCommit-got.LastCommit,
		lost.Round(time.Millisecond), held.Round(time.Millisecond))
	if got.LastCommit > truth.LastCommit || lost > mayLose+2*held {
		m.t.Errorf("restored %d of %d commits: %v of writing are lost, and nothing was held up for more than %v", got.LastCommit, truth.LastCommit, lost, held)
	}
	if err := os.RemoveAll(gone); err != nil {
		m.t.Fatal(err)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

const (
	canaryEvery  = 100 * time.Millisecond
	canaryQuick  = 30 * time.Millisecond // to store a small object takes less where nobody is in the way
	canaryWindow = 4 * time.Second
)

// canary stores small objects until the function that it returns is called. That says for how long it was held up in the last seconds.
func (m *mortal) canary() func() time.Duration {
	type round struct {
		end  time.Time
		late time.Duration
	}
	var mu sync.Mutex
	var rounds []round
	ctx, cancel := context.WithCancel(m.t.Context())
	var done sync.WaitGroup
	begun := time.Now()
	done.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			time.Sleep(canaryEvery)
			body := bytes.Repeat([]byte{byte(n)}, 4<<10)
			key := strings.ToLower(fmt.Sprintf("canary/%d", n))
			if err := m.store.Put(ctx, key, bytes.NewReader(body), int64(len(body)), remote.PutOptions{}); err != nil && ctx.Err() == nil {
				m.t.Errorf("canary: %v", err)
				return
			}
			now := time.Now()
			mu.Lock()
			rounds = append(rounds, round{now, now.Sub(begun) - canaryEvery - canaryQuick})
			begun = now
			mu.Unlock()
		}
	})
	return func() (held time.Duration) {
		end := time.Now()
		mu.Lock()
		rounds = append(rounds, round{end, end.Sub(begun) - canaryEvery - canaryQuick})
		for _, r := range rounds {
			if end.Sub(r.end) < canaryWindow && r.late > 0 {
				held += r.late
			}
		}
		mu.Unlock()
		cancel()
		done.Wait()
		return held
	}
}
