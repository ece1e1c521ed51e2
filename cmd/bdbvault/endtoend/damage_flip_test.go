package endtoend

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/restore"
)

// Every byte is changed in turn of manifests, of objects up to a size, and of the first so many bytes of others, where headers are. Of the rest so
// many are taken, spread evenly.
const (
	smallObject = 256
	headBytes   = 24
	denseBytes  = 48
)

// TestFlippedBits changes one bit of an object at a time, in every object of a repository, at every byte of small ones and densely in the others.
// Each restore either says that something is damaged, or gives recovery exactly what it would get from the undamaged repository, which
// is possible where a bit has no meaning: in a salt, say.
func TestFlippedBits(t *testing.T) {
	for _, password := range []string{"", "sesame"} {
		t.Run(fmt.Sprintf("encrypted=%t", password != ""), func(t *testing.T) {
			m := newMuseum(t, password)
			f := &flipper{museum: m, dir: scratch(t), dense: denseBytes * torture()}
			for _, seed := range seeds(t, 1) {
				t.Logf("seed %d", seed)
				f.all(rand.New(rand.NewPCG(seed, 0)))
			}
			t.Logf("%d bits: %d noticed, %d of no meaning, in: %v", f.noticed.Load()+f.same.Load(), f.noticed.Load(), f.same.Load(), f.harmless)
			f.finish()
		})
	}
}

// flipper flips bits.
type flipper struct {
	*museum
	dir   string
	dense int

	noticed, same atomic.Int64
	mu            sync.Mutex
	harmless      map[string]int   // flips of no meaning, by kind of object
	complete      map[string][]bit // some of them, to be carried through
}

// bit is a place in an object.
type bit struct {
	key string
	at  int
	bit int
	of  manifest.BackupID
}

func (b bit) flip(data []byte) []byte {
	data = bytes.Clone(data)
	data[b.at] ^= 1 << b.bit
	return data
}

func (f *flipper) all(rnd *rand.Rand) {
	f.harmless, f.complete = map[string]int{}, map[string][]bit{}
	group := errgroup.Group{}
	group.SetLimit(4) // each waits for its engine to start
	n := 0
	for _, key := range f.shelf.order {
		for _, at := range f.places(key, rnd) {
			b := bit{key: key, at: at, bit: rnd.IntN(8)}
			n++
			to := filepath.Join(f.dir, fmt.Sprint(n))
			group.Go(func() error { f.one(b, to); return nil })
		}
	}
	group.Wait()
}

// places are the bytes of an object that are changed.
func (f *flipper) places(key string, rnd *rand.Rand) (list []int) {
	size, head, stride, dense := len(f.shelf.objects[key]), headBytes, 1, f.dense
	_, needed := f.reader(key)
	switch {
	case !needed: // whatever it holds, nobody will read it
		head, dense = 0, 2
	case f.password != "" && kind(key) != "logs": // only the log is read in another way then
		head, dense = 0, 4
	case f.password != "":
		head, stride = 1024, max(1, 16/torture()) // its first records as well
	case size <= smallObject || kind(key) == "backups":
		head = size
	}
	for at := rnd.IntN(stride); at < min(head, size); at += stride {
		list = append(list, at)
	}
	step := max(1, float64(size-head)/float64(dense))
	for at := float64(head) + rnd.Float64()*(step-1); int(at) < size; at += step {
		list = append(list, int(at))
	}
	return list
}

// kind is the kind of an object.
func kind(key string) string {
	parts := strings.Split(key, "/")
	if len(parts) == 1 {
		return key
	}
	return parts[1]
}

func (f *flipper) one(b bit, to string) {
	if kind(b.key) == "backups" {
		f.manifest(b)
		return
	}
	id, ok := f.reader(b.key)
	if !ok {
		id = f.backups[0]
	}
	b.of = id
	_, err := f.judge(b.key, b.flip(f.shelf.objects[b.key]), id, to)
	switch {
	case errors.Is(err, errSame):
		f.same.Add(1)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.harmless[kind(b.key)]++
		f.complete[kind(b.key)] = append(f.complete[kind(b.key)], b)
	case noticed(err):
		f.noticed.Add(1)
	default:
		f.t.Errorf("%+v: %v", b, err)
	}
}

// manifest flips a bit of a manifest. Asked for that backup, a plan says that it is damaged; asked for the newest one, it takes the older one and
// says so.
func (f *flipper) manifest(b bit) {
	at := slices.IndexFunc(f.backups, func(id manifest.BackupID) bool { return strings.Contains(b.key, string(id)) })
	repo, err := f.shelf.but(b.key, b.flip(f.shelf.objects[b.key])).open(f.t)
	if err != nil {
		f.t.Errorf("%+v: %v", b, err)
		return
	}
	id := f.backups[at]
	_, err = restore.MakePlan(f.t.Context(), repo, "", restore.Target{Backup: id})
	if !noticed(err) || !newer(err) && !strings.Contains(err.Error(), string(id)) {
		f.t.Errorf("%+v, asked for it: %v", b, err)
		return
	}
	f.noticed.Add(1)
	plan, err := restore.MakePlan(f.t.Context(), repo, "", restore.Target{})
	switch last := f.backups[len(f.backups)-1]; {
	case newer(err) && id == last:
	case err != nil:
		f.t.Errorf("%+v, asked for the newest: %v", b, err)
	case id != last && (plan.Backup != last || len(plan.Notes) > 0):
		f.t.Errorf("%+v, which is not needed: plan %s, %v", b, plan.Backup, plan.Notes)
	case id == last && (plan.Backup == id || !strings.Contains(fmt.Sprint(plan.Notes), string(id))):
		f.t.Errorf("%+v: plan %s, %v", b, plan.Backup, plan.Notes)
	}
}

// finish carries some restores with a meaningless flip through to the end. The home is right; what was noticed on the way is an error that says so.
func (f *flipper) finish() {
	for kind, list := range f.complete {
		for _, i := range []int{0, len(list) / 2, len(list) - 1} {
			b := list[i]
			to := filepath.Join(f.t.TempDir(), "to")
			_, err := f.restore(f.shelf.but(b.key, b.flip(f.shelf.objects[b.key])), b.of, to, nil)
			damage, ok := errors.AsType[*restore.DamageError](err)
			if err != nil && !(ok && damage.Complete) {
				f.t.Errorf("%+v: %v", b, err)
				continue
			}
			if diff := envtest.Diff(f.reference[b.of].home, contents(f.t, to, f.password)); len(diff) > 0 {
				f.t.Errorf("%+v: the home differs: %v", b, diff)
			}
			f.t.Logf("%s, byte %d: %v", kind, b.at, err)
		}
	}
}
