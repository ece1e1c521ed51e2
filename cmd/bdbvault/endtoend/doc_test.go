// Package endtoend proves the whole way, out and back, on real environments with live writers and the real engine: what archive stores,
// restore brings back. Neither package may know the other, so their common tests stand here.
//
// BDBVAULT_TORTURE multiplies the number of backups.
package endtoend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/localenv/engine/enginetest"
	"bdbvault/localenv/envtest"
	"bdbvault/localenv/libdb"
	"bdbvault/remote"
	"bdbvault/remote/file"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "engine" {
		if err := engine.Serve(os.Stdin, os.Stdout, libdb.New); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 2 && os.Args[1] == errandRole {
		if err := runErrand(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	enginetest.RemoveProbe()
	os.RemoveAll(productDir)
	os.Exit(code)
}

// torture is how many times as long as usual the tests run.
func torture() int {
	n, err := strconv.Atoi(os.Getenv("BDBVAULT_TORTURE"))
	if err != nil {
		return 1
	}
	return max(n, 1)
}

// vault is an environment and its repository.
type vault struct {
	t        *testing.T
	home     string
	password string
	repo     *repository.Repository
	state    string
	dir      string
}

func newVault(t *testing.T, home string) *vault {
	t.Helper()
	v := &vault{t: t, home: home, state: t.TempDir(), dir: t.TempDir()}
	drv, err := file.New(v.dir)
	if err != nil {
		t.Fatal(err)
	}
	v.repo, err = repository.Init(t.Context(), remote.New(drv, remote.Options{RetryFor: time.Second}), "test")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *vault) key() *bdb.Key {
	if v.password == "" {
		return nil
	}
	return bdb.NewKey(v.password)
}

func (v *vault) env() *localenv.Env {
	v.t.Helper()
	env, err := localenv.Open(v.home, v.key())
	if err != nil {
		v.t.Fatal(err)
	}
	return env
}

// backup makes a full backup with the hot-backup flag held.
func (v *vault) backup(opt archive.BackupOptions) (*archive.BackupResult, error) {
	v.t.Helper()
	opt.Env, opt.StateDir, opt.Tool = "test", v.state, "test"
	if opt.BulkSafe != archive.BulkOff {
		eng, err := engine.Start(v.t.Context(), engine.Options{Home: v.home, Password: v.password})
		if err != nil {
			return nil, err
		}
		defer eng.Close()
		opt.Engine = eng
	}
	return archive.Backup(v.t.Context(), v.repo, v.env(), opt)
}

func (v *vault) mustBackup(opt archive.BackupOptions) *archive.BackupResult {
	v.t.Helper()
	res, err := v.backup(opt)
	if err != nil {
		v.t.Fatalf("backup: %v", err)
	}
	return res
}

func (v *vault) ship() (*archive.ShipResult, error) {
	v.t.Helper()
	return archive.Ship(v.t.Context(), v.repo, v.env(), archive.ShipOptions{Env: "test", StateDir: v.state})
}

func (v *vault) mustShip() *archive.ShipResult {
	v.t.Helper()
	res, err := v.ship()
	if err != nil {
		v.t.Fatalf("ship: %v", err)
	}
	return res
}

// restore brings a target back into a fresh directory, every database verified.
func (v *vault) restore(target restore.Target) (string, *restore.Result, error) {
	v.t.Helper()
	to := filepath.Join(v.t.TempDir(), "restored")
	plan, err := restore.MakePlan(v.t.Context(), v.repo, "test", target)
	if err != nil {
		return to, nil, err
	}
	res, err := restore.Restore(v.t.Context(), v.repo, plan, restore.Options{
		To: to, Verify: restore.VerifyAlways, Engine: engine.Options{Password: v.password},
	})
	return to, res, err
}

func (v *vault) mustRestore(target restore.Target) (string, *restore.Result) {
	v.t.Helper()
	to, res, err := v.restore(target)
	if err != nil {
		v.t.Fatalf("restore %s: %v", dump(target), err)
	}
	return to, res
}

func dump(v any) string {
	s, _ := json.Marshal(v)
	return string(s)
}

// commitsBefore is the number of the newest commit whose record stands before lsn.
func commitsBefore(w *envtest.Workload, lsn bdb.LSN) (n uint64) {
	for _, c := range w.Commits() {
		if c.LSN.Before(lsn) {
			n = max(n, c.Number)
		}
	}
	return n
}

func waitCommits(t *testing.T, w *envtest.Workload, n uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := w.WaitCommit(ctx, n); err != nil {
		t.Fatal(errors.Join(err, w.Err()))
	}
}
