package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/adrg/xdg"
	"github.com/urfave/cli/v2"

	"bdbvault/archive"
	"bdbvault/cmd/bdbvault/config"
	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
)

// call is one command line taken apart.
type call struct {
	*cli.Context
	progress *progress
	onRetry  func(error, time.Duration)
	origins  map[string]origin // of the settings that are not left at their defaults, by the names of flags
	file     *config.File      // nil: none was given
	store    *remote.Bucket    // that is read, as it is now; nil: it is not open, or written to
	meter    *meter
	throttle *throttle
}

func newCall(cc *cli.Context, errs io.Writer) *call {
	p := newProgress(errs, cc.Bool(flagQuiet), cc.Bool(flagVerbose))
	return &call{Context: cc, progress: p, onRetry: p.retrying, origins: givenOrigins(cc), throttle: &throttle{}}
}

// need returns the value of a flag that must be given.
func (c *call) need(flag, how string) (string, error) {
	if v := c.String(flag); v != "" {
		return v, nil
	}
	return "", usagef("%s needs %s", c.Command.Name, how)
}

// oneOf returns the value of a flag that takes certain words only.
func (c *call) oneOf(flag string, words ...string) (string, error) {
	v := c.String(flag)
	for _, w := range words {
		if v == w {
			return v, nil
		}
	}
	return "", usagef("--%s %q: want %s", flag, v, strings.Join(words, ", "))
}

// password finds the password where the user put it: on the command line, else in the environment. Nothing else has it.
func (c *call) password() (string, error) {
	given := c.IsSet(flagPassword)
	file := c.String(flagPasswordFile)
	variable, inVariable := passwordInVariable()
	configured := c.origins[flagPasswordFile].rank == rankFile
	switch {
	case given && file != "" && !configured:
		return "", usagef("give -P or --password-file, not both")
	case given:
		return c.String(flagPassword), nil
	case file != "" && !(configured && inVariable):
		return readPassword(file, c.progress.Note)
	case inVariable:
		return variable, nil
	}
	return "", nil
}

// passwordInVariable takes the password out of the environment, where no child needs it. It is kept for the next who asks: watch asks for
// each of its environments.
var passwordInVariable = sync.OnceValues(func() (string, bool) {
	password, ok := os.LookupEnv(passwordVariable)
	os.Unsetenv(passwordVariable)
	return password, ok
})

// maxPassword is far more than anybody's password: what is longer is the wrong file.
const maxPassword = 4096

func readPassword(file string, note func(string)) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		note(fmt.Sprintf("other users can read the password file %s: chmod 600 it", file))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxPassword+1))
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" || len(line) > maxPassword {
		return "", usagef("password file %s: its first line has to be the password", file)
	}
	return line, nil
}

// stateDir is where archive keeps what speeds up the next run.
func (c *call) stateDir() (string, error) {
	switch dir := c.String(flagStateDir); {
	case dir != "":
		return filepath.Abs(dir)
	case os.Geteuid() == 0:
		return "/var/lib/bdbvault", nil
	}
	return filepath.Join(xdg.StateHome, "bdbvault"), nil
}

// source is the live environment of backup and ship.
type source struct {
	*localenv.Env
	name     string // in the repository
	password string
	stateDir string
}

func (c *call) openSource() (*source, error) {
	home, err := c.need(flagHome, "-h HOME, the environment's home directory")
	if err != nil {
		return nil, err
	}
	s := &source{}
	if s.name, err = c.envName(home); err != nil {
		return nil, err
	}
	if s.password, err = c.password(); err != nil {
		return nil, err
	}
	if s.stateDir, err = c.stateDir(); err != nil {
		return nil, err
	}
	pace, err := c.readPace()
	if err != nil {
		return nil, err
	}
	if s.Env, err = localenv.Open(home, bdb.NewKey(s.password)); err != nil {
		return nil, err
	}
	s.Env.Pace = pace
	return s, archive.CheckSource(s.Env)
}

// envName is the one given, else the last part of the home's path as the user wrote it, so that a symbolic link keeps its name.
func (c *call) envName(home string) (string, error) {
	if name, err := c.givenEnv(); name != "" || err != nil {
		return name, err
	}
	abs, err := filepath.Abs(home)
	if err != nil {
		return "", err
	}
	if name := sanitize(filepath.Base(abs)); abs != "/" && manifest.CheckEnv(name) == nil {
		return name, nil
	}
	return "", usagef("%s has no name to call the environment by: give one with --env", abs)
}

// givenEnv is --env, or empty.
func (c *call) givenEnv() (string, error) {
	name := c.String(flagEnv)
	if name == "" {
		return "", nil
	}
	if err := manifest.CheckEnv(name); err != nil {
		return "", usageError{err}
	}
	return name, nil
}

// sanitize makes an environment's name of a directory's.
func sanitize(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._-", r):
			return r
		}
		return '_'
	}, name)
	name = strings.TrimLeft(name, ".-")
	return name[:min(len(name), 64)]
}

// logEnd reads from disk where the log ends, for the engine to compare with the region.
func (s *source) logEnd(ctx context.Context) (end bdb.LSN, err error) {
	log, err := s.OpenLog(ctx)
	if err != nil {
		return bdb.LSN{}, err
	}
	end, err = log.End(ctx)
	return end, firstError(err, log.Close())
}
