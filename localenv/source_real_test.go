package localenv_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/envtest"
)

const password = "correct horse"

// readAll reads every file of an environment through its Source. See gets each, with all its bytes.
func readAll(t *testing.T, e *localenv.Env, see func(s *localenv.Source, data []byte, st localenv.ReadStats)) (total localenv.ReadStats) {
	t.Helper()
	listing, err := e.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range listing.Files {
		s, err := e.OpenFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		data, st := readSource(t, s)
		if see != nil {
			see(s, data, st)
		}
		for _, bad := range st.Bad {
			t.Errorf("%s: %v", file.Path, &bad)
		}
		total.Add(st)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return total
}

func readSource(t *testing.T, s *localenv.Source) (data []byte, total localenv.ReadStats) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for {
		n, st, err := s.ReadAt(context.Background(), buf, int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		total.Add(st)
		if data = append(data, buf[:n]...); n < len(buf) {
			return data, total
		}
	}
}

func openEnv(t *testing.T, home, password string) *localenv.Env {
	t.Helper()
	e, err := localenv.Open(home, bdb.NewKey(password))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// logEnd is where the next record of the log will go.
func logEnd(t *testing.T, e *localenv.Env) bdb.LSN {
	t.Helper()
	log, err := e.OpenLog(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	end, err := log.End(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return end
}

// TestRealEnvironments reads environments with all that libdb can make in them.
func TestRealEnvironments(t *testing.T) {
	for _, pageSize := range []int{512, 4096, 65536} {
		for _, protect := range []string{"plain", "checksum", "encrypted"} {
			t.Run(fmt.Sprintf("%d/%s", pageSize, protect), func(t *testing.T) {
				t.Parallel()
				spec := envtest.Spec{DataDirs: []string{"data"}, LogDir: "logs", Databases: envtest.AllShapes(pageSize, protect == "checksum")}
				if protect == "encrypted" {
					spec.Password = password
				}
				checkEnvironment(t, spec, pageSize)
			})
		}
	}
}

func checkEnvironment(t *testing.T, spec envtest.Spec, pageSize int) {
	home := t.TempDir()
	envtest.Create(t, home, spec)
	if err := envtest.Checkpoint(home, spec.Password); err != nil {
		t.Fatal(err)
	}
	e := openEnv(t, home, spec.Password)
	kinds := map[bdb.Kind]int{}
	total := readAll(t, e, func(s *localenv.Source, data []byte, st localenv.ReadStats) {
		kinds[s.Kind()]++
		compareWithDisk(t, e, s, data)
		if s.Kind() == bdb.KindFile {
			return
		}
		if s.PageSize() != pageSize || st.Pages != int64(len(data)/pageSize) || s.Meta().Encrypted != (spec.Password != "") {
			t.Errorf("%v: %s, %d pages of %d, %+v", s, s.Kind(), st.Pages, s.PageSize(), s.Meta())
		}
		if st.MaxLSN.IsZero() {
			t.Errorf("%v: no LSN in %+v", s, st)
		}
	})
	if kinds[bdb.KindFile] != 1 || kinds[bdb.KindBtree] < 9 || kinds[bdb.KindHash] != 2 || kinds[bdb.KindQueue] != 2 || kinds[bdb.KindQueueExtent] < 1 || kinds[bdb.KindHeap] != 1 {
		t.Errorf("kinds %v", kinds)
	}
	if end := logEnd(t, e); !total.MaxLSN.Before(end) || total.MaxLSN.IsZero() {
		t.Errorf("largest LSN %v, log ends at %v", total.MaxLSN, end)
	}
	if spec.Password != "" {
		checkWithoutPassword(t, home, total)
	}
}

// checkWithoutPassword expects the same LSNs and no bad page, but for HMACs.
func checkWithoutPassword(t *testing.T, home string, with localenv.ReadStats) {
	extents := 0
	blind := readAll(t, openEnv(t, home, ""), func(s *localenv.Source, _ []byte, st localenv.ReadStats) {
		if s.Kind() == bdb.KindQueueExtent && s.Meta().FirstPage > 0 {
			extents++
		}
	})
	if blind.Pages != with.Pages || blind.MaxLSN != with.MaxLSN || blind.Zero != with.Zero || extents < 1 {
		t.Errorf("without password %+v, with it %+v; %d queue extents placed", blind, with, extents)
	}
	wrong := openEnv(t, home, "something else")
	listing, err := wrong.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range listing.Files {
		if filepath.Base(f.Path) != "btree.db" {
			continue
		}
		if _, err := wrong.OpenFile(f); !errors.Is(err, bdb.ErrPassword) {
			t.Errorf("%s with a wrong password: %v", f.Path, err)
		}
	}
}

func compareWithDisk(t *testing.T, e *localenv.Env, s *localenv.Source, data []byte) {
	t.Helper()
	f := s.File()
	disk, err := os.ReadFile(filepath.Join(e.Dirs[f.Dir].Path, f.Path))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(disk, data) {
		t.Errorf("%s: read %d bytes, %d on the disk, or different ones", f.Path, len(data), len(disk))
	}
}

// TestRealWorkload reads an environment over and over while processes write to it.
func TestRealWorkload(t *testing.T) {
	for _, spec := range []envtest.Spec{
		{Bank: &envtest.Bank{PageSize: 16384}, Cache: 1 << 20},
		{Bank: &envtest.Bank{PageSize: 4096, Checksum: true}, Cache: 1 << 20},
		{Bank: &envtest.Bank{PageSize: 8192}, Cache: 1 << 20, Password: password},
	} {
		t.Run(fmt.Sprintf("%d/checksum %v/encrypted %v", spec.Bank.PageSize, spec.Bank.Checksum, spec.Password != ""), func(t *testing.T) {
			home := t.TempDir()
			env := envtest.Create(t, home, spec)
			work := envtest.StartBank(t, env, envtest.BankOptions{Processes: 2, Checkpoint: 100 * time.Millisecond})
			e := openEnv(t, home, spec.Password)
			var total localenv.ReadStats
			for started := time.Now(); time.Since(started) < time.Second; {
				st := readAll(t, e, nil)
				if end := logEnd(t, e); !st.MaxLSN.Before(end) {
					t.Errorf("read a page of LSN %v, but the log ends at %v", st.MaxLSN, end)
				}
				total.Add(st)
			}
			if err := work.Stop(); err != nil {
				t.Error(err)
			}
			t.Logf("%d pages, %d read again", total.Pages, total.Reread)
		})
	}
}
