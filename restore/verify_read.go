package restore

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"
	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
)

const (
	// verifyReads is how many objects are read side by side, each through a buffer of verifyBuffer bytes.
	verifyReads  = 4
	verifyBuffer = 256 << 10
	turnFile     = "verify.json"
)

// turn is the part of a circle whose objects are read. Every object has its place on it, by its name, so that runs that go on where the one before
// ended come to all of them, also to those that were stored meanwhile.
type turn struct {
	from  uint32
	width uint64
}

func newTurn(from uint32, share float64) turn {
	return turn{from, uint64(math.Ceil(share * (1 << 32)))}
}

func (t turn) has(place uint32) bool { return uint64(place-t.from) < t.width }

// next is where the next run begins.
func (t turn) next() uint32 { return t.from + uint32(t.width) }

// savedTurn is what the state says: DIR/<repository id>/<env>/verify.json.
type savedTurn struct {
	Next uint32 `json:"next"`
}

func (v *verifier) turnPath() string {
	return filepath.Join(v.opt.StateDir, v.repo.Info.ID.String(), v.opt.Env, turnFile)
}

// loadTurn begins where the last run ended; where that is not known, anywhere, so that runs without a state come to all objects sooner or later.
func (v *verifier) loadTurn() turn {
	var s savedTurn
	data, err := os.ReadFile(v.turnPath())
	if v.opt.StateDir == "" || err != nil || json.Unmarshal(data, &s) != nil {
		s.Next = rand.Uint32()
	}
	return newTurn(s.Next, v.opt.ReadData)
}

func (v *verifier) saveTurn(t turn) {
	if v.opt.StateDir == "" {
		return
	}
	data, err := json.Marshal(savedTurn{t.next()})
	path := v.turnPath()
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = renameio.WriteFile(path, data, 0o600, renameio.WithTempDir(filepath.Dir(path)))
	}
	if err != nil {
		v.note("up to where objects were read could not be recorded, so the next run may read the same ones: %v", err)
	}
}

// unit is what is read in one go: a pack, a map, or all that is stored of one log file.
type unit struct {
	object   int
	small    *small                   // not nil: an object of which no backup has need
	segments []manifest.StoredSegment // not empty: a log file's
}

// logPlace is a log file.
type logPlace struct {
	timeline manifest.Timeline
	file     uint32
}

func (p logPlace) place() uint32 {
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(p.timeline[:len(p.timeline):len(p.timeline)], p.file))
	return binary.BigEndian.Uint32(sum[:])
}

// read reads the share that was asked for.
func (v *verifier) read(ctx context.Context) error {
	if v.opt.ReadData <= 0 {
		return nil
	}
	t := turn{0, 1 << 32}
	if v.opt.ReadData < 1 {
		t = v.loadTurn()
	}
	units, bytes := v.units(t)
	v.progress.Phase(PhaseRead, bytes)
	v.res.ReadBytes = bytes
	todo := make(chan unit)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(todo)
		for _, u := range units {
			select {
			case todo <- u:
			case <-gctx.Done():
				return context.Cause(gctx)
			}
		}
		return nil
	})
	for range verifyReads {
		g.Go(func() error {
			buf := make([]byte, verifyBuffer)
			for u := range todo {
				if err := v.readUnit(gctx, u, buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	v.checkLinks()
	if v.opt.ReadData < 1 {
		v.saveTurn(t)
	}
	return nil
}

// units are those of the turn, the log first.
func (v *verifier) units(t turn) (list []unit, bytes int64) {
	files := map[logPlace][]manifest.StoredSegment{}
	for _, s := range v.store.segments {
		if p := (logPlace{s.Timeline, s.File}); t.has(p.place()) {
			files[p] = append(files[p], s)
			bytes += s.Size
			v.res.ReadObjects++
		}
	}
	for _, segments := range files {
		slices.SortFunc(segments, func(a, b manifest.StoredSegment) int {
			return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End))
		})
		list = append(list, unit{segments: segments})
	}
	for i, n := range v.store.objects {
		if v.store.sizes[i] >= 0 && t.has(binary.BigEndian.Uint32(n.Hash[:])) {
			list = append(list, unit{object: i})
			bytes += v.store.sizes[i]
			v.res.ReadObjects++
		}
	}
	for i := range v.store.small {
		if s := &v.store.small[i]; t.has(s.place()) {
			list = append(list, unit{small: s})
			bytes += s.size
			v.res.ReadObjects++
		}
	}
	return list, bytes
}

// small is a mark or the record of a drill.
type small struct {
	key, kind string
	size      int64
}

func (s *small) place() uint32 {
	sum := sha256.Sum256([]byte(s.key))
	return binary.BigEndian.Uint32(sum[:])
}

func (v *verifier) readSmall(ctx context.Context, s *small) error {
	data, err := v.repo.Bucket.Get(ctx, s.key, maxSmall)
	switch {
	case err != nil:
	case s.kind == KindDrill:
		err = checkDrill(v.opt.Env, s.key, data)
	default:
		err = checkMark(v.opt.Env, s.key, data)
	}
	if _, newer := errors.AsType[*manifest.FormatError](err); newer || errors.Is(err, remote.ErrNotFound) {
		return nil
	}
	return err
}

func checkDrill(env, key string, data []byte) error {
	d, err := manifest.DecodeDrill(data)
	if err == nil && manifest.DrillKey(env, d.ID) != key {
		err = fmt.Errorf("it is that of drill %s of %s: %w", d.ID, d.Environment, manifest.ErrDamaged)
	}
	return err
}

func checkMark(env, key string, data []byte) error {
	d, err := manifest.DecodeDamaged(data)
	if err == nil && manifest.DamagedKey(env, d.Object) != key {
		err = fmt.Errorf("it is that of %s: %w", d.Object, manifest.ErrDamaged)
	}
	return err
}

func (v *verifier) readUnit(ctx context.Context, u unit, buf []byte) error {
	if u.small != nil {
		return v.twice(ctx, u.small.key, u.small.kind, u.small.size, func() error { return v.readSmall(ctx, u.small) })
	}
	if len(u.segments) == 0 {
		n := v.store.objects[u.object]
		return v.twice(ctx, n.Key(v.opt.Env), kind(n), v.store.sizes[u.object], func() error { return v.hash(ctx, n, buf) })
	}
	r := &logReader{v: v, ends: map[uint32]*logEnd{0: {bytes: blake3.New()}}}
	for i := range u.segments {
		s := &u.segments[i]
		r.forget(s.Start)
		err := v.twice(ctx, s.Key(v.opt.Env), KindSegment, s.Size, func() error { return r.segment(ctx, s.SegmentName) })
		if err != nil {
			return err
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.links[logPlace{u.segments[0].Timeline, u.segments[0].File}] = r.link
	return nil
}

// twice reads an object, and once more if something is wrong with it: what was spoilt on the way is not damaged.
func (v *verifier) twice(ctx context.Context, key, kind string, size int64, read func() error) error {
	err := read()
	if err != nil && inStore(err) && !errors.Is(err, remote.ErrNotFound) {
		err = read()
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil:
		if slices.Contains(v.store.marks, key) {
			v.mu.Lock()
			v.whole[key] = true
			v.mu.Unlock()
		}
	case kind == KindSegment && errors.Is(err, remote.ErrNotFound):
		v.note("%s was deleted while the verification went on", key)
	case errors.Is(err, remote.ErrArchived):
		v.mu.Lock()
		v.res.Archived++
		v.res.ReadObjects--
		v.res.ReadBytes -= size
		v.mu.Unlock()
	case inStore(err):
		v.fail(key, kind, err).read = true
	default:
		return err
	}
	v.progress.Add(size)
	v.progress.File(key)
	return nil
}

// hash holds the bytes of a pack or a map against its name.
func (v *verifier) hash(ctx context.Context, n manifest.ObjectName, buf []byte) error {
	key := n.Key(v.opt.Env)
	rc, err := v.repo.Bucket.Open(ctx, key, 0, -1)
	if err != nil {
		return err
	}
	sum := sha256.New()
	_, err = io.CopyBuffer(sum, onlyReader{rc}, buf)
	if err = errors.Join(err, rc.Close()); err != nil {
		return err
	}
	if manifest.Hash(sum.Sum(nil)) != n.Hash {
		return fmt.Errorf("object %s: its bytes do not have its name: %w", key, manifest.ErrDamaged)
	}
	return nil
}

// onlyReader hides other methods, which io.CopyBuffer would prefer to its buffer.
type onlyReader struct{ io.Reader }

// logReader reads the segments of one log file in the order of their beginnings, and looks whether each continues those that end there.
type logReader struct {
	v    *verifier
	ends map[uint32]*logEnd // by offset
	link logLink
}

// logEnd is what is known of a log file's bytes up to some offset.
type logEnd struct {
	bytes *blake3.Hasher // of them all; nil: not all of them were read
	named manifest.Hash  // their hash, as a segment's header has it
}

// logLink is what ties a log file to its neighbours: the place of its last record, which the header of the next one repeats.
type logLink struct {
	first    *manifest.SegmentName // the segment at its beginning; nil: it was not read
	before   uint32                // the last record of the file before, as that has it
	last     uint32
	lastRead bool
}

// forget drops what no segment from this offset on can continue.
func (r *logReader) forget(start uint32) {
	for at := range r.ends {
		if at < start {
			delete(r.ends, at)
		}
	}
}

// segment reads one.
func (r *logReader) segment(ctx context.Context, s manifest.SegmentName) error {
	begin := r.ends[s.Start]
	w := &segmentWriter{}
	if begin != nil && begin.bytes != nil {
		w.sum = begin.bytes.Clone()
	}
	h, err := r.v.repo.CopySegment(ctx, r.v.opt.Env, s, w)
	if err != nil {
		return err
	}
	if begin != nil && h.StartHash != begin.hash() {
		return fmt.Errorf("object %s: it does not continue the records before it: %w", s.Key(r.v.opt.Env), manifest.ErrDamaged)
	}
	end := &logEnd{bytes: w.sum, named: h.EndHash}
	if end.hash() != h.EndHash {
		return fmt.Errorf("object %s: its records and those before it do not have the hash that it names: %w", s.Key(r.v.opt.Env), manifest.ErrDamaged)
	}
	if old := r.ends[s.End]; old == nil || old.bytes == nil {
		r.ends[s.End] = end
	} else if old.named != end.named {
		return fmt.Errorf("object %s: it has other records than the segments that hold the same: %w", s.Key(r.v.opt.Env), manifest.ErrDamaged)
	}
	r.tie(&s, h, w.head)
	return nil
}

// hash is that of the bytes, or what a header says of them.
func (e *logEnd) hash() (h manifest.Hash) {
	if e.bytes == nil {
		return e.named
	}
	e.bytes.Clone().Sum(h[:0])
	return h
}

func (r *logReader) tie(s *manifest.SegmentName, h *manifest.SegmentHeader, head []byte) {
	if s.Sealed {
		r.link.last, r.link.lastRead = h.LastRecord, true
	}
	if s.Start == 0 && r.link.first == nil {
		if header, err := bdb.ParseLogHeader(head, nil); err == nil {
			r.link.first, r.link.before = s, header.Prev
		}
	}
}

// segmentWriter takes the records of a segment.
type segmentWriter struct {
	sum  *blake3.Hasher
	head []byte // of the first
}

func (w *segmentWriter) Write(p []byte) (int, error) {
	if n := min(len(p), bdb.LogHeaderSize-len(w.head)); n > 0 {
		w.head = append(w.head, p[:n]...)
	}
	if w.sum != nil {
		w.sum.Write(p)
	}
	return len(p), nil
}

// checkLinks looks whether each log file follows the one before.
func (v *verifier) checkLinks() {
	for at, l := range v.links {
		before, ok := v.links[logPlace{at.timeline, at.file - 1}]
		if !ok || !before.lastRead || l.first == nil || l.before == before.last {
			continue
		}
		v.fail(l.first.Key(v.opt.Env), KindSegment, fmt.Errorf("it follows a record at %s, but the log before it ends with one at %s: %w",
			bdb.LSN{File: at.file - 1, Offset: l.before}, bdb.LSN{File: at.file - 1, Offset: before.last}, manifest.ErrDamaged)).read = true
	}
}
