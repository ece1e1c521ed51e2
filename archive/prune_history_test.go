package archive_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/remotetest"
	"bdbvault/remote/repository"
)

const (
	grace = manifest.DefaultGrace
	stall = grace / 4 // the longest that a prune stands still
)

// past is a random history of one environment, in a store whose clock it turns, with a small account of its own of what must be there.
type past struct {
	t     *testing.T
	rng   *rand.Rand
	now   time.Time
	store remote.Driver
	repo  *repository.Repository
	trace []string

	timeline manifest.Timeline
	file     uint32 // the log ends here
	offset   uint32
	tails    []uint32 // ends of the segments of the open file
	parent   *manifest.Manifest
	running  []*run // backups that have not come to their commit
	commits  []commitAt
	inside   bool                         // a prune, between two of its steps
	unneeded map[string]time.Time         // since when no listed backup has needed an object
	missed   map[string]time.Time         // since when a prune that came to its end should have condemned it
	gone     map[manifest.BackupID]string // backups that a prune took: by which
	prunes   []manifest.BackupID
	held     map[manifest.BackupID]bool // whoever asked was told so
	released bool                       // one, since the last prune began
	killed   time.Time                  // the last prune that was
}

// commitAt is the end of a segment.
type commitAt struct {
	timeline manifest.Timeline
	lsn      bdb.LSN
	time     time.Time
}

// run is a backup that goes on: what it will name, and its last look.
type run struct {
	m      *manifest.Manifest
	looked bool
}

func newPast(t *testing.T, seed uint64) *past {
	p := &past{t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		unneeded: map[string]time.Time{}, missed: map[string]time.Time{}, gone: map[manifest.BackupID]string{}, held: map[manifest.BackupID]bool{}}
	p.store = remotetest.NewMemory(func() time.Time { return p.now })
	bucket := remote.New(p.store, remote.Options{RetryFor: -1})
	var err error
	if p.repo, err = repository.Init(t.Context(), bucket, "test"); err != nil {
		t.Fatal(err)
	}
	p.put("test/drills/20260101T000000Z-0000.json", []byte("not a prune's business"))
	p.put("test/packs/ab/no-pack", []byte("not ours"))
	p.fork()
	return p
}

func (p *past) say(format string, args ...any) {
	p.trace = append(p.trace, p.now.Format("01-02 15:04:05 ")+fmt.Sprintf(format, args...))
}

func (p *past) fail(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(p.trace, "\n"))
}

func (p *past) put(key string, data []byte) {
	if err := repository.PutOnce(p.t.Context(), p.repo.Bucket, key, data); err != nil && !errors.Is(err, remote.ErrExists) {
		p.fail("put %s: %v", key, err)
	}
}

func (p *past) pass(d time.Duration) {
	p.now = p.now.Add(time.Duration(p.rng.Int64N(int64(d))) + time.Second)
}

// fork begins a timeline.
func (p *past) fork() {
	for i := range p.timeline {
		p.timeline[i] = byte(p.rng.Uint32())
	}
	p.file, p.offset, p.tails = 1+uint32(p.rng.IntN(3)), 0, nil
	p.say("fork: timeline %s", p.timeline)
}

// ship stores a tail; now and then a longer one that takes the place of some, or all of the file, which is then sealed.
func (p *past) ship() {
	p.offset += 1 + uint32(p.rng.IntN(50))
	n := manifest.SegmentName{Timeline: p.timeline, File: p.file, End: p.offset, LastCommit: p.now.Unix()}
	if k := len(p.tails); k > 0 {
		n.Start = p.tails[p.rng.IntN(k)]
	}
	p.tails = append(p.tails, p.offset)
	if p.rng.IntN(3) == 0 {
		n.Start, n.Sealed = 0, true
		p.file, p.offset, p.tails = p.file+1, 0, nil
	}
	p.put(n.Key("test"), bytes.Repeat([]byte("r"), int(n.End-n.Start)))
	p.commits = append(p.commits, commitAt{p.timeline, bdb.LSN{File: n.File, Offset: n.End}, time.Unix(n.LastCommit, 0)})
	p.say("ship %s", n)
}

func (p *past) object(pack bool) (h manifest.Hash, size int64) {
	data := make([]byte, 8+p.rng.IntN(100))
	for i := range data {
		data[i] = byte(p.rng.Uint32())
	}
	h = sha256.Sum256(data)
	if key := manifest.MapKey("test", h); !pack {
		p.put(key, data)
	} else {
		p.put(manifest.PackKey("test", h), data)
	}
	return h, int64(len(data))
}

// begin starts a backup: it stores new packs and a map and takes some packs over from the parent.
func (p *past) begin() {
	if p.parent != nil && p.rng.IntN(6) == 0 {
		p.fork()
	}
	at := p.now
	if p.parent != nil && !at.After(p.parent.ID.Time()) {
		at = p.parent.ID.Time().Add(time.Second)
	}
	m := manifest.New("test", manifest.BackupID(fmt.Sprintf("%s%04x", manifest.NewBackupID(at)[:17], p.rng.IntN(1<<16))))
	m.Timeline, m.Dirs, m.Started = p.timeline, []manifest.Dir{{Name: "."}}, p.now
	m.NeededFrom = bdb.LSN{File: p.file}
	if len(p.tails) == 0 {
		p.ship()
	}
	if p.parent != nil && p.parent.Timeline == p.timeline && p.rng.IntN(3) == 0 {
		m.NeededFrom.File = max(p.parent.NeededFrom.File, m.NeededFrom.File-1)
	}
	p.ship()
	last := p.commits[len(p.commits)-1]
	m.ConsistentAt, m.ConsistentTime, m.Finished = last.lsn, last.time, p.now
	if p.parent != nil {
		for _, k := range p.parent.Packs {
			if p.rng.IntN(3) > 0 {
				m.Packs = append(m.Packs, k)
			}
		}
	}
	for range 1 + p.rng.IntN(3) {
		h, size := p.object(true)
		m.Packs = append(m.Packs, manifest.Pack{Name: h, Size: size, Live: size})
	}
	h, size := p.object(false)
	m.Files = []manifest.File{{Path: "a.db", PageSize: 512, BlockSize: 512, Map: h, MapSize: size}}
	p.running = append(p.running, &run{m: m})
	p.say("begin %s on %s, log from %d to %s", m.ID, m.Timeline, m.NeededFrom.File, m.ConsistentAt)
}

// look is a backup's last look. One that finds something missing or condemned is given up.
func (p *past) look(r *run) bool {
	ctx := p.t.Context()
	condemned := map[string]bool{}
	date, err := p.repo.Bucket.List(ctx, manifest.CondemnedPrefix("test"), "", func(i remote.Info) error {
		data, err := p.repo.Bucket.Get(ctx, i.Key, 1<<30)
		if err != nil {
			return err
		}
		c, err := manifest.DecodeCondemned(data)
		if err != nil {
			return err
		}
		for _, h := range c.Packs {
			condemned[manifest.PackKey("test", h)] = true
		}
		for _, h := range c.Maps {
			condemned[manifest.MapKey("test", h)] = true
		}
		for _, s := range c.Segments {
			condemned[manifest.LogsPrefix("test")+s] = true
		}
		return nil
	})
	if err != nil {
		p.fail("look: %v", err)
	}
	have := p.objects()
	for key := range condemned {
		delete(have, key)
	}
	if lacks := whatLacks(have, r.m); lacks != "" {
		p.say("%s is given up: %s", r.m.ID, lacks)
		return false
	}
	r.m.Look, r.looked = date.UTC(), true
	p.say("%s has looked", r.m.ID)
	return true
}

// backup takes one that goes on a step further, or kills it.
func (p *past) backup() {
	i := p.rng.IntN(len(p.running))
	r := p.running[i]
	drop := func() { p.running = slices.Delete(p.running, i, i+1) }
	switch {
	case p.rng.IntN(6) == 0:
		p.say("kill %s", r.m.ID)
		drop()
	case !r.looked:
		if !p.look(r) {
			drop()
		}
	default:
		p.commit(r)
		drop()
	}
}

func (p *past) commit(r *run) {
	data, err := r.m.Encode()
	if err != nil {
		p.fail("%v", err)
	}
	p.put(manifest.ManifestKey("test", r.m.ID), data)
	void := p.now.Sub(r.m.Look) > grace/2
	p.say("commit %s, void %v", r.m.ID, void)
	if !void && (p.parent == nil || r.m.ID > p.parent.ID) {
		p.parent = r.m
	}
}

// objects lists the store by key with sizes.
func (p *past) objects() map[string]int64 {
	all := map[string]int64{}
	if _, err := p.repo.Bucket.List(p.t.Context(), "", "", func(i remote.Info) error {
		all[i.Key] = i.Size
		return nil
	}); err != nil {
		p.fail("%v", err)
	}
	return all
}

// names lists the keys of the packs and maps of a backup.
func names(m *manifest.Manifest) map[string]int64 {
	keys := map[string]int64{}
	for _, k := range m.Packs {
		keys[manifest.PackKey("test", k.Name)] = k.Size
	}
	for _, f := range m.Files {
		keys[manifest.MapKey("test", f.Map)] = f.MapSize
	}
	return keys
}

// whatLacks names what keeps a backup from being restored; empty if nothing does.
func whatLacks(have map[string]int64, m *manifest.Manifest) string {
	for key, size := range names(m) {
		if got, ok := have[key]; !ok || got != size {
			return key
		}
	}
	if !carried(have, m, m.ConsistentAt) {
		return "log up to " + m.ConsistentAt.String()
	}
	return ""
}

// carried reports whether the log in the store carries a backup to a place: one segment after the other, wherever it fits.
func carried(have map[string]int64, m *manifest.Manifest, to bdb.LSN) bool {
	at := bdb.LSN{File: m.NeededFrom.File}
	for moved := true; moved && at.Before(to); {
		moved = false
		for key := range have {
			s, err := manifest.ParseSegmentKey("test", key)
			if err == nil && s.Timeline == m.Timeline && s.File == at.File && s.Start <= at.Offset && s.End > at.Offset {
				if at, moved = (bdb.LSN{File: s.File, Offset: s.End}), true; s.Sealed && at.Before(to) {
					at = bdb.LSN{File: s.File + 1}
				}
				break
			}
		}
	}
	return !at.Before(to)
}

// backups are those listed that are not void.
func (p *past) backups() map[manifest.BackupID]*manifest.Manifest {
	list, err := p.repo.Backups(p.t.Context(), "test", "")
	if err != nil {
		p.fail("%v", err)
	}
	all := map[manifest.BackupID]*manifest.Manifest{}
	for _, s := range list {
		m, err := p.repo.Manifest(p.t.Context(), "test", s)
		if _, void := errors.AsType[*repository.VoidError](err); void {
			continue
		}
		if err != nil {
			p.fail("%v", err)
		}
		all[s.ID] = m
	}
	return all
}

// account notes since when each object has been needed by no backup.
func (p *past) account() {
	needed := map[string]bool{}
	for _, m := range p.backups() {
		for key := range names(m) {
			needed[key] = true
		}
	}
	for key := range p.objects() {
		if !strings.HasPrefix(key, "test/packs/") && !strings.HasPrefix(key, "test/maps/") || strings.HasSuffix(key, "no-pack") {
			continue
		}
		if needed[key] {
			delete(p.unneeded, key)
			delete(p.missed, key)
		} else if _, ok := p.unneeded[key]; !ok {
			p.unneeded[key] = p.now
		}
	}
}

func (p *past) policy() manifest.Policy {
	for {
		var q manifest.Policy
		if p.rng.IntN(2) == 0 {
			q.Last = 1 + p.rng.IntN(3)
		}
		if p.rng.IntN(2) == 0 {
			q.Daily = 1 + p.rng.IntN(4)
		}
		if p.rng.IntN(4) == 0 {
			q.Within = manifest.Span{Days: 1 + p.rng.IntN(5)}
		}
		if p.rng.IntN(2) == 0 {
			q.Window = &manifest.Span{Hours: p.rng.IntN(100)}
		}
		if q.Check() == nil {
			return q
		}
	}
}

// mustStay is the account of a policy: last, daily and within only.
func mustStay(q manifest.Policy, all map[manifest.BackupID]*manifest.Manifest, holds map[manifest.BackupID]bool) map[manifest.BackupID]bool {
	var ids []manifest.BackupID
	stay := map[manifest.BackupID]bool{}
	for id := range all {
		if ids = append(ids, id); holds[id] {
			stay[id] = true
		}
	}
	slices.Sort(ids)
	slices.Reverse(ids)
	days := map[string]bool{}
	for i, id := range ids {
		if i < max(q.Last, 1) {
			stay[id] = true
		}
		day := id.Time().Format(time.DateOnly)
		if !days[day] && len(days) < q.Daily {
			days[day] = true
			stay[id] = true
		}
		if !q.Within.IsZero() && id.Time().After(ids[0].Time().Add(-time.Duration(q.Within.Days)*24*time.Hour)) {
			stay[id] = true
		}
	}
	if len(ids) > 0 && len(days) < q.Daily {
		stay[ids[len(ids)-1]] = true // too few days: the oldest too
	}
	return stay
}

var errKilled = errors.New("killed")

// prune runs one, which other things happen beside, and which may be killed, and checks what it did.
func (p *past) prune() {
	q := p.policy()
	p.account()
	before, listed, holds := p.objects(), p.backups(), p.holds()
	kill := p.rng.IntN(20)
	busy := p.rng.IntN(2) == 0
	p.say("prune %s", q.String())
	began := p.now
	p.inside, p.released = true, false
	res, err := archive.Prune(p.t.Context(), p.repo, archive.PruneOptions{Env: "test", Policy: q, Location: time.UTC, Step: func(step string) error {
		if kill--; kill == 0 {
			p.say("killed at %q", step)
			p.killed = p.now
			return errKilled
		}
		if busy {
			p.pass(stall / 6)
			p.something()
		}
		return nil
	}})
	p.inside = false
	if len(listed) == 0 && (err == nil || errors.Is(err, archive.ErrNoneUsable)) {
		return
	}
	if err != nil && !errors.Is(err, errKilled) {
		p.fail("prune: %v", err)
	}
	p.checkPrune(before, listed, began)
	if err != nil {
		return
	}
	for _, b := range res.Backups {
		if !b.Keep {
			p.gone[b.ID] = string(res.Prune)
		}
	}
	if res.Prune != "" {
		p.prunes = append(p.prunes, res.Prune)
	}
	if !busy {
		p.checkPolicy(q, listed, holds, before)
		p.checkDone(began)
	}
}

func (p *past) holds() map[manifest.BackupID]bool {
	holds := map[manifest.BackupID]bool{}
	for key := range p.objects() {
		if id, err := manifest.ParseHoldKey("test", key); err == nil {
			holds[id] = true
		}
	}
	return holds
}

// checkPrune holds of every prune, killed or not, whatever happened beside it.
func (p *past) checkPrune(before map[string]int64, listed map[manifest.BackupID]*manifest.Manifest, began time.Time) {
	after := p.objects()
	for id, m := range p.backups() {
		if lacks := whatLacks(after, m); lacks != "" {
			p.fail("backup %s is listed and lacks %s", id, lacks)
		}
	}
	for key := range before {
		if _, still := after[key]; still {
			continue
		}
		switch folder := strings.Split(key, "/")[1]; folder {
		case "packs", "maps":
			// The grace period runs from the list, behind which the prune may have stood still before it took the manifests.
			if since, ok := p.unneeded[key]; !ok || began.Sub(since) <= grace-stall {
				p.fail("%s is deleted, unneeded since %v", key, since)
			}
		case "logs", "condemned":
		case "backups":
			if id, err := manifest.ParseManifestKey("test", key); err == nil && listed[id] != nil && p.held[id] {
				p.fail("%s is held and taken", key)
			}
		case "holds":
			if !p.released {
				p.fail("%s is deleted", key)
			}
		default:
			p.fail("%s is deleted", key)
		}
	}
	p.account()
}

// checkPolicy holds of a prune that nothing happened beside: which backups are left, and which commits can be reached.
func (p *past) checkPolicy(q manifest.Policy, listed map[manifest.BackupID]*manifest.Manifest, holds map[manifest.BackupID]bool, before map[string]int64) {
	left := p.backups()
	want := mustStay(q, listed, holds)
	for id := range listed {
		if want[id] && left[id] == nil {
			p.fail("backup %s was to stay", id)
		}
		if !want[id] && left[id] != nil && q.Window == nil {
			p.fail("backup %s was to go", id)
		}
	}
	after := p.objects()
	newest := time.Time{}
	for _, c := range p.commits {
		if c.time.After(newest) {
			newest = c.time
		}
	}
	for _, c := range p.commits {
		reach := func(all map[manifest.BackupID]*manifest.Manifest, have map[string]int64) bool {
			for _, m := range all {
				if m.Timeline == c.timeline && !c.lsn.Before(m.ConsistentAt) && carried(have, m, c.lsn) {
					return true
				}
			}
			return false
		}
		if q.Window == nil || c.time.Before(newest.Add(-time.Duration(q.Window.Hours)*time.Hour)) || q.Window.IsZero() {
			continue
		}
		if reach(listed, before) && !reach(left, after) {
			p.fail("commit %s of %s at %v can't be reached any more", c.lsn, c.timeline, c.time)
		}
	}
}

// checkDone: what no backup has needed since a prune that came to its end, longer than the grace period ago, is gone.
func (p *past) checkDone(began time.Time) {
	after := p.objects()
	for key := range after {
		since, unneeded := p.unneeded[key]
		if !unneeded {
			continue
		}
		if at, ok := p.missed[key]; ok && began.Sub(at) > grace {
			p.fail("%s is still there, unneeded since %v, condemned at %v", key, since, at)
		}
		info, err := p.repo.Bucket.Stat(p.t.Context(), key)
		if err != nil {
			p.fail("%v", err)
		}
		if _, ok := p.missed[key]; !ok && began.Sub(info.Modified) > grace {
			p.missed[key] = p.now
		}
	}
}

func (p *past) hold() {
	var ids []manifest.BackupID
	for id := range p.backups() {
		ids = append(ids, id)
	}
	if slices.Sort(ids); len(ids) == 0 {
		return
	}
	id := ids[p.rng.IntN(len(ids))]
	if p.holds()[id] || p.rng.IntN(2) == 0 {
		held, err := archive.Release(p.t.Context(), p.repo, "test", id)
		p.say("release %s: %v %v", id, held, err)
		delete(p.held, id)
		p.released = true
		return
	}
	err := archive.Hold(p.t.Context(), p.repo, "test", id, "test")
	p.say("hold %s: %v", id, err)
	// The list of a prune that was killed may belong to one that goes on, for as long as that may delete.
	if p.held[id] = err == nil; err != nil && !p.inside && p.now.Sub(p.killed) > grace/2 {
		p.fail("hold %s: %v", id, err)
	}
}

// undo takes back one of the last prunes, in time or not.
func (p *past) undo() {
	ids := slices.Clone(p.prunes[max(0, len(p.prunes)-3):])
	for key := range p.objects() {
		if id, err := manifest.ParseCondemnedKey("test", key); err == nil && !slices.Contains(ids, id) {
			ids = append(ids, id) // of one that was killed, or that goes on
		}
	}
	if slices.Sort(ids); len(ids) == 0 {
		return
	}
	id := ids[p.rng.IntN(len(ids))]
	before := p.backups()
	res, err := archive.Undo(p.t.Context(), p.repo, "test", id)
	p.say("undo %s: %+v %v", id, res, err)
	late, is := &archive.TooLateError{}, &archive.NotCondemnedError{}
	switch {
	case errors.As(err, &late), errors.As(err, &is):
		return
	case err != nil:
		p.fail("undo: %v", err)
	case len(res.Lost) > 0:
		p.fail("undo: %+v is lost", res.Lost)
	}
	clear(p.missed) // what its list named beside is condemned by the next prune
	after, have := p.backups(), p.objects()
	for gone, by := range p.gone {
		if by == string(id) && before[gone] == nil && after[gone] == nil {
			p.fail("backup %s, which prune %s took, is not back", gone, id)
		}
	}
	for b, m := range after {
		if lacks := whatLacks(have, m); lacks != "" {
			p.fail("backup %s is back and lacks %s", b, lacks)
		}
	}
	for _, m := range after {
		if p.parent == nil || m.ID > p.parent.ID {
			p.parent = m
		}
	}
	p.account()
}

// something happens.
func (p *past) something() {
	switch n := p.rng.IntN(12); {
	case n < 3:
		p.ship()
	case n < 5:
		p.begin()
	case n < 9 && len(p.running) > 0:
		p.backup()
	case n == 9:
		p.hold()
	case n == 10:
		p.undo()
	}
	p.account()
}

func historySeeds(t *testing.T) []uint64 {
	if s, err := strconv.ParseUint(os.Getenv("BDBVAULT_SEED"), 10, 64); err == nil {
		return []uint64{s}
	}
	n := 50
	if k, err := strconv.Atoi(os.Getenv("BDBVAULT_TORTURE")); err == nil {
		n *= max(1, k)
	}
	first := uint64(time.Now().UnixNano())
	t.Logf("%d seeds from BDBVAULT_SEED=%d on", n, first)
	var seeds []uint64
	for i := range n {
		seeds = append(seeds, first+uint64(i))
	}
	return seeds
}

// TestPruneHistories: whatever happens in whatever order, each listed backup is whole after every prune, what a policy keeps is there, commits of the
// window can be reached, what nothing needs goes in time and not sooner, and nothing else is touched.
func TestPruneHistories(t *testing.T) {
	for _, seed := range historySeeds(t) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			p := newPast(t, seed)
			for range 60 {
				p.pass([]time.Duration{time.Hour, 8 * time.Hour, 20 * time.Hour}[p.rng.IntN(3)])
				if p.rng.IntN(4) == 0 {
					p.prune()
				} else {
					p.something()
				}
			}
		})
	}
}
