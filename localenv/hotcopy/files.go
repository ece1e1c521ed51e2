package hotcopy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
)

// maxRounds bounds how often the environment is listed again because something new had appeared.
const maxRounds = 100

// copyBuffer is how much is read at once: a multiple of every page size.
const copyBuffer = 1 << 20

// configName is not copied into a directory that takes the files of all: it would name directories that are not there.
const configName = "DB_CONFIG"

type inode struct{ device, inode uint64 }

func inodeOf(s localenv.Stat) inode { return inode{s.Device, s.Inode} }

// entry is one file on its way.
type entry struct {
	src   *localenv.Source
	temp  string // its name in the target until all are there
	at    string // its name in the target
	first sight
	last  sight
	stats localenv.ReadStats
}

// sight is where a file was seen, and in which round of listing.
type sight struct {
	round int
	file  localenv.File
}

// Files copies every database and every application's file, as long as new ones appear, and notes where the log ends then.
func (c *Copier) Files(ctx context.Context) (err error) {
	if err := c.opt.step(ctx, "log-open"); err != nil {
		return err
	}
	if c.log, err = c.env.OpenLog(ctx); err != nil {
		return err
	}
	if c.need, err = neededFrom(ctx, c.log); err != nil {
		return err
	}
	if c.begun, err = c.log.End(ctx); err != nil {
		return err
	}
	if err := c.following(ctx, c.rounds); err != nil {
		return err
	}
	if err := c.log.Refresh(ctx); err != nil {
		return err
	}
	if c.end, err = c.log.End(ctx); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	return c.settle(ctx)
}

// following calls do and holds every log file that appears meanwhile.
func (c *Copier) following(ctx context.Context, do func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	following, stop := context.WithCancel(ctx)
	group.Go(func() error { return c.log.Follow(following) })
	group.Go(func() error {
		defer stop()
		return do(ctx)
	})
	return group.Wait()
}

// neededFrom is where recovery of a copy has to start: the oldest LSN that the last checkpoint needs, or the whole log where there is none.
func neededFrom(ctx context.Context, log *localenv.Log) (bdb.LSN, error) {
	oldest := bdb.LSN{File: log.Files()[0]}
	ckp, found, err := log.LastCheckpoint(ctx)
	if err != nil {
		return bdb.LSN{}, fmt.Errorf("find the last checkpoint: %w", err)
	}
	if !found {
		return oldest, nil
	}
	if ckp.CkpLSN.Before(oldest) {
		return bdb.LSN{}, &GapError{Lowest: oldest.File, Needed: ckp.CkpLSN}
	}
	return ckp.CkpLSN, nil
}

func (c *Copier) rounds(ctx context.Context) error {
	for ; ; c.round++ {
		if err := c.opt.step(ctx, "list"); err != nil {
			return err
		}
		listing, err := c.env.List(ctx)
		if err != nil {
			return err
		}
		c.dirs = listing.Dirs
		fresh, err := c.open(c.wanted(listing))
		if err != nil || len(fresh) == 0 {
			return err
		}
		if c.round == maxRounds {
			return fmt.Errorf("new files appear in %s faster than they can be copied", c.env.Home)
		}
		for _, e := range fresh {
			if err := c.copy(ctx, e); err != nil {
				return err
			}
		}
	}
}

// wanted leaves out what a copy must not have: the target itself and other environments below home, which are its copies as a rule.
func (c *Copier) wanted(l localenv.Listing) (files []localenv.File) {
	foreign := map[string]bool{c.root.Name(): true}
	full := func(f localenv.File) string { return filepath.Join(c.env.Dirs[f.Dir].Path, filepath.FromSlash(f.Path)) }
	for _, f := range l.Files {
		if _, log := localenv.ParseLogName(path.Base(f.Path)); strings.Contains(f.Path, "/") && (log || path.Base(f.Path) == configName) {
			foreign[path.Dir(full(f))] = true
		}
	}
	for _, f := range l.Files {
		if !strings.Contains(f.Path, "/") && !(c.opt.Flat && f.Path == configName) || strings.Contains(f.Path, "/") && !below(foreign, full(f)) {
			files = append(files, f)
		}
	}
	return files
}

// below reports whether a file is in one of the directories, or below.
func below(dirs map[string]bool, file string) bool {
	for d := path.Dir(file); ; d = path.Dir(d) {
		if dirs[d] {
			return true
		}
		if d == path.Dir(d) {
			return false
		}
	}
}

// open opens the files that are not known yet. All stay open to the end, so that no inode is used a second time.
func (c *Copier) open(files []localenv.File) (fresh []*entry, err error) {
	for _, f := range files {
		now := sight{c.round, f}
		if old := c.seen[inodeOf(f.Stat)]; old != nil && !c.another(old, f) {
			old.last = now
			continue
		}
		e, err := c.openOne(now)
		if err != nil {
			return nil, err
		}
		if e != nil {
			fresh = append(fresh, e)
		}
	}
	return fresh, nil
}

// another reports whether a known file has the name besides the one that it was seen under in this round: a hard link, and a file of its own in the copy.
func (c *Copier) another(old *entry, f localenv.File) bool {
	if old.first.round != c.round {
		return false
	}
	o := old.first.file
	return same(filepath.Join(c.env.Dirs[o.Dir].Path, filepath.FromSlash(o.Path)), filepath.Join(c.env.Dirs[f.Dir].Path, filepath.FromSlash(f.Path)))
}

// openOne opens a file; nil if it is not to be copied.
func (c *Copier) openOne(now sight) (*entry, error) {
	f := now.file
	src, err := c.env.OpenFile(f)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// What stands where a database of that name comes or goes is none; of what lies below the data directories, only databases belong to the environment.
	if src.Placeholder() || src.Kind() == bdb.KindFile && strings.Contains(f.Path, "/") {
		return nil, src.Close()
	}
	dir := path.Join(c.opt.place(c.env.Dirs[f.Dir].Name), path.Dir(f.Path))
	e := &entry{src: src, first: now, last: now, temp: path.Join(dir, fmt.Sprintf("%scopy.%d", own, len(c.files)))}
	c.files = append(c.files, e)
	if id := inodeOf(src.File().Stat); c.seen[id] == nil {
		c.seen[id] = e
	}
	return e, c.root.MkdirAll(dir, 0o700)
}

// copy copies one file, as long as it was when it was opened: what comes later is in the log.
func (c *Copier) copy(ctx context.Context, e *entry) error {
	if err := c.opt.step(ctx, "file"); err != nil {
		return err
	}
	c.announce(e)
	out, err := c.root.OpenFile(e.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = c.pages(ctx, e, out)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if n := e.stats.Damaged; n > 0 {
		return &DamageError{File: c.opt.shownSource(c.env.Dirs[e.first.file.Dir], e.first.file.Path), Pages: e.stats.Bad, Count: n}
	}
	return nil
}

func (c *Copier) announce(e *entry) {
	f, what := e.first.file, Database
	if e.src.Kind() == bdb.KindFile {
		what = NotDatabase
	}
	dir := c.env.Dirs[f.Dir]
	c.opt.tell(Event{What: what, From: c.opt.shownSource(dir, f.Path), To: c.opt.shown(path.Join(c.opt.place(dir.Name), f.Path))})
}

func (c *Copier) pages(ctx context.Context, e *entry, out *os.File) error {
	size := e.src.File().Stat.Size
	buf := make([]byte, copyBuffer)
	at := int64(0)
	for at < size {
		n, stats, err := e.src.ReadAt(ctx, buf[:c.whole(e, size-at)], at)
		e.stats.Add(stats)
		if err != nil {
			return err
		}
		if err := writeSparse(out, buf[:n], at); err != nil {
			return err
		}
		if at += int64(n); n < copyBuffer {
			break
		}
	}
	if e.src.Meta() == nil {
		at = min(at, size)
	}
	return out.Truncate(at)
}

// writeSparse leaves holes where there are zeros only.
func writeSparse(out *os.File, b []byte, at int64) error {
	for len(b) > 0 {
		piece := b[:min(len(b), bdb.MaxPageSize)]
		if !bdb.IsZero(piece) {
			if _, err := out.WriteAt(piece, at); err != nil {
				return err
			}
		}
		b, at = b[len(piece):], at+int64(len(piece))
	}
	return nil
}

// whole is how much to ask for: whole pages, the last of which the file may have only in part.
func (c *Copier) whole(e *entry, left int64) int64 {
	page := int64(e.src.PageSize())
	return min(copyBuffer, (left+page-1)/page*page)
}

// check asserts that the log covers every page that was copied.
func (c *Copier) check() error {
	for _, e := range c.files {
		if c.end.Compare(e.stats.MaxLSN) <= 0 {
			return &FutureError{File: e.first.file.Path, Page: e.stats.MaxLSN, End: c.end}
		}
	}
	return nil
}
