package restore

import (
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"bdbvault/localenv"
	"bdbvault/manifest"
)

// layout says where in the target the directories of the environment go. All paths are clean, relative and with slashes.
type layout struct {
	at     place
	maps   mappings
	dirs   []string // for each of Manifest.Dirs
	logDir string
	extra  []string // further directories that DB_CONFIG names and that need not hold anything

	search []string // data directories as DB_CONFIG spells them, but none absolute, in the order in which libdb searches
	create string   // the one that new databases go to; "": home
}

// place is the target as absolute paths: as it was asked for, and with symbolic links resolved.
type place []string

// resolve finds out where dir is, which need not exist.
func resolve(dir string) (place, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for above, rest := abs, ""; ; {
		if real, err := filepath.EvalSymlinks(above); err == nil {
			return place{abs, filepath.Join(real, rest)}, nil
		}
		if filepath.Dir(above) == above {
			return place{abs}, nil
		}
		above, rest = filepath.Dir(above), filepath.Join(filepath.Base(above), rest)
	}
}

// relative makes a path of the environment relative to home, or says why it must not be used. An absolute one is harmless where it leads
// into the target: then the environment comes back to where it was.
func (at place) relative(p, home string) (rel, problem string) {
	if !filepath.IsAbs(p) {
		if !filepath.IsLocal(p) || strings.ContainsRune(p, 0) {
			return "", "it lies outside the home"
		}
		return p, ""
	}
	p = filepath.Clean(p)
	for _, dir := range at {
		if rel, ok := within(p, dir); ok {
			return rel, ""
		}
	}
	problem = "an absolute path leads to the files of the source, not to those restored"
	if _, ok := within(p, home); ok {
		problem += "; restored to " + home + ", where it was, the environment could use it"
	}
	return "", problem
}

// within makes p relative to a directory above it.
func within(p, dir string) (rel string, ok bool) {
	if p == dir {
		return ".", true
	}
	return strings.CutPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// dirSettings are the settings of DB_CONFIG that name a directory.
var dirSettings = []string{
	"add_data_dir", "db_data_dir", "db_log_dir", "db_tmp_dir", "set_create_dir", "set_data_dir", "set_lg_dir", "set_metadata_dir", "set_tmp_dir",
}

// newLayout refuses directories outside the home: what is laid down there would be someone else's, as a rule the source's.
func newLayout(m *manifest.Manifest, at place, maps mappings) (*layout, error) {
	l := &layout{at: at, maps: maps}
	if m.DBConfig != nil {
		if err := l.config(localenv.ParseConfig(*m.DBConfig), m.Home); err != nil {
			return nil, err
		}
	}
	for _, d := range m.Dirs {
		p, problem := l.dir(d.Name, m.Home)
		if problem != "" {
			return nil, &ConfigError{Text: "data directory " + d.Name, Problem: problem}
		}
		l.dirs = append(l.dirs, path.Clean(p))
	}
	p, problem := l.dir(m.LogDir, m.Home)
	if problem != "" {
		return nil, &ConfigError{Text: "log directory " + m.LogDir, Problem: problem}
	}
	l.logDir = path.Clean(p)
	return l, l.checkNames(m)
}

// logFileName is the form of names that only pieces of the log have.
var logFileName = regexp.MustCompile(`^log\.[0-9]{10}$`)

// checkNames refuses files that would stand in our own way.
func (l *layout) checkNames(m *manifest.Manifest) error {
	places := map[string]bool{}
	for i := range m.Files {
		at := l.file(&m.Files[i])
		if places[at] && len(l.maps) > 0 {
			return &NameError{Name: at, Problem: "by the mappings two files of the backup would be there"}
		}
		places[at] = true
		if ours(at) || strings.HasPrefix(m.Files[i].Path, awayPrefix) || path.Dir(at) == l.logDir && logFileName.MatchString(path.Base(at)) {
			return &NameError{Name: at, Problem: "the name is reserved"}
		}
	}
	return nil
}

func (l *layout) config(c localenv.Config, home string) error {
	for _, s := range c.Settings {
		if len(s.Args) == 0 || !slices.Contains(dirSettings, s.Name) {
			continue
		}
		p, problem := l.dir(s.Args[0], home)
		if problem != "" {
			return &ConfigError{Line: s.Line, Text: s.Name + " " + s.Args[0], Problem: problem}
		}
		l.extra = append(l.extra, path.Clean(p))
	}
	for _, d := range c.DataDirs {
		p, _ := l.dir(d, home)
		l.search = append(l.search, p)
	}
	l.create, _ = l.dir(c.CreateDir, home)
	return nil
}

func (l *layout) dir(d, home string) (rel, problem string) {
	if d == "" {
		return ".", ""
	}
	return l.maps.relative(l.at, d, home)
}

// file is the place of one of the manifest's files.
func (l *layout) file(f *manifest.File) string { return path.Join(l.dirs[f.Dir], f.Path) }

// folders are all directories that a home of this manifest has, parents before what they hold.
func (l *layout) folders(m *manifest.Manifest) []string {
	all := append([]string{l.logDir}, l.extra...)
	all = append(all, l.dirs...)
	for i := range m.Folders {
		all = append(all, path.Join(l.dirs[m.Folders[i].Dir], m.Folders[i].Path))
	}
	for i := range m.Files {
		all = append(all, path.Dir(l.file(&m.Files[i])))
	}
	slices.Sort(all)
	return slices.Compact(all)
}
