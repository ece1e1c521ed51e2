package localenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bdbvault/localenv/bdb"
)

// plainPageSize is the page size of files that have none.
const plainPageSize = 4096

// Source is a file of an environment, open for reading. It reads on when the file is removed or renamed meanwhile. Its methods may be called from
// many goroutines.
type Source struct {
	f        *os.File
	file     File
	kind     bdb.Kind
	meta     *bdb.Meta
	key      *bdb.Key
	unit     int    // what is read again as one
	limit    int64  // no byte from here on is read; -1: no limit
	problem  string // why the metadata page makes no sense, if so
	standIn  bool
	pace     Pace
	failures failureCount
}

// OpenFile opens a file of a Listing and finds out what it is. A file that has vanished since gives fs.ErrNotExist, an encrypted one
// that does not go with the environment's password bdb.ErrPassword.
func (e *Env) OpenFile(f File) (*Source, error) {
	full := filepath.Join(e.Dirs[f.Dir].Path, filepath.FromSlash(f.Path))
	file, stat, err := openRegular(full)
	if err != nil {
		return nil, err
	}
	f.Stat = stat
	adviseSequential(file)
	s := &Source{f: file, file: f, kind: bdb.KindFile, key: e.key, unit: bdb.MaxPageSize, limit: -1, pace: e.Pace}
	if err := s.identify(full); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", full, err), file.Close())
	}
	return s, nil
}

// adviseSequential doubles the read-ahead of this descriptor, which brings files that are not in the page cache in about half again as fast. Advice
// may be refused; nothing depends on it.
func adviseSequential(f *os.File) {
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) { _ = unix.Fadvise(int(fd), 0, 0, unix.FADV_SEQUENTIAL) })
}

// openRegular opens a regular file, and does not hang if it has become a named pipe.
func openRegular(full string) (*os.File, Stat, error) {
	file, err := os.OpenFile(full, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, Stat{}, err
	}
	stat, err := fstat(file)
	if err == nil && stat.Mode&syscall.S_IFMT != syscall.S_IFREG {
		err = fmt.Errorf("open %s: not a regular file any more", full)
	}
	if err != nil {
		return nil, Stat{}, errors.Join(err, file.Close())
	}
	return file, stat, nil
}

// identify finds out the file's kind and geometry.
func (s *Source) identify(full string) error {
	meta, err := readMeta(s.f, s.key)
	var damaged *bdb.MetaError
	switch {
	case err == nil:
		s.setGeometry(meta)
		return nil
	case errors.As(err, &damaged):
		s.problem = damaged.Problem
		return nil
	case !errors.Is(err, bdb.ErrNotDatabase):
		return err
	}
	if queue, number, ok := extentName(filepath.Base(full)); ok {
		return s.identifyExtent(filepath.Join(filepath.Dir(full), queue), number)
	}
	first := make([]byte, bdb.MetaSize)
	n, _, err := readStable(context.Background(), s.f, first, 0, len(first))
	if err != nil {
		return err
	}
	s.standIn = bdb.IsPlaceholder(first[:n])
	// A file too short for a metadata page may be a database in the making, whose page size we don't know. All that it is going to
	// hold is in the log, so it is taken as it was when opened.
	if s.file.Stat.Size < bdb.MetaSize {
		s.limit = s.file.Stat.Size
	}
	return nil
}

func (s *Source) setGeometry(m bdb.Meta) { s.meta, s.kind, s.unit = &m, m.Kind, m.PageSize }

// readMeta reads and parses a metadata page. One that makes no sense is read again a few times before that is believed.
func readMeta(f *os.File, key *bdb.Key) (bdb.Meta, error) {
	var first [bdb.MetaSize]byte
	for try := 0; ; try++ {
		n, _, err := readStable(context.Background(), f, first[:], 0, len(first))
		if err != nil {
			return bdb.Meta{}, err
		}
		meta, err := bdb.ParseMeta(first[:n], key)
		if err == nil || errors.Is(err, bdb.ErrNotDatabase) || try == len(recheckPauses) {
			return meta, err
		}
		time.Sleep(recheckPauses[try])
	}
}

// identifyExtent takes a queue extent's geometry from its queue. If there is no such queue, the file stays an application's.
func (s *Source) identifyExtent(queuePath string, number uint32) error {
	queue, _, err := openRegular(queuePath)
	if err != nil {
		return nil
	}
	defer queue.Close()
	parent, err := readMeta(queue, s.key)
	var damaged *bdb.MetaError
	if errors.Is(err, bdb.ErrNotDatabase) || errors.As(err, &damaged) {
		return nil
	}
	if err != nil {
		return err
	}
	meta, ok := parent.Extent(number)
	if !ok {
		return nil
	}
	s.setGeometry(meta)
	if meta.FirstPage == 0 {
		return s.placeExtent(number)
	}
	return nil
}

// placeExtent finds the first page's number without the password, which hides how many pages an extent has: any page that has a number tells.
func (s *Source) placeExtent(number uint32) error {
	size := int64(s.meta.PageSize)
	head := make([]byte, 12)
	for i := int64(0); i < s.file.Stat.Size/size; i++ {
		n, _, err := readStable(context.Background(), s.f, head, i*size, len(head))
		if err != nil {
			return err
		}
		if n < len(head) {
			break
		}
		if first := int64(s.meta.ByteOrder.Uint32(head[8:])) - i; first > 1 && (first-1)%int64(number) == 0 {
			s.meta.FirstPage = uint32(first)
			return nil
		}
	}
	return nil
}

// File is what OpenFile was given, with the file's Stat at the time it was opened.
func (s *Source) File() File { return s.file }

// Stat is what the file system says now.
func (s *Source) Stat() (Stat, error) { return fstat(s.f) }

// Kind is what the file is.
func (s *Source) Kind() bdb.Kind { return s.kind }

// Placeholder reports whether the file is no more than what libdb keeps a name taken with, while a transaction that renames or removes the database
// of that name is not committed.
func (s *Source) Placeholder() bool { return s.standIn }

// Meta is the file's geometry as of opening it, that of its queue for an extent, nil for an application's file and for one whose
// metadata page is damaged.
func (s *Source) Meta() *bdb.Meta { return s.meta }

// PageSize is 4096 for files without pages.
func (s *Source) PageSize() int {
	if s.meta == nil {
		return plainPageSize
	}
	return s.meta.PageSize
}

// Close closes the file.
func (s *Source) Close() error { return s.f.Close() }

func (s *Source) String() string { return s.file.Path }
