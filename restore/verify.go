package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
)

// VerifyOptions say how an environment's backups are verified.
type VerifyOptions struct {
	Env      string
	ReadData float64 // share of all that is stored that is read and held against its checksums: 0 is nothing, 1 is all
	StateDir string  // where the place is kept up to which earlier runs have read; empty: a share begins anywhere
	Tool     string  // name and version
	Progress Progress
}

// VerifyResult says what is in the store of one environment, and what is not as it was stored.
type VerifyResult struct {
	Environment string            `json:"environment"`
	Objects     int               `json:"objects"` // in the store
	Bytes       int64             `json:"bytes"`
	Share       float64           `json:"share"`       // of the objects, to be read
	ReadObjects int               `json:"readObjects"` // packs, maps and segments
	ReadBytes   int64             `json:"readBytes"`
	Archived    int               `json:"archived"` // of those to be read; they are in a storage class from which that can't be done
	Spare       int               `json:"spare"`    // packs and maps that no backup needs
	SpareBytes  int64             `json:"spareBytes"`
	Backups     []VerifiedBackup  `json:"backups"` // oldest first
	Damage      []DamagedObject   `json:"damage"`  // by key
	Gaps        []Gap             `json:"gaps"`    // in the log, that no prune can have left
	Ranges      []Range           `json:"ranges"`  // what can be restored
	Newest      manifest.BackupID `json:"newest,omitempty"`
	Notes       []string          `json:"notes,omitempty"`
}

// VerifiedBackup says what a backup has lost.
type VerifiedBackup struct {
	ID             manifest.BackupID `json:"id"`
	State          string            `json:"state"`
	Problem        string            `json:"problem,omitempty"`
	Timeline       manifest.Timeline `json:"timeline,omitzero"`
	ConsistentAt   bdb.LSN           `json:"consistentAt,omitzero"`
	ConsistentTime time.Time         `json:"consistentTime,omitzero"`
	RestorableTo   bdb.LSN           `json:"restorableTo,omitzero"` // as far as the log is unbroken and whole
	RestorableTime time.Time         `json:"restorableTime,omitzero"`
	Lost           []LostFile        `json:"lost,omitempty"`
}

// StatePruned is that of a backup that prune --undo can put back.
const StatePruned = "pruned"

// LostFile is what a backup can't bring back of one file.
type LostFile struct {
	Path   string      `json:"path"`            // as DB_CONFIG spells the directory
	Pages  []PageRange `json:"pages,omitempty"` // none: all of it
	Object string      `json:"object"`          // the first that is missing or damaged
}

func (f LostFile) String() string {
	return FileDamage{Path: f.Path, Pages: f.Pages}.place()
}

// Kinds of objects.
const (
	KindManifest  = "manifest"
	KindPack      = "pack"
	KindMap       = "map"
	KindSegment   = "log segment"
	KindCondemned = "condemned list"
	KindHold      = "hold"
	KindDrill     = "record of a drill"
	KindMark      = "mark of damage"
)

// DamagedObject is an object that is missing, or not what was stored.
type DamagedObject struct {
	Object  string              `json:"object"` // key
	Kind    string              `json:"kind"`
	Missing bool                `json:"missing"`
	Problem string              `json:"problem"`
	Backups []manifest.BackupID `json:"backups,omitempty"` // that can't be brought back whole, or not as far, for it
	Marked  bool                `json:"marked"`            // backups know, and refer to it no more
	Err     error               `json:"-"`

	read bool // it was its bytes that told
}

// UnsoundError says that verification found damage.
type UnsoundError struct{ Results []*VerifyResult }

func (e *UnsoundError) Error() string {
	var parts []string
	for _, r := range e.Results {
		bad := 0
		for i := range r.Backups {
			if s := r.Backups[i].State; s == StateDamaged || s == StateGap {
				bad++
			}
		}
		parts = append(parts, fmt.Sprintf("environment %s: missing or damaged objects: %d, gaps in the log: %d, backups that can't be brought back whole: %d of %d",
			r.Environment, len(r.Damage), len(r.Gaps), bad, len(r.Backups)))
	}
	return strings.Join(parts, "; ")
}

// Unwrap makes it a manifest.ErrDamaged.
func (e *UnsoundError) Unwrap() error { return manifest.ErrDamaged }

// Sound reports whether nothing is missing or damaged.
func (r *VerifyResult) Sound() bool { return len(r.Damage)+len(r.Gaps) == 0 }

// verifier is one verification.
type verifier struct {
	repo     *repository.Repository
	opt      VerifyOptions
	progress Progress
	store    *inventory
	backups  []*checked // void ones and those that only a prune remembers, too

	mu     sync.Mutex
	bad    map[string]*DamagedObject
	whole  map[string]bool              // marked by an earlier run, and nothing is wrong with them now
	doomed map[manifest.ObjectName]bool // a prune will delete them
	links  map[logPlace]logLink
	scans  map[manifest.Hash]*scanned
	chains map[manifest.Timeline]*manifest.Chain
	covers map[manifest.Timeline][]manifest.Cover
	res    VerifyResult
}

// Verify looks whether everything is in the store that the backups of an environment need, whether the log is unbroken, and, as far as is asked,
// whether the bytes are those that were stored. It needs no password. What is found damaged it marks for later backups, if the store lets it. Damage is no
// error: VerifyResult.Sound tells.
func Verify(ctx context.Context, repo *repository.Repository, opt VerifyOptions) (*VerifyResult, error) {
	if err := manifest.CheckEnv(opt.Env); err != nil {
		return nil, err
	}
	if opt.Progress == nil {
		opt.Progress = silent{}
	}
	v := &verifier{repo: repo, opt: opt, progress: opt.Progress, bad: map[string]*DamagedObject{}, whole: map[string]bool{},
		doomed: map[manifest.ObjectName]bool{}, links: map[logPlace]logLink{}, scans: map[manifest.Hash]*scanned{}}
	v.res = VerifyResult{Environment: opt.Env, Share: opt.ReadData, Backups: []VerifiedBackup{}, Damage: []DamagedObject{}, Gaps: []Gap{}, Ranges: []Range{}}
	var err error
	if v.store, err = takeInventory(ctx, repo, opt.Env); err != nil {
		return nil, err
	}
	if v.store.count == 0 {
		return nil, fmt.Errorf("%w: the repository has no environment %s", ErrNoBackup, opt.Env)
	}
	for _, step := range []func(context.Context) error{v.structure, v.read, v.known, v.settle, v.touch, v.mark} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return v.tell(), nil
}

// fail notes what is wrong with an object. The first that is found of it counts.
func (v *verifier) fail(key, kind string, err error) *DamagedObject {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.failLocked(key, kind, err)
}

func (v *verifier) failLocked(key, kind string, err error) *DamagedObject {
	d := v.bad[key]
	if d == nil {
		d = &DamagedObject{Object: key, Kind: kind, Missing: errors.Is(err, remote.ErrNotFound), Err: err}
		d.Problem = "missing"
		if !d.Missing {
			d.Problem = strings.TrimPrefix(err.Error(), "object "+key+": ")
		}
		v.bad[key] = d
	}
	return d
}

func (v *verifier) note(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.res.Notes = append(v.res.Notes, fmt.Sprintf(format, args...))
}

// inStore reports whether an error is about what the store holds, rather than about reaching it.
func inStore(err error) bool {
	return errors.Is(err, remote.ErrNotFound) || errors.Is(err, remote.ErrOutOfRange) || errors.Is(err, manifest.ErrDamaged)
}

// known adds what earlier runs found damaged, unless this one has read it and found it whole.
func (v *verifier) known(ctx context.Context) error {
	for _, key := range v.store.marks {
		switch _, bad := v.bad[key]; {
		case bad, !v.store.holds(key):
			continue
		case v.whole[key]:
			v.note("%s was found damaged by an earlier verify and is whole now; no new backup refers to it", key)
			continue
		}
		problem := "found damaged by an earlier verify"
		data, err := v.repo.Bucket.Get(ctx, manifest.DamagedKey(v.opt.Env, key), maxSmall)
		if err != nil && !inStore(err) {
			return err
		}
		if d, err := manifest.DecodeDamaged(data); err == nil {
			problem = fmt.Sprintf("%s (found %s on %s)", d.Problem, d.Found.Format(time.RFC3339), d.Host)
		}
		v.fail(key, kindOf(v.opt.Env, key), fmt.Errorf("%s: %w", problem, manifest.ErrDamaged)).Problem = problem
	}
	return nil
}

// settle forgets what is missing only because a prune took its backup, or deleted what it had taken, while the verification went on.
func (v *verifier) settle(ctx context.Context) error {
	if len(v.bad) == 0 {
		return nil
	}
	list, err := v.repo.Backups(ctx, v.opt.Env, "")
	if err != nil {
		return err
	}
	there := map[manifest.BackupID]bool{}
	for _, s := range list {
		there[s.ID] = true
	}
	undo, err := v.undoable(ctx)
	if err != nil {
		return err
	}
	v.backups = slices.DeleteFunc(v.backups, func(c *checked) bool {
		if c.list != nil {
			return !undo[c.list.ID]
		}
		return !there[c.ID]
	})
	for key, d := range v.bad {
		if i, ok := v.store.find(key); ok && d.Missing && !slices.ContainsFunc(v.backups, func(c *checked) bool { return c.needs.has(i) }) {
			delete(v.bad, key)
		}
	}
	return nil
}

// undoable are the prunes that can be taken back now.
func (v *verifier) undoable(ctx context.Context) (map[manifest.BackupID]bool, error) {
	stored := map[manifest.BackupID]time.Time{}
	date, err := v.repo.Bucket.List(ctx, manifest.CondemnedPrefix(v.opt.Env), "", func(i remote.Info) error {
		if id, err := manifest.ParseCondemnedKey(v.opt.Env, i.Key); err == nil {
			stored[id] = i.Modified
		}
		return nil
	})
	undo := map[manifest.BackupID]bool{}
	for id, at := range stored {
		undo[id] = date.Sub(at) <= v.repo.Info.Grace()
	}
	return undo, err
}

// markers is how many marks are stored side by side.
const markers = 8

// mark tells later backups of objects whose bytes are not what was stored. What is missing, or has another size, they see by themselves.
func (v *verifier) mark(ctx context.Context) error {
	host, _ := os.Hostname()
	marked := map[string]bool{}
	for _, key := range v.store.marks {
		marked[key] = true
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(markers)
	var mu sync.Mutex
	var refused error
	for key, d := range v.bad {
		if d.Marked = marked[key]; d.Marked || !d.read || d.Missing || d.Kind == KindMark || d.Kind == KindDrill {
			continue
		}
		g.Go(func() error {
			m := manifest.NewDamaged(v.opt.Env, key, d.Problem)
			m.Found, m.Host, m.Tool = time.Now().UTC().Truncate(time.Second), host, v.opt.Tool
			data, err := m.Encode()
			if err != nil {
				return err
			}
			err = repository.PutOnce(gctx, v.repo.Bucket, manifest.DamagedKey(v.opt.Env, key), data)
			if err == nil || errors.Is(err, remote.ErrExists) {
				d.Marked = true
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			refused = err
			return context.Cause(gctx)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if refused != nil {
		v.note("what is damaged could not be marked, so that backups will go on referring to it: %v", refused)
	}
	return nil
}
