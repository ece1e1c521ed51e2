package restore

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/hotcopy"
	"bdbvault/manifest"
)

// Copied is a directory that an environment of this host is copied into, by package hotcopy. It is claimed and marked like the target of a restore, until
// it is a home.
type Copied struct {
	t      *target
	begun  *hotcopy.Copy // a recovery of an update that was interrupted; nil: none
	before []byte        // the marker that was there

	logDir string  // of the recovered copy
	stable bdb.LSN // from where the last checkpoint before the log's end needs it
}

const copiedText = "bdbvault hotbackup is copying into this directory, or was interrupted. As long as this file is here, the directory is not a usable " +
	"environment, unless the file says so. Run the same hotbackup again to finish it."

const copiedUsable = "The log of an update is being laid down beside the copy, which is whole, as it was before: to use it as it is, remove this file and " +
	hotcopy.StagedName + "."

// ClaimCopied claims dir, which has to exist. It may hold anything but what somebody has open, a standby, and the target of a restore that is not finished.
// The caller closes it. As long as the copy in it stays usable, which an update's does until its recovery, update has the marker say so.
func ClaimCopied(dir, source string, update bool) (*Copied, error) {
	c := &Copied{}
	want := marker{About: copiedText, Environment: source, Copied: true, Whole: !update}
	if update {
		want.About += " " + copiedUsable
	}
	t, err := openTarget(dir, want, func(t *target) error { return c.adopt(t, update) })
	c.t = t
	return c, err
}

// adopt looks at what is in the directory.
func (c *Copied) adopt(t *target, update bool) error {
	if _, err := t.root.Lstat(localenv.StandbyName); !errors.Is(err, fs.ErrNotExist) {
		return &TargetError{Dir: t.dir, Problem: "it is a standby"}
	}
	text, err := t.root.ReadFile(MarkerName)
	if err == nil && len(text) > 0 {
		var is marker
		if err := json.Unmarshal(text, &is); err != nil || !is.Copied {
			return &TargetError{Dir: t.dir, Problem: "a restore into it was begun and not finished"}
		}
		if is.Whole && update {
			return &TargetError{Dir: t.dir, Problem: "a whole copy into it was begun and not finished: take that again first, without -u"}
		}
		if c.begun, c.before = is.Copy, text; c.begun != nil {
			t.resumes = &is
		}
	}
	return t.notInUse()
}

// Dir is the directory's absolute path, with symbolic links resolved.
func (c *Copied) Dir() string { return c.t.dir }

// Root reaches the directory.
func (c *Copied) Root() *os.Root { return c.t.root.Root }

// Begun is the update whose recovery was interrupted; nil if none was. It has to be recovered before anything else is done, but for a new whole copy.
func (c *Copied) Begun() *hotcopy.Copy { return c.begun }

// Close gives the directory free. What is not finished stays marked.
func (c *Copied) Close() { c.t.close() }

// Forgo leaves the mark as it was found, because nothing was done. That of an update of which nothing is left goes.
func (c *Copied) Forgo() error {
	if len(c.before) > 0 && (c.begun != nil || c.t.mark.Whole) {
		return c.t.put(c.before)
	}
	return c.t.finish()
}

// Recover brings the copy to the end of its log, as a restore does, and checks it. What is left to do is Finish.
func (c *Copied) Recover(ctx context.Context, what *hotcopy.Copy, opt Options) (*Result, error) {
	r, err := c.restorer(what, opt)
	if err != nil {
		return nil, err
	}
	if err := c.mark(what); err != nil {
		return nil, err
	}
	r.startEngine(ctx)
	err = c.recover(ctx, r, what)
	if err = errors.Join(err, r.endEngine()); err != nil {
		return nil, err
	}
	if _, err := r.tidy(ctx); err != nil { // modes are those of copies, and of what the log makes
		return nil, err
	}
	if err := c.dropStaged(ctx, r, what); err != nil {
		return nil, err
	}
	c.begun, c.logDir, c.stable = nil, r.lay.logDir, r.story.ckp
	return r.result, nil
}

// dropStaged removes the log that was replayed, after the marker has ceased to ask for it.
func (c *Copied) dropStaged(ctx context.Context, r *restorer, what *hotcopy.Copy) error {
	if what.Staged == "" {
		return nil
	}
	if err := c.t.write(&marker{About: copiedText + " " + copiedUsable, Environment: c.t.mark.Environment, Copied: true}); err != nil {
		return err
	}
	if err := r.step(ctx, "replayed"); err != nil {
		return err
	}
	if err := c.t.root.RemoveAll(what.Staged); err != nil {
		return err
	}
	return r.step(ctx, "dropped")
}

// RemoveLog removes the log files of the recovered copy that recovery of the environment would not need, as its last checkpoint has it. That of the copy's own
// recovery needs still less; db_hotbackup does not look at it, and what is there may be of use.
func (c *Copied) RemoveLog() error {
	entries, err := c.t.root.ReadDir(c.logDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if n, log := localenv.ParseLogName(e.Name()); !log || n >= c.stable.File {
			continue
		}
		if err := c.t.root.Remove(path.Join(c.logDir, e.Name())); err != nil {
			return err
		}
	}
	return c.t.syncDir(c.logDir)
}

// mark has the marker say what is recovered, if that can be done again.
func (c *Copied) mark(what *hotcopy.Copy) error {
	m := marker{About: copiedText, Environment: c.t.mark.Environment, Copied: true, Whole: what.Staged == ""}
	if what.Staged != "" {
		m.Copy = what
	}
	return c.t.write(&m)
}

// Finish makes the recovered copy a home.
func (c *Copied) Finish() error { return c.t.finish() }

func (c *Copied) restorer(what *hotcopy.Copy, opt Options) (*restorer, error) {
	at, err := resolve(c.t.dir)
	if err != nil {
		return nil, err
	}
	m := &manifest.Manifest{Home: what.Home, NeededFrom: what.Needed, BegunAt: what.Begun, ConsistentAt: what.End, MaxPageLSN: what.MaxPage,
		Encrypted: what.Encrypted, Dirs: []manifest.Dir{{Name: "."}}, LogDir: what.LogDir}
	plan := &Plan{Environment: what.Home, End: what.End, Manifest: m}
	opt.To, opt.Delta, opt.Maps = c.t.dir, false, nil
	r, err := newRestorer(nil, plan, opt)
	if err != nil {
		return nil, err
	}
	r.t, r.logs.t, r.result.Home = c.t, c.t, c.t.dir
	maps, err := newMappings(copiedMaps(what), at)
	if err != nil {
		return nil, err
	}
	r.lay = &layout{at: at, maps: maps, dirs: []string{"."}, logDir: path.Clean(what.LogDir), search: what.Search, create: what.Create}
	if r.logDir = r.lay.logDir; what.Staged != "" {
		r.logDir, r.since = what.Staged, what.Since
	}
	return r, nil
}

// copiedMaps are where absolute names lead that the log may have: the home, and what was put into the copy itself.
func copiedMaps(what *hotcopy.Copy) []DirMap {
	list := []DirMap{{Old: what.Home, New: "."}}
	for _, d := range what.Flat {
		if !filepath.IsAbs(d) {
			d = filepath.Join(what.Home, d)
		}
		if d = filepath.Clean(d); d != what.Home {
			list = append(list, DirMap{Old: d, New: "."})
		}
	}
	slices.SortFunc(list, func(a, b DirMap) int { return len(a.Old) - len(b.Old) })
	return slices.CompactFunc(list, func(a, b DirMap) bool { return a.Old == b.Old })
}

// recover reads the log, replays it and checks the result.
func (c *Copied) recover(ctx context.Context, r *restorer, what *hotcopy.Copy) error {
	h, err := r.scan(ctx)
	if err != nil {
		return err
	}
	r.m.Files = copiedFiles(h, what)
	r.story = newStory(r.lay.at, r.m)
	r.story.maps, r.story.flat = r.lay.maps, flatDirs(what)
	if !r.since.IsZero() {
		r.story.since, r.story.begun = what.Since, bdb.LSN{}
	}
	if err := r.story.read(ctx, r.t.path(r.logDir), r.key); err != nil {
		return err
	}
	r.lay.maps = slices.DeleteFunc(r.lay.maps, func(m *mapping) bool { return !m.used })
	r.result.End, r.result.EndTime, r.result.Commits = r.story.end, r.story.last, r.story.commits
	if err := r.recover(ctx); err != nil {
		return err
	}
	return r.check(ctx)
}

// flatDirs are the directories whose files lie in the target itself.
func flatDirs(what *hotcopy.Copy) map[string]bool {
	set := map[string]bool{}
	for _, d := range what.Flat {
		if !filepath.IsAbs(d) && path.Clean(d) != "." {
			set[path.Clean(d)] = true
		}
	}
	return set
}

// copiedFiles describes what was copied, as a manifest does.
func copiedFiles(h *home, what *hotcopy.Copy) (list []manifest.File) {
	for _, f := range h.files {
		page := max(int(f.pageSize), bdb.MetaSize)
		list = append(list, manifest.File{Path: f.path, Kind: f.kind, FileID: f.id, Size: f.size, PageSize: page, BlockSize: page, Unlogged: what.Unlogged[f.path]})
	}
	return list
}

// links are the directories that the scratch home has links for beside the data directories: what records of a flat copy name leads into the target itself.
func (s *story) links() []string { return slices.Sorted(maps.Keys(s.flat)) }
