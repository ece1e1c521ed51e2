package localenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// followEvery is how often Follow looks for the next log file: no log file becomes removable before a later one is begun and a checkpoint written.
const followEvery = 5 * time.Millisecond

// Follow takes in new log files as they appear, until ctx ends. That is how a long piece of work does not lose the log that is written meanwhile to an
// application that removes log files as soon as it may. The errors are those of Refresh.
func (l *Log) Follow(ctx context.Context) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !l.hasNext() {
			continue
		}
		if err := l.Refresh(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// hasNext reports whether there is a log file behind the newest that is held.
func (l *Log) hasNext() bool {
	next := fmt.Sprintf("log.%010d", l.files[len(l.files)-1].Number+1)
	_, err := os.Lstat(filepath.Join(l.dir, next))
	return err == nil
}

// Stirred reports, with a few system calls, whether Refresh would find something new: a further log file, the header of one that had none, or the newest
// file's name gone or given to another.
func (l *Log) Stirred() bool {
	newest := l.files[len(l.files)-1]
	if newest.header.Length == 0 || l.hasNext() {
		return true
	}
	info, err := os.Stat(newest.Path)
	return err != nil || statOf(info).identity() != newest.Stat.identity()
}

// Limit bounds how many files are held: beyond it Refresh takes in no more until some are released. 0: all.
func (l *Log) Limit(files int) { l.limit = files }

// Release lets go of the files before the given one, but always holds the newest.
func (l *Log) Release(before uint32) (err error) {
	for len(l.files) > 1 && l.files[0].Number < before && l.files[1].header.Length != 0 {
		err = errors.Join(err, l.files[0].f.Close())
		l.files = l.files[1:]
	}
	return err
}

// ReleaseRemoved lets go of the files that have no name any more, so that their space becomes free, and says how many and how large they were.
func (l *Log) ReleaseRemoved() (files int, bytes int64, err error) {
	for len(l.files) > 1 && l.files[0].removed && l.files[1].header.Length != 0 {
		if stat, err := fstat(l.files[0].f); err == nil {
			bytes += stat.Size
		}
		err = errors.Join(err, l.files[0].f.Close())
		l.files = l.files[1:]
		files++
	}
	return files, bytes, err
}

// Held counts the files that are held, and those of them that have no name any more.
func (l *Log) Held() (files, removed int, removedBytes int64) {
	for _, h := range l.files {
		if !h.removed {
			continue
		}
		removed++
		if stat, err := fstat(h.f); err == nil {
			removedBytes += stat.Size
		}
	}
	return len(l.files), removed, removedBytes
}

// Peek reads bytes of a log file once, with no care for writes in flight: good for seeing whether something has changed. What lies beyond the end of the
// file is zero.
func (l *Log) Peek(file uint32, buf []byte, off int64) error {
	h, _, err := l.find(file)
	if err != nil {
		return err
	}
	n, err := h.f.ReadAt(buf, off)
	clear(buf[n:])
	if err == io.EOF {
		err = nil
	}
	return err
}

// Sync has a log file's bytes written to stable storage.
func (l *Log) Sync(file uint32) error {
	h, _, err := l.find(file)
	if err != nil {
		return err
	}
	return h.f.Sync()
}
