package localenv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"bdbvault/localenv/bdb"
)

// ErrNoLog means that there is no log file: not a transactional environment, or one that keeps its log in memory.
var ErrNoLog = errors.New("no log files")

// LogDamage is a record that can't be read although later ones were written.
type LogDamage struct {
	LSN     bdb.LSN
	Problem string
}

func (e *LogDamage) Error() string { return fmt.Sprintf("log is damaged at %s: %s", e.LSN, e.Problem) }

// LogGap means that log files are missing between others.
type LogGap struct {
	First, Last uint32 // that are missing
}

func (e *LogGap) Error() string {
	if e.First == e.Last {
		return fmt.Sprintf("log file %d is missing", e.First)
	}
	return fmt.Sprintf("log files %d to %d are missing", e.First, e.Last)
}

// LogReplaced means that a log file is no longer the one that was held: the log was begun anew, restored, or cut off by recovery.
type LogReplaced struct {
	Number  uint32
	Problem string
}

func (e *LogReplaced) Error() string { return fmt.Sprintf("log file %d %s", e.Number, e.Problem) }

// LogFile is a log file on disk.
type LogFile struct {
	Number uint32
	Path   string
	Stat   Stat
}

// LogFiles lists the environment's log files in ascending order.
func (e *Env) LogFiles() ([]LogFile, error) { return listLog(e.LogDir.Path) }

// OpenLog opens the environment's log. See OpenLogDir.
func (e *Env) OpenLog(ctx context.Context) (*Log, error) {
	return OpenLogDir(ctx, e.LogDir.Path, e.Key())
}

// Log reads an environment's log. It holds every log file open, so that whoever removes one can't take it away. Its methods may be called from many
// goroutines, but Refresh and Close only while no other call is under way.
type Log struct {
	dir   string
	key   *bdb.Key
	files []*heldLog // ascending, without gaps; the last may have no header yet
	limit int        // see Limit
}

// heldLog is one log file that is held open.
type heldLog struct {
	LogFile
	f       *os.File
	first   []byte        // what the file begins with, as far as its header may reach
	header  bdb.LogHeader // zero Length: not written yet
	removed bool          // its name is gone
	known   atomic.Uint32 // the offset of a record that was seen whole, where the search for the end may begin
}

// OpenLogDir opens the log in a directory and holds its files. key is nil without a password.
func OpenLogDir(ctx context.Context, dir string, key *bdb.Key) (*Log, error) {
	l := &Log{dir: dir, key: key}
	if err := l.Refresh(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if len(l.files) == 0 || l.files[0].header.Length == 0 {
		return nil, errors.Join(ErrNoLog, l.Close())
	}
	return l, nil
}

// Close lets go of all files.
func (l *Log) Close() (err error) {
	for _, h := range l.files {
		err = errors.Join(err, h.f.Close())
	}
	l.files = nil
	return err
}

// Refresh takes in log files that are new. Those that were removed stay readable. An error of type *LogReplaced or *LogGap says that
// what is on disk does not continue what is held; then the Log is as it was, and of use for reading only.
func (l *Log) Refresh(ctx context.Context) error {
	err := l.refresh(ctx)
	var gap *LogGap
	var replaced *LogReplaced
	if errors.As(err, &gap) || errors.As(err, &replaced) {
		// A file that is made while a directory is listed may be passed over, and the one made after it be found.
		err = l.refresh(ctx)
	}
	return err
}

func (l *Log) refresh(ctx context.Context) error {
	listed, err := listLog(l.dir)
	if err != nil {
		return fmt.Errorf("list log files: %w", err)
	}
	if err := l.compare(listed); err != nil {
		return err
	}
	opened, err := l.openNew(ctx, listed)
	if err == nil {
		err = checkRow(l.files, opened)
	}
	if err != nil {
		for _, h := range opened {
			err = errors.Join(err, h.f.Close())
		}
		return err
	}
	l.files = append(l.files, opened...)
	return l.readHeaders(ctx)
}

// compare checks the files held against those on disk, and notes which are gone.
func (l *Log) compare(listed []LogFile) error {
	present := map[uint32]Stat{}
	for _, f := range listed {
		present[f.Number] = f.Stat
	}
	for i, h := range l.files {
		stat, ok := present[h.Number]
		switch {
		case !ok && i > 0 && !l.files[i-1].removed:
			return &LogReplaced{h.Number, "was removed before older ones"}
		case !ok:
			h.removed = true
		case h.removed || stat.identity() != h.Stat.identity():
			return &LogReplaced{h.Number, "is another file than before"}
		}
	}
	if n := len(l.files); n > 0 && (len(listed) == 0 || listed[len(listed)-1].Number < l.files[n-1].Number) {
		return &LogReplaced{l.files[n-1].Number, "is gone, and no newer one is there"}
	}
	return nil
}

// openNew opens the listed files that are not held. When some of the oldest are gone again, they are left out.
func (l *Log) openNew(ctx context.Context, listed []LogFile) (opened []*heldLog, err error) {
	for _, f := range listed {
		if err := ctx.Err(); err != nil {
			return opened, err
		}
		if len(l.files) > 0 && f.Number <= l.files[len(l.files)-1].Number {
			continue
		}
		if l.limit > 0 && len(l.files)+len(opened) >= l.limit {
			break
		}
		h, err := holdLog(f)
		if errors.Is(err, fs.ErrNotExist) && len(opened) == 0 && len(l.files) == 0 {
			continue
		}
		if err != nil {
			return opened, err
		}
		opened = append(opened, h)
	}
	return opened, nil
}

// checkRow checks that the files, those held and those to come, are numbered without gaps.
func checkRow(held, opened []*heldLog) error {
	all := slices.Concat(held, opened)
	for i := 1; i < len(all); i++ {
		if before, n := all[i-1].Number, all[i].Number; n != before+1 {
			return &LogGap{First: before + 1, Last: n - 1}
		}
	}
	return nil
}

// readHeaders reads the headers that were not there before. Only the newest file may be without one.
func (l *Log) readHeaders(ctx context.Context) error {
	for i, h := range l.files {
		if h.header.Length != 0 {
			continue
		}
		err := h.readHeader(ctx, l.key)
		if errors.Is(err, bdb.ErrNoHeader) {
			if i == len(l.files)-1 {
				return nil
			}
			return &LogDamage{bdb.LSN{File: h.Number}, "file header is missing"}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", h.Path, err)
		}
	}
	return nil
}

func (h *heldLog) readHeader(ctx context.Context, key *bdb.Key) error {
	first := make([]byte, bdb.LogHeaderSize)
	n, _, err := readStable(ctx, h.f, first, 0, logUnit)
	if err != nil {
		return err
	}
	header, err := bdb.ParseLogHeader(first[:n], key)
	if err != nil {
		return err
	}
	h.first, h.header = first[:n], header
	return nil
}

// listLog lists the log files of a directory in ascending order. It looks at the newest first: log files are removed from the oldest on, so that the
// list has no gaps when some go meanwhile.
func listLog(dir string) (files []LogFile, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range slices.Backward(entries) {
		number, ok := ParseLogName(e.Name())
		if !ok {
			continue
		}
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			return nil, err
		}
		if info.Mode().IsRegular() {
			files = append(files, LogFile{Number: number, Path: path, Stat: statOf(info)})
		}
	}
	slices.SortFunc(files, func(a, b LogFile) int { return int(int64(a.Number) - int64(b.Number)) })
	return files, nil
}

func holdLog(f LogFile) (*heldLog, error) {
	file, err := os.Open(f.Path)
	if err != nil {
		return nil, err
	}
	stat, err := fstat(file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	f.Stat = stat
	return &heldLog{LogFile: f, f: file}, nil
}

// begun are the files that have a header.
func (l *Log) begun() []*heldLog {
	if n := len(l.files); n > 0 && l.files[n-1].header.Length == 0 {
		return l.files[:n-1]
	}
	return l.files
}

// find returns the file of that number and the one after it, if there is one.
func (l *Log) find(number uint32) (h, next *heldLog, err error) {
	files := l.begun()
	i := slices.IndexFunc(files, func(h *heldLog) bool { return h.Number == number })
	if i < 0 {
		return nil, nil, fmt.Errorf("log file %d: %w", number, fs.ErrNotExist)
	}
	if i+1 < len(files) {
		next = files[i+1]
	}
	return files[i], next, nil
}

// Files are the numbers of the files held, ascending. A file that libdb has made but not begun to write is not among them.
func (l *Log) Files() (numbers []uint32) {
	for _, h := range l.begun() {
		numbers = append(numbers, h.Number)
	}
	return numbers
}

// Header is the header of a log file.
func (l *Log) Header(file uint32) (bdb.LogHeader, error) {
	h, _, err := l.find(file)
	if err != nil {
		return bdb.LogHeader{}, err
	}
	return h.header, nil
}

// Version is the log version of the newest file; 0: encrypted, and there is no password.
func (l *Log) Version() uint32 {
	files := l.begun()
	return files[len(files)-1].header.Version
}

// Stat is what the file system says about a log file now, whether it still has a name or not.
func (l *Log) Stat(file uint32) (Stat, error) {
	h, _, err := l.find(file)
	if err != nil {
		return Stat{}, err
	}
	return fstat(h.f)
}

// Removed reports whether a log file that is held has lost its name.
func (l *Log) Removed(file uint32) bool {
	h, _, err := l.find(file)
	return err == nil && h.removed
}

// Sealed reports whether a later file was begun, so that nothing is appended to this one.
func (l *Log) Sealed(file uint32) bool {
	_, next, err := l.find(file)
	return err == nil && next != nil
}

// FirstRecordPrev is the offset of the last record in the file before, as this file's header has it: proof of continuity when that file
// is gone. 0 in a log's very first file.
func (l *Log) FirstRecordPrev(file uint32) (uint32, error) {
	h, err := l.Header(file)
	return h.Prev, err
}

// ReadAt reads bytes of a log file by barrier double read. n is less than len(buf) only at the end of the file.
func (l *Log) ReadAt(ctx context.Context, file uint32, buf []byte, off int64) (n int, err error) {
	h, _, err := l.find(file)
	if err != nil {
		return 0, err
	}
	n, _, err = readStable(ctx, h.f, buf, off, logUnit)
	if err != nil {
		return n, fmt.Errorf("%s: %w", h.Path, err)
	}
	return n, nil
}
