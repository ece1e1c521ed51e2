package hotcopy

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
)

// settle gives the files their names: those under which they were seen last. One that was gone by then is left out if its name was used again.
func (c *Copier) settle(ctx context.Context) error {
	if err := c.opt.step(ctx, "names"); err != nil {
		return err
	}
	p := &places{copier: c, taken: map[string]*entry{}}
	for _, e := range c.files {
		if err := p.put(e); err != nil {
			return err
		}
	}
	if err := c.dropStale(p.taken); err != nil {
		return err
	}
	for at, e := range p.taken {
		e.at = at
		if err := c.root.MkdirAll(path.Dir(at), 0o700); err != nil {
			return err
		}
		if err := c.root.Rename(e.temp, at); err != nil {
			return err
		}
	}
	return p.dropLost()
}

// places says which file gets which name.
type places struct {
	copier *Copier
	taken  map[string]*entry
	lost   []*entry
}

// at is where a file belongs in the target that was seen there.
func (p *places) at(f localenv.File) string {
	return path.Join(p.copier.opt.place(p.copier.env.Dirs[f.Dir].Name), f.Path)
}

func (p *places) put(e *entry) error {
	at := p.at(e.last.file)
	other := p.taken[at]
	switch {
	case other == nil:
		p.taken[at] = e
	case e.last.round < other.last.round:
		p.lost = append(p.lost, e)
	case other.last.round < e.last.round:
		p.taken[at] = e
		p.lost = append(p.lost, other)
	default:
		return p.collision(at, other, e)
	}
	return nil
}

func (p *places) collision(at string, a, b *entry) error {
	c := p.copier
	shown := func(e *entry) string { return c.opt.shownSource(c.env.Dirs[e.last.file.Dir], e.last.file.Path) }
	return &CollisionError{Name: c.opt.shown(at), First: shown(a), Second: shown(b)}
}

func (p *places) dropLost() error {
	for _, e := range p.lost {
		if err := p.copier.root.Remove(e.temp); err != nil {
			return err
		}
	}
	return nil
}

// CheckNames refuses, before anything is changed, files that would meet in the target: a *CollisionError.
func (c *Copier) CheckNames(ctx context.Context) error {
	listing, err := c.env.List(ctx)
	if err != nil {
		return err
	}
	taken := map[string]string{}
	for _, f := range c.wanted(listing) {
		dir := c.env.Dirs[f.Dir]
		at, from := path.Join(c.opt.place(dir.Name), f.Path), c.opt.shownSource(dir, f.Path)
		if other := taken[at]; other != "" {
			return &CollisionError{Name: c.opt.shown(at), First: other, Second: from}
		}
		taken[at] = from
	}
	return nil
}

// dropStale removes databases of an earlier copy from directories below those that Clean empties. They would be taken for the environment's.
func (c *Copier) dropStale(keep map[string]*entry) error {
	for _, d := range c.dirs {
		dir := path.Join(c.opt.place(c.env.Dirs[d.Dir].Name), d.Path)
		entries, err := readDir(c.root, dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			if !e.Type().IsRegular() || keep[name] != nil || d.Path == "." || !c.isDatabase(name) {
				continue
			}
			if err := (&sweep{root: c.root, opt: &c.opt}).file(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// isDatabase reports whether a file in the target begins as one.
func (c *Copier) isDatabase(name string) bool {
	f, err := c.root.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return false
	}
	defer f.Close() // only read
	first := make([]byte, bdb.MetaSize)
	if _, err := f.ReadAt(first, 0); err != nil || isOwn(path.Base(name)) {
		return false
	}
	_, err = bdb.ParseMeta(first, c.env.Key())
	return err == nil || errors.Is(err, bdb.ErrPassword)
}
