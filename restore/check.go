package restore

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/manifest"
)

// check finds out whether the home is what manifest and log say it must be. That recovery ended well proves nothing: it loses files
// without a word.
func (r *restorer) check(ctx context.Context) error {
	r.result.Prepared = r.story.history.Prepared()
	h, err := r.scan(ctx)
	if err != nil {
		return err
	}
	c := &checker{restorer: r, home: h}
	for i := range r.m.Files {
		c.had.add(r.m.Files[i].FileID, r.m.Files[i].PartialID)
	}
	c.log(r.story.history.Files())
	c.backup()
	c.created()
	if err := c.err(); err != nil {
		return err
	}
	if err := r.verify(ctx, h); err != nil {
		return err
	}
	return r.step(ctx, stepChecked)
}

type checker struct {
	*restorer
	home    *home
	had     idSet // files in the backup
	known   idSet // files that the log speaks of
	problem MissingError
}

func (c *checker) err() error {
	p := &c.problem
	if len(p.Missing) == 0 && len(p.Returned) == 0 && len(p.Wrong) == 0 {
		return nil
	}
	for _, list := range [][]string{p.Missing, p.Returned, p.Wrong} {
		slices.Sort(list)
	}
	return p
}

// log holds the home against what the log says of each file.
func (c *checker) log(files []bdb.HistoryFile) {
	for i := range files {
		f := &files[i]
		c.known.add(f.ID, false)
		switch f.State {
		case bdb.FileExists:
			c.mustExist(f)
		case bdb.FileRemoved, bdb.FileUndone:
			c.mustNotExist(f)
		case bdb.FileInDoubt:
			c.note("a prepared transaction that nobody has resolved yet decides about %s", f.Name)
		}
	}
}

// mustExist looks the name up as libdb would.
func (c *checker) mustExist(f *bdb.HistoryFile) {
	name, _ := c.story.relative(f.Name)
	for _, d := range c.dirs {
		at := path.Join(d, name)
		found, ok := c.home.at[at]
		if !ok {
			continue
		}
		if found.id != f.ID {
			c.problem.Wrong = append(c.problem.Wrong, fmt.Sprintf("%s (is another file, or its first page is bad)", c.t.shown(at)))
		}
		return
	}
	if elsewhere := c.home.byID[f.ID]; len(elsewhere) > 0 {
		c.problem.Wrong = append(c.problem.Wrong, fmt.Sprintf("%s (found as %s)", f.Name, strings.Join(c.shown(elsewhere), ", ")))
		return
	}
	reason := c.skipped(f.Name)
	if reason == "" && !c.had.has(f.ID) && !f.Remade(c.copied()) && f.LastOpen.Before(c.copied()) {
		reason = "it was gone when the backup began; what is removed without a transaction is not in the log"
	}
	if reason != "" {
		c.note("%s is not in the backup: %s", f.Name, reason)
		return
	}
	c.problem.Missing = append(c.problem.Missing, f.Name)
}

func (c *checker) shown(names []string) (list []string) {
	for _, n := range names {
		list = append(list, c.t.shown(n))
	}
	return list
}

// skipped is why the backup left a file out, "" if it did not.
func (c *checker) skipped(name string) string {
	for _, s := range c.m.Skipped {
		if s.Path == name || strings.HasSuffix(s.Path, "/"+path.Clean(name)) {
			return s.Reason
		}
	}
	if base := path.Base(name); strings.HasPrefix(base, "__db.rep.") || base == "__db.reppg.db" {
		return "each site of a replication group has its own"
	}
	return ""
}

func (c *checker) mustNotExist(f *bdb.HistoryFile) {
	for _, at := range c.home.byID[f.ID] {
		if _, ok := c.story.nameOf(c.dirs, f.ID, at); ok {
			c.problem.Returned = append(c.problem.Returned, c.t.shown(at))
		}
	}
}

// backup looks for everything that the manifest has and the log does not speak of.
func (c *checker) backup() {
	named := c.namedByLog()
	for i := range c.m.Files {
		f := &c.m.Files[i]
		at := c.lay.file(f)
		found, ok := c.home.at[at]
		switch {
		case f.FileID.IsZero():
			if !ok && f.Kind != bdb.KindQueueExtent && !named[at] {
				c.problem.Missing = append(c.problem.Missing, c.t.shown(at))
			}
		case ok && (c.known.has(found.id) || sameID(f, found.id)):
		case c.known.has(f.FileID), f.PartialID && c.known.hasPart(f.FileID):
		case !ok:
			c.problem.Missing = append(c.problem.Missing, c.t.shown(at))
		default:
			c.problem.Wrong = append(c.problem.Wrong, fmt.Sprintf("%s (is another file, or its first page is bad)", c.t.shown(at)))
		}
	}
}

// partialID is how much of a file id can be read in an encrypted environment without the password.
const partialID = 12

func firstPart(id bdb.FileID) [partialID]byte { return [partialID]byte(id[:]) }

func sameID(f *manifest.File, id bdb.FileID) bool {
	return f.FileID == id || f.PartialID && firstPart(f.FileID) == firstPart(id)
}

// idSet is a set of file ids, of some of which only the first part is known.
type idSet struct {
	whole map[bdb.FileID]bool
	parts map[[partialID]byte]bool // of all
	some  map[[partialID]byte]bool // of those that are not known whole
}

func (s *idSet) add(id bdb.FileID, partial bool) {
	if s.whole == nil {
		*s = idSet{map[bdb.FileID]bool{}, map[[partialID]byte]bool{}, map[[partialID]byte]bool{}}
	}
	s.whole[id] = true
	s.parts[firstPart(id)] = true
	if partial {
		s.some[firstPart(id)] = true
	}
}

// has reports whether a file is in the set, as far as can be known.
func (s *idSet) has(id bdb.FileID) bool { return s.whole[id] || s.some[firstPart(id)] }

// hasPart is has for an id of which only the first part is known.
func (s *idSet) hasPart(id bdb.FileID) bool { return s.parts[firstPart(id)] }

// namedByLog are the places that the log's names lead to. What had no file id there when it was copied was about to become a database.
func (c *checker) namedByLog() map[string]bool {
	places := map[string]bool{}
	add := func(name string) {
		for _, d := range c.dirs {
			places[path.Join(d, name)] = true
		}
	}
	for _, names := range c.story.names {
		for _, name := range names {
			add(name)
		}
	}
	for name := range c.story.created { // the log may end before it says what becomes of the file
		add(name)
	}
	return places
}

// created lists databases that were not in the backup.
func (c *checker) created() {
	for _, f := range c.home.files {
		if !f.id.IsZero() && !c.had.has(f.id) {
			c.result.Created = append(c.result.Created, c.t.shown(f.path))
		}
	}
	slices.Sort(c.result.Created)
}

// verify has the engine check the structure of every database.
func (r *restorer) verify(ctx context.Context, h *home) error {
	list, size := databases(h)
	switch {
	case r.opt.Verify == VerifyNever:
		r.result.VerifySkipped = "not asked for"
		return nil
	case r.opt.Verify == VerifyAuto && size > VerifyLimit:
		r.result.VerifySkipped = fmt.Sprintf("%d bytes of databases are more than is verified unasked", size)
		return nil
	}
	client, err := r.engine()
	if err != nil {
		return err
	}
	r.opt.Progress.Phase(PhaseVerify, size)
	return r.verifyAll(ctx, client, list)
}

// databases are what can be verified: extents and partitions are with the database that they belong to.
func databases(h *home) (list []homeFile, size int64) {
	for _, f := range h.files {
		size += f.size
		if !f.id.IsZero() && f.kind != bdb.KindQueueExtent && !strings.HasPrefix(path.Base(f.path), "__dbp.") {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b homeFile) int { return strings.Compare(a.path, b.path) })
	return list, size
}

func (r *restorer) verifyAll(ctx context.Context, e engine.Engine, list []homeFile) error {
	excused := r.excused()
	var bad VerifyError
	for _, f := range list {
		err := e.Verify(ctx, r.t.path(scratchName), r.t.path(f.path))
		if r.opt.drill != nil {
			r.opt.drill.verified(&f, r.t.shown(f.path), err)
		}
		switch reason := excused[f.path]; {
		case err == nil:
			r.result.Verified++
			r.opt.Progress.File(r.t.shown(f.path))
		case !errors.Is(err, engine.ErrDamaged):
			return fmt.Errorf("verify %s: %w", r.t.shown(f.path), err)
		case reason != "":
			r.note("%s does not verify: %s", r.t.shown(f.path), reason)
		default:
			bad.Files = append(bad.Files, r.t.shown(f.path))
			bad.Err = cmpErr(bad.Err, err)
		}
		r.opt.Progress.Add(f.size)
	}
	if len(bad.Files) > 0 {
		return &bad
	}
	return nil
}

func cmpErr(first, next error) error {
	if first != nil {
		return first
	}
	return next
}

// excused are the databases that the backup knew could not be right.
func (r *restorer) excused() map[string]string {
	list := map[string]string{}
	for i := range r.m.Files {
		f := &r.m.Files[i]
		switch {
		case len(f.Damaged) > 0:
			list[r.lay.file(f)] = fmt.Sprintf("%d of its pages were damaged on the source", len(f.Damaged))
		case f.Unlogged > 0:
			list[r.lay.file(f)] = "it has pages that were written without logging, which no recovery makes consistent"
		}
	}
	return list
}
