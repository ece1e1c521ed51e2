package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Names in the scratch home that lead to the target. They keep DB_CONFIG's lines short: libdb reads no more than 255 bytes of one.
const (
	scratchHome = ".bdbvault-home"
	scratchLog  = ".bdbvault-log"
	// maxConfigDir is how long a directory may be for its line to be read whole.
	maxConfigDir = 230
)

// recoverCache is the size of the engine's buffer pool while it recovers. With it and what this process holds by then, a restore stays
// below 200 MiB.
const recoverCache = 48 << 20

// scratch is the home that recovery runs in. Recovery deletes nearly every file named __db… from its home, and such names belong
// to databases whose removal or renaming was under way. So home is a directory of its own, that leads to the target's directories:
//
//   - libdb looks for a file in each data directory, then in home. Each data directory of the source is a data directory here under the same
//     name, by symbolic link, because log records hold these names, and the target itself is one more.
//   - What recovery makes anew goes to the directory that the record names, through the same links. Where a record names none, the source had no
//     create directory, and the file was in home: here the create directory is the target then.
//   - Queue extents are not in the log. Recovery makes them in the create directory, wherever their queue is, and they are moved to it
//     after each pass (gatherExtents).
//   - A source whose DB_CONFIG says "set_data_dir ." has that name in its records. No link can stand for it: such files appear in
//     the scratch home itself and are moved to the target after each pass (adopt).
//
// Nothing of the source's DB_CONFIG is in force: it might remove logs, keep them in memory, or ask for more memory than there is.
type scratch struct {
	t      *target
	create string   // the source's create directory, as spelled; "" is home
	dirs   []string // data directories to search, as spelled, in libdb's order; "." is home
	lent   []string // links in the target
}

// newScratch makes the scratch home. Its regions are private to the engine's process, so it holds links and a DB_CONFIG.
func newScratch(t *target, create string, dirs []string) (*scratch, error) {
	s := &scratch{t: t, create: create, dirs: dirs}
	if err := s.remove(); err != nil {
		return nil, err
	}
	if err := t.root.Mkdir(scratchName, 0o700); err != nil {
		return nil, err
	}
	if err := s.link(scratchHome, "."); err != nil {
		return nil, err
	}
	for n := range t.away {
		if err := s.link(awayName(n), awayName(n)); err != nil {
			return nil, err
		}
	}
	for _, d := range dirs {
		if top(d) != "." {
			continue
		}
		if clean := path.Clean(d); clean != "." {
			if err := s.link(clean, clean); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// link makes name in the scratch home lead to a directory of the target. A name below one that leads there already is right as it is.
func (s *scratch) link(name, to string) error {
	at := path.Join(scratchName, name)
	if _, err := s.t.root.Stat(at); err == nil {
		return nil
	}
	if err := s.t.root.MkdirAll(path.Dir(at), 0o700); err != nil {
		return err
	}
	if top(to) != "." {
		return s.t.root.Symlink(s.t.path(to), at)
	}
	up := strings.Repeat("../", strings.Count(at, "/"))
	return s.t.root.Symlink(path.Join(up, to), at)
}

// lead makes links for names in the log that are absolute: in the scratch home, for directories, and in the directory that new files go to, for
// names of files, which recovery takes as relative to it when it makes them. The latter are in the target as long as recovery works.
func (s *scratch) lead(maps mappings) (*speller, error) {
	create := path.Clean(s.create)
	speller := newSpeller(maps, func(name string) bool {
		for _, at := range []string{path.Join(scratchName, name), path.Join(create, name)} {
			if _, err := s.t.root.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
				return true
			}
		}
		return false
	})
	for _, m := range maps {
		name := speller.links[m]
		if err := s.link(name, m.top); err != nil {
			return nil, err
		}
		s.lent = append(s.lent, path.Join(create, name))
		if err := s.t.root.Symlink(s.t.path(m.top), path.Join(create, name)); err != nil {
			return nil, err
		}
	}
	return speller, nil
}

// giveBack removes the links that lead made in the target.
func (s *scratch) giveBack() error {
	for _, name := range s.lent {
		if err := s.t.root.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// point makes the scratch home use a log directory of the target.
func (s *scratch) point(logDir string) error {
	at := path.Join(scratchName, scratchLog)
	if err := s.t.root.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.link(scratchLog, logDir); err != nil {
		return err
	}
	return s.config()
}

func (s *scratch) config() error {
	var b strings.Builder
	fmt.Fprintf(&b, "set_cachesize 0 %d 1\n", recoverCache)
	for _, d := range s.dirs {
		if len(d) > maxConfigDir || strings.ContainsAny(d, "\r\n\x00") {
			return &NameError{Name: d, Problem: "as a data directory it can't be told to the engine"}
		}
		fmt.Fprintf(&b, "add_data_dir %s\n", here(d))
	}
	fmt.Fprintf(&b, "set_create_dir %s\nset_lg_dir %s\n", here(s.create), scratchLog)
	f, err := s.t.root.OpenFile(path.Join(scratchName, "DB_CONFIG"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(b.String())
	return errors.Join(err, f.Close())
}

// here is how the scratch home spells a data directory of the source.
func here(dir string) string {
	if path.Clean(dir) == "." {
		return scratchHome
	}
	return dir
}

// home is the scratch home's absolute path.
func (s *scratch) home() string { return s.t.path(scratchName) }

// adopt moves what recovery made in the scratch home itself to the target.
func (s *scratch) adopt() error { return s.adoptDir(".") }

func (s *scratch) adoptDir(dir string) error {
	at := path.Join(scratchName, dir)
	entries, err := s.t.root.ReadDir(at)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case name == "DB_CONFIG":
		case e.IsDir():
			err = s.adoptDir(name)
		case e.Type().IsRegular():
			err = s.adoptFile(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *scratch) adoptFile(name string) error {
	if _, err := s.t.root.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("recovery made %s, but that is there already: %w", name, fs.ErrExist))
	}
	if err := s.t.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	return s.t.root.Rename(path.Join(scratchName, name), name)
}

func (s *scratch) remove() error { return s.t.root.RemoveAll(scratchName) }
