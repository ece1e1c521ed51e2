package endtoend

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/awsconf"
	"bdbvault/remote/file"
	"bdbvault/remote/minio"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

// errandRole is the first argument of a test binary that runs an errand, which is the second one, as JSON.
const errandRole = "errand"

// errandVariable marks the processes of one errand, the engine's child included, so that they are found when their parent is dead.
const errandVariable = "BDBVAULT_TEST_ERRAND"

// What an errand does.
const (
	doBackup  = "backup"
	doShip    = "ship"
	doRestore = "restore"
	doPrune   = "prune"
	doWatch   = "watch" // until it is killed, or for the time that Every says
	doVerify  = "verify"
)

// Whom an errand kills, or stops until somebody lets it go on.
const (
	self   = "self"
	child  = "engine"
	frozen = "frozen"
)

// errand is what another process is told to do, and at which point of it to kill itself or its engine.
type errand struct {
	Do    string
	Home  string
	Store store
	State string
	Temp  string // for temporary files

	BulkSafe   string // of a backup
	Checkpoint bool
	ReadAll    bool

	Keep  int           // last backups, of a prune
	Every time.Duration // full backups of a watch

	To     string // of a restore
	Backup manifest.BackupID
	End    bdb.LSN

	Point  string // "": nobody is killed
	Nth    int    // 1: when the point is reached for the first time
	Victim string
}

// store is where a repository is: a directory, or a bucket, whose keys are in the environment.
type store struct {
	Dir              string
	Endpoint, Bucket string
}

func (s store) driver(ctx context.Context) (remote.Driver, error) {
	if s.Bucket == "" {
		return file.New(s.Dir)
	}
	return minio.New(ctx, awsconf.Config{Endpoint: s.Endpoint, Bucket: s.Bucket})
}

// location is what -r takes.
func (s store) location() string {
	if s.Bucket == "" {
		return "file://" + s.Dir
	}
	return "s3://" + s.Bucket
}

// outcome is what a process that was not killed says in the end.
type outcome struct {
	Error  string
	Struck bool    // the engine was killed
	Points []point // that were passed
	Backup manifest.BackupID
	End    bdb.LSN
	Reused int64 // files that a restore found as they have to be
	Files  int
}

// point is a place in the code that a run passes: a step by its name, or one that progress is told of.
type point struct {
	Name   string
	Times  int
	Engine bool // the engine's child was there
}

// runErrand is what the test binary does with an errand. Its outcome goes to standard output.
func runErrand(text string) error {
	w := &watch{}
	if err := json.Unmarshal([]byte(text), &w.errand); err != nil {
		return err
	}
	if err := w.run(context.Background()); err != nil {
		w.outcome.Error = err.Error()
	}
	return json.NewEncoder(os.Stdout).Encode(&w.outcome)
}

// watch runs an errand and strikes at its point.
type watch struct {
	errand
	mu      sync.Mutex
	phase   string
	outcome outcome
}

func (w *watch) run(ctx context.Context) error {
	drv, err := w.Store.driver(ctx)
	if err != nil {
		return err
	}
	repo, err := repository.Open(ctx, remote.New(drv, remote.Options{RetryFor: time.Second}))
	if err != nil {
		return err
	}
	if w.Do == doRestore {
		return w.restore(ctx, repo)
	}
	if w.Do == doPrune {
		_, err := archive.Prune(ctx, repo, archive.PruneOptions{Env: "test", Policy: manifest.Policy{Last: w.Keep, Window: &manifest.Span{}}, Progress: w, Step: w.step})
		return err
	}
	if w.Do == doVerify {
		res, err := restore.Verify(ctx, repo, restore.VerifyOptions{Env: "test", ReadData: 1, StateDir: w.State, Progress: w})
		if err == nil && !res.Sound() {
			err = fmt.Errorf("%w: %+v %+v", &restore.UnsoundError{Results: []*restore.VerifyResult{res}}, res.Damage, res.Gaps)
		}
		return err
	}
	if w.Do == doWatch {
		return w.watch(ctx, repo)
	}
	env, err := localenv.Open(w.Home, nil)
	if err != nil {
		return err
	}
	if w.Do == doShip {
		res, err := archive.Ship(ctx, repo, env, archive.ShipOptions{Env: "test", StateDir: w.State, Progress: w, Step: w.step})
		if err == nil {
			w.outcome.End = res.To
		}
		return err
	}
	return w.backup(ctx, repo, env)
}

func (w *watch) watch(ctx context.Context, repo *repository.Repository) error {
	watcher, err := archive.NewWatcher(repo, func() (*localenv.Env, error) { return localenv.Open(w.Home, nil) }, archive.WatchOptions{
		Env: "test", StateDir: w.State, ShipEvery: 100 * time.Millisecond, Full: archive.Every(w.Every), BulkSafe: archive.BulkOff, Progress: w})
	if err != nil {
		return err
	}
	return watcher.Run(ctx)
}

func (w *watch) backup(ctx context.Context, repo *repository.Repository, env *localenv.Env) (err error) {
	opt := archive.BackupOptions{
		Env: "test", StateDir: w.State, Tool: "test", BulkSafe: w.BulkSafe, Checkpoint: w.Checkpoint, ReadAll: w.ReadAll,
		Progress: w, Step: w.step,
	}
	if w.BulkSafe != archive.BulkOff {
		eng, err := engine.Start(ctx, engine.Options{Home: w.Home})
		if err != nil {
			return err
		}
		defer func() {
			if cerr := eng.Close(); err == nil {
				err = cerr
			}
		}()
		opt.Engine = eng
	}
	res, err := archive.Backup(ctx, repo, env, opt)
	if err == nil {
		w.outcome.Backup, w.outcome.End = res.Manifest.ID, res.Manifest.ConsistentAt
	}
	return err
}

func (w *watch) restore(ctx context.Context, repo *repository.Repository) error {
	plan, err := restore.MakePlan(ctx, repo, "test", restore.Target{Backup: w.Backup, LSN: w.End})
	if err != nil {
		return err
	}
	res, err := restore.Restore(ctx, repo, plan, restore.Options{To: w.To, Progress: w, Step: w.step})
	if err == nil {
		w.outcome.Reused, w.outcome.Files = res.Reused, res.Files
	}
	return err
}

func (w *watch) step(name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pass(name)
	return nil
}

// What progress is told of are points too: they lie where no step does. Recovery tells it in the middle of the engine's work.
func (w *watch) Phase(name string, _ int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.phase = name
	w.pass("begin " + name)
}

func (w *watch) Add(int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase == restore.PhaseRecover {
		w.pass(w.phase)
	}
}

func (w *watch) File(string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pass(w.phase + ", file done")
}

func (w *watch) Note(string) {}

func (w *watch) pass(name string) {
	p := w.outcome.point(name)
	p.Times++
	if w.Point == "" {
		p.Engine = p.Engine || engineOf(os.Getpid()) != 0
	}
	if name == w.Point && p.Times == w.Nth {
		w.strike()
	}
}

func (o *outcome) point(name string) *point {
	for i := range o.Points {
		if o.Points[i].Name == name {
			return &o.Points[i]
		}
	}
	o.Points = append(o.Points, point{Name: name})
	return &o.Points[len(o.Points)-1]
}

func (w *watch) strike() {
	if w.Victim == self {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	if w.Victim == frozen {
		// The signal may take another thread first, so this one waits until it is all over.
		over := make(chan os.Signal, 1)
		signal.Notify(over, syscall.SIGCONT)
		syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		<-over
		return
	}
	pid := engineOf(os.Getpid())
	if pid == 0 {
		return
	}
	syscall.Kill(pid, syscall.SIGKILL)
	for alive(pid) {
		time.Sleep(time.Millisecond)
	}
	w.outcome.Struck = true
}

// engineOf finds the engine's child of a process, 0 if there is none.
func engineOf(parent int) int {
	for pid := range processes() {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, rest, _ := strings.Cut(string(line), ") ")
		f := strings.Fields(rest)
		if len(f) > 1 && f[0] != "Z" && f[1] == strconv.Itoa(parent) && isEngine(pid) {
			return pid
		}
	}
	return 0
}

func isEngine(pid int) bool {
	args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	argv := strings.Split(string(args), "\x00")
	return len(argv) > 1 && argv[1] == "engine"
}

// processes goes through all processes of this machine.
func processes() func(func(int) bool) {
	return func(yield func(int) bool) {
		dirs, _ := filepath.Glob("/proc/[0-9]*")
		for _, d := range dirs {
			if pid, err := strconv.Atoi(filepath.Base(d)); err == nil && !yield(pid) {
				return
			}
		}
	}
}

// alive tells whether a process runs; one that nobody has waited for does not.
func alive(pid int) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(line), ") Z ")
}

// running is another process with an errand.
type running struct {
	cmd    *exec.Cmd
	out    bytes.Buffer
	errs   bytes.Buffer
	mark   string
	exited chan struct{}
	err    error
}

func start(t *testing.T, e errand) *running {
	t.Helper()
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{cmd: exec.Command("/proc/self/exe", errandRole, string(text)), exited: make(chan struct{})}
	r.mark = fmt.Sprintf("%s=%d", errandVariable, time.Now().UnixNano())
	r.cmd.Env = append(os.Environ(), r.mark, "TMPDIR="+e.Temp)
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.errs
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		r.err = r.cmd.Wait()
		close(r.exited)
	}()
	t.Cleanup(r.kill)
	return r
}

func (r *running) kill() {
	r.cmd.Process.Kill()
	<-r.exited
}

// killed waits for the end and reports whether it was SIGKILL. Any other end but a good one fails the test.
func (r *running) killed(t *testing.T) (outcome, bool) {
	t.Helper()
	<-r.exited
	var o outcome
	if ws := r.cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() && ws.Signal() == syscall.SIGKILL {
		return o, true
	}
	if err := json.Unmarshal(r.out.Bytes(), &o); err != nil || r.err != nil {
		t.Fatalf("%v, %v: %s%s", r.err, err, r.out.String(), r.errs.String())
	}
	return o, false
}

// all lists the errand's processes that run.
func (r *running) all() (pids []int) {
	for pid := range processes() {
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if strings.Contains(string(env)+"\x00", r.mark+"\x00") && alive(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// engine waits for the errand's engine and returns it, nil if the errand ended without one.
func (r *running) engine() *os.Process {
	for {
		for _, pid := range r.all() {
			if p, err := os.FindProcess(pid); err == nil && isEngine(pid) {
				return p
			}
		}
		select {
		case <-r.exited:
			return nil
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// gone waits until no process of the errand runs any more.
func (r *running) gone(t *testing.T) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for len(r.all()) > 0 {
		if time.Now().After(end) {
			t.Fatalf("processes %d of a killed run are still there", r.all())
		}
		time.Sleep(5 * time.Millisecond)
	}
}
