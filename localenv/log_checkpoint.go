package localenv

import (
	"context"
	"fmt"

	"bdbvault/localenv/bdb"
)

// LastCheckpoint finds the newest checkpoint in the log, beginning at the newest file. It says false when there is none in the files held. In an
// encrypted environment without the password it can't be found: the error is bdb.ErrPassword.
func (l *Log) LastCheckpoint(ctx context.Context) (ckp bdb.Checkpoint, found bool, err error) {
	files := l.begun()
	for i := len(files) - 1; i >= 0 && !found && err == nil; i-- {
		h := files[i]
		switch {
		case h.header.Encrypted && l.key == nil:
			return ckp, false, fmt.Errorf("%s: %w", h.Path, bdb.ErrPassword)
		case i == len(files)-1 || files[i+1].header.Prev == 0:
			ckp, found, err = l.checkpointForwards(ctx, h)
		default:
			ckp, found, err = l.checkpointBackwards(ctx, h, files[i+1])
		}
	}
	return ckp, found, err
}

// checkpointForwards finds the last checkpoint of a file whose last record is not known.
func (l *Log) checkpointForwards(ctx context.Context, h *heldLog) (ckp bdb.Checkpoint, found bool, err error) {
	w, err := newLogWalk(h, nil, l.key)
	if err != nil {
		return ckp, false, err
	}
	err = w.run(ctx, 0, func(r *bdb.Record) error {
		if c, ok := r.Checkpoint(); ok {
			ckp, found = c, true
		}
		return nil
	})
	return ckp, found, err
}

// checkpointBackwards goes from record to record before it, through a file whose last record the next file names.
func (l *Log) checkpointBackwards(ctx context.Context, h, next *heldLog) (ckp bdb.Checkpoint, found bool, err error) {
	w, err := newLogWalk(h, next, l.key)
	if err != nil {
		return ckp, false, err
	}
	for w.at = w.last; w.at >= h.header.Length; w.at = w.record.Prev {
		if err := w.readBefore(ctx); err != nil {
			return ckp, false, err
		}
		if err := w.decode(ctx, false); err != nil {
			return ckp, false, w.finish(err)
		}
		if ckp, found = w.record.Checkpoint(); found {
			return ckp, true, nil
		}
	}
	return ckp, false, nil
}

// readBefore fills the window so that it has what stands before w.at too, unless it has w.at already.
func (w *logWalk) readBefore(ctx context.Context) error {
	if int64(w.at) >= w.start && int64(w.at) < w.start+int64(len(w.window)) {
		return nil
	}
	if w.buf == nil {
		w.buf = make([]byte, min(logWindow, w.size))
	}
	start := max(0, int64(w.at)-int64(len(w.buf))*3/4)
	n, _, err := readStable(ctx, w.h.f, w.buf, start, logUnit)
	if err != nil {
		return fmt.Errorf("%s: %w", w.h.Path, err)
	}
	w.window, w.start, w.eof = w.buf[:n], start, n < len(w.buf)
	return nil
}
