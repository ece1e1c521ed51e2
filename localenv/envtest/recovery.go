package envtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

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

// RecoverApart is ordinary recovery that spares what the engine's program would destroy: an environment's home is swept of nearly
// everything named __db…, and a transactional removal in flight has its database under such a name. So recovery runs in a home of its
// own, in which symbolic links stand for the directories of the real one.
func RecoverApart(home, password string) error { return recoverApart(home, password) }

// RecoverApartCatastrophic is the same with catastrophic recovery.
func RecoverApartCatastrophic(home, password string) error { return recoverApart(home, password, "-c") }

func recoverApart(home, password string, flags ...string) error {
	home, err := filepath.Abs(home)
	if err != nil {
		return err
	}
	apart, err := os.MkdirTemp("", "dbworkload-recover-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(apart)
	if err := mirror(home, apart); err != nil {
		return fmt.Errorf("recover %s from a home apart: %w", home, err)
	}
	return stock(runLimit, password, "db5.3_recover", append(flags, "-h", apart)...)
}

// self is the name under which a home apart reaches the real one.
const self = "home-itself"

// mirror gives apart the DB_CONFIG of home and links that make its relative directories lead to home's. Home itself comes in under
// a name too: as the last data directory, and where DB_CONFIG names none, as the directory for the log and for new databases.
func mirror(home, apart string) error {
	text, err := os.ReadFile(filepath.Join(home, "DB_CONFIG"))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	config := strings.TrimSuffix(string(text), "\n") + "\nadd_data_dir " + self + "\n"
	dirs, creates, logs := directories(string(text))
	if !creates {
		config += "set_create_dir " + self + "\n"
	}
	if !logs {
		config += "set_lg_dir " + self + "\n"
	}
	for _, d := range dirs {
		if err := link(home, apart, d); err != nil {
			return err
		}
	}
	if err := os.Symlink(home, filepath.Join(apart, self)); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(apart, "DB_CONFIG"), []byte(config), 0o644)
}

// directories lists what a DB_CONFIG names, a directory before those below it, and whether it says where databases are created and
// where the log is. The first set_data_dir does the former unless an add_data_dir stands before it (__env_set_data_dir).
func directories(config string) (dirs []string, creates, logs bool) {
	data := 0
	for line := range strings.Lines(config) {
		f := strings.Fields(line)
		if len(f) != 2 || !strings.HasSuffix(f[0], "_dir") {
			continue
		}
		dirs = append(dirs, f[1])
		creates = creates || f[0] == "set_create_dir" || f[0] == "set_data_dir" && data == 0
		logs = logs || f[0] == "set_lg_dir"
		if strings.HasSuffix(f[0], "_data_dir") {
			data++
		}
	}
	slices.SortStableFunc(dirs, func(a, b string) int { return len(a) - len(b) })
	return dirs, creates, logs
}

func link(home, apart, dir string) error {
	at := filepath.Join(apart, dir)
	if filepath.IsAbs(dir) {
		return nil
	}
	if _, err := os.Lstat(at); err == nil {
		return nil // named before, or below a directory that was
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	return os.Symlink(filepath.Join(home, dir), at)
}

// Resolve opens a closed home with ordinary recovery, as the coordinator of its transactions would: of the transactions that are prepared it commits those
// named and aborts the others. It returns the names of all.
func Resolve(home, password string, commit ...string) (names []string, err error) {
	args := []string{"resolve", "--home", home}
	for _, name := range commit {
		args = append(args, "--commit", name)
	}
	err = run(password, nil, &names, args...)
	return names, err
}
