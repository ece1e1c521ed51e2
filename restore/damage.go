package restore

import (
	"cmp"
	"slices"
	"sync"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
)

// damages collects what the store can't give back. It is safe for concurrent use.
type damages struct {
	mu      sync.Mutex
	files   map[string]*FileDamage
	logs    []LogDamage
	objects []ObjectDamage
	good    *bdb.LSN // up to here no log is damaged; nil: none is
}

// file notes pages of a file that can't be brought back.
func (d *damages) file(f *dataFile, pages PageRange, object string, err error) {
	f.bad.Store(true)
	d.mu.Lock()
	defer d.mu.Unlock()
	fd := d.get(f.shown, object, err)
	if n := len(fd.Pages); n > 0 && fd.Pages[n-1].Last+1 == pages.First {
		fd.Pages[n-1].Last = pages.Last
		return
	}
	fd.Pages = append(fd.Pages, pages)
}

// whole notes a file of which nothing can be brought back.
func (d *damages) whole(path, object string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.get(path, object, err)
}

func (d *damages) get(path, object string, err error) *FileDamage {
	if d.files == nil {
		d.files = map[string]*FileDamage{}
	}
	if d.files[path] == nil {
		d.files[path] = &FileDamage{Path: path, Object: object, Err: err}
	}
	return d.files[path]
}

func (d *damages) log(object string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.logs = append(d.logs, LogDamage{Object: object, Err: err})
}

// logEnds notes that the log is good up to an LSN and no further; zero: not even as far as the backup needs it.
func (d *damages) logEnds(good bdb.LSN) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.good == nil || good.Before(*d.good) {
		d.good = &good
	}
}

func (d *damages) object(object string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.objects = append(d.objects, ObjectDamage{Object: object, Err: err})
}

// err is a *DamageError if anything that is needed is lost. Damage beside what is needed is no reason to stop.
func (d *damages) err(id manifest.BackupID) error {
	if len(d.files) == 0 && len(d.logs) == 0 {
		return nil
	}
	return d.all(id)
}

// all is a *DamageError if there was any damage at all.
func (d *damages) all(id manifest.BackupID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.files) == 0 && len(d.logs) == 0 && len(d.objects) == 0 {
		return nil
	}
	e := &DamageError{Backup: id, Logs: d.logs, Objects: d.objects, Complete: len(d.files) == 0 && len(d.logs) == 0}
	if d.good != nil && len(d.files) == 0 {
		e.LogGood = *d.good
	}
	for _, f := range d.files {
		f.Pages = joinPages(f.Pages)
		e.Files = append(e.Files, *f)
	}
	slices.SortFunc(e.Files, func(a, b FileDamage) int { return cmp.Compare(a.Path, b.Path) })
	slices.SortFunc(e.Logs, func(a, b LogDamage) int { return cmp.Compare(a.Object, b.Object) })
	return e
}

// joinPages sorts page ranges and joins those that touch.
func joinPages(list []PageRange) []PageRange {
	slices.SortFunc(list, func(a, b PageRange) int { return cmp.Compare(a.First, b.First) })
	out := list[:0]
	for _, p := range list {
		if n := len(out); n > 0 && uint64(p.First) <= uint64(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, p.Last)
			continue
		}
		out = append(out, p)
	}
	return out
}
