package localenv

import (
	"path/filepath"
	"slices"
	"strings"

	"bdbvault/localenv/bdb"
)

// Strays are the names in a record that lead out of the environment's directories. No restore could follow the log beyond it.
func (e *Env) Strays(r *bdb.Record) []string {
	names := recordNames(r)
	return slices.DeleteFunc(names, func(name string) bool { return name == "" || e.inside(name) })
}

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

// inside reports whether recovery can follow a name in a restored home.
func (e *Env) inside(name string) bool {
	if !filepath.IsAbs(name) {
		return filepath.IsLocal(name)
	}
	name = filepath.Clean(name)
	real, err := filepath.EvalSymlinks(filepath.Dir(name))
	for _, d := range e.Dirs {
		if within(name, d.Path) || err == nil && within(filepath.Join(real, filepath.Base(name)), d.Path) {
			return true
		}
	}
	return false
}

func within(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}
