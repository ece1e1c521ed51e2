package archive

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
)

// recordNames are the files and directories that a record names, as the application spelled them. Recovery opens, makes, renames and removes
// by these names.
func recordNames(r *bdb.Record) []string {
	if g, ok := r.Register(); ok && !g.InMemory() {
		return []string{g.Name}
	}
	if c, ok := r.FileCreate(); ok {
		return []string{c.Dir, c.Name}
	}
	if n, ok := r.FileRename(); ok {
		return []string{n.Dir, n.From, n.To}
	}
	if w, ok := r.FileWrite(); ok {
		return []string{w.Dir, w.Name}
	}
	if m, ok := r.FileRemove(); ok {
		return []string{m.Name}
	}
	if v, ok := r.FileVacated(); ok {
		return []string{v.Name}
	}
	return nil
}

// strays finds the names that lead out of the environment's directories.
func strays(env *localenv.Env, r *bdb.Record) (list []string) {
	for _, name := range recordNames(r) {
		if name != "" && !inside(env, name) {
			list = append(list, name)
		}
	}
	return list
}

// inside reports whether recovery can follow a name in a restored home.
func inside(env *localenv.Env, name string) bool {
	if !filepath.IsAbs(name) {
		return filepath.IsLocal(name)
	}
	name = filepath.Clean(name)
	real, err := filepath.EvalSymlinks(filepath.Dir(name))
	for _, d := range env.Dirs {
		if within(name, d.Path) || err == nil && within(filepath.Join(real, filepath.Base(name)), d.Path) {
			return true
		}
	}
	return false
}

func within(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// noteStrays remembers names that no restore could follow. The log is shipped all the same: what comes before them can be restored.
func (s *shipper) noteStrays(r *bdb.Record) {
	for _, name := range strays(s.source, r) {
		if len(s.strays) == 0 {
			s.strayed = r.LSN
		}
		if !slices.Contains(s.strays, name) {
			s.strays = append(s.strays, name)
		}
	}
}

// sayStrays warns of them, in backup's words.
func (s *shipper) sayStrays() {
	if len(s.strays) > 0 {
		s.progress.Note(fmt.Sprintf("%v: no restore can follow the log beyond LSN %s", &NotCoveredError{Names: s.strays}, s.strayed))
	}
	s.strays = nil
}
