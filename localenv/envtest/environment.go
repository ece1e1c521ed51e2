package envtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Environment is a home that exists.
type Environment struct {
	Home     string
	Password string
	Spec     Spec // as it was made; zero for one that Open found
}

// Open takes an existing home for workloads to run on. It reads nothing.
func Open(home, password string) *Environment {
	return &Environment{Home: home, Password: password}
}

// Create makes an environment in home, which may exist if it is empty, and fails the test if that does not work.
func Create(tb testing.TB, home string, spec Spec) *Environment {
	tb.Helper()
	env, err := Make(home, spec)
	if err != nil {
		tb.Fatalf("make environment: %v", err)
	}
	return env
}

// Make makes an environment in home: folders, DB_CONFIG, databases and their records, a checkpoint at the end. Its region files
// stay, so that workers can join it.
func Make(home string, spec Spec) (*Environment, error) {
	home, err := filepath.Abs(home)
	if err != nil {
		return nil, err
	}
	if err := Prepare(home, spec); err != nil {
		return nil, fmt.Errorf("make environment %s: %w", home, err)
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	if err := run(spec.Password, bytes.NewReader(text), nil, "create", "--home", home, "--spec", "-"); err != nil {
		return nil, err
	}
	return &Environment{Home: home, Password: spec.Password, Spec: spec}, nil
}

// Prepare makes the folders and the DB_CONFIG of an environment, and nothing that needs the engine.
func Prepare(home string, spec Spec) error {
	for _, d := range spec.folders(home) {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if spec.NoConfig {
		return nil
	}
	return os.WriteFile(filepath.Join(home, "DB_CONFIG"), []byte(spec.ConfigText()), 0o644)
}

// checkpointLimit is far more than the checkpoint of a healthy test environment takes.
const checkpointLimit = 30 * time.Second

// Checkpoint checkpoints a live environment from outside, with db5.3_checkpoint. It proves that the environment is healthy: on one
// that somebody left a latch or a lock in, it hangs, and is an error after half a minute.
func Checkpoint(home, password string) error {
	return stock(checkpointLimit, password, "db5.3_checkpoint", "-1", "-h", home)
}

// Recover runs the engine's own ordinary recovery, db5.3_recover, on a home that nobody has open. It leaves no region files.
func Recover(home, password string) error {
	return stock(runLimit, password, "db5.3_recover", "-h", home)
}

// RecoverCatastrophic runs db5.3_recover -c, as an administrator would on restored files.
func RecoverCatastrophic(home, password string) error {
	return stock(runLimit, password, "db5.3_recover", "-c", "-h", home)
}

// stock runs one of the engine's programs.
func stock(limit time.Duration, password, name string, args ...string) error {
	if password != "" {
		args = append(args, "-P", password)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err := output(exec.CommandContext(ctx, name, args...), name)
	if ctx.Err() != nil {
		return fmt.Errorf("%s: still hanging after %v: %w", name, limit, err)
	}
	return err
}
