package envtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
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

// ChangePages writes into so many percent of the pages of btree databases that Make filled, at random places, and checkpoints.
func (e *Environment) ChangePages(percent float64, seed uint64, files ...string) error {
	args := []string{"change", "--home", e.Home, "--percent", fmt.Sprint(percent), "--seed", fmt.Sprint(seed)}
	for _, f := range files {
		args = append(args, "--file", f)
	}
	return run(e.Password, nil, nil, args...)
}

// GrowLog adds records to a database of its own, grown.db, until the log is so many bytes longer.
func (e *Environment) GrowLog(bytes int64, seed uint64) error {
	return run(e.Password, nil, nil, "grow", "--home", e.Home, "--bytes", fmt.Sprint(bytes), "--seed", fmt.Sprint(seed))
}
