package archive_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/envtest"
	"bdbvault/remote"
	"bdbvault/remote/awsconf"
	"bdbvault/remote/minio"
	"bdbvault/remote/remotetest"
	"bdbvault/remote/repository"
	"bdbvault/remote/s3"
)

// useMinIO moves b to a bucket of a MinIO behind a proxy.
func (b *bench) useMinIO() *remotetest.Proxy {
	b.t.Helper()
	server := remotetest.MinIO(b.t)
	proxy := remotetest.NewProxy(b.t, server)
	cfg := server.Config(server.NewBucket())
	cfg.Endpoint = proxy.Endpoint
	drv, err := minio.New(b.t.Context(), cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.use(drv)
	return proxy
}

// use moves b to another store.
func (b *bench) use(drv remote.Driver) {
	b.t.Helper()
	b.rec = remotetest.Record(drv)
	var err error
	if b.repo, err = repository.Init(b.t.Context(), remote.New(b.rec, remote.Options{RetryFor: time.Minute}), "test"); err != nil {
		b.t.Fatal(err)
	}
}

// TestWatchWithCredentialsThatChange: credentials expire, wrong ones stand in the file for a while, then right ones.
func TestWatchWithCredentialsThatChange(t *testing.T) {
	for name, make := range map[string]func(context.Context, awsconf.Config) (remote.Driver, error){"minio": minio.New, "aws": s3.New} {
		t.Run(name, func(t *testing.T) {
			server := remotetest.MinIO(t)
			proxy := remotetest.NewProxy(t, server)
			file := filepath.Join(t.TempDir(), "credentials")
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
			t.Setenv("AWS_ACCESS_KEY_ID", "")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "")
			credentials := func(key, secret string) {
				text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", key, secret)
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			credentials(server.AccessKey, server.SecretKey)
			cfg := server.Config(server.NewBucket())
			cfg.Endpoint, cfg.Credentials, cfg.PathStyle = proxy.Endpoint, nil, true
			drv, err := make(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			env, b := bank(t)
			b.use(drv)
			w := b.watch(archive.WatchOptions{})
			w.awaitFulls(1)

			credentials("NOBODY", "nothing")
			var expired atomic.Bool
			proxy.Inject(func(*http.Request) remotetest.Fault {
				if expired.CompareAndSwap(false, true) {
					return remotetest.Fault{Status: 400, Code: "ExpiredToken", Message: "The provided token has expired."}
				}
				return remotetest.Fault{}
			})
			commit(t, env, 100, envtest.BankOptions{})
			end := b.logEnd()
			w.await("refused", func(s archive.WatchStatus) bool {
				return s.Counters.ShipFailures > 2 && s.State == archive.WatchRetrying
			})
			credentials(server.AccessKey, server.SecretKey)
			s := w.awaitShipped(end)
			if s.Counters.Fulls != 1 || s.Counters.ChainBreaks != 0 {
				t.Errorf("%s\n%s", dump(s.Counters), w.story())
			}
			var kinds []remote.Kind
			for _, e := range w.heard(archive.EventRetrying) {
				kinds = append(kinds, remote.KindOf(e.Err))
			}
			if len(kinds) != 2 || kinds[0] != remote.Expired || kinds[1] != remote.Auth {
				t.Errorf("failures of kinds %v\n%s", kinds, w.story())
			}
		})
	}
}

// TestWatchHearsAndLooks: each of the two ways in which a watch learns of new log is enough.
func TestWatchHearsAndLooks(t *testing.T) {
	follow := func(t *testing.T, opt archive.WatchOptions) {
		env, b := bank(t)
		w := b.watch(opt)
		w.awaitFulls(1)
		h := envtest.StartHold(t, env)
		for n := range 5 {
			h.Put("", "bank-accounts-0.db", 1000+n, 1)
			w.awaitShipped(h.FlushLog())
		}
	}
	t.Run("hears", func(t *testing.T) { follow(t, archive.WatchOptions{PollEvery: time.Hour}) })
	t.Run("looks", func(t *testing.T) {
		defer archive.Deaf()()
		follow(t, archive.WatchOptions{})
	})
}

// TestWatchLetsGoOfLogs: while the store is away, log files that the application removes take space. When the disk is nearly full, the application comes first.
func TestWatchLetsGoOfLogs(t *testing.T) {
	env, b := bank(t)
	proxy := b.useMinIO()
	load := envtest.StartBank(t, env, envtest.BankOptions{Rate: 400, Checkpoint: 100 * time.Millisecond, RemoveLogs: true})
	w := b.watch(archive.WatchOptions{})
	w.awaitFulls(1)
	proxy.Down()
	w.await("log files held", func(s archive.WatchStatus) bool { return s.Held.RemovedFiles > 1 })
	full := archive.DiskFull()
	w.await("log files let go", func(s archive.WatchStatus) bool { return s.Counters.LogsLetGo > 0 && s.Held.RemovedFiles < 2 })
	full()
	if err := proxy.Up(); err != nil {
		t.Fatal(err)
	}
	w.awaitFulls(2)
	if err := load.Stop(); err != nil {
		t.Fatal(err)
	}
	w.awaitShipped(b.logEnd())
	w.end()
	if len(w.heard(archive.EventChainBroken)) == 0 {
		t.Error(w.story())
	}
	b.restoresBank(load.LastCommitted())
}

// TestWatchKeepsLogs: nothing is removed in a replication group, nor what the store lacks.
func TestWatchKeepsLogs(t *testing.T) {
	kept := func(t *testing.T, prepare func(env *envtest.Environment, b *bench)) string {
		env, b := bank(t)
		prepare(env, b)
		load := envtest.StartBank(t, env, envtest.BankOptions{Rate: 400, Checkpoint: 50 * time.Millisecond})
		w := b.watch(archive.WatchOptions{RemoveShippedLogs: true})
		w.awaitFulls(1)
		w.await("log kept", func(archive.WatchStatus) bool { return len(w.heard(archive.EventLogKept)) > 0 })
		load.Kill()
		if files, err := b.env().LogFiles(); err != nil || files[0].Number != 1 {
			t.Errorf("the oldest log file is %d: %v", files[0].Number, err)
		}
		return w.heard(archive.EventLogKept)[0].Text
	}
	t.Run("replication", func(t *testing.T) {
		t.Log(kept(t, func(_ *envtest.Environment, b *bench) {
			if err := os.WriteFile(filepath.Join(b.home, "__db.rep.gen"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}))
	})
	t.Run("older than the first backup", func(t *testing.T) {
		t.Log(kept(t, func(env *envtest.Environment, b *bench) {
			commit(t, env, 3000, envtest.BankOptions{Checkpoint: 20 * time.Millisecond})
		}))
	})
}
