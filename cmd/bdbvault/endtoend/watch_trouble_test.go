package endtoend

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"bdbvault/localenv/envtest"
	"bdbvault/remote/remotetest"
)

// awaits polls a condition.
func awaits(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came to be: %s", what)
		}
	}
}

// ended ends a watch in order, after everything is stored.
func (r *ongoing) ended() string {
	r.c.t.Helper()
	stop(r.c.t, r, syscall.SIGTERM)
	s := r.wait()
	if s.code != 0 {
		r.c.t.Error(s)
	}
	return s.err
}

var healthAt = regexp.MustCompile(`at (http://\S+/)`)

// healthy asks a watch how it is.
func (r *ongoing) healthy() bool {
	r.c.t.Helper()
	text, _ := r.seen.text()
	res, err := http.Get(healthAt.FindStringSubmatch(text)[1] + "healthz")
	if err != nil {
		r.c.t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// TestWatchWithoutStore: nothing answers where the store was while the bank works on and the engine removes log files by itself as soon as it may. The watch
// says so, is not healthy for so long, and goes on where it was; no full backup is needed. BDBVAULT_TORTURE makes the outage five minutes.
func TestWatchWithoutStore(t *testing.T) {
	outage := 2 * time.Second
	if torture() > 1 {
		outage = 5 * time.Minute
	}
	server := remotetest.MinIO(t)
	proxy := remotetest.NewProxy(t, server)
	env := envtest.Create(t, filepath.Join(scratch(t), "home"), envtest.Spec{
		LogFileSize: 512 << 10, LogFlags: []string{"DB_LOG_AUTO_REMOVE"}, Bank: &envtest.Bank{Payload: 200}})
	c := newCLI(t).at(server, proxy.Endpoint, server.NewBucket()).with("DB_HOME="+env.Home, "BDBVAULT_ENV=bank")
	c.must("init")
	load := envtest.StartBank(t, env, envtest.BankOptions{Rate: 300, Checkpoint: 200 * time.Millisecond})
	w := c.start("watch", "--full-every", "0", "--listen", "0", "--max-lag", "1s")
	w.says("the log continues timeline")
	awaits(t, "healthy", w.healthy)
	proxy.Down()
	down := time.Now()
	oldest := logFiles(t, env.Home)[0]
	awaits(t, "unhealthy, and log files removed", func() bool { return !w.healthy() && logFiles(t, env.Home)[0] > oldest })
	time.Sleep(time.Until(down.Add(outage))) // the outage lasts
	if w.healthy() {
		t.Error("healthy, with nothing stored for long")
	}
	if err := proxy.Up(); err != nil {
		t.Fatal(err)
	}
	awaits(t, "healthy again", w.healthy)
	if err := load.Stop(); err != nil {
		t.Fatal(err)
	}
	text := w.ended()
	// On a machine that is too busy, the engine makes and removes a file before the watch has come to see it. Then it has to say so.
	if n := strings.Count(text, "a full backup begins"); n != 1 && !strings.Contains(text, "was removed before it was shipped") {
		t.Errorf("%d full backups:\n%s", n, text)
	}
	c.restored(load.LastCommitted())
}

func logFiles(t *testing.T, home string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(home, "log.*"))
	if err != nil || len(list) == 0 {
		t.Fatalf("log files in %s: %v", home, err)
	}
	return list
}

// TestWatchFullStore: the disk of the store is full for a while. The watch says so and goes on when there is room.
func TestWatchFullStore(t *testing.T) {
	r := newRoom(t, "32m")
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{LogFileSize: 256 << 10, Bank: &envtest.Bank{Payload: 200}})
	c := newCLI(t).in(r).with("DB_HOME="+env.Home, "BDBVAULT_ENV=bank", "BDBVAULT_REPOSITORY=file://"+filepath.Join(r.dir, "repository"))
	c.must("init")
	load := envtest.StartBank(t, env, envtest.BankOptions{Rate: 300, Checkpoint: 200 * time.Millisecond, RemoveLogs: true})
	w := c.start("watch", "--full-every", "0")
	w.says("the log continues timeline")
	filler, err := os.Create(r.path("filler"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = filler.Write(make([]byte, 4<<10))
	}
	if filler.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	w.says("Make room in the store")
	waitCommits(t, load, load.LastCommitted()+300)
	if err := os.Remove(r.path("filler")); err != nil {
		t.Fatal(err)
	}
	w.says("the log is stored again")
	if err := load.Stop(); err != nil {
		t.Fatal(err)
	}
	text := w.ended()
	if n := strings.Count(text, "a full backup begins"); n != 1 && !strings.Contains(text, "was removed before it was shipped") {
		t.Errorf("%d full backups:\n%s", n, text)
	}
	c.restored(load.LastCommitted())
}

// TestWatchClocks: the application's clock is set back by an hour and forward again, and where the watch is, summer time ends. Nothing stops, and a restore
// to a time holds what the manual says: the cut is behind the last commit of that time or an earlier one, and a note tells what that brings with it.
func TestWatchClocks(t *testing.T) {
	shim := backByAnHour(t)
	dir := scratch(t)
	env := envtest.Create(t, filepath.Join(dir, "home"), envtest.Spec{LogFileSize: 256 << 10, Bank: &envtest.Bank{}})
	summerEnds := time.Now().Add(6 * time.Second)
	zone := filepath.Join(dir, "zone")
	if err := os.WriteFile(zone, endOfSummer(summerEnds), 0o644); err != nil {
		t.Fatal(err)
	}
	c := newCLI(t).with("TZ="+zone, "DB_HOME="+env.Home, "BDBVAULT_ENV=bank", "BDBVAULT_REPOSITORY=file://"+filepath.Join(dir, "repository"))
	c.must("init")
	w := c.start("watch", "--full-every", "2s", "--ship-every", "200ms")
	w.says("the log continues timeline")
	before := tellers(t, env, 1, 200)
	time.Sleep(time.Second) // commit times are whole seconds: those before the step shall all differ from those after it
	between := time.Now()
	t.Setenv("LD_PRELOAD", shim)
	back := tellers(t, env, 2, 200)
	os.Unsetenv("LD_PRELOAD")
	time.Sleep(time.Second)
	after := tellers(t, env, 3, 200)
	awaits(t, "summer's end", func() bool { return time.Now().After(summerEnds) })
	last := tellers(t, env, 4, 200)
	text, _ := w.seen.text()
	fulls := strings.Count(text, "full backup begins")
	awaits(t, "full backups in winter", func() bool {
		text, _ := w.seen.text()
		return strings.Count(text, "full backup begins") > fulls+1
	})
	text = w.ended()
	if strings.Contains(text, "does not continue") || !(before < back && back < after && after < last) {
		t.Errorf("%d, %d, %d, %d commits:\n%s", before, back, after, last, text)
	}
	for _, r := range []struct {
		at   time.Time
		want uint64
		note bool
	}{
		{time.Time{}, last, false},
		{between, back, false},
		{between.Add(-30 * time.Minute), back, true},
	} {
		to := filepath.Join(dir, "to")
		args := []string{"restore", "--to", to}
		if !r.at.IsZero() {
			args = append(args, "--at", r.at.Format(time.RFC3339))
		}
		s := c.must(args...)
		if got := check(t, &vault{}, to, 1); got != r.want {
			t.Errorf("%d commits, want %d: %s", got, r.want, s)
		}
		if r.note && !strings.Contains(s.err, "clock") {
			t.Errorf("no note of the clock: %s", s)
		}
	}
}

// backByAnHour is a library that, loaded before all others, sets libdb's clock back. Go's own is another.
func backByAnHour(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source, lib := filepath.Join(dir, "clock.c"), filepath.Join(dir, "clock.so")
	text := `#include <time.h>
time_t time(time_t *t) {
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	now.tv_sec -= 3600;
	if (t) *t = now.tv_sec;
	return now.tv_sec;
}
`
	if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-shared", "-fPIC", "-o", lib, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return lib
}

// endOfSummer is a time zone file (RFC 8536, version 1) in which clocks are set back from UTC+2 to UTC+1 at a moment.
func endOfSummer(at time.Time) []byte {
	var b bytes.Buffer
	b.WriteString("TZif")
	b.Write(make([]byte, 16))
	names := "CEST\x00CET\x00"
	for _, n := range []uint32{0, 0, 0, 1, 2, uint32(len(names))} { // UT and standard indicators, leap seconds, transitions, types, characters
		binary.Write(&b, binary.BigEndian, n)
	}
	binary.Write(&b, binary.BigEndian, uint32(at.Unix()))
	b.WriteByte(1)
	for _, z := range []struct {
		offset int32
		dst    uint8
		name   uint8
	}{{7200, 1, 0}, {3600, 0, 5}} {
		binary.Write(&b, binary.BigEndian, z)
	}
	b.WriteString(names)
	return b.Bytes()
}
