package endtoend

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/envtest"
	"bdbvault/restore"
)

// cell is one kind of environment. Each holds databases of every access method.
type cell struct {
	pageSize int
	guard    string // what guards pages: nothing, checksums, or encryption, which brings checksums of its own
	order    string
	layout   string
}

func (c cell) String() string {
	return fmt.Sprintf("%d/%s/%s/%s", c.pageSize, c.guard, c.order, c.layout)
}

func matrix() (cells []cell) {
	for _, pageSize := range []int{512, 1024, 2048, 4096, 8192, 16384, 32768, 65536} {
		for _, guard := range []string{"bare", "checksum", "encrypted"} {
			for _, order := range []string{"little", "big"} {
				for _, layout := range []string{"home", "dirs", "create"} {
					cells = append(cells, cell{pageSize, guard, order, layout})
				}
			}
		}
	}
	return cells
}

// spec is an environment of that kind. Databases of the other byte order are what a machine of the other byte order would have made.
func (c cell) spec() envtest.Spec {
	big := c.order == "big"
	s := envtest.Spec{LogFileSize: 1 << 20, Cache: 2 << 20, Databases: envtest.AllShapes(c.pageSize, c.guard == "checksum"), Bank: &envtest.Bank{
		PageSize: c.pageSize, Checksum: c.guard == "checksum", Payload: min(200, c.pageSize/4),
		Databases: []envtest.Database{{Method: "btree"}, {Method: "hash"}, {Method: "recno"}, {Method: "queue", Extent: 4}},
	}}
	for _, list := range [][]envtest.Database{s.Databases, s.Bank.Databases} {
		for i := range list {
			list[i].BigEndian = big
		}
	}
	if c.guard == "encrypted" {
		s.Password = password
	}
	switch c.layout {
	case "dirs":
		s.DataDirs, s.LogDir = []string{"data1", "data2"}, "logs"
	case "create":
		s.AddDirs, s.CreateDir = []string{"old", "new"}, "new"
	}
	return s
}

// TestMatrix backs up every kind of environment while databases of every access method are written to: page sizes, checksums, encryption, both byte orders,
// layouts of directories. Each restore verifies and is an exact prefix of the commits; the last equals the source. By default some cells chosen at
// random, with BDBVAULT_TORTURE all of them.
func TestMatrix(t *testing.T) {
	t.Parallel()
	cells := matrix()
	if torture() == 1 {
		seed := seeds(t, 1)[0]
		t.Logf("BDBVAULT_SEED=%d", seed)
		rng := rand.New(rand.NewPCG(seed, 0))
		rng.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
		cells = cells[:4]
	}
	for _, c := range cells {
		t.Run(c.String(), c.test)
	}
}

func (c cell) test(t *testing.T) {
	env := envtest.Create(t, filepath.Join(scratch(t), "home"), c.spec())
	v := newVault(t, env.Home)
	v.password = env.Password
	bank := envtest.StartBank(t, env, envtest.BankOptions{Processes: 2, Rate: 200, Checkpoint: 200 * time.Millisecond})
	all := startScribe(t, env, c)
	for i := range 2 {
		waitCommits(t, bank, bank.LastCommitted()+50)
		v.mustBackup(archive.BackupOptions{ReadAll: i == 1})
		waitCommits(t, bank, bank.LastCommitted()+50)
		at := v.mustShip().To
		want := commitsBefore(bank, at)
		to, _ := v.mustRestore(restore.Target{})
		check(t, v, to, want)
	}
	all.stop()
	if err := bank.Stop(); err != nil {
		t.Fatal(err)
	}
	v.mustShip()
	to, _ := v.mustRestore(restore.Target{})
	if diff := envtest.Diff(contents(t, env.Home, v.password), contents(t, to, v.password)); len(diff) > 0 {
		t.Errorf("the source and its restore:\n%s", strings.Join(diff, "\n"))
	}
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
}

// scribe writes to all databases of a cell in turn.
type scribe struct {
	t     *testing.T
	hold  *envtest.Hold
	files []envtest.Database
	end   chan struct{}
	ended chan error
}

func startScribe(t *testing.T, env *envtest.Environment, c cell) *scribe {
	t.Helper()
	h, err := env.RunHold()
	if err != nil {
		t.Fatal(err)
	}
	s := &scribe{t: t, hold: h, files: c.spec().Databases, end: make(chan struct{}), ended: make(chan error, 1)}
	go func() { s.ended <- errors.Join(s.work(), h.Close()) }()
	t.Cleanup(s.stop)
	return s
}

func (s *scribe) work() error {
	for n := 0; ; n++ {
		for _, d := range s.files {
			select {
			case <-s.end:
				return nil
			case <-time.After(5 * time.Millisecond): // leaves the machine to others
			}
			step := envtest.Step{Do: envtest.DoPut, File: d.File, Name: d.Name, From: n % 400, Count: 3, Version: uint64(n)}
			if d.Consume > 0 && n%2 == 1 {
				step = envtest.Step{Do: envtest.DoConsume, File: d.File, Count: 2}
			}
			if _, err := s.hold.Do(step); err != nil {
				return err
			}
		}
	}
}

// stop ends the writing, once.
func (s *scribe) stop() {
	select {
	case <-s.end:
		return
	default:
	}
	close(s.end)
	if err := <-s.ended; err != nil {
		s.t.Errorf("scribe: %v", err)
	}
}
