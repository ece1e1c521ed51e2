package envtest

import (
	"fmt"
	"io"
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
	r := NewReplayer(home, password, to)
	defer r.Close()
	return r.Until(until)
}

// Replayer is a Replay that goes on from where it got to.
type Replayer struct {
	home     string
	password string
	to       string   // the home that is made
	logDir   string   // of both, relative to them
	kept     string   // a directory with the whole log up to the end
	names    []string // of the log files in it
	until    bdb.LSN
	done     bdb.LSN // replayed up to here
}

// NewReplayer begins in a directory that is new or empty. The caller closes it.
func NewReplayer(home, password, to string) *Replayer {
	return &Replayer{home: home, password: password, to: to, logDir: configured(home, "set_lg_dir")}
}

// Close removes what is no longer needed, and leaves the rebuilt environment.
func (r *Replayer) Close() error { return os.RemoveAll(r.kept) }

// Until goes on up to an LSN, not before the last one. After an error it is of no further use.
func (r *Replayer) Until(until bdb.LSN) error {
	r.until = until
	if until.IsZero() {
		r.until = bdb.LSN{File: 1<<32 - 1}
	}
	err := r.keep()
	if err == nil {
		err = r.run()
	}
	if err != nil {
		return fmt.Errorf("replay the log of %s: %w", r.home, err)
	}
	return nil
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

// keep takes a copy of the log, cut at the end. What it has of it already stays, but for the file in which the last one ended.
func (r *Replayer) keep() (err error) {
	if filepath.IsAbs(r.logDir) {
		return fmt.Errorf("the log directory %s is absolute", r.logDir)
	}
	if err := copyFolders(r.home, r.to); err != nil {
		return err
	}
	if r.kept == "" {
		if r.kept, err = os.MkdirTemp("", "dbworkload-replay-*"); err != nil {
			return err
		}
	}
	paths, err := filepath.Glob(filepath.Join(r.home, r.logDir, "log.??????????"))
	if err != nil {
		return err
	}
	r.names = nil
	for _, p := range paths {
		r.names = append(r.names, filepath.Base(p))
	}
	if len(r.names) == 0 || r.names[0] != logName(1) {
		return fmt.Errorf("the log in %s does not begin with %s", r.home, logName(1))
	}
	for _, name := range r.names {
		if name >= logName(r.done.File) {
			if err := r.layFile(filepath.Join(r.home, r.logDir), r.kept, name, 1, r.until); err != nil {
				return err
			}
		}
	}
	return nil
}

func logName(n uint32) string { return fmt.Sprintf("log.%010d", n) }

// lay puts the log from one file up to an LSN from a directory into another, instead of what is there.
func (r *Replayer) lay(from, to string, first uint32, end bdb.LSN) error {
	for _, name := range r.names {
		if err := r.layFile(from, to, name, first, end); err != nil {
			return err
		}
	}
	return nil
}

func (r *Replayer) layFile(from, to, name string, first uint32, end bdb.LSN) error {
	if err := os.RemoveAll(filepath.Join(to, name)); err != nil {
		return err
	}
	if name < logName(first) || name > logName(end.File) || name == logName(end.File) && end.Offset == 0 {
		return nil
	}
	if err := copyFile(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
		return err
	}
	if name != logName(end.File) {
		return nil
	}
	return os.Truncate(filepath.Join(to, name), int64(end.Offset))
}

func (r *Replayer) run() error {
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
		if !r.done.Before(end) {
			continue
		}
		if err := r.stage(end, firstFile(marks.Checkpoints, end)); err != nil {
			return fmt.Errorf("up to %v: %w", end, err)
		}
		r.done = end
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

func (r *Replayer) stage(end bdb.LSN, first uint32) error {
	if err := r.lay(r.kept, filepath.Join(r.to, r.logDir), first, end); err != nil {
		return err
	}
	if err := filepath.WalkDir(r.to, extendHeap); err != nil {
		return err
	}
	return RecoverApart(r.to, r.password)
}

// extendHeap gives a heap the pages that it ought to have. Where a stage ends within the truncation of a heap, recovery leaves a file that is shorter than
// its metadata page says, and the next one misses the pages (__heap_pg_alloc_recover) or can't truncate it again (__memp_ftruncate).
func extendHeap(path string, e fs.DirEntry, err error) error {
	if err != nil || !e.Type().IsRegular() || strings.HasPrefix(e.Name(), "log.") {
		return err
	}
	first := make([]byte, 512)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.ReadFull(f, first); err != nil {
		return nil // no database
	}
	meta, err := bdb.ParseMeta(first, nil)
	if err != nil || meta.Kind != bdb.KindHeap {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if end := int64(max(meta.LastPage, 1)+1) * int64(meta.PageSize); info.Size() < end {
		return f.Truncate(end)
	}
	return nil
}
