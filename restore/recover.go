package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"sync/atomic"

	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
)

// workLog is the directory with the log that recovery works on: a copy, because recovery appends to it and because records in it are amended.
const workLog = MarkerName + ".log"

// workLog is where that is: beside the log, so that nothing has to be copied to another file system.
func (r *restorer) workLog() string { return path.Join(top(r.lay.logDir), workLog) }

// recover brings the data to the end of the log.
func (r *restorer) recover(ctx context.Context) error {
	debug.FreeOSMemory() // the engine needs it now
	r.dirs = r.story.searchDirs(r.lay, r.m)
	if err := r.makeFolders(); err != nil {
		return err
	}
	scratch, err := newScratch(r.t, r.lay.create, r.dirs)
	if err != nil {
		return err
	}
	for _, name := range r.story.links() {
		if err := scratch.link(name, "."); err != nil {
			return err
		}
	}
	if r.speller, err = scratch.lead(r.lay.maps); err != nil {
		return err
	}
	stages, err := r.replay()
	if err != nil {
		return err
	}
	stop := r.prefetch(ctx)
	defer stop()
	for _, stage := range stages {
		if err := r.layFiles(ctx, stage); err != nil {
			return err
		}
		if err := r.pass(ctx, scratch, stage); err != nil {
			return err
		}
	}
	if err := scratch.giveBack(); err != nil {
		return err
	}
	if err := r.dropStandIns(ctx); err != nil {
		return err
	}
	if err := r.takeLog(); err != nil {
		return err
	}
	return r.step(ctx, stepRecovered)
}

// replay plans the stages of recovery. What an earlier recovery left holds what was committed before its end and nothing of what was not: names too
// are those of its end.
func (r *restorer) replay() ([]*bdb.Replay, error) {
	needed := r.story.needed
	if !r.since.IsZero() {
		needed = r.since
	}
	stages, err := r.story.history.Replay(needed, r.copied())
	if err != nil {
		return nil, &RecoveryError{End: r.story.end, Err: err}
	}
	return stages, nil
}

// copied is the LSN from which on the log, and not the files, says what was done to files.
func (r *restorer) copied() bdb.LSN {
	if !r.since.IsZero() {
		return r.since
	}
	if r.m.BegunAt.Before(r.story.needed) {
		return r.story.needed
	}
	return r.m.BegunAt
}

// makeFolders makes the directories that the log puts files into: libdb does not, by default, and the application made them by hand.
func (r *restorer) makeFolders() error {
	var need []string
	for _, d := range r.dirs {
		need = append(need, path.Clean(d))
	}
	for f := range r.story.folders {
		need = append(need, f)
	}
	for _, f := range slices.Sorted(slices.Values(need)) {
		if _, err := r.t.root.Stat(f); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := r.t.root.MkdirAll(f, 0o700); err != nil {
			return err
		}
		r.made = append(r.made, f)
	}
	return nil
}

// pass runs recovery once, on the log up to the end of a stage.
func (r *restorer) pass(ctx context.Context, scratch *scratch, stage *bdb.Replay) error {
	end := stage.Until
	if end.IsZero() {
		end = r.story.end
	}
	if err := r.copyLog(ctx, end, stage.Amendments); err != nil {
		return err
	}
	if err := scratch.point(r.workLog()); err != nil {
		return err
	}
	if err := r.step(ctx, stepPass); err != nil {
		return err
	}
	r.result.Passes++
	if err := r.runEngine(ctx, scratch.home()); err != nil {
		return &RecoveryError{End: end, Err: err}
	}
	if err := r.unlink(); err != nil {
		return err
	}
	if err := scratch.adopt(); err != nil {
		return err
	}
	return r.gatherExtents(ctx)
}

func (r *restorer) runEngine(ctx context.Context, home string) error {
	client, err := r.engine()
	if err != nil {
		return err
	}
	r.opt.Progress.Phase(PhaseRecover, 100)
	var at atomic.Int64
	return client.Recover(ctx, home, engine.RecoverOptions{Progress: func(percent int) {
		r.opt.Progress.Add(int64(percent) - at.Swap(int64(percent)))
	}})
}

func (r *restorer) engineOptions() engine.Options {
	opt := r.opt.Engine
	if r.t != nil {
		opt.Inherit = append(slices.Clip(opt.Inherit), r.t.lock)
		for _, a := range r.t.away {
			opt.Inherit = append(opt.Inherit, a.lock)
		}
	}
	note := opt.Note
	opt.Note = func(text string) {
		r.opt.Progress.Note(text)
		if note != nil {
			note(text)
		}
	}
	return opt
}

// amended are the log files of which records are changed.
func amended(amend []bdb.Amendment) map[uint32][]bdb.Amendment {
	files := map[uint32][]bdb.Amendment{}
	for _, a := range amend {
		files[a.LSN.File] = append(files[a.LSN.File], a)
	}
	return files
}

// copyLog makes the log that recovery works on, up to end. Only files that are changed are copied, the others are linked: those with
// amended records, and the last one, to which recovery appends.
func (r *restorer) copyLog(ctx context.Context, end bdb.LSN, amend []bdb.Amendment) error {
	work := r.workLog()
	if err := r.t.root.RemoveAll(work); err != nil {
		return err
	}
	if err := r.t.root.Mkdir(work, 0o700); err != nil {
		return err
	}
	files := amended(amend)
	for n := r.story.needed.File; n <= end.File; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		from, to := path.Join(r.logDir, logName(n)), path.Join(work, logName(n))
		if n < end.File && n > r.story.passed().File && files[n] == nil && r.story.respells[n] == nil {
			if err := r.t.root.Link(from, to); err == nil {
				continue
			}
		}
		size := int64(1) << 32
		if n == end.File {
			size = int64(end.Offset)
		}
		if err := r.copyFile(from, to, size, func(f *os.File) error { return r.amend(f, n, files[n], end) }); err != nil {
			return err
		}
	}
	return nil
}

// copyFile copies at most size bytes of a file and changes the copy.
func (r *restorer) copyFile(from, to string, size int64, change func(*os.File) error) error {
	in, err := r.t.root.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() // only read
	out, err := r.t.root.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.LimitReader(in, size))
	if err == nil {
		err = change(out)
	}
	return errors.Join(err, out.Close())
}

// amend changes records of one log file that goes up to end.
func (r *restorer) amend(f *os.File, number uint32, list []bdb.Amendment, end bdb.LSN) error {
	passed := r.story.passed()
	if len(list) == 0 && number > passed.File && len(r.story.respells[number]) == 0 {
		return nil
	}
	first := make([]byte, bdb.LogHeaderSize)
	if _, err := f.ReadAt(first, 0); err != nil && err != io.EOF {
		return err
	}
	decoder, err := bdb.NewLogDecoder(first, r.key)
	if err != nil {
		return fmt.Errorf("log file %d: %w", number, err)
	}
	whole := number < passed.File
	if whole {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		passed = bdb.LSN{File: number, Offset: uint32(info.Size())}
	}
	if number == passed.File {
		err := skipPages(f, decoder, passed, r.story.flight.keeps)
		if err != nil && !(whole && errors.Is(err, bdb.ErrLogEnd)) { // a file that was not shipped but moved may end with zeros
			return err
		}
	}
	for _, a := range list {
		if err := change(f, decoder, a.LSN, func(b []byte) error { return decoder.Amend(a, b) }); err != nil {
			return err
		}
	}
	for _, lsn := range r.story.respells[number] {
		if !lsn.Before(end) {
			break
		}
		if err := change(f, decoder, lsn, func(b []byte) error { return decoder.Respell(lsn, b, r.speller.spell) }); err != nil {
			return err
		}
	}
	return nil
}

// change changes one record.
func change(f *os.File, decoder *bdb.LogDecoder, lsn bdb.LSN, do func([]byte) error) error {
	record, err := readRecord(f, decoder, lsn)
	if err != nil {
		return err
	}
	if err := do(record); err != nil {
		return err
	}
	_, err = f.WriteAt(record, int64(lsn.Offset))
	return err
}

// maxRecord bounds the records that are amended: names and file ids, and at most a page.
const maxRecord = 1 << 20

func readRecord(f *os.File, decoder *bdb.LogDecoder, lsn bdb.LSN) ([]byte, error) {
	var r bdb.Record
	for size := 4096; ; size = int(r.Len) {
		if size > maxRecord {
			return nil, &bdb.BadRecord{LSN: lsn, Problem: "too long for a file operation"}
		}
		b := make([]byte, size)
		n, err := f.ReadAt(b, int64(lsn.Offset))
		if err != nil && err != io.EOF {
			return nil, err
		}
		err = decoder.Check(&r, lsn, b[:n])
		if err == nil {
			return b[:r.Len], nil
		}
		if !errors.Is(err, bdb.ErrShortRecord) || int(r.Len) <= size {
			return nil, err
		}
	}
}

// takeLog puts the log as recovery left it into the home: what it appended, and everything before as it was on the source.
func (r *restorer) takeLog() error {
	work := r.workLog()
	if r.logDir != r.lay.logDir {
		if err := r.replaceLog(); err != nil {
			return err
		}
	}
	entries, err := r.t.root.ReadDir(work)
	if err != nil {
		return err
	}
	for _, e := range entries {
		var n uint32
		if _, err := fmt.Sscanf(e.Name(), "log.%010d", &n); err != nil || n < r.story.end.File {
			continue
		}
		from, to := path.Join(work, e.Name()), path.Join(r.lay.logDir, e.Name())
		if n == r.story.end.File {
			if err := r.unamend(from, path.Join(r.logDir, e.Name())); err != nil {
				return err
			}
		}
		if err := r.t.root.Rename(from, to); err != nil {
			return err
		}
	}
	return r.t.root.RemoveAll(work)
}

// replaceLog puts the log that was replayed, but for its last file, in the place of the home's own.
func (r *restorer) replaceLog() error {
	entries, err := fs.ReadDir(r.t.root.FS(), r.lay.logDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if logFileName.MatchString(e.Name()) {
			if err := r.t.root.Remove(path.Join(r.lay.logDir, e.Name())); err != nil {
				return err
			}
		}
	}
	for n := r.story.start.File; n < r.story.end.File; n++ {
		if err := r.t.root.Link(path.Join(r.logDir, logName(n)), path.Join(r.lay.logDir, logName(n))); err != nil {
			return err
		}
	}
	return nil
}

// unamend puts the original records back into the copy of the last log file.
func (r *restorer) unamend(copied, original string) error {
	in, err := r.t.root.Open(original)
	if err != nil {
		return err
	}
	defer in.Close() // only read
	out, err := r.t.root.OpenFile(copied, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.NewOffsetWriter(out, 0), io.LimitReader(in, int64(r.story.end.Offset)))
	return errors.Join(err, out.Close())
}
