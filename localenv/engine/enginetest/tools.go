package enginetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	_ "embed"

	"bdbvault/localenv/engine"
	"bdbvault/localenv/envtest"
)

//go:embed testdata/probe.c
var probeSource []byte

// probeDir is where the compiled probe is, empty until it is needed.
var probeDir string

// RemoveProbe removes what IsHot compiled. TestMain calls it at the end; Main does so by itself.
func RemoveProbe() { os.RemoveAll(probeDir) }

var probeProgram = sync.OnceValues(func() (string, error) {
	var err error
	if probeDir, err = os.MkdirTemp("", "enginetest"); err != nil {
		return "", err
	}
	source, program := filepath.Join(probeDir, "probe.c"), filepath.Join(probeDir, "probe")
	if err := os.WriteFile(source, probeSource, 0o600); err != nil {
		return "", err
	}
	if out, err := exec.Command("gcc", "-o", program, source, "-ldb").CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile probe.c: %w: %s", err, out)
	}
	return program, nil
})

// probe runs the program of probe.c.
func probe(t *testing.T, args ...string) string {
	t.Helper()
	program, err := probeProgram()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("probe %s: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// IsHot looks at the hot-backup flag of a live environment, from another process.
func IsHot(t *testing.T, home string) bool {
	t.Helper()
	return probe(t, "hot", home) == "1"
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Fatalf("after 30 seconds still not so: %s", what)
}

// engineOf finds the child of a process that runs an engine.
func engineOf(t *testing.T, parent int) int {
	t.Helper()
	pid := 0
	eventually(t, fmt.Sprintf("process %d has an engine", parent), func() bool {
		stats, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, path := range stats {
			dir := filepath.Dir(path)
			line, _ := os.ReadFile(path)
			args, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
			_, rest, _ := strings.Cut(string(line), ") ")
			fields := strings.Fields(rest)
			argv := strings.Split(string(args), "\x00")
			if len(fields) > 3 && fields[0] != "Z" && fields[1] == strconv.Itoa(parent) && len(argv) > 1 && argv[1] == roleEngine {
				pid, _ = strconv.Atoi(filepath.Base(dir))
			}
		}
		return pid != 0
	})
	return pid
}

// alive tells whether a process runs; one that nobody has waited for does not.
func alive(pid int) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(line), ") Z ")
}

// bank makes a small environment with the bank's writers at work.
func bank(t *testing.T, spec envtest.Spec) (*envtest.Environment, *envtest.Workload) {
	t.Helper()
	spec.Bank = &envtest.Bank{}
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), spec)
	return env, envtest.StartBank(t, env, envtest.BankOptions{Processes: 2, Rate: 500})
}

// healthy proves that the source was not harmed: a checkpoint finishes at once and the writers go on.
func healthy(t *testing.T, env *envtest.Environment, load *envtest.Workload) {
	t.Helper()
	began := time.Now()
	if err := envtest.Checkpoint(env.Home, env.Password); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("a checkpoint took %s", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := load.WaitCommit(ctx, load.LastCommitted()+20); err != nil {
		t.Fatalf("writers stopped: %v", errors.Join(err, load.Err()))
	}
}

// scratch makes a home for recovery whose DB_CONFIG points at the directories of target. Data directories are there under the names that the
// log knows them by, because a database that is created again goes to its directory only if that name leads there.
func scratch(t *testing.T, target string, dirs ...string) string {
	t.Helper()
	home := t.TempDir()
	var b strings.Builder
	for _, dir := range dirs {
		if err := os.Symlink(filepath.Join(target, dir), filepath.Join(home, dir)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "set_data_dir %s\n", dir)
	}
	fmt.Fprintf(&b, "set_data_dir %s\nset_lg_dir %s\n", target, target)
	write(t, filepath.Join(home, "DB_CONFIG"), []byte(b.String()))
	return home
}

// copyHome copies a home that nobody writes to, without its regions.
func copyHome(t *testing.T, home string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := envtest.CopyHome(home, to); err != nil {
		t.Fatal(err)
	}
	return to
}

// want checks for one of the engine's kinds of error, and that it says what it should.
func want(t *testing.T, err, kind error, text string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("got %v, want %v", err, kind)
	}
	if !strings.Contains(err.Error(), text) {
		t.Errorf("%q does not say %q", err, text)
	}
}

// wantDeath checks for the error that tells how a child died.
func wantDeath(t *testing.T, err error, signal string) *engine.ChildError {
	t.Helper()
	e, ok := errors.AsType[*engine.ChildError](err)
	if !ok || e.Signal != signal {
		t.Fatalf("got %v, want a death of %s", err, signal)
	}
	return e
}

// torture is how many times more than usual the random tests are run.
func torture() int {
	n, err := strconv.Atoi(os.Getenv("BDBVAULT_TORTURE"))
	if err != nil || n < 1 {
		return 1
	}
	return n
}
