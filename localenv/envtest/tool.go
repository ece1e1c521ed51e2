package envtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ToolVariable is the environment variable that names a dbworkload built beforehand.
const ToolVariable = "BDBVAULT_DBWORKLOAD"

// PasswordVariable is the environment variable from which dbworkload takes the password if no flag gives it.
const PasswordVariable = "DBWORKLOAD_PASSWORD"

// startDir is remembered because a test may change its directory, and go build needs one inside the module.
var startDir, _ = os.Getwd()

// Tool is the path of dbworkload, built first if need be: once in the life of a process, and by the build cache hardly ever.
func Tool() (string, error) {
	if p := os.Getenv(ToolVariable); p != "" {
		return p, nil
	}
	return buildOnce()
}

var buildOnce = sync.OnceValues(buildTool)

func buildTool() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "bdbvault-dbworkload", checkoutID())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	path := filepath.Join(dir, "dbworkload")
	build := exec.Command("go", "build", "-o", path, "bdbvault/localenv/envtest/dbworkload")
	build.Dir = startDir
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build dbworkload: %w: %s", err, out)
	}
	return path, nil
}

// checkoutID tells one checkout of the module from another on the same machine, whose programs may differ.
func checkoutID() string {
	root := startDir
	for root != filepath.Dir(root) {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		root = filepath.Dir(root)
	}
	return fmt.Sprintf("%.8x", sha256.Sum256([]byte(root)))
}

// lock keeps test binaries that start together from writing the same program at once.
func lock(path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// ToolError is a dbworkload, or one of the engine's programs, that failed.
type ToolError struct {
	Command string
	Err     error  // an *exec.ExitError if it ended by itself
	Text    string // what it wrote to standard error
}

// Error leaves out most of a long text, such as the trace of a crash.
func (e *ToolError) Error() string {
	return fmt.Sprintf("%s: %v: %.2000s", e.Command, e.Err, strings.TrimSpace(e.Text))
}

func (e *ToolError) Unwrap() error { return e.Err }

// runLimit is far beyond what the largest run needs; it turns a hang into an error.
const runLimit = 30 * time.Minute

// run calls dbworkload and decodes what it prints into result, if that is not nil.
func run(password string, input io.Reader, result any, args ...string) error {
	path, err := Tool()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), PasswordVariable+"="+password)
	cmd.Stdin = input
	out, err := output(cmd, "dbworkload "+args[0])
	if err != nil || result == nil {
		return err
	}
	if err := json.Unmarshal(out, result); err != nil {
		return fmt.Errorf("dbworkload %s: read its answer: %w", args[0], err)
	}
	return nil
}

func output(cmd *exec.Cmd, name string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), &ToolError{Command: name, Err: err, Text: stderr.String()}
	}
	return stdout.Bytes(), nil
}
