package restore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"bdbvault/localenv/dbutil"
	"bdbvault/localenv/engine"
	"bdbvault/localenv/envtest"
	"bdbvault/localenv/libdb"
	"bdbvault/restore"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "engine" {
		if err := engine.Serve(os.Stdin, os.Stdout, build); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 5 && os.Args[1] == "restore" {
		if err := restoreChild(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 5 && os.Args[1] == "standby" {
		if err := standbyChild(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 5 && os.Args[1] == "drill" {
		if err := drillChild(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func build(o engine.Options) (engine.Engine, error) {
	if o.Kind == "dbutil" || !libdb.Available {
		return dbutil.New(o)
	}
	return libdb.New(o)
}

// restoreTo plans and restores the latest state.
func (p *packer) restoreTo(to string, opt restore.Options) (*restore.Result, error) {
	p.t.Helper()
	plan, err := restore.MakePlan(p.t.Context(), p.repo, p.env, restore.Target{})
	if err != nil {
		return nil, err
	}
	opt.To = to
	return restore.Restore(p.t.Context(), p.repo, plan, opt)
}

// same fails the test unless two closed homes hold the same.
func same(t testing.TB, want, got, password string) {
	t.Helper()
	holds(t, dump(t, want, password), got, password)
}

func dump(t testing.TB, home, password string) envtest.Contents {
	t.Helper()
	c, err := envtest.Dump(home, password)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// holds fails the test unless a closed home holds what it should, in order.
func holds(t testing.TB, want envtest.Contents, home, password string) {
	t.Helper()
	for _, line := range envtest.Diff(want, dump(t, home, password)) {
		t.Errorf("first: source, second: restored: %s", line)
	}
	if err := envtest.Verify(home, password); err != nil {
		t.Error(err)
	}
}

func TestRestoreShapes(t *testing.T) {
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{
		DataDirs: []string{"data"}, LogDir: "log", LogFileSize: 100 << 10, Databases: envtest.AllShapes(4096, true),
	})
	p := newPacker(t, "")
	p.full(env.Home, nil)
	h := envtest.StartHold(t, env)
	h.Put("", "btree.db", 5000, 300)
	h.Put("", "queue.db", 5000, 300)
	h.FlushLog()
	p.ship(env.Home)
	h.Close()
	for _, kind := range []string{"libdb", "dbutil"} {
		t.Run(kind, func(t *testing.T) {
			opt := restore.Options{Verify: restore.VerifyAlways}
			opt.Engine.Kind = kind
			to := filepath.Join(t.TempDir(), "to")
			res, err := p.restoreTo(to, opt)
			if err != nil {
				t.Fatal(err)
			}
			if res.Verified < 12 || res.Commits == 0 || res.Passes != 1 || res.EndTime.IsZero() {
				t.Errorf("result %+v", res)
			}
			same(t, env.Home, to, "")
		})
	}
}
