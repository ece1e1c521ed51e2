package restore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bdbvault/localenv/bdb"
	"bdbvault/localenv/envtest"
	"bdbvault/manifest"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

// TestEveryObjectIsChecked flips bits in every stored object, one at a time. The first bytes are where formats have fields that a
// decoder may have no use for, so they get more than their share.
func TestEveryObjectIsChecked(t *testing.T) {
	env, p := small(t)
	h := envtest.StartHold(t, env)
	h.Put("", "a.db", 9000, 50)
	h.FlushLog()
	p.ship(env.Home)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for _, key := range p.objects("") {
		info, err := os.Stat(p.path(key))
		if err != nil {
			t.Fatal(err)
		}
		bits := []int64{rnd.Int64N(8 * 8), rnd.Int64N(24 * 8), rnd.Int64N(min(48, info.Size()) * 8), info.Size()*8 - 1 - rnd.Int64N(64)}
		for range 3 {
			bits = append(bits, rnd.Int64N(info.Size()*8))
		}
		for _, bit := range bits {
			p.flip(key, bit)
			if err := p.whole(filepath.Join(t.TempDir(), "to")); err == nil {
				t.Errorf("bit %d of %s was changed, and nobody noticed", bit, key)
			}
			p.flip(key, bit)
		}
	}
	if err := p.whole(filepath.Join(t.TempDir(), "to")); err != nil {
		t.Error(err)
	}
}

// whole opens the repository anew and restores it.
func (p *packer) whole(to string) error {
	repo, err := repository.Open(context.Background(), p.repo.Bucket)
	if err != nil {
		return err
	}
	plan, err := restore.MakePlan(context.Background(), repo, "", restore.Target{})
	if err != nil {
		return err
	}
	_, err = restore.Restore(context.Background(), repo, plan, restore.Options{To: to, Verify: restore.VerifyNever})
	return err
}

func TestMissingPack(t *testing.T) {
	_, p := small(t)
	packs := p.objects(manifest.PacksPrefix(envName))
	if err := os.Remove(p.path(packs[0])); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "to")
	_, err := p.restoreTo(to, restore.Options{})
	var damage *restore.DamageError
	if !errors.As(err, &damage) || damage.Complete || len(damage.Files) == 0 || !errors.Is(err, manifest.ErrDamaged) {
		t.Fatalf("got %v", err)
	}
	for _, f := range damage.Files {
		if f.Path == "" || len(f.Pages) == 0 || !strings.Contains(packs[0], f.Object[len(f.Object)-64:]) {
			t.Errorf("named: %+v", f)
		}
	}
	if _, err := os.Stat(filepath.Join(to, restore.MarkerName)); err != nil {
		t.Errorf("a home that is not whole looks whole: %v", err)
	}
	if _, err := p.restoreTo(to, restore.Options{}); !errors.As(err, &damage) {
		t.Errorf("again: %v", err)
	}
}

func TestMissingMapAndSegment(t *testing.T) {
	for _, prefix := range []string{manifest.MapsPrefix(envName), manifest.LogsPrefix(envName)} {
		_, p := small(t)
		plan, err := restore.MakePlan(t.Context(), p.repo, envName, restore.Target{})
		if err != nil {
			t.Fatal(err)
		}
		key := p.objects(prefix)[0]
		if err := os.Remove(p.path(key)); err != nil {
			t.Fatal(err)
		}
		_, err = restore.Restore(t.Context(), p.repo, plan, restore.Options{To: filepath.Join(t.TempDir(), "to")})
		var damage *restore.DamageError
		if !errors.As(err, &damage) || !strings.Contains(err.Error(), key) {
			t.Errorf("without %s: %v", key, err)
		}
	}
}

// TestForeignSegment puts a segment of another history where one of ours belongs: as a fork under the same names would.
func TestForeignSegment(t *testing.T) {
	env, p := small(t)
	h := envtest.StartHold(t, env)
	h.Put("", "a.db", 9000, 50)
	h.FlushLog()
	p.ship(env.Home)
	keys := p.objects(manifest.LogsPrefix(envName))
	last := keys[len(keys)-1]
	name, err := manifest.ParseSegmentKey(envName, last)
	if err != nil {
		t.Fatal(err)
	}
	var records strings.Builder
	head, err := p.repo.CopySegment(t.Context(), envName, name, &records)
	if err != nil {
		t.Fatal(err)
	}
	forged := []byte(records.String())
	forged[len(forged)-1] ^= 1
	f, err := os.Create(p.path(last))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := manifest.WriteSegment(f, head, strings.NewReader(string(forged))); err != nil {
		t.Fatal(err)
	}
	var damage *restore.DamageError
	if _, err := p.restoreTo(filepath.Join(t.TempDir(), "to"), restore.Options{}); !errors.As(err, &damage) || len(damage.Logs) == 0 {
		t.Errorf("got %v", err)
	}
}

func TestLogEndBeforeCopiedPage(t *testing.T) {
	env, p := small(t)
	p.full(env.Home, func(m *manifest.Manifest) {
		m.MaxPageLSN = bdb.LSN{File: m.ConsistentAt.File, Offset: m.ConsistentAt.Offset + 100}
	})
	list, err := p.repo.Backups(t.Context(), envName, "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = restore.MakePlan(t.Context(), p.repo, envName, restore.Target{Backup: list[len(list)-1].ID})
	var end *restore.LogEndError
	if !errors.As(err, &end) {
		t.Errorf("asked for: %v", err)
	}
	plan, err := restore.MakePlan(t.Context(), p.repo, envName, restore.Target{})
	if err != nil || plan.Backup != list[0].ID || len(plan.Notes) == 0 {
		t.Errorf("latest: %+v, %v", plan, err)
	}
	_, err = restore.MakePlan(t.Context(), p.repo, envName, restore.Target{Backup: list[0].ID, LSN: bdb.LSN{File: 1, Offset: 28}})
	if !errors.As(err, &end) {
		t.Errorf("cut before consistent-at: %v", err)
	}
}

func TestNamesThatLeaveTheTarget(t *testing.T) {
	env, p := small(t)
	config := "set_data_dir /srv/elsewhere\n"
	p.full(env.Home, func(m *manifest.Manifest) { m.DBConfig = &config })
	to := filepath.Join(t.TempDir(), "to")
	_, err := p.restoreTo(to, restore.Options{})
	var refused *restore.ConfigError
	if !errors.As(err, &refused) || refused.Line != 1 {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(to); !os.IsNotExist(err) {
		t.Errorf("something was made before the refusal: %v", err)
	}
}

func TestNewerFormat(t *testing.T) {
	env, p := small(t)
	m := p.full(env.Home, nil)
	key := manifest.ManifestKey(envName, m.ID)
	text, err := os.ReadFile(p.path(key))
	if err != nil {
		t.Fatal(err)
	}
	write(t, p.path(key), strings.Replace(string(text), `"format":1`, `"format":99`, 1))
	_, err = p.restoreTo(filepath.Join(t.TempDir(), "to"), restore.Options{})
	var format *manifest.FormatError
	if !errors.As(err, &format) || format.Found != 99 {
		t.Errorf("got %v", err)
	}
}

func TestDamagedNewestBackup(t *testing.T) {
	env, p := small(t)
	first, err := p.repo.Backups(t.Context(), envName, "")
	if err != nil {
		t.Fatal(err)
	}
	m := p.full(env.Home, nil)
	p.flip(manifest.ManifestKey(envName, m.ID), 1000)
	plan, err := restore.MakePlan(t.Context(), p.repo, "", restore.Target{})
	if err != nil || plan.Backup != first[0].ID || !strings.Contains(fmt.Sprint(plan.Notes), string(m.ID)) {
		t.Errorf("plan %+v, %v", plan, err)
	}
	_, err = restore.MakePlan(t.Context(), p.repo, "", restore.Target{Backup: m.ID})
	var unusable *restore.UnusableError
	if !errors.As(err, &unusable) || !errors.Is(err, manifest.ErrDamaged) {
		t.Errorf("asked for: %v", err)
	}
	_, err = restore.MakePlan(t.Context(), p.repo, "", restore.Target{Backup: "20200101T000000Z-0000"})
	var none *restore.NotFoundError
	if !errors.As(err, &none) {
		t.Errorf("one that is not there: %v", err)
	}
}
