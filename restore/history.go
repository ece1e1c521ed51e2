package restore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
)

// story is what the log that was laid down says, as far as a restore has to know it before recovery.
type story struct {
	history *bdb.History
	start   bdb.LSN
	end     bdb.LSN // just after the last whole record
	marks   []bdb.Checkpoint
	last    time.Time // of the last commit
	commits int64

	dirs    map[string]bool         // data directories that records name, as the application spelled them
	folders map[string]bool         // folders below the target that the log puts files into
	names   map[bdb.FileID][]string // every name by which the log knows a file
}

// readStory walks the log in the target.
func readStory(ctx context.Context, dir string, first uint32, key *bdb.Key) (*story, error) {
	log, err := localenv.OpenLogDir(ctx, dir, key)
	if err != nil {
		return nil, err
	}
	defer log.Close() // only read
	s := &story{history: bdb.NewHistory(), start: bdb.LSN{File: first}, dirs: map[string]bool{}, folders: map[string]bool{}, names: map[bdb.FileID][]string{}}
	s.end, err = log.Walk(ctx, s.start, s.add)
	var damage *localenv.LogDamage
	if errors.As(err, &damage) {
		err = fmt.Errorf("%w: %w", err, manifest.ErrDamaged)
	}
	return s, err
}

func (s *story) add(r *bdb.Record) error {
	if c, ok := r.Checkpoint(); ok {
		s.marks = append(s.marks, c)
	}
	if c, ok := r.Commit(); ok && !c.Abort {
		s.last = c.Time
		s.commits++
	}
	if err := s.lookAt(r); err != nil {
		return err
	}
	return s.history.Add(r)
}

// lookAt looks at all names in a record: recovery will open, make, rename and remove files by them.
func (s *story) lookAt(r *bdb.Record) error {
	if g, ok := r.Register(); ok && !g.InMemory() {
		s.call(g.ID, g.Name)
		return s.name(r.LSN, "", g.Name)
	}
	if c, ok := r.FileCreate(); ok {
		return s.made(r.LSN, c.Dir, c.Name)
	}
	if n, ok := r.FileRename(); ok {
		s.call(n.ID, n.From)
		s.call(n.ID, n.To)
		return errors.Join(s.name(r.LSN, n.Dir, n.From), s.made(r.LSN, n.Dir, n.To))
	}
	if w, ok := r.FileWrite(); ok {
		return s.name(r.LSN, w.Dir, w.Name)
	}
	if m, ok := r.FileRemove(); ok {
		s.call(m.ID, m.Name)
		return s.name(r.LSN, "", m.Name)
	}
	if v, ok := r.FileVacated(); ok {
		return s.name(r.LSN, "", v.Name)
	}
	return nil
}

func (s *story) call(id bdb.FileID, name string) {
	if name = path.Clean(name); !slices.Contains(s.names[id], name) {
		s.names[id] = append(s.names[id], name)
	}
}

// made notes that recovery may have to make a file.
func (s *story) made(lsn bdb.LSN, dir, name string) error {
	if err := s.name(lsn, dir, name); err != nil {
		return err
	}
	s.folders[path.Join(path.Clean(dir), path.Dir(name))] = true
	return nil
}

// name refuses what would lead recovery out of the target. An absolute name leads it into the source.
func (s *story) name(lsn bdb.LSN, dir, name string) error {
	if dir != "" {
		s.dirs[dir] = true
	}
	for _, p := range []string{dir, name} {
		switch {
		case p == "":
		case filepath.IsAbs(p):
			return &NameError{Name: p, LSN: lsn, Problem: "recovery would work on that very file or directory, which is the source's"}
		case !filepath.IsLocal(p):
			return &NameError{Name: p, LSN: lsn, Problem: "it lies outside the home"}
		}
	}
	return nil
}

// searchDirs are the directories in which the application's names are to be looked up, as spelled and in libdb's order; one of them is home (".").
// Those that the application set by itself and not by DB_CONFIG show in two ways: records of new files name them, and a database that
// the log opens as x.db stands in the backup as somewhere/x.db.
func (s *story) searchDirs(lay *layout, m *manifest.Manifest) (dirs []string) {
	add := func(d string) {
		if !slices.ContainsFunc(dirs, func(o string) bool { return path.Clean(o) == path.Clean(d) }) {
			dirs = append(dirs, d)
		}
	}
	for _, d := range lay.search {
		add(d)
	}
	for _, d := range slices.Sorted(maps.Keys(s.dirs)) {
		add(d)
	}
	for i := range m.Files {
		if d, ok := s.unsaidDir(dirs, lay, &m.Files[i]); ok {
			add(d)
		}
	}
	add(".") // libdb looks in home when nothing else has the name
	return dirs
}

// unsaidDir is the directory that f must have been found in by a name of it in the log, if none of dirs explains where it is.
func (s *story) unsaidDir(dirs []string, lay *layout, f *manifest.File) (dir string, ok bool) {
	at := lay.file(f)
	if _, known := s.nameOf(append([]string{"."}, dirs...), f.FileID, at); known {
		return "", false
	}
	for _, name := range s.names[f.FileID] {
		if dir, ok := strings.CutSuffix(at, "/"+name); ok {
			return dir, true
		}
	}
	return "", false
}

// nameOf splits the path of a file into a data directory and a name by which the log knows the file. Copies that the application made of a
// database have its id, but no name in the log.
func (s *story) nameOf(dirs []string, id bdb.FileID, at string) (dir string, ok bool) {
	for _, d := range dirs {
		for _, name := range s.names[id] {
			if path.Join(d, name) == at {
				return d, true
			}
		}
	}
	return "", false
}
