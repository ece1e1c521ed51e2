package archive_test

import (
	"context"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/envtest"
)

// watch runs a watch of b's environment until the test ends or stops it.
func (b *bench) watch(opt archive.WatchOptions) (w *archive.Watcher, stop func()) {
	b.t.Helper()
	opt.Env, opt.StateDir, opt.Tool = "test", b.state, "test"
	if opt.ShipEvery == 0 {
		opt.ShipEvery = 50 * time.Millisecond
	}
	w, err := archive.NewWatcher(b.repo, func() (*localenv.Env, error) { return localenv.Open(b.home, b.key) }, opt)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				b.t.Errorf("watch: %v", err)
			}
		case <-time.After(30 * time.Second):
			b.t.Error("the watch does not stop")
		}
	}
	b.t.Cleanup(stop)
	return w, stop
}

// await polls until a condition on the status holds.
func await(t *testing.T, w *archive.Watcher, what string, ok func(archive.WatchStatus) bool) archive.WatchStatus {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		s := w.Status()
		if ok(s) {
			return s
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not so after 20 s: %s", what, dump(s))
		}
	}
}

// logEnd is the end of b's log on disk.
func (b *bench) logEnd() bdb.LSN {
	b.t.Helper()
	log, err := b.env().OpenLog(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	defer log.Close()
	end, err := log.End(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return end
}

func TestWatchFollowsTheLog(t *testing.T) {
	env, b := bank(t)
	w, stop := b.watch(archive.WatchOptions{BulkSafe: archive.BulkOff})
	await(t, w, "first full backup", func(s archive.WatchStatus) bool { return s.Counters.Fulls == 1 && s.State == archive.WatchIdle })
	for range 3 {
		commit(t, env, 500, envtest.BankOptions{})
		end := b.logEnd()
		await(t, w, "shipped", func(s archive.WatchStatus) bool { return !s.ShippedTo.Before(end) })
	}
	stop()
	list, err := b.repo.Backups(t.Context(), "test", "")
	if err != nil || len(list) != 1 {
		t.Fatalf("%d backups: %v", len(list), err)
	}
	m, err := b.repo.Manifest(t.Context(), "test", list[0])
	if err != nil {
		t.Fatal(err)
	}
	reaches(t, b, m, b.logEnd())
}
