package restore_test

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/restore"
)

// listener hears which objects are read.
type listener struct {
	mu   sync.Mutex
	keys map[string]int
}

func (l *listener) Phase(string, int64) {}
func (l *listener) Add(int64)           {}
func (l *listener) Note(string)         {}
func (l *listener) File(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys[key]++
}

// TestSharesCoverAll reads a share in as many runs as it takes, from a random place on. Together they have read everything, and hardly anything twice.
func TestSharesCoverAll(t *testing.T) {
	env, p := small(t)
	h := envtest.StartHold(t, env)
	for i := range 5 {
		h.Put("", "a.db", 9000+100*i, 50)
		h.FlushLog()
		p.ship(env.Home)
	}
	all := slices.Concat(p.objects(manifest.PacksPrefix(envName)), p.objects(manifest.MapsPrefix(envName)), p.objects(manifest.LogsPrefix(envName)))
	for share, runs := range map[float64]int{1: 1, 0.5: 2, 0.3: 4, 0.1: 10, 0.07: 15} {
		l := &listener{keys: map[string]int{}}
		state := t.TempDir()
		read := 0
		for range runs {
			r, err := restore.Verify(t.Context(), p.repo, restore.VerifyOptions{Env: envName, ReadData: share, StateDir: state, Progress: l})
			if err != nil || !r.Sound() {
				t.Fatalf("%+v, %v", r, err)
			}
			read += r.ReadObjects
		}
		again := 0
		for _, key := range all {
			if l.keys[key] == 0 {
				t.Errorf("%d runs with a share of %v have not read %s", runs, share, key)
			}
			again += max(0, l.keys[key]-1)
		}
		if most := int(float64(len(all))*(share*float64(runs)-1)) + len(all)/2; len(l.keys) != len(all) || again > most {
			t.Errorf("%d runs with a share of %v have read %d objects, %d of %d again", runs, share, read, again, len(all))
		}
	}
}

// TestVerifyPages flips a bit in a pack, and holds the pages that verification names against those that a restore does.
func TestVerifyPages(t *testing.T) {
	_, p := small(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for _, key := range p.objects(manifest.PacksPrefix(envName)) {
		info, err := os.Stat(p.path(key))
		if err != nil {
			t.Fatal(err)
		}
		bit := rnd.Int64N(info.Size() * 8)
		p.flip(key, bit)
		r, err := restore.Verify(t.Context(), p.repo, restore.VerifyOptions{Env: envName, ReadData: 1})
		if err != nil || len(r.Damage) != 1 || r.Damage[0].Object != key || !r.Damage[0].Marked {
			t.Fatalf("bit %d of %s: %+v, %v", bit, key, r, err)
		}
		var want []string
		damage, _ := p.damage(t)
		for _, f := range damage {
			want = append(want, restore.LostFile{Path: f.Path, Pages: f.Pages}.String())
		}
		var got []string
		for _, f := range r.Backups[0].Lost {
			got = append(got, f.String())
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("bit %d of %s: verify names %v, restore %v", bit, key, got, want)
		}
		p.flip(key, bit)
		if r, err := restore.Verify(t.Context(), p.repo, restore.VerifyOptions{Env: envName, ReadData: 1}); err != nil || !r.Sound() || len(r.Notes) == 0 {
			t.Fatalf("repaired: %+v, %v", r, err)
		}
	}
}

// damage is what a restore can't bring back.
func (p *packer) damage(t *testing.T) ([]restore.FileDamage, error) {
	t.Helper()
	_, err := p.restoreTo(filepath.Join(t.TempDir(), "to"), restore.Options{Verify: restore.VerifyNever})
	if e, ok := err.(*restore.DamageError); ok {
		return e.Files, nil
	}
	return nil, err
}

// TestVerifyLog takes pieces of the log away. What lies behind a gap is named, what was stored just now is only noted, and what a prune may have taken is no damage.
func TestVerifyLog(t *testing.T) {
	env, p := small(t)
	h := envtest.StartHold(t, env)
	for i := range 4 {
		h.Put("", "a.db", 9000+100*i, 50)
		h.FlushLog()
		p.ship(env.Home)
	}
	keys := p.objects(manifest.LogsPrefix(envName))
	lost, err := manifest.ParseSegmentKey(envName, keys[len(keys)-2])
	if err != nil {
		t.Fatal(err)
	}
	p.must(os.Remove(p.path(keys[len(keys)-2])))
	verify := func() *restore.VerifyResult {
		t.Helper()
		r, err := restore.Verify(t.Context(), p.repo, restore.VerifyOptions{Env: envName, ReadData: 1})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := verify(); !r.Sound() || !strings.Contains(strings.Join(r.Notes, "\n"), "is not there yet") {
		t.Errorf("just now: %+v", r)
	}
	old := time.Now().Add(-time.Hour)
	for _, key := range p.objects(manifest.LogsPrefix(envName)) {
		p.must(os.Chtimes(p.path(key), old, old))
	}
	r := verify()
	if len(r.Gaps) != 1 || r.Gaps[0].After.Offset != lost.Start || r.Gaps[0].Before.Offset != lost.End || r.Backups[0].RestorableTo.Offset != lost.Start {
		t.Errorf("an hour ago: %+v", r)
	}
	p.must(os.RemoveAll(p.path(manifest.LogsPrefix(envName))))
	if r := verify(); len(r.Gaps) != 1 || r.Backups[0].State != restore.StateGap || r.Newest != "" {
		t.Errorf("without any log: %+v", r)
	}
	if _, err := restore.Verify(context.Background(), p.repo, restore.VerifyOptions{Env: "nobody"}); err == nil {
		t.Error("there is no such environment")
	}
}
