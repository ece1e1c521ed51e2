package restore

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"bdbvault/localenv"
)

// DirMap says where a directory of the source goes, and everything below it.
type DirMap struct {
	Old string // absolute, as DB_CONFIG or the application named it
	New string // absolute, or relative to the restored home
}

func (m DirMap) String() string { return m.Old + "=" + m.New }

// ParseDirMap reads OLD=NEW.
func ParseDirMap(text string) (DirMap, error) {
	from, to, ok := strings.Cut(text, "=")
	if !ok {
		return DirMap{}, fmt.Errorf("%q: want OLD=NEW", text)
	}
	return DirMap{Old: from, New: to}, nil
}

// MapError says what is wrong with a mapping that was asked for.
type MapError struct {
	Map     DirMap
	Problem string
}

func (e *MapError) Error() string { return fmt.Sprintf("mapping %s: %s", e.Map, e.Problem) }

// mapping is a DirMap of one restore.
type mapping struct {
	DirMap
	old  string // clean
	top  string // where it is in the target
	dir  string // absolute, as asked for; empty: it is in the home
	away int    // its number among those outside of the home
	used bool
}

// mappings are in order of Old, so that of two that fit a path the last one is meant.
type mappings []*mapping

// newMappings refuses what contradicts itself.
func newMappings(list []DirMap, at place) (mappings, error) {
	var all mappings
	away := 0
	for _, d := range list {
		m, err := newMapping(d, at)
		if err != nil {
			return nil, err
		}
		if m.dir != "" {
			m.top, m.away = awayName(away), away
			away++
		}
		for _, o := range all {
			if problem := m.contradicts(o); problem != "" {
				return nil, &MapError{Map: d, Problem: problem}
			}
		}
		all = append(all, m)
	}
	slices.SortStableFunc(all, func(a, b *mapping) int { return strings.Compare(a.old, b.old) })
	return all, nil
}

func newMapping(d DirMap, at place) (*mapping, error) {
	m := &mapping{DirMap: d, old: filepath.Clean(d.Old)}
	refused := func(problem string) (*mapping, error) { return nil, &MapError{Map: d, Problem: problem} }
	switch {
	case !filepath.IsAbs(d.Old) || m.old == "/":
		return refused("the old directory has to be an absolute one; relative ones stay where they are in the home")
	case d.New == "" || strings.ContainsAny(d.New, "\r\n\x00"):
		return refused("that is no directory")
	case !filepath.IsAbs(d.New) && !filepath.IsLocal(d.New):
		return refused("a relative directory has to be in the restored home")
	case !filepath.IsAbs(d.New):
		m.top = path.Clean(d.New)
		return m, nil
	}
	real, err := resolve(d.New)
	if err != nil {
		return nil, err
	}
	for _, dir := range at {
		for _, p := range real {
			if rel, ok := within(p, dir); ok {
				m.top = rel
				return m, nil
			}
			if _, ok := within(dir, p); ok {
				return refused("the restored home lies in it")
			}
		}
	}
	m.dir = real[0]
	return m, nil
}

// contradicts says why two mappings can't both be meant.
func (m *mapping) contradicts(o *mapping) string {
	if m.old == o.old {
		return "the same directory is mapped by " + o.String()
	}
	if m.dir == "" || o.dir == "" {
		return ""
	}
	a, b := lastOf(m.dir), lastOf(o.dir)
	_, below := within(a, b)
	_, above := within(b, a)
	if below || above {
		return "it goes where " + o.String() + " goes"
	}
	return ""
}

// lastOf is a path with symbolic links resolved, as far as it exists.
func lastOf(dir string) string {
	at, err := resolve(dir)
	if err != nil {
		return dir
	}
	return at[len(at)-1]
}

// find is the mapping for an absolute path, and what of the path comes after the old directory.
func (ms mappings) find(p string) (m *mapping, rest string) {
	p = filepath.Clean(p)
	for _, m := range slices.Backward(ms) {
		if rest, ok := within(p, m.old); ok {
			return m, rest
		}
	}
	return nil, ""
}

// relative makes a path of the environment one of the target, or says why it must not be used.
func (ms mappings) relative(at place, p, home string) (rel, problem string) {
	if filepath.IsAbs(p) && !strings.ContainsRune(p, 0) {
		if m, rest := ms.find(p); m != nil {
			m.used = true
			return path.Join(m.top, rest), ""
		}
	}
	return at.relative(p, home)
}

// unused is an error if nothing of the environment needed one of the mappings: neither DB_CONFIG nor a name in the log.
func (ms mappings) unused() error {
	for _, m := range ms {
		if !m.used {
			return &MapError{Map: m.DirMap, Problem: "neither DB_CONFIG nor the log names anything there"}
		}
	}
	return nil
}

// spelled is how DB_CONFIG names the place of a directory.
func (m *mapping) spelled(rest string) string {
	if m.dir != "" {
		return filepath.Join(m.dir, rest)
	}
	return filepath.Join(m.top, rest)
}

// claimAway claims the directories outside of the home, which are bound to it by its marker.
func (r *restorer) claimAway(t *target) error {
	if err := r.checkClaimed(t); err != nil {
		return err
	}
	for _, m := range r.awayMaps() {
		if err := r.claimDir(t, m); err != nil {
			return err
		}
	}
	return nil
}

// checkClaimed refuses to go on without a directory that an interrupted run has written to.
func (r *restorer) checkClaimed(t *target) error {
	var now []string
	for _, m := range r.awayMaps() {
		now = append(now, lastOf(m.dir))
	}
	for _, dir := range t.mark.Claimed {
		if !slices.Contains(now, dir) {
			return &TargetError{Dir: t.dir, Problem: fmt.Sprintf(
				"an interrupted restore has put part of the environment into %s: finish that one, or empty both directories", dir)}
		}
	}
	return nil
}

// awayMaps are the mappings that lead out of the home, in the order of their names.
func (r *restorer) awayMaps() (list mappings) {
	for _, m := range r.lay.maps {
		if m.dir != "" {
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b *mapping) int { return a.away - b.away })
	return list
}

func (r *restorer) claimDir(t *target, m *mapping) error {
	made, err := makeTarget(m.dir)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(m.dir)
	if err != nil {
		return &TargetError{Dir: m.dir, Problem: "can't be opened", Err: err}
	}
	root, err := os.OpenRoot(real)
	if err != nil {
		return &TargetError{Dir: m.dir, Problem: "can't be opened", Err: err}
	}
	t.root.away = append(t.root.away, root)
	sub := &target{dir: real, root: &roots{Root: root}, made: made}
	want := t.mark
	want.Claimed, want.Made = nil, made
	if err := sub.claim(&want, r.awayAdopter(t, m)); err != nil {
		if sub.lock != nil {
			err = errors.Join(err, sub.lock.Close())
		}
		return err
	}
	t.away = append(t.away, sub)
	if slices.Contains(t.mark.Claimed, real) {
		return nil
	}
	t.mark.Claimed = append(t.mark.Claimed, real)
	return t.write(&t.mark)
}

// awayAdopter is what the directory may be adopted by: the home's marker that says it is ours, or a delta restore that knows it.
func (r *restorer) awayAdopter(t *target, m *mapping) func(*target) error {
	return func(sub *target) error {
		if slices.Contains(t.mark.Claimed, sub.dir) {
			return nil
		}
		if !r.opt.Delta {
			return &TargetError{Dir: sub.dir, Problem: "it is not empty", NotEmpty: true}
		}
		return r.adoptAway(sub, m.top)
	}
}

// couldAdopt looks at a directory outside of the home before anything is written to the home.
func (r *restorer) couldAdopt(m *mapping) error {
	root, err := os.OpenRoot(m.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &TargetError{Dir: m.dir, Problem: "can't be opened", Err: err}
	}
	defer root.Close() // only read
	return r.adoptAway(&target{dir: m.dir, root: &roots{Root: root}}, m.top)
}

// adoptAway says what stands against making use of a directory outside of the home. Below top is what belongs there.
func (r *restorer) adoptAway(sub *target, top string) error {
	known := false
	entries, err := sub.root.ReadDir(".")
	if err != nil {
		return &TargetError{Dir: sub.dir, Problem: "can't be read", Err: err}
	}
	for _, e := range entries {
		known = known || e.Type().IsRegular() && logFileName.MatchString(e.Name()) || sub.isMarked(e.Name())
	}
	for i := range r.m.Files {
		f := &r.m.Files[i]
		rest, ok := within(r.lay.file(f), top)
		known = known || ok && !f.FileID.IsZero() && sub.holds(rest, f)
	}
	if !known && len(entries) > 0 {
		return &TargetError{Dir: sub.dir, Problem: "it is not empty, and has neither log nor a database of the backup"}
	}
	var folders []string
	for _, f := range r.lay.folders(r.m) {
		if rest, ok := within(f, top); ok {
			folders = append(folders, rest)
		}
	}
	if err := sub.standsApart(folderSet(folders)); err != nil {
		return err
	}
	return sub.notInUse()
}

// rewriteConfig makes the restored DB_CONFIG name the new places. Nothing else in it changes.
func (r *restorer) rewriteConfig() error {
	if len(r.lay.maps) == 0 {
		return nil
	}
	text, err := r.t.root.ReadFile(configName)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	changed, err := localenv.RespellConfig(string(text), func(name, dir string) string {
		if m, rest := r.lay.maps.find(dir); m != nil && filepath.IsAbs(dir) && slices.Contains(dirSettings, name) {
			return m.spelled(rest)
		}
		return dir
	})
	if err != nil || changed == string(text) {
		return err
	}
	f, err := r.t.root.OpenFile(configName, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(changed)
	return errors.Join(err, f.Close())
}

const configName = "DB_CONFIG"

// speller spells absolute names of the log so that they lead to where their directories went: through links in the scratch home with names so short
// that, with slashes between, what is written over a name in the log is as long as the name.
type speller struct {
	maps  mappings
	links map[*mapping]string
}

// newSpeller finds names for the links that are not taken.
func newSpeller(maps mappings, taken func(string) bool) *speller {
	s := &speller{maps: maps, links: map[*mapping]string{}}
	n := int64(0)
	for _, m := range maps {
		for taken(strconv.FormatInt(n, 36)) {
			n++
		}
		s.links[m] = strconv.FormatInt(n, 36)
		n++
	}
	return s
}

// spell is for names in records of the log.
func (s *speller) spell(name string) (string, error) {
	if !filepath.IsAbs(name) {
		return name, nil
	}
	m, rest := s.maps.find(name)
	if m == nil {
		return name, nil // it leads into the target
	}
	if rest == "." {
		rest = ""
	}
	room := len(name) - len(s.links[m]) - len(rest)
	if room < 0 || room == 0 && rest != "" {
		return "", &NameError{Name: name, Problem: "it is too short to be changed in the log"}
	}
	return s.links[m] + strings.Repeat("/", room) + rest, nil
}
