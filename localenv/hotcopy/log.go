package hotcopy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
)

// logName is the name of a log file.
func logName(number uint32) string { return fmt.Sprintf("log.%010d", number) }

// Log copies all log files, the last one up to where the log ended after the last page was read.
func (c *Copier) Log(ctx context.Context) error {
	dir := c.opt.place(c.env.LogDir.Name)
	if err := c.root.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, n := range c.log.Files() {
		if n > c.end.File {
			break
		}
		if err := c.opt.step(ctx, "log"); err != nil {
			return err
		}
		size, err := c.log.EndOf(ctx, n)
		if err != nil {
			return err
		}
		if n == c.end.File {
			size = c.end.Offset
		}
		to := path.Join(dir, logName(n))
		c.opt.tell(Event{What: LogCopied, From: c.opt.shownSource(c.env.LogDir, logName(n)), To: c.opt.shown(to), Number: n})
		if err := copyLog(ctx, c.log, n, size, c.root, to); err != nil {
			return err
		}
	}
	c.opt.tell(Event{What: LowestCopied, Number: c.log.Files()[0]})
	return c.opt.step(ctx, "copied")
}

// copyLog copies the beginning of a log file.
func copyLog(ctx context.Context, log *localenv.Log, number, size uint32, root *os.Root, to string) error {
	out, err := root.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = copyLogTo(ctx, log, number, int64(size), out)
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}

func copyLogTo(ctx context.Context, log *localenv.Log, number uint32, size int64, out *os.File) error {
	buf := make([]byte, min(copyBuffer, size))
	for at := int64(0); at < size; {
		n, err := log.ReadAt(ctx, number, buf[:min(int64(len(buf)), size-at)], at)
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("copy log file %d: %w", number, err)
		}
		if _, err := out.WriteAt(buf[:n], at); err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

// Kept is why RemoveUnneeded left all log files where they are.
type Kept struct{ Reason string }

// RemoveUnneeded removes the log files of a source that its recovery no longer needs: those before the one that the last checkpoint's oldest LSN is in. In a
// replication group it removes none, since other sites may need them.
func RemoveUnneeded(ctx context.Context, env *localenv.Env) (*Kept, error) {
	name, err := replicated(env)
	if err != nil {
		return nil, err
	}
	if name != "" {
		return &Kept{fmt.Sprintf("it belongs to a replication group (%s), whose other sites may need them", name)}, nil
	}
	log, err := env.OpenLog(ctx)
	if err != nil {
		return nil, err
	}
	defer log.Close() // only read
	unneeded, ckp, err := unneeded(ctx, log)
	if err != nil || len(unneeded) == 0 {
		return nil, err
	}
	if err := log.Sync(ckp.File); err != nil { // a checkpoint that a power failure could take back is none to rely on
		return nil, err
	}
	for _, n := range unneeded {
		if err := os.Remove(logPath(env, n)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return nil, nil
}

func logPath(env *localenv.Env, number uint32) string { return env.LogDir.Path + "/" + logName(number) }

// unneeded are the numbers of the log files before the one that recovery would begin with, and the checkpoint that says so.
func unneeded(ctx context.Context, log *localenv.Log) (list []uint32, at bdb.LSN, err error) {
	ckp, found, err := log.LastCheckpoint(ctx)
	if err != nil || !found {
		return nil, at, err
	}
	for _, n := range log.Files() {
		if n < ckp.CkpLSN.File {
			list = append(list, n)
		}
	}
	return list, ckp.LSN, nil
}

// replicated is the name of a file by which a replication group is known; "" where there is none.
func replicated(env *localenv.Env) (string, error) {
	entries, err := os.ReadDir(env.Home)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "__db.rep") {
			return e.Name(), nil
		}
	}
	return "", nil
}
