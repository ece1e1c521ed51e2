package restore

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sector is the alignment of direct writes, in the file, in memory and in length. Real devices want this or less.
const sector = 4096

// directFrom is the size of file from which writing past the page cache pays, directLeast that of a single write: whoever writes directly waits
// for the disk, and for a few pages that takes longer than copying them.
const (
	directFrom  = 1 << 20
	directLeast = 64 << 10
)

// output writes a file of the target. Long rows of whole sectors go past the page cache: a restored file is larger than what is worth caching,
// and copying it twice is most of what a restore would cost. A sector is written either directly or through the cache, never both.
type output struct {
	file   *os.File
	direct *os.File // the same file; nil where the file system can't, or the file is small
	plain  atomic.Bool
}

// openOutput opens or makes a file of a given size. Bytes that are there already stay; had says how many there were.
func openOutput(root *roots, name string, size int64) (o *output, had int64, err error) {
	f, had, err := openOwn(root, name)
	if err != nil {
		return nil, 0, err
	}
	if err := f.Truncate(size); err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	o = &output{file: f}
	if size >= directFrom {
		// Not every file system can; the plain way always works.
		o.direct, _ = root.OpenFile(name, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_DIRECT, 0)
	}
	return o, min(had, size), nil
}

// openOwn opens a file for writing that has no other name. What was there may be read-only, as a finished restore leaves it, or be a
// link to a file that somebody means to keep, as in copies that share what is equal.
func openOwn(root *roots, name string) (f *os.File, size int64, err error) {
	const flags = os.O_RDWR | os.O_CREATE | unix.O_NOFOLLOW
	f, err = root.OpenFile(name, flags, 0o600)
	if errors.Is(err, fs.ErrPermission) && root.Chmod(name, 0o600) == nil {
		f, err = root.OpenFile(name, flags, 0o600)
	}
	if err != nil {
		return nil, 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	if st.Nlink < 2 {
		return f, st.Size, nil
	}
	own, err := ownCopy(root, name, f)
	return own, st.Size, errors.Join(err, f.Close())
}

// ownCopy puts a copy of a file in its place.
func ownCopy(root *roots, name string, from *os.File) (*os.File, error) {
	aside := path.Join(path.Dir(name), MarkerName+".copy-"+rand.Text())
	to, err := root.OpenFile(aside, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = io.Copy(to, from); err == nil {
		err = root.Rename(aside, name)
	}
	if err != nil {
		return nil, errors.Join(err, to.Close())
	}
	return to, nil
}

// WriteAt is safe for concurrent use on different sectors.
func (o *output) WriteAt(p []byte, off int64) (int, error) {
	head, body := o.split(p, off)
	if body == 0 {
		return o.file.WriteAt(p, off)
	}
	if _, err := o.file.WriteAt(p[:head], off); err != nil {
		return 0, err
	}
	if err := o.writeDirect(p[head:head+body], off+int64(head)); err != nil {
		return head, err
	}
	n, err := o.file.WriteAt(p[head+body:], off+int64(head+body))
	return head + body + n, err
}

// split finds the part of p that can be written directly: after head bytes, body bytes long.
func (o *output) split(p []byte, off int64) (head, body int) {
	if o.direct == nil || o.plain.Load() || len(p) < directLeast {
		return 0, 0
	}
	head = int(-off & (sector - 1))
	if head >= len(p) || uintptr(unsafe.Pointer(&p[head]))%512 != 0 {
		return 0, 0
	}
	return head, (len(p) - head) &^ (sector - 1)
}

func (o *output) writeDirect(p []byte, off int64) error {
	if _, err := o.direct.WriteAt(p, off); !errors.Is(err, unix.EINVAL) {
		return err
	}
	o.plain.Store(true) // a device that wants more than a sector
	_, err := o.file.WriteAt(p, off)
	return err
}

// reserve makes sure that there is room for a range, where the file system can.
func (o *output) reserve(off, length int64) error {
	err := unix.Fallocate(int(o.file.Fd()), unix.FALLOC_FL_KEEP_SIZE, off, length)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return &os.PathError{Op: "reserve", Path: o.file.Name(), Err: err}
	}
	return nil
}

// punch makes a range a hole, where the file system can.
func (o *output) punch(off, length int64) bool {
	return unix.Fallocate(int(o.file.Fd()), unix.FALLOC_FL_KEEP_SIZE|unix.FALLOC_FL_PUNCH_HOLE, off, length) == nil
}

// zero writes zeros.
func (o *output) zero(off, length int64) error {
	_, err := io.CopyN(io.NewOffsetWriter(o.file, off), zeros{}, length)
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// close has what went through the cache written from now on, so that whoever syncs the file need not wait long.
func (o *output) close() error {
	_ = unix.SyncFileRange(int(o.file.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	err := o.file.Close()
	if o.direct != nil {
		err = errors.Join(err, o.direct.Close())
	}
	return err
}

// aligned returns a buffer for direct writes.
func aligned(size int) []byte {
	b := make([]byte, size+sector)
	skip := int(-uintptr(unsafe.Pointer(&b[0])) & (sector - 1))
	return b[skip : skip+size : skip+size]
}
