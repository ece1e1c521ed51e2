package localenv

import (
	"context"
	"errors"
	"path"
	"slices"
	"time"

	"bdbvault/localenv/bdb"
)

// LogSurvey is what the log shows of itself and of the environment.
type LogSurvey struct {
	Files         int
	Bytes         int64
	First, Newest uint32 // numbers of the oldest and of the newest file
	Version       uint32 // 0: encrypted, and there is no password
	FileSize      uint32 // to which the engine extends a file; 0 as above
	Encrypted     bool
	End           bdb.LSN

	// Rate is how much log was written a second while the finished files were, of which Span is the time; 0: there are too few.
	Rate float64
	Span time.Duration

	Checkpoint  *bdb.Checkpoint // newest; nil: none in the log that is here, or it can't be read
	Needed      int64           // bytes of log that a recovery from that checkpoint reads
	Removable   int             // files that recovery needs no more
	LastCommit  time.Time       // newest since that checkpoint; zero: none
	Prepared    []bdb.LSN       // of transactions that were prepared and not ended
	Absent      []string        // databases that the log names and the directories lack
	Strays      []string        // names that lead out of the environment's directories
	StraysFirst bdb.LSN         // the first record with one
	Unreadable  bool            // what stands in the records is encrypted, and there is no password
}

// LogSurvey reads the log from the last checkpoint on. s is a survey of the files that was made before. Errors are ErrNoLog, *LogGap, *LogDamage and those of
// reading; what was found until then comes with them.
func (e *Env) LogSurvey(ctx context.Context, s *Survey) (l *LogSurvey, err error) {
	for try := 0; ; try++ {
		l, err = e.logSurvey(ctx, s)
		_, gap := errors.AsType[*LogGap](err)
		if !gap || try == len(lookPauses) {
			return l, err
		}
		// Files that are removed while they are listed and opened look like a gap.
		if err := pause(ctx, lookPauses[try]); err != nil {
			return l, err
		}
	}
}

// lookPauses are the waits before something that is missing is looked for again.
var lookPauses = []time.Duration{0, 200 * time.Millisecond, time.Second}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (e *Env) logSurvey(ctx context.Context, s *Survey) (l *LogSurvey, err error) {
	l = &LogSurvey{}
	files, err := e.LogFiles()
	if err != nil {
		return l, err
	}
	l.addFiles(files)
	log, err := e.OpenLog(ctx)
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	held := log.Files()
	header, err := log.Header(held[len(held)-1])
	if err != nil {
		return l, err
	}
	l.Version, l.FileSize, l.Encrypted = header.Version, header.Size, header.Encrypted
	if l.End, err = log.End(ctx); err != nil {
		return l, err
	}
	return l, l.read(ctx, e, log, s)
}

func (l *LogSurvey) addFiles(files []LogFile) {
	l.Files = len(files)
	if l.Files == 0 {
		return
	}
	for _, f := range files {
		l.Bytes += f.Stat.Size
	}
	l.First, l.Newest = files[0].Number, files[l.Files-1].Number
	// A finished file's time is that of its last record.
	if sealed := files[:l.Files-1]; len(sealed) > 1 {
		var bytes int64
		for _, f := range sealed[1:] {
			bytes += f.Stat.Size
		}
		l.Span = time.Duration(sealed[len(sealed)-1].Stat.Mtime - sealed[0].Stat.Mtime)
		if l.Span > 0 {
			l.Rate = float64(bytes) / l.Span.Seconds()
		}
	}
}

// read finds the last checkpoint and walks the log behind it.
func (l *LogSurvey) read(ctx context.Context, e *Env, log *Log, s *Survey) error {
	begun, held := l.End, log.Files()
	from := bdb.LSN{File: held[0]}
	ckp, found, err := log.LastCheckpoint(ctx)
	switch {
	case errors.Is(err, bdb.ErrPassword):
		l.Unreadable = true
		return nil
	case err != nil:
		return err
	case found:
		l.Checkpoint = &ckp
		from.File = max(from.File, ckp.CkpLSN.File)
		l.Removable = int(from.File - held[0])
	}
	for _, n := range held {
		stat, err := log.Stat(n)
		switch {
		case err != nil:
			return err
		case n >= from.File && n < l.End.File:
			l.Needed += stat.Size
		case n == l.End.File:
			l.Needed += int64(l.End.Offset)
		}
	}
	if found && ckp.CkpLSN.File == from.File {
		l.Needed -= int64(ckp.CkpLSN.Offset)
	}
	w := &logSurveyor{LogSurvey: l, env: e, log: log, history: bdb.NewHistory(), prepared: map[uint32]bdb.LSN{}}
	if l.End, err = log.Walk(ctx, from, w.add); err != nil {
		return err
	}
	return w.finish(ctx, s, begun)
}

// logSurveyor takes the log's records.
type logSurveyor struct {
	*LogSurvey
	env      *Env
	log      *Log
	history  *bdb.History
	prepared map[uint32]bdb.LSN
}

func (w *logSurveyor) add(r *bdb.Record) error {
	if c, ok := r.Commit(); ok {
		delete(w.prepared, r.Txn)
		if !c.Abort {
			w.LastCommit = c.Time
		}
	}
	if _, ok := r.Prepare(); ok {
		w.prepared[r.Txn] = r.LSN
	}
	for _, name := range w.env.Strays(r) {
		if len(w.Strays) == 0 {
			w.StraysFirst = r.LSN
		}
		if !slices.Contains(w.Strays, name) {
			w.Strays = append(w.Strays, name)
		}
	}
	return w.history.Add(r)
}

// finish tells what the log leaves behind. begun is where the log ended when it was opened.
func (w *logSurveyor) finish(ctx context.Context, s *Survey, begun bdb.LSN) error {
	w.Absent = w.missing(s, begun)
	for try := 0; len(w.Absent) > 0 && try < len(lookPauses); try++ {
		if err := w.lookAgain(ctx, lookPauses[try]); err != nil {
			return err
		}
	}
	for _, lsn := range w.prepared {
		w.Prepared = append(w.Prepared, lsn)
	}
	slices.SortFunc(w.Prepared, bdb.LSN.Compare)
	return nil
}

// lookAgain lists the files between two looks at the log: what was there at the first and is still there at the second must be among them. Once is not enough: a file
// that is renamed while a directory is listed may be passed over, and the record of a removal may reach the disk after the file is gone.
func (w *logSurveyor) lookAgain(ctx context.Context, wait time.Duration) error {
	if err := pause(ctx, wait); err != nil {
		return err
	}
	if err := w.walkOn(ctx); err != nil {
		return err
	}
	begun := w.End
	s, err := w.env.Survey(ctx)
	if err != nil {
		return err
	}
	if err := w.walkOn(ctx); err != nil {
		return err
	}
	w.Absent = w.missing(s, begun)
	return nil
}

func (w *logSurveyor) walkOn(ctx context.Context) (err error) {
	if err := w.log.Refresh(ctx); err != nil {
		return err
	}
	w.End, err = w.log.Walk(ctx, w.End, w.add)
	return err
}

// missing are the databases that recovery leaves and the survey lacks, but those that the log makes from begun on.
func (w *logSurveyor) missing(s *Survey, begun bdb.LSN) (names []string) {
	for _, f := range w.history.Files() {
		own := engineFile(path.Base(f.Name)) != ""
		if f.State == bdb.FileExists && !f.Remade(begun) && !own && w.env.inside(f.Name) && !s.has(f.ID) {
			names = append(names, f.Name)
		}
	}
	slices.Sort(names)
	return names
}
