package restore

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"bdbvault/localenv"
	"bdbvault/manifest"
)

// layout says where in the target the directories of the environment go. All paths are clean, relative and with slashes.
type layout struct {
	dirs   []string // for each of Manifest.Dirs
	logDir string
	extra  []string // further directories that DB_CONFIG names and that need not hold anything

	search []string // data directories as DB_CONFIG spells them, in the order in which libdb searches
	create string   // the one that new databases go to; "": home
}

// dirSettings are the settings of DB_CONFIG that name a directory.
var dirSettings = []string{
	"add_data_dir", "db_data_dir", "db_log_dir", "db_tmp_dir", "set_create_dir", "set_data_dir", "set_lg_dir", "set_metadata_dir", "set_tmp_dir",
}

// newLayout refuses directories outside the home: what is laid down there would be someone else's, as a rule the source's.
func newLayout(m *manifest.Manifest) (*layout, error) {
	l := &layout{}
	if m.DBConfig != nil {
		if err := l.config(localenv.ParseConfig(*m.DBConfig)); err != nil {
			return nil, err
		}
	}
	for _, d := range m.Dirs {
		p, problem := inHome(d.Name)
		if problem != "" {
			return nil, &ConfigError{Text: "data directory " + d.Name, Problem: problem}
		}
		l.dirs = append(l.dirs, p)
	}
	p, problem := inHome(m.LogDir)
	if problem != "" {
		return nil, &ConfigError{Text: "log directory " + m.LogDir, Problem: problem}
	}
	l.logDir = p
	return l, nil
}

func (l *layout) config(c localenv.Config) error {
	for _, s := range c.Settings {
		if len(s.Args) == 0 {
			continue
		}
		if !slices.Contains(dirSettings, s.Name) {
			continue
		}
		p, problem := inHome(s.Args[0])
		if problem != "" {
			return &ConfigError{Line: s.Line, Text: s.Name + " " + s.Args[0], Problem: problem}
		}
		l.extra = append(l.extra, p)
	}
	l.search, l.create = c.DataDirs, c.CreateDir
	return nil
}

// inHome turns a directory as an environment spells it into a path below the target, or says why there is none.
func inHome(dir string) (clean, problem string) {
	switch {
	case dir == "":
		return ".", ""
	case filepath.IsAbs(dir):
		return "", "an absolute path would point the restored environment at the files of the source"
	case !filepath.IsLocal(dir) || strings.ContainsRune(dir, 0):
		return "", "it lies outside the home"
	}
	return path.Clean(dir), ""
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
