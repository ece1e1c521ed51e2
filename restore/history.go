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
	at      place
	maps    mappings
	home    string  // on the source
	begun   bdb.LSN // where it ended when copying began
	start   bdb.LSN
	needed  bdb.LSN   // from here on recovery needs it
	end     bdb.LSN   // just after the last whole record
	last    time.Time // of the last commit
	ckp     bdb.LSN   // the ckp_lsn of the last checkpoint; zero: there is none
	commits int64

	since      bdb.LSN  // what was committed from there on is new to the files; zero: they are copies of a live environment
	flight     inFlight // transactions in flight there
	newCommits int64

	flat    map[string]bool         // directories of the source whose files lie in the target itself: see Copied
	dirs    map[string]bool         // data directories that records name, as the application spelled them
	folders map[string]bool         // folders below the target that the log puts files into
	names   map[bdb.FileID][]string // every name by which the log knows a file
	created map[string]bool         // names under which the log makes files, before they are any database's

	mapped   bool                 // the record that is looked at names something below a mapped directory
	respells map[uint32][]bdb.LSN // such records, by log file

	touched *touched
}

func newStory(at place, m *manifest.Manifest) *story {
	return &story{
		history: bdb.NewHistory(), at: at, home: m.Home, begun: m.BegunAt, start: bdb.LSN{File: m.NeededFrom.File}, needed: m.NeededFrom,
		dirs: map[string]bool{}, folders: map[string]bool{}, names: map[bdb.FileID][]string{}, created: map[string]bool{}, respells: map[uint32][]bdb.LSN{},
		touched: newTouched(m),
	}
}

// read walks the log in the target.
func (s *story) read(ctx context.Context, dir string, key *bdb.Key) error {
	log, err := localenv.OpenLogDir(ctx, dir, key)
	if err != nil {
		return err
	}
	defer log.Close() // only read
	s.end, err = log.Walk(ctx, s.start, s.add)
	s.flight.finish()
	var damage *localenv.LogDamage
	if errors.As(err, &damage) {
		err = fmt.Errorf("%w: %w", err, manifest.ErrDamaged)
	}
	return err
}

func (s *story) add(r *bdb.Record) error {
	if c, ok := r.Commit(); ok && !c.Abort {
		s.last = c.Time
		s.commits++
		if !r.LSN.Before(s.since) {
			s.newCommits++
		}
	}
	if c, ok := r.Checkpoint(); ok {
		s.ckp = c.CkpLSN
	}
	if !s.since.IsZero() {
		s.flight.add(r, r.LSN.Before(s.since))
	}
	// A backup that could not read the log needs all of it, by its own account.
	if c, ok := r.Checkpoint(); ok && r.LSN.Before(s.begun) && s.needed.Before(c.CkpLSN) {
		s.needed = c.CkpLSN
	}
	s.mapped = false
	if err := s.lookAt(r); err != nil {
		return err
	}
	if s.mapped {
		s.respells[r.LSN.File] = append(s.respells[r.LSN.File], r.LSN)
	}
	s.touched.add(r)
	return s.history.Add(r)
}

// passed is the LSN up to which recovery passes over what was done to pages. Of copies of a live environment that is no more than what lies before needed: what came
// behind it may have been only in the source's cache when they were made. Some of it is in them nevertheless, often long ago, where a long transaction held needed
// back, and is done once more; as in the source's own recovery after a crash, which begins there too. Attempts that were aborted are undone, then all that was
// committed is redone in order, the later truncations and removals from queues with it. Behind a recovery that is not so: see inFlight.
func (s *story) passed() bdb.LSN {
	if !s.since.IsZero() {
		return s.since
	}
	return s.needed
}

// lookAt looks at all names in a record: recovery will open, make, rename and remove files by them.
func (s *story) lookAt(r *bdb.Record) error {
	if g, ok := r.Register(); ok && !g.InMemory() {
		return s.name(r.LSN, g.ID, "", g.Name)
	}
	if c, ok := r.FileCreate(); ok {
		name, _ := s.relative(c.Name)
		s.created[name] = true
		return s.made(r.LSN, bdb.FileID{}, c.Dir, c.Name)
	}
	if n, ok := r.FileRename(); ok {
		return errors.Join(s.name(r.LSN, n.ID, n.Dir, n.From), s.made(r.LSN, n.ID, n.Dir, n.To))
	}
	if w, ok := r.FileWrite(); ok {
		return s.name(r.LSN, bdb.FileID{}, w.Dir, w.Name)
	}
	if m, ok := r.FileRemove(); ok {
		return s.name(r.LSN, m.ID, "", m.Name)
	}
	if v, ok := r.FileVacated(); ok {
		return s.name(r.LSN, bdb.FileID{}, "", v.Name)
	}
	return nil
}

// made notes that recovery may have to make a file.
func (s *story) made(lsn bdb.LSN, id bdb.FileID, dir, name string) error {
	if err := s.name(lsn, id, dir, name); err != nil {
		return err
	}
	dir, _ = s.relative(dir)
	if filepath.IsAbs(name) {
		dir = "."
	}
	name, _ = s.relative(name)
	s.folders[path.Join(dir, path.Dir(name))] = true
	return nil
}

// relative makes what a record names relative to home; what belongs to no file is home itself.
func (s *story) relative(p string) (rel, problem string) {
	if p == "" {
		return ".", ""
	}
	if filepath.IsAbs(p) {
		m, _ := s.maps.find(p)
		s.mapped = s.mapped || m != nil
	}
	if rel, problem = s.maps.relative(s.at, p, s.home); problem == "" {
		rel = s.flattened(rel)
	}
	return rel, problem
}

func (s *story) flattened(p string) string {
	for d := range s.flat {
		if rest, ok := within(path.Clean(p), d); ok {
			return rest
		}
	}
	return p
}

// name notes a file's name, unless it would lead recovery out of the target.
func (s *story) name(lsn bdb.LSN, id bdb.FileID, dir, name string) error {
	rel, problem := s.relative(name)
	if problem != "" {
		return &NameError{Name: name, LSN: lsn, Problem: problem}
	}
	if name := path.Clean(rel); !id.IsZero() && !slices.Contains(s.names[id], name) {
		s.names[id] = append(s.names[id], name)
	}
	if rel, problem = s.relative(dir); problem != "" {
		return &NameError{Name: dir, LSN: lsn, Problem: problem}
	}
	if dir != "" {
		s.dirs[rel] = true
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
