package localenv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"bdbvault/localenv/bdb"
)

// Survey is what an environment's directories show from outside: what there is to back up, and what would stand in the way.
type Survey struct {
	Files     int
	Bytes     int64
	Databases []DatabaseFile // by path
	Left      []Skipped      // left out of a backup, besides what libdb keeps for itself and bdbvault's own
	Faults    []FileFault    // files that can't be read, or not understood

	Regions     *Stat    // of the first region file; nil: there is none
	Holders     []Holder // who has the region file open, or else a database
	Unseen      int      // processes that could not be looked into
	Registry    bool     // __db.register: the application tells from it that a process died
	Replication bool     // __db.rep*
	Unfinished  bool     // a restore into this home has not ended
	Standby     bool     // the home follows another one
}

// DatabaseFile is a database as its metadata page describes it.
type DatabaseFile struct {
	Path        string // absolute
	Kind        bdb.Kind
	Size        int64
	Checksummed bool // or encrypted, which implies it
	Encrypted   bool
	ID          bdb.FileID
	Partial     bool // of the id only the first bytes are known

	stat Stat
}

// FileFault is a file that can't be backed up as it is.
type FileFault struct {
	Path string // absolute
	Err  error  // fs.ErrPermission, bdb.ErrPassword, a *bdb.PageError for a metadata page that makes no sense
}

// Survey looks at every file of the environment. It reads metadata pages and nothing else.
func (e *Env) Survey(ctx context.Context) (*Survey, error) {
	listing, err := e.List(ctx)
	if err != nil {
		return nil, err
	}
	s := &Survey{Files: len(listing.Files)}
	for _, f := range listing.Files {
		if err := s.addFile(ctx, e, f); err != nil {
			return nil, err
		}
	}
	for _, left := range listing.Skipped {
		s.addSkipped(left)
	}
	if s.Standby, err = e.IsStandby(); err != nil {
		return nil, err
	}
	return s, s.findHolders(e)
}

func (s *Survey) addFile(ctx context.Context, e *Env, f File) error {
	path := filepath.Join(e.Dirs[f.Dir].Path, filepath.FromSlash(f.Path))
	src, err := e.OpenFile(f)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil && ctx.Err() == nil:
		s.Faults = append(s.Faults, FileFault{path, err})
		return nil
	case err != nil:
		return err
	}
	defer src.Close() // only read
	s.Bytes += src.file.Stat.Size
	if m := src.Meta(); m != nil {
		s.Databases = append(s.Databases, DatabaseFile{Path: path, Kind: m.Kind, Size: src.file.Stat.Size,
			Checksummed: m.Checksummed, Encrypted: m.Encrypted, ID: m.FileID, Partial: m.FileIDPartial, stat: src.file.Stat})
	}
	return s.checkFirstPage(ctx, src, path)
}

// checkFirstPage reads the first page as a backup would, which checks all that can be checked of it.
func (s *Survey) checkFirstPage(ctx context.Context, src *Source, path string) error {
	_, stats, err := src.ReadAt(ctx, make([]byte, src.PageSize()), 0)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		s.Faults = append(s.Faults, FileFault{path, err})
	case len(stats.Bad) > 0:
		s.Faults = append(s.Faults, FileFault{path, &stats.Bad[0]})
	}
	return nil
}

func (s *Survey) addSkipped(left Skipped) {
	name := filepath.Base(left.Path)
	switch {
	case name == MarkerName:
		s.Unfinished = true
	case engineFile(name) == "process registry":
		s.Registry = true
	case engineFile(name) == "replication state":
		s.Replication = true
	case engineFile(name) == "" && left.Reason != "temporary file" && name != "lost+found":
		s.Left = append(s.Left, left)
	}
}

// findHolders looks who has the environment open: a region file that somebody has mapped is in use. Without regions it may be open all the same, in one process.
func (s *Survey) findHolders(e *Env) error {
	path := filepath.Join(e.Home, "__db.001")
	stat, err := statPath(path)
	switch {
	case err == nil:
		s.Regions = &stat
		s.Holders, s.Unseen, err = Holders(map[string]Stat{path: stat})
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err != nil || len(s.Holders) > 0 {
		return err
	}
	files := map[string]Stat{}
	for _, d := range s.Databases {
		files[d.Path] = d.stat
	}
	s.Holders, s.Unseen, err = Holders(files)
	return err
}

// Encrypted counts the databases that are.
func (s *Survey) Encrypted() (n int) {
	for _, d := range s.Databases {
		if d.Encrypted {
			n++
		}
	}
	return n
}

// has reports whether one of the databases has the id.
func (s *Survey) has(id bdb.FileID) bool {
	return slices.ContainsFunc(s.Databases, func(d DatabaseFile) bool { return d.ID == id || d.Partial && d.ID == partial(id) })
}

// partial is what can be read of an id without the password.
func partial(id bdb.FileID) (p bdb.FileID) {
	copy(p[:12], id[:])
	return p
}

// AbsoluteDirs are the lines of DB_CONFIG that name a directory by an absolute path: a restore elsewhere has to be told where those go.
func (c *Config) AbsoluteDirs() (lines []string) {
	for _, s := range c.Settings {
		if slices.Contains(takesString, s.Name) && s.Name != "set_intermediate_dir_mode" && len(s.Args) > 0 && filepath.IsAbs(s.Args[0]) {
			lines = append(lines, fmt.Sprintf("line %d: %s %s", s.Line, s.Name, s.Args[0]))
		}
	}
	return lines
}

// Unknown are the lines whose names release 5.3 does not know. It refuses to open the environment then; another release may know them.
func (c *Config) Unknown() (lines []string) {
	for _, s := range c.Settings {
		known := slices.Contains(takesString, s.Name) || slices.Contains(simpleSettings, s.Name) ||
			slices.Contains(otherSettings, strings.ToLower(s.Name))
		if !known {
			lines = append(lines, fmt.Sprintf("line %d: %s", s.Line, s.Name))
		}
	}
	return lines
}

// The settings of release 5.3 besides takesString: those that are matched by case, and those that are not (env_config.c).
var (
	simpleSettings = []string{
		"mutex_set_align", "mutex_set_increment", "mutex_set_init", "mutex_set_max", "mutex_set_tas_spins", "rep_set_clockskew", "rep_set_limit",
		"rep_set_nsites", "rep_set_priority", "rep_set_request", "set_cache_max", "set_data_len", "set_lg_bsize", "set_lg_filemode", "set_lg_max",
		"set_lg_regionmax", "set_lk_max_lockers", "set_lk_max_locks", "set_lk_max_objects", "set_lk_partitions", "set_lk_tablesize",
		"set_memory_max", "set_mp_max_openfd", "set_mp_max_write", "set_mp_mmapsize", "set_mp_mtxcount", "set_mp_pagesize", "set_shm_key",
		"set_tas_spins", "set_thread_count", "set_tx_max",
	}
	otherSettings = []string{
		"set_memory_init", "rep_set_config", "rep_set_timeout", "repmgr_set_ack_policy", "repmgr_site", "set_cachesize", "set_intermediate_dir",
		"set_flags", "log_set_config", "set_lk_detect", "set_lock_timeout", "set_open_flags", "set_region_init", "set_reg_timeout",
		"set_txn_timeout", "set_verbose",
	}
)
