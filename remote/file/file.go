// Package file is the driver for a directory: a disk, a mounted share, a tape library's cache.
//
// A key is a path below the directory. An object is written to a temporary file in the folder .tmp of the directory, flushed, and then
// given its name in one step, which for Put if absent fails when the name is taken; its folder is flushed too, and so are the parents of
// new folders. So an object is there completely or not at all, whatever crashes. What a
// crash leaves in .tmp is removed by the next process that stores something; files that a living one writes are locked.
//
// Nothing outside the directory is ever touched, not even through symbolic links (os.Root). Files get mode 0600, folders 0700; folders that
// become empty by Delete go too. The store's clock is this host's. The directory itself must exist: if it is a
// mount point whose file system is missing, writing into it would fill the wrong disk unnoticed. Create makes a new one.
package file

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"bdbvault/remote"
)

type driver struct {
	dir   string
	sweep sync.Once // of what crashed processes left
	seen  lastFolder
}

// New makes a driver for a directory. Whether that exists shows when it is first used.
func New(dir string) (remote.Driver, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, &remote.Error{Op: "open", Store: "file://" + dir, Kind: remote.Invalid, Err: err}
	}
	return &driver{dir: abs}, nil
}

// Create makes the directory and its missing parents, durably. It may exist already.
func Create(dir string) error {
	abs, err := filepath.Abs(dir)
	if err == nil {
		err = mkdirSync(abs)
	}
	if err != nil {
		return &remote.Error{Op: "create", Store: "file://" + abs, Kind: classify(err), Err: err}
	}
	return nil
}

func mkdirSync(dir string) error {
	if s, err := os.Stat(dir); err == nil && !s.IsDir() {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	} else if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := mkdirSync(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(parent)
	if err != nil {
		return err
	}
	return syncAndClose(d)
}

func syncAndClose(f *os.File) error {
	return errors.Join(f.Sync(), f.Close())
}

func (d *driver) String() string { return "file://" + d.dir }

// Classify implements remote.Driver.
func (d *driver) Classify(err error) remote.Kind { return classify(err) }

func classify(err error) remote.Kind {
	var source *remote.SourceError
	switch {
	case errors.As(err, &source):
		return remote.Unknown
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return remote.Full
	case errors.Is(err, syscall.EROFS):
		return remote.ReadOnly
	case errors.Is(err, fs.ErrPermission):
		return remote.Denied
	case errors.Is(err, fs.ErrNotExist):
		return remote.NotFound
	case errors.Is(err, fs.ErrExist):
		return remote.Exists
	case errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.EFBIG):
		return remote.Invalid
	case errors.Is(err, syscall.ESTALE), errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, syscall.EHOSTDOWN):
		return remote.Transient // a network file system whose server is away
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return remote.Canceled
	}
	return remote.KindOf(err)
}

// open returns the directory. It is opened for each operation: a long-running process must notice that it is gone,
// and must not keep its file system from being unmounted in between.
func (d *driver) open(ctx context.Context) (*os.Root, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(d.dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, &remote.Error{Kind: remote.NoBucket, Err: err}
	}
	return root, err
}

// Open implements remote.Driver.
func (d *driver) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	root, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	defer root.Close() // only used to find files
	f, info, err := openRegular(root, key)
	if err != nil {
		return nil, err
	}
	if offset >= info.Size() && !(offset == 0 && length < 0) {
		f.Close() // opened for reading
		return nil, &remote.Error{Kind: remote.OutOfRange, Err: fmt.Errorf("byte %d of %d", offset, info.Size())}
	}
	end := info.Size()
	if length >= 0 {
		end = min(end, offset+length)
	}
	return &object{ctx: ctx, f: f, offset: offset, end: end}, nil
}

// openRegular takes what is not a file, or lies beyond a file, for no object.
func openRegular(root *os.Root, key string) (*os.File, fs.FileInfo, error) {
	f, err := root.OpenFile(key, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: key, Err: fs.ErrNotExist}
	}
	if err != nil {
		f.Close() // opened for reading
		return nil, nil, err
	}
	return f, info, nil
}

// object reads a range of a file.
type object struct {
	ctx         context.Context
	f           *os.File
	offset, end int64
}

func (o *object) Read(p []byte) (int, error) {
	if err := o.ctx.Err(); err != nil {
		return 0, err
	}
	if o.offset >= o.end {
		return 0, io.EOF
	}
	n, err := o.f.ReadAt(p[:min(int64(len(p)), o.end-o.offset)], o.offset)
	o.offset += int64(n)
	remote.CountReceived(o.ctx, n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // the file shrank
	}
	return n, err
}

func (o *object) Close() error { return o.f.Close() }

// Stat implements remote.Driver.
func (d *driver) Stat(ctx context.Context, key string) (remote.Info, error) {
	root, err := d.open(ctx)
	if err != nil {
		return remote.Info{}, err
	}
	defer root.Close() // only used to find files
	info, err := root.Stat(key)
	if errors.Is(err, syscall.ENOTDIR) || err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "stat", Path: key, Err: fs.ErrNotExist}
	}
	if err != nil {
		return remote.Info{}, err
	}
	return remote.Info{Key: key, Size: info.Size(), Modified: info.ModTime()}, nil
}

// Delete implements remote.Driver.
func (d *driver) Delete(ctx context.Context, keys []string) error {
	root, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer root.Close() // only used to find files
	for _, key := range keys {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := root.Remove(key)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return err
		}
		removeEmpty(root, path.Dir(key))
	}
	return nil
}

// removeEmpty removes folders as long as they are empty; the first that isn't, or is a link that somebody made, ends it.
func removeEmpty(root *os.Root, dir string) {
	for ; dir != "."; dir = path.Dir(dir) {
		if info, err := root.Lstat(dir); err != nil || !info.IsDir() || root.Remove(dir) != nil {
			return
		}
	}
}

// List implements remote.Driver.
func (d *driver) List(ctx context.Context, prefix, after string, fn func(remote.Info) error) (time.Time, error) {
	now := time.Now()
	root, err := d.open(ctx)
	if err != nil {
		return now, err
	}
	defer root.Close() // only used to find files
	w := &walk{ctx: ctx, root: root, prefix: prefix, after: after, fn: fn, seen: &d.seen}
	return now, w.dir("")
}

// Put implements remote.Driver.
func (d *driver) Put(ctx context.Context, key string, body io.ReaderAt, size int64, opt remote.PutOptions) error {
	if !opt.Retain.Until.IsZero() {
		return &remote.Error{Kind: remote.Unsupported, Err: remote.ErrNoLock}
	}
	root, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer root.Close() // only used to find files
	if opt.StorageClass != "" {
		return &remote.Error{Kind: remote.Unsupported, Err: errors.New("a directory has no storage classes")}
	}
	if opt.IfAbsent {
		// Publishing decides; this only saves writing in vain.
		if _, err := root.Lstat(key); err == nil {
			return &fs.PathError{Op: "put", Path: key, Err: fs.ErrExist}
		}
	}
	d.sweep.Do(func() { sweep(root) })
	t, err := newTemp(root)
	if err != nil {
		return err
	}
	defer t.discard()
	if err := t.fill(ctx, body, size, opt); err != nil {
		return err
	}
	return t.publish(ctx, key, opt.IfAbsent)
}

// fill writes body and checks that it is what was announced.
func (t *temp) fill(ctx context.Context, body io.ReaderAt, size int64, opt remote.PutOptions) error {
	h := sha256.New()
	var w io.Writer = t.f
	if opt.HasSHA256 {
		w = io.MultiWriter(t.f, h)
	}
	buf := make([]byte, min(size, 1<<20))
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := body.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if err := remote.Sending(ctx, n); err != nil {
			return err
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		at += int64(n)
		if err != nil && at < size {
			return &remote.SourceError{Err: fmt.Errorf("after %d of %d bytes: %w", at, size, err)}
		}
	}
	if opt.HasSHA256 && !bytes.Equal(h.Sum(nil), opt.SHA256[:]) {
		return &remote.Error{Kind: remote.Damaged, Err: errors.New("SHA-256 differs")}
	}
	return t.f.Sync()
}

func hidden(name string) bool { return strings.HasPrefix(name, tempDir) }
