package archive_test

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/envtest"
	"bdbvault/remote"
	"bdbvault/remote/minio"
	"bdbvault/remote/remotetest"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

// Prices of S3, standard storage in us-east-1, in dollars for a thousand requests, as AWS listed them in 2025.
const (
	pricePut  = 0.005 // and LIST
	priceOpen = 0.0004
)

const secondsOfDay = 24 * 60 * 60

// TestWatchDay is a day on which there is something to send every second, as fast as that goes: what it costs in requests, objects and memory, and what it
// takes to plan a restore in the end. BDBVAULT_TORTURE=200 is the whole day, by default it is a piece of it.
func TestWatchDay(t *testing.T) {
	seconds := secondsOfDay / 200
	if n, err := strconv.Atoi(os.Getenv("BDBVAULT_TORTURE")); err == nil {
		seconds = min(secondsOfDay, seconds*max(n, 1))
	}
	home := filepath.Join(t.TempDir(), "home")
	env := envtest.Create(t, home, envtest.Spec{Databases: []envtest.Database{{File: "a.db", Method: "btree", Records: 20000}}})
	b := newBench(t, home)
	server := remotetest.MinIO(t)
	open := func() *repository.Repository { // a bucket that has counted nothing yet
		drv, err := minio.New(t.Context(), server.Config(server.NewBucket()))
		if err != nil {
			t.Fatal(err)
		}
		repo, err := repository.Init(t.Context(), remote.New(drv, remote.Options{RetryFor: time.Minute}), "test")
		if err != nil {
			t.Fatal(err)
		}
		return repo
	}
	b.repo = open()
	d := &day{t: t, bench: b, h: envtest.StartHold(t, env)}
	d.begin()
	before := b.repo.Bucket.Stats()
	began := time.Now()
	for n := range seconds {
		d.second(n)
		if done := n + 1; done == seconds/10 || done == seconds/2 || done == seconds {
			d.weigh(done)
		}
	}
	took := time.Since(began)
	sent := b.repo.Bucket.Stats()
	sent.Requests.Put -= before.Requests.Put
	sent.BytesUp -= before.BytesUp
	sent.Requests.Get, sent.Requests.List, sent.Requests.Head = sent.Requests.Get-before.Requests.Get, sent.Requests.List-before.Requests.List, sent.Requests.Head-before.Requests.Head
	c := d.w.Status().Counters
	d.end()

	month := float64(secondsOfDay*30) / float64(seconds)
	t.Logf("%d seconds in %v: %s, %d bytes up for %d of log; %d log files", seconds, took.Round(time.Second), dump(sent.Requests), sent.BytesUp,
		int64(d.at.File-d.from.File)*(10<<20)+int64(d.at.Offset)-int64(d.from.Offset), d.at.File-d.from.File+1)
	t.Logf("a month of such seconds: $%.2f for PUT and LIST, $%.2f for GET and HEAD", float64(sent.Requests.Put+sent.Requests.List)*month/1000*pricePut,
		float64(sent.Requests.Get+sent.Requests.Head)*month/1000*priceOpen)
	for i, heap := range d.heaps {
		t.Logf("after %d seconds: %d KiB of heap, %d KiB resident", d.marks[i], heap>>10, d.resident[i])
	}
	if extra := sent.Requests.Put - int64(seconds); extra > int64(seconds)/50+int64(d.at.File-d.from.File)+2 || sent.Requests.Total() != sent.Requests.Put {
		t.Errorf("%s for %d seconds with something to send", dump(sent.Requests), seconds)
	}
	if first, last := d.heaps[0], d.heaps[2]; last > first+first/2+1<<20 {
		t.Errorf("memory grows: %v bytes of heap", d.heaps)
	}
	if c.Fulls != 1 || c.ChainBreaks > 0 || c.ShipFailures > 0 {
		t.Errorf("%s", dump(c))
	}
	d.plan()
}

// day is a watch under load.
type day struct {
	t *testing.T
	*bench
	h   *envtest.TestHold
	w   *archive.Watcher
	end func()

	from, at bdb.LSN
	marks    []int
	heaps    []uint64
	resident []int
}

func (d *day) begin() {
	var err error
	d.w, err = archive.NewWatcher(d.repo, func() (*localenv.Env, error) { return localenv.Open(d.home, nil) },
		archive.WatchOptions{Env: "test", StateDir: d.state, Tool: "test", ShipEvery: time.Millisecond, BulkSafe: archive.BulkOff})
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.w.Run(ctx) }()
	ended := false
	d.end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			d.t.Errorf("watch: %v", err)
		}
	}
	d.t.Cleanup(d.end)
	d.from = d.shipped(d.h.Put("", "a.db", 0, 1))
}

// second is one in which something is committed, and stored.
func (d *day) second(n int) {
	d.h.Begin("t")
	d.h.Put("t", "a.db", n*7%20000, 5)
	commit := d.h.Commit("t")
	if n%300 == 299 {
		d.h.Checkpoint()
	}
	d.at = d.shipped(commit)
}

// shipped waits until a record is stored, and says up to where all is.
func (d *day) shipped(record bdb.LSN) bdb.LSN {
	for limit := time.Now().Add(time.Minute); ; time.Sleep(500 * time.Microsecond) {
		if s := d.w.Status(); record.Before(s.ShippedTo) && s.FullSince.IsZero() {
			return s.ShippedTo
		} else if time.Now().After(limit) {
			d.t.Fatalf("not shipped up to %s: %s", record, dump(s))
		}
	}
}

// weigh measures the memory of this process, in which the watch runs.
func (d *day) weigh(seconds int) {
	heap := uint64(math.MaxUint64)
	for range 5 { // what a ship has just used is garbage by then
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		heap = min(heap, m.HeapAlloc)
		time.Sleep(10 * time.Millisecond)
	}
	d.marks, d.heaps = append(d.marks, seconds), append(d.heaps, heap)
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		d.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kib, _ := strconv.Atoi(strings.Fields(rest)[0])
	d.resident = append(d.resident, kib)
}

// plan counts what a restore of the last moment needs, and makes one.
func (d *day) plan() {
	objects := 0
	if _, err := d.repo.Bucket.List(d.t.Context(), "", "", func(remote.Info) error { objects++; return nil }); err != nil {
		d.t.Fatal(err)
	}
	before, began := d.repo.Bucket.Stats().Requests, time.Now()
	plan, err := restore.MakePlan(d.t.Context(), d.repo, "test", restore.Target{})
	if err != nil {
		d.t.Fatal(err)
	}
	r := d.repo.Bucket.Stats().Requests
	r.List, r.Get, r.Head = r.List-before.List, r.Get-before.Get, r.Head-before.Head
	d.t.Logf("%d objects; a plan took %v, %d LISTs, %d GETs and %d HEADs, and chose %d segments", objects, time.Since(began).Round(time.Millisecond),
		r.List, r.Get, r.Head, plan.Segments)
	if r.List+r.Get+r.Head > 250 {
		d.t.Errorf("%d requests for a plan", r.List+r.Get+r.Head)
	}
	home, res := d.restored()
	if res.End.Before(d.at) {
		d.t.Errorf("restored up to %s, %s was shipped", res.End, d.at)
	}
	d.h.Checkpoint()
	truth, err := envtest.Dump(d.home, "")
	if err != nil {
		d.t.Fatal(err)
	}
	for _, line := range envtest.Diff(truth, contents(d.t, nil, envtest.Open(home, ""))) {
		d.t.Errorf("first: source, second: restored: %s", line)
	}
}
