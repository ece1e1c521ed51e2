package localenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Closed is an environment that nobody has open, as far as can be seen.
type Closed struct {
	Unseen  int      // processes of other users that could not be asked
	Regions []string // region files that are there nevertheless: their last user has left them
	Died    []int    // processes that the registry has, and that are no more: they did not leave in order
	files   map[string]Stat
}

// OpenError says that somebody has the environment open.
type OpenError struct {
	Home    string
	Holders []Holder // one file of each
}

func (e *OpenError) Error() string {
	var list []string
	for _, h := range e.Holders[:min(5, len(e.Holders))] {
		list = append(list, h.String())
	}
	if n := len(e.Holders) - len(list); n > 0 {
		list = append(list, fmt.Sprintf("and %d more", n))
	}
	return fmt.Sprintf("home %s is open: %s", e.Home, strings.Join(list, "; "))
}

// StirredError says that something in a closed environment has changed.
type StirredError struct{ Home, Path string }

func (e *StirredError) Error() string {
	return fmt.Sprintf("home %s was opened, or written to, meanwhile: %s has changed", e.Home, e.Path)
}

// CheckClosed makes sure that nobody has the environment open: no process has a region, the registry, a database or a log file open or mapped, and none that
// the registry has is alive. Else it is an *OpenError.
func (e *Env) CheckClosed(ctx context.Context) (*Closed, error) {
	c := &Closed{}
	var err error
	if c.files, err = e.everyFile(ctx); err != nil {
		return nil, err
	}
	held, hidden, err := Holders(c.files)
	if err != nil {
		return nil, err
	}
	alive, err := c.readRegistry(e.Home)
	if err != nil {
		return nil, err
	}
	if held = append(held, alive...); len(held) > 0 {
		return nil, &OpenError{e.Home, held}
	}
	c.Unseen = hidden
	for name := range c.files {
		if base := filepath.Base(name); strings.HasPrefix(base, "__db.") && digits(base[len("__db."):], 3) {
			c.Regions = append(c.Regions, base)
		}
	}
	return c, nil
}

// Same makes sure that everything is as it was when c was made: nobody has opened the environment, and no file has changed, come or gone. The error is
// an *OpenError or a *StirredError.
func (c *Closed) Same(ctx context.Context, e *Env) error {
	now, err := e.CheckClosed(ctx)
	if err != nil {
		return err
	}
	for name, was := range c.files {
		if now.files[name] != was {
			return &StirredError{e.Home, name}
		}
	}
	for name := range now.files {
		if _, known := c.files[name]; !known {
			return &StirredError{e.Home, name}
		}
	}
	return nil
}

// everyFile is every regular file in the environment's directories: also those that no backup has.
func (e *Env) everyFile(ctx context.Context) (map[string]Stat, error) {
	files := map[string]Stat{}
	listing, err := e.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range listing.Files {
		files[filepath.Join(e.Dirs[f.Dir].Path, filepath.FromSlash(f.Path))] = f.Stat
	}
	logs, err := e.LogFiles()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, f := range logs {
		files[f.Path] = f.Stat
	}
	for _, s := range listing.Skipped {
		if info, err := os.Lstat(s.Path); err == nil && info.Mode().IsRegular() {
			files[s.Path] = statOf(info)
		}
	}
	return files, nil
}

// registryName is where processes that open an environment with DB_REGISTER write their ids, in slots of a line each. A slot that is free has an X.
const registryName = "__db.register"

// readRegistry finds the processes that the registry has. Each holds a lock on its slot as long as it lives, so that without a lock all have died.
func (c *Closed) readRegistry(home string) (alive []Holder, err error) {
	f, err := os.Open(filepath.Join(home, registryName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err == nil && lock.Type != unix.F_UNLCK {
		pid := max(0, int(lock.Pid)) // of a process in another container it can't be seen
		return []Holder{{PID: pid, Command: command(filepath.Join("/proc", strconv.Itoa(pid))), File: registryName}}, nil
	}
	text, err := io.ReadAll(io.LimitReader(f, maxConfig))
	for line := range strings.Lines(string(text)) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
			c.Died = append(c.Died, pid)
		}
	}
	return nil, err
}
