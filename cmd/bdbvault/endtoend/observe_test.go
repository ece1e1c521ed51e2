package endtoend

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"bdbvault/localenv/envtest"
)

// product builds the program as its users have it.
var product = sync.OnceValues(func() (path string, err error) {
	if productDir, err = os.MkdirTemp("", "bdbvault-endtoend-*"); err != nil {
		return "", err
	}
	path = filepath.Join(productDir, "bdbvault")
	if out, err := exec.Command("go", "build", "-o", path, "bdbvault/cmd/bdbvault").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build bdbvault: %w: %s", err, out)
	}
	return path, nil
})

// productDir is where the built program is; TestMain removes it.
var productDir string

// cli is the program with the arguments that all commands on a vault have.
func (v *vault) cli(args ...string) []string {
	v.t.Helper()
	path, err := product()
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Setenv("BDBVAULT_REPOSITORY", "file://"+v.dir)
	return append([]string{path}, append(args, "-h", v.home, "--env", "test", "--state-dir", v.state)...)
}

// TestObserves traces the system calls of the program: backup without the flag, and ship, open no shared region and attach no shared
// memory. With the flag it is the engine's child that does, and nobody else. Nothing of the environment is ever opened for writing but by that child.
func TestObserves(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	env := envtest.Create(t, home, envtest.Spec{DataDirs: []string{"data1"}, Bank: &envtest.Bank{}})
	v := newVault(t, home)
	w := envtest.StartBank(t, env, envtest.BankOptions{Processes: 2, Rate: 500})
	for _, run := range []struct {
		args  []string
		joins bool
		must  string // be opened by the program itself, or the trace is worth nothing
	}{
		{[]string{"backup", "--bulk-safe", "off"}, false, "data1/bank.db"},
		{[]string{"ship"}, false, "log.0000000001"},
		{[]string{"backup", "--read-all"}, true, "data1/bank.db"},
		{[]string{"backup", "--checkpoint", "--bulk-safe", "require"}, true, "data1/bank.db"},
	} {
		waitCommits(t, w, w.LastCommitted()+50)
		tr := trace(t, v.cli(run.args...))
		if len(tr.engines) > 0 != run.joins {
			t.Errorf("%s: engine processes %v", run.args, tr.engines)
		}
		tr.judge(t, strings.Join(run.args, " "), home, filepath.Join(home, run.must))
	}
}

// traced is what the processes of a program did.
type traced struct {
	calls   []call
	engines map[string]bool // threads of engine processes
}

// call is one system call of a thread.
type call struct{ thread, text string }

// trace runs a program under strace, which writes a file for each thread.
func trace(t *testing.T, argv []string) *traced {
	t.Helper()
	dir := t.TempDir()
	args := []string{"-ff", "-y", "-s", "4096", "-o", filepath.Join(dir, "t"),
		"-e", "trace=open,openat,openat2,creat,truncate,rename,renameat,renameat2,unlink,unlinkat,link,linkat,mkdir,mkdirat,shmget,shmat,execve,clone,clone3,fork,vfork", "--"}
	out, err := exec.Command("strace", append(args, argv...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("strace %s: %v: %s", argv, err, out)
	}
	tr := &traced{engines: map[string]bool{}}
	parents := map[string]string{} // threads of one process
	files, _ := filepath.Glob(filepath.Join(dir, "t.*"))
	for _, f := range files {
		tr.read(t, f, parents)
	}
	for thread := range parents {
		for p := thread; p != ""; p = parents[p] {
			if tr.engines[p] {
				tr.engines[thread] = true
			}
		}
	}
	return tr
}

var (
	begun   = regexp.MustCompile(`^(?:clone3?|v?fork)\(.* = ([0-9]+)`)
	started = regexp.MustCompile(`^execve\(.*\["[^"]*", "engine"\]`)
)

// read takes in the calls of one thread, and of which thread's process the threads are that it made.
func (tr *traced) read(t *testing.T, file string, parents map[string]string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	thread := strings.TrimPrefix(filepath.Ext(file), ".")
	for line := range strings.Lines(string(text)) {
		tr.calls = append(tr.calls, call{thread, strings.TrimSpace(line)})
		if m := begun.FindStringSubmatch(line); m != nil && strings.Contains(line, "CLONE_THREAD") {
			parents[m[1]] = thread
		}
		if started.MatchString(line) {
			tr.engines[thread] = true
		}
	}
}

var (
	opened  = regexp.MustCompile(`^(?:open|openat|openat2|creat)\(.* = [0-9]+<([^>]*)>`)
	writing = regexp.MustCompile(`O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|^creat`)
	changes = regexp.MustCompile(`^(?:truncate|rename|unlink|link|mkdir)`)
)

// judge looks for what only an engine may do.
func (tr *traced) judge(t *testing.T, what, home, must string) {
	t.Helper()
	var reads, regions []string
	for _, c := range tr.calls {
		path := ""
		if m := opened.FindStringSubmatch(c.text); m != nil {
			path = m[1]
		}
		inside := strings.HasPrefix(path, home+"/")
		region := inside && strings.HasPrefix(filepath.Base(path), "__db.0") || strings.HasPrefix(c.text, "shm")
		if region {
			regions = append(regions, c.text)
		}
		if tr.engines[c.thread] {
			continue
		}
		reads = append(reads, path)
		if region || inside && writing.MatchString(c.text) || changes.MatchString(c.text) && strings.Contains(c.text, home+"/") {
			t.Errorf("%s: %s", what, c.text)
		}
	}
	if !slices.Contains(reads, must) {
		t.Errorf("%s: %s was not opened: %q", what, must, reads)
	}
	if len(tr.engines) > 0 && len(regions) == 0 {
		t.Errorf("%s: the engine opened no region: this test sees nothing", what)
	}
	t.Logf("%s: %d files opened, %d regions, %d threads of engines", what, len(reads), len(regions), len(tr.engines))
}
