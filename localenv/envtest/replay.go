package envtest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bdbvault/localenv/bdb"
)

// Rename is a committed rename of a database file, as the log has it.
type Rename struct {
	LSN      bdb.LSN // of the first rename record of the transaction: that of an extent or a partition, if there are some
	Old, New string
}

// LogCheckpoint is a checkpoint record. Recovery from it begins at Needed.
type LogCheckpoint struct{ LSN, Needed bdb.LSN }

// LogMarks are the places in a log that a replay goes by.
type LogMarks struct {
	Renames     []Rename
	Checkpoints []LogCheckpoint
}

// ReadLogMarks reads the log files of a directory that has no live environment in it.
func ReadLogMarks(logDir, password string) (LogMarks, error) {
	var m LogMarks
	err := run(password, nil, &m, "log-marks", "--home", logDir)
	return m, err
}

// Replay rebuilds an environment in the directory to from nothing but the log: the log of home, which must reach back to its first
// record, is laid down up to until (the zero LSN: all of it) and db5.3_recover makes the databases. It shares no code with what a
// backup does and reads no database of home, so it can be compared with a restore to the same LSN. Home may be live.
//
// The engine's recovery loses a database that the log creates and renames in one go, and it is at its best where it is used most: from
// the last checkpoint to the end. So the log grows in stages, each ending just before a rename or a checkpoint, with ordinary recovery
// after each. No stage has more than one checkpoint's worth of log to redo, and none begins before what the stage before it left.
func Replay(home, password, to string, until bdb.LSN) error {
	r, err := newReplay(home, password, to, until)
	if err != nil {
		return fmt.Errorf("replay the log of %s: %w", home, err)
	}
	defer os.RemoveAll(r.kept)
	if err := r.run(); err != nil {
		return fmt.Errorf("replay the log of %s: %w", home, err)
	}
	return nil
}

type replay struct {
	password string
	to       string   // the home that is made
	logDir   string   // its log directory
	kept     string   // a directory with the whole log up to the end
	names    []string // of the log files in it
	until    bdb.LSN
}

func newReplay(home, password, to string, until bdb.LSN) (*replay, error) {
	dir := configured(home, "set_lg_dir")
	r := &replay{password: password, to: to, logDir: filepath.Join(to, dir), until: until}
	if filepath.IsAbs(dir) {
		return nil, fmt.Errorf("the log directory %s is absolute", dir)
	}
	if err := copyFolders(home, to); err != nil {
		return nil, err
	}
	kept, err := os.MkdirTemp("", "dbworkload-replay-*")
	if err != nil {
		return nil, err
	}
	r.kept = kept
	return r, r.keep(filepath.Join(home, dir))
}

// configured is the last value that DB_CONFIG gives a name.
func configured(home, name string) (value string) {
	text, _ := os.ReadFile(filepath.Join(home, "DB_CONFIG"))
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			value = f[1]
		}
	}
	return value
}

// copyFolders makes the directories of home in to, and its DB_CONFIG: recovery creates files, but no directories.
func copyFolders(home, to string) error {
	return filepath.WalkDir(home, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(home, path)
		switch {
		case err != nil:
			return err
		case e.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		case rel == "DB_CONFIG":
			return copyFile(path, filepath.Join(to, rel))
		}
		return nil
	})
}

// keep takes a copy of the log, cut at the end.
func (r *replay) keep(from string) error {
	paths, err := filepath.Glob(filepath.Join(from, "log.??????????"))
	if err != nil {
		return err
	}
	for _, p := range paths {
		r.names = append(r.names, filepath.Base(p))
	}
	if len(r.names) == 0 || r.names[0] != logName(1) {
		return fmt.Errorf("the log in %s does not begin with %s", from, logName(1))
	}
	if r.until.IsZero() {
		r.until = bdb.LSN{File: 1<<32 - 1}
	}
	return r.lay(from, r.kept, 1, r.until)
}

func logName(n uint32) string { return fmt.Sprintf("log.%010d", n) }

// lay puts the log from one file up to an LSN from a directory into another, instead of what is there.
func (r *replay) lay(from, to string, first uint32, end bdb.LSN) error {
	for _, name := range r.names {
		if err := os.RemoveAll(filepath.Join(to, name)); err != nil {
			return err
		}
		if name < logName(first) || name > logName(end.File) || name == logName(end.File) && end.Offset == 0 {
			continue
		}
		if err := copyFile(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return err
		}
		if name == logName(end.File) {
			if err := os.Truncate(filepath.Join(to, name), int64(end.Offset)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *replay) run() error {
	marks, err := ReadLogMarks(r.kept, r.password)
	if err != nil {
		return err
	}
	ends := []bdb.LSN{r.until}
	for _, n := range marks.Renames {
		ends = append(ends, n.LSN)
	}
	for _, c := range marks.Checkpoints {
		ends = append(ends, c.LSN)
	}
	slices.SortFunc(ends, bdb.LSN.Compare)
	for _, end := range slices.Compact(ends) {
		if err := r.stage(end, firstFile(marks.Checkpoints, end)); err != nil {
			return fmt.Errorf("up to %v: %w", end, err)
		}
	}
	return nil
}

// firstFile is where ordinary recovery of the log up to an end begins.
func firstFile(checkpoints []LogCheckpoint, end bdb.LSN) uint32 {
	first := uint32(1)
	for _, c := range checkpoints {
		if c.LSN.Before(end) {
			first = c.Needed.File
		}
	}
	return first
}

func (r *replay) stage(end bdb.LSN, first uint32) error {
	if err := r.lay(r.kept, r.logDir, first, end); err != nil {
		return err
	}
	return RecoverApart(r.to, r.password)
}
