package hotcopy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"bdbvault/localenv"
)

// Clean removes every file from the directories of the target that files are going to be put into, and makes those that are not there: the target itself,
// and where directories keep their names these. Directories below them stay.
func (c *Copier) Clean(ctx context.Context) error {
	if err := c.opt.step(ctx, "clean"); err != nil {
		return err
	}
	s := sweep{root: c.root, opt: &c.opt}
	done := map[string]bool{}
	for _, d := range append([]localenv.Dir{c.env.LogDir}, c.env.Dirs...) {
		place := c.opt.place(d.Name)
		if done[place] {
			continue
		}
		done[place] = true
		if err := s.dir(place); err != nil {
			return err
		}
		if err := c.root.MkdirAll(place, 0o700); err != nil {
			return err
		}
	}
	s.total()
	return nil
}

// sweep empties directories.
type sweep struct {
	root    *os.Root
	opt     *Options
	logs    bool // only log files
	highest uint32
}

func (s *sweep) dir(dir string) error {
	names, err := readDir(s.root, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range names {
		name := path.Join(dir, e.Name())
		number, isLog := localenv.ParseLogName(e.Name())
		switch {
		case s.logs && !isLog, name == localenv.MarkerName:
			continue
		case e.IsDir() && isOwn(e.Name()):
			err = s.root.RemoveAll(name) // of a run that was interrupted
		case e.IsDir():
			continue
		default:
			err = s.file(name)
		}
		if err != nil {
			return fmt.Errorf("clean the backup directory: %w", err)
		}
		s.highest = max(s.highest, number)
	}
	return nil
}

func (s *sweep) file(name string) error {
	if !isOwn(path.Base(name)) {
		s.opt.tell(Event{What: TargetRemoved, To: s.opt.shown(name)})
	}
	return s.root.Remove(name)
}

func (s *sweep) total() {
	if s.highest > 0 {
		s.opt.tell(Event{What: HighestRemoved, Number: s.highest})
	}
}

func isOwn(name string) bool { return len(name) > len(own) && name[:len(own)] == own }

func readDir(root *os.Root, dir string) ([]fs.DirEntry, error) {
	d, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	entries, err := d.ReadDir(-1)
	return entries, errors.Join(err, d.Close())
}
