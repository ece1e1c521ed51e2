package hotcopy

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
)

// Options of a copy.
type Options struct {
	// Flat puts all files into the target itself. Else data and log directories keep their names, and DB_CONFIG comes along.
	Flat bool
	// Source and Target are the directories as the user wrote them, for messages.
	Source, Target string
	// Tell hears what is done; nil: nobody.
	Tell func(Event)
	// Step is called with the name of each step before it is taken; an error ends the run. It is where tests break things.
	Step func(name string) error
}

// Event is one thing that was done.
type Event struct {
	What     What
	From, To string // paths
	Number   uint32 // of a log file
}

// What an Event is about.
type What int

// Events.
const (
	Database       What = iota + 1 // From is copied to To
	NotDatabase                    // likewise, an application's file
	LogCopied                      // likewise
	LogMoved                       // From became To
	LogRemoved                     // From is gone, after it was copied
	TargetRemoved                  // To is gone
	HighestRemoved                 // of the target's log files that went
	LowestCopied
)

// Copy is what was laid down, for recovery.
type Copy struct {
	Home      string           // of the source
	Flat      []string         // directories of the source, as it spells them, whose files lie in the target itself
	Search    []string         // data directories in the target, in the order in which libdb searches them; home may be missing
	Create    string           // the one that new databases go to; empty: home
	LogDir    string           // in the target
	Staged    string           // in the target: the log that is to be replayed; empty: it is in LogDir
	Needed    bdb.LSN          // from here on recovery needs the log
	Begun     bdb.LSN          // where the log ended when copying began; zero in an update
	Since     bdb.LSN          // the end of what an earlier recovery replayed; zero: this is a whole copy
	End       bdb.LSN          // of the log
	MaxPage   bdb.LSN          // the largest LSN on any page that was copied
	Encrypted bool             // recovery needs the password
	Unlogged  map[string]int64 // pages written without logging, by the file's place in the target
}

// own begins the names that are bdbvault's in a target.
const own = localenv.MarkerName + "."

// Copier makes a whole copy.
type Copier struct {
	env  *localenv.Env
	root *os.Root // the target
	opt  Options

	log   *localenv.Log
	begun bdb.LSN
	need  bdb.LSN
	end   bdb.LSN
	round int
	files []*entry
	seen  map[inode]*entry
	dirs  []localenv.Directory
}

// Check says why the environment can't be copied: a *DirError. It looks at names alone.
func Check(env *localenv.Env, flat bool) error {
	dirs := []DirError{{Name: env.LogDir.Name, Log: true}}
	for _, d := range env.Dirs {
		dirs = append(dirs, DirError{Name: d.Name})
	}
	for _, d := range dirs {
		switch {
		case filepath.IsAbs(d.Name) && !flat:
			d.Err = ErrAbsolute
		case !filepath.IsAbs(d.Name) && !filepath.IsLocal(d.Name) && (!flat || !d.Log):
			d.Err = ErrOutside
		default:
			continue
		}
		return &d
	}
	return nil
}

// CheckApart refuses a target that is one of the environment's own directories, or holds one of them under a name that the copy would use: an *OverlapError.
func CheckApart(env *localenv.Env, target string) error {
	for _, d := range append([]localenv.Dir{env.LogDir}, env.Dirs...) {
		if same(d.Path, target) {
			return &OverlapError{target, d.Path}
		}
		for _, o := range append([]localenv.Dir{env.LogDir}, env.Dirs...) {
			if !filepath.IsAbs(o.Name) && same(d.Path, filepath.Join(target, o.Name)) {
				return &OverlapError{filepath.Join(target, o.Name), d.Path}
			}
		}
	}
	return nil
}

func same(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// New prepares a copy into root. Check and CheckApart have said nothing against it.
func New(env *localenv.Env, root *os.Root, opt Options) *Copier {
	return &Copier{env: env, root: root, opt: opt, seen: map[inode]*entry{}}
}

// Close lets go of all files. What was not finished stays in the target under names of bdbvault's own.
func (c *Copier) Close() (err error) {
	for _, e := range c.files {
		if e.src != nil {
			err = errors.Join(err, e.src.Close())
		}
	}
	if c.log != nil {
		err = errors.Join(err, c.log.Close())
	}
	return err
}

func (o *Options) tell(e Event) {
	if o.Tell != nil {
		o.Tell(e)
	}
}

func (o *Options) step(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil || o.Step == nil {
		return err
	}
	return o.Step(name)
}

// place is where a data directory lies in the target.
func (o *Options) place(dir string) string {
	if o.Flat {
		return "."
	}
	return path.Clean(filepath.ToSlash(dir))
}

// shown is a name in the target for a person.
func (o *Options) shown(name string) string { return o.Target + "/" + name }

// shownSource is a file of the environment for a person: as its directory was spelled.
func (o *Options) shownSource(dir localenv.Dir, name string) string {
	switch {
	case dir.Name == ".":
		return o.Source + "/" + name
	case filepath.IsAbs(dir.Name):
		return dir.Name + "/" + name
	}
	return o.Source + "/" + dir.Name + "/" + name
}

// Result is what recovery has to know, after all steps.
func (c *Copier) Result() *Copy {
	r := describe(c.env, c.opt)
	r.Needed, r.Begun, r.End = c.need, c.begun, c.end
	if h, err := c.log.Header(c.end.File); err == nil {
		r.Encrypted = h.Encrypted
	}
	r.Unlogged = map[string]int64{}
	for _, e := range c.files {
		if e.stats.Unlogged > 0 {
			r.Unlogged[e.at] = e.stats.Unlogged
		}
		if r.MaxPage.Before(e.stats.MaxLSN) {
			r.MaxPage = e.stats.MaxLSN
		}
	}
	return r
}

// describe is what the environment's directories say.
func describe(env *localenv.Env, opt Options) *Copy {
	r := &Copy{Home: env.Home, LogDir: opt.place(env.LogDir.Name)}
	for _, d := range env.Config.DataDirs {
		if opt.Flat {
			r.Flat = append(r.Flat, d)
		} else if !slices.Contains(r.Search, d) {
			r.Search = append(r.Search, d)
		}
	}
	if env.CreateDir != nil && !opt.Flat {
		r.Create = env.CreateDir.Name
	}
	return r
}

func exists(root *os.Root, name string) bool {
	_, err := root.Lstat(name)
	return !errors.Is(err, fs.ErrNotExist)
}
