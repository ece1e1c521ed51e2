package endtoend

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

// shelf is a store in memory in which one object is not what was stored. It is for reading only.
type shelf struct {
	objects map[string][]byte // shared, never changed
	order   []string          // their keys, sorted
	dates   map[string]time.Time
	key     string // this one has other bytes, nil: is missing
	data    []byte

	mu     sync.Mutex
	opened map[string]bool
}

// fill makes a shelf of a repository in a directory.
func fill(t *testing.T, dir string) *shelf {
	t.Helper()
	s := &shelf{objects: map[string][]byte{}, dates: map[string]time.Time{}}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		key, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		s.dates[key] = info.ModTime()
		s.objects[key], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.order = slices.Sorted(maps.Keys(s.objects))
	return s
}

// but is the same with other bytes in one place.
func (s *shelf) but(key string, data []byte) *shelf {
	return &shelf{objects: s.objects, order: s.order, dates: s.dates, key: key, data: data}
}

func (s *shelf) get(key string) ([]byte, error) {
	data, ok := s.objects[key]
	if key == s.key {
		data, ok = s.data, s.data != nil
	}
	if !ok {
		return nil, &remote.Error{Kind: remote.NotFound}
	}
	return data, nil
}

func (s *shelf) Open(_ context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	data, err := s.get(key)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	if s.opened == nil {
		s.opened = map[string]bool{}
	}
	s.opened[key] = true
	s.mu.Unlock()
	if offset > 0 && offset >= int64(len(data)) || length >= 0 && offset >= int64(len(data)) {
		return nil, &remote.Error{Kind: remote.OutOfRange}
	}
	data = data[offset:]
	if length >= 0 {
		data = data[:min(length, int64(len(data)))]
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (s *shelf) Stat(_ context.Context, key string) (remote.Info, error) {
	data, err := s.get(key)
	return remote.Info{Key: key, Size: int64(len(data)), Modified: s.dates[key]}, err
}

func (s *shelf) List(_ context.Context, prefix, after string, fn func(remote.Info) error) (time.Time, error) {
	for _, key := range s.order {
		if !strings.HasPrefix(key, prefix) || key <= after {
			continue
		}
		data, err := s.get(key)
		if err != nil {
			continue
		}
		if err := fn(remote.Info{Key: key, Size: int64(len(data)), Modified: s.dates[key]}); err != nil {
			return time.Now(), err
		}
	}
	return time.Now(), nil
}

func (s *shelf) Put(context.Context, string, io.ReaderAt, int64, remote.PutOptions) error {
	return &remote.Error{Kind: remote.ReadOnly}
}
func (s *shelf) Delete(context.Context, []string) error { return &remote.Error{Kind: remote.ReadOnly} }
func (s *shelf) Classify(err error) remote.Kind         { return remote.KindOf(err) }

// open opens it as a repository.
func (s *shelf) open(t *testing.T) (*repository.Repository, error) {
	return repository.Open(t.Context(), remote.New(s, remote.Options{RetryFor: -1}))
}

// museum is a small but complete repository: two backups of which the newer one refers to packs and maps of the older one, log files in
// several pieces, some of them superseded by sealed ones.
type museum struct {
	t         *testing.T
	dir       string
	shelf     *shelf
	password  string
	backups   []manifest.BackupID
	reference map[manifest.BackupID]*exhibit
}

// exhibit is what a restore of a backup is when nothing is wrong.
type exhibit struct {
	plan  *restore.Plan
	reads map[string]bool // objects
	laid  map[string]string
	home  envtest.Contents
}

func newMuseum(t *testing.T, password string) *museum {
	t.Helper()
	logFileSize, records := 64<<10, 60
	if password != "" {
		logFileSize, records = 1<<20, 300 // so that a segment is unpacked in several pieces
	}
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{
		DataDirs: []string{"data"}, LogFileSize: logFileSize, Password: password,
		Databases: []envtest.Database{
			{File: "btree.db", Method: "btree", PageSize: 512, Records: 40},
			{File: "sub/hash.db", Method: "hash", PageSize: 512, Records: 20, Checksum: true},
			{File: "queue.db", Method: "queue", PageSize: 512, Extent: 2, Records: 20},
			{File: "still.db", Method: "recno", PageSize: 1024, Records: 20},
		},
	})
	if err := os.WriteFile(filepath.Join(env.Home, "notes.txt"), []byte(strings.Repeat("an application's own file\n", 40)), 0o640); err != nil {
		t.Fatal(err)
	}
	v := newVault(t, env.Home)
	v.password = password
	m := &museum{t: t, dir: v.dir, password: password, reference: map[manifest.BackupID]*exhibit{}}
	hold := envtest.StartHold(t, env)
	next := 1000
	change := func(ships int) {
		for range ships {
			hold.Put("", "btree.db", next, records)
			next += records
			hold.FlushLog()
			v.mustShip()
		}
	}
	for range 2 {
		m.backups = append(m.backups, v.mustBackup(archive.BackupOptions{BulkSafe: archive.BulkOff}).Manifest.ID)
		change(4)
		hold.Checkpoint()
	}
	change(1)
	hold.Close()
	v.mustShip()
	m.shelf = fill(t, v.dir)
	for _, id := range m.backups {
		m.visit(id)
	}
	return m
}

// visit restores a backup from the undamaged repository and remembers what that was like.
func (m *museum) visit(id manifest.BackupID) {
	m.t.Helper()
	e := &exhibit{}
	m.reference[id] = e
	s := m.shelf.but("", nil)
	to := filepath.Join(m.t.TempDir(), "to")
	var err error
	e.plan, err = m.restore(s, id, to, func(stage string) error {
		if stage == "log" {
			e.laid = m.laid(to)
		}
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	e.reads, e.home = s.opened, contents(m.t, to, m.password)
}

// restore restores a backup from a shelf.
func (m *museum) restore(s *shelf, id manifest.BackupID, to string, step func(string) error) (*restore.Plan, error) {
	repo, err := s.open(m.t)
	if err != nil {
		return nil, err
	}
	plan, err := restore.MakePlan(m.t.Context(), repo, "", restore.Target{Backup: id})
	if err != nil {
		return nil, err
	}
	opt := restore.Options{To: to, Verify: restore.VerifyNever, Step: step}
	opt.Engine.Password = m.password
	_, err = restore.Restore(m.t.Context(), repo, plan, opt)
	return plan, err
}

// laid is what a restore has laid down for recovery: the content of every file but the marker.
func (m *museum) laid(dir string) map[string]string {
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || strings.HasPrefix(d.Name(), restore.MarkerName) {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || d.IsDir() {
			files[name] = "directory"
			return err
		}
		data, err := os.ReadFile(path)
		files[name] = string(data)
		return err
	})
	if err != nil {
		files["error"] = err.Error()
	}
	return files
}

// reader is the backup whose restore reads an object, the newest one that does; none reads what was superseded.
func (m *museum) reader(key string) (manifest.BackupID, bool) {
	for _, id := range slices.Backward(m.backups) {
		if m.reference[id].reads[key] {
			return id, true
		}
	}
	return "", false
}

// errSame ends a restore that has laid down just what it had to.
var errSame = errors.New("the same as ever")

// judge restores with an object that has other bytes. It returns the plan, and the restore's error, which is errSame if all that recovery is given is
// what it would be without the damage, and errUnnoticed if it is something else.
func (m *museum) judge(key string, data []byte, id manifest.BackupID, to string) (*restore.Plan, error) {
	plan, err := m.restore(m.shelf.but(key, data), id, to, func(stage string) error {
		if stage != "log" {
			return nil
		}
		if !maps.Equal(m.laid(to), m.reference[id].laid) {
			return errUnnoticed
		}
		return errSame
	})
	return plan, errors.Join(err, os.RemoveAll(to))
}

var errUnnoticed = errors.New("something else is laid down than was stored, and nobody noticed")

// noticed reports whether an error says that the store is damaged. One that names a newer format is as good: then nothing was read.
func noticed(err error) bool {
	return errors.Is(err, manifest.ErrDamaged) || newer(err)
}

func newer(err error) bool {
	_, ok := errors.AsType[*manifest.FormatError](err)
	return ok
}

// scratch is a directory for many short-lived homes: in memory, if there is such a place, because they are synced to stable storage.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "bdbvault-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
