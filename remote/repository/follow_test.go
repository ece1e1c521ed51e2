package repository_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
)

var line = manifest.Timeline{1}

// names is a store that has nothing but names, in order.
type names []string

func (n names) Put(context.Context, string, io.ReaderAt, int64, remote.PutOptions) error {
	return errors.ErrUnsupported
}

func (n names) Open(context.Context, string, int64, int64) (io.ReadCloser, error) {
	return nil, errors.ErrUnsupported
}

func (n names) Stat(context.Context, string) (remote.Info, error) {
	return remote.Info{}, errors.ErrUnsupported
}
func (n names) Delete(context.Context, []string) error { return errors.ErrUnsupported }
func (n names) Classify(error) remote.Kind             { return remote.Unknown }

// List counts a request for every thousand names, as S3 would.
func (n names) List(ctx context.Context, prefix, after string, fn func(remote.Info) error) (time.Time, error) {
	at, found := slices.BinarySearch(n, max(prefix, after))
	if found {
		at++
	}
	for i, key := range n[at:] {
		if i%1000 == 0 {
			remote.CountRequest(ctx, remote.RequestList)
		}
		if len(key) < len(prefix) || key[:len(prefix)] != prefix {
			break
		}
		if err := fn(remote.Info{Key: key, Size: 1}); err != nil {
			return time.Time{}, err
		}
	}
	return time.Time{}, nil
}

func stored(list []manifest.SegmentName) (*repository.Repository, *remote.Bucket) {
	var n names
	for _, s := range list {
		n = append(n, s.Key("mail"))
	}
	n = append(n, "mail/logs/other", "mail/logs/"+line.String()+"/foreign", "mail/maps/x")
	slices.Sort(n)
	b := remote.New(slices.Compact(n), remote.Options{RetryFor: -1})
	return &repository.Repository{Bucket: b}, b
}

// merged are the segments of a log file that was shipped so many times, as watch does it: ship number k, if that is a multiple of r, of r² and so on, covers
// as many before it.
func merged(file uint32, ships, r int, sealed bool) (list []manifest.SegmentName) {
	const step = 100
	for k := 1; k <= ships; k++ {
		back := 1
		for r > 1 && k%(back*r) == 0 {
			back *= r
		}
		list = append(list, manifest.SegmentName{Timeline: line, File: file, Start: uint32(step * (k - back)), End: uint32(step * k), LastCommit: int64(file)*1e6 + int64(k)})
	}
	if sealed {
		list = append(list, manifest.SegmentName{Timeline: line, File: file, End: uint32(step*ships + 1), Sealed: true, LastCommit: int64(file)*1e6 + int64(ships)})
	}
	return list
}

// randomLog are segments as several hosts, kills and lost objects leave them, or no order at all.
func randomLog(rnd *rand.Rand) (list []manifest.SegmentName) {
	if rnd.IntN(3) == 0 {
		for range rnd.IntN(60) {
			start := rnd.IntN(12)
			s := manifest.SegmentName{Timeline: line, File: uint32(1 + rnd.IntN(3)), Start: uint32(start), End: uint32(start + 1 + rnd.IntN(5))}
			if rnd.IntN(8) == 0 {
				s.Sealed, s.End = true, 17
			}
			list = append(list, s)
		}
		return list
	}
	files := 1 + rnd.IntN(4)
	for f := 1; f <= files; f++ {
		ships := rnd.IntN(200)
		for range 1 + rnd.IntN(2) { // hosts
			sealed := f < files && rnd.IntN(6) > 0
			list = append(list, merged(uint32(f), ships, 1+rnd.IntN(4), sealed)...)
			if rnd.IntN(3) == 0 { // out of step with the others
				for i := range list {
					if s := &list[i]; s.File == uint32(f) && s.Start > 0 && rnd.IntN(4) == 0 {
						s.Start -= uint32(rnd.IntN(50))
						s.End -= uint32(rnd.IntN(50))
					}
				}
			}
		}
	}
	lose := rnd.IntN(20)
	return slices.DeleteFunc(list, func(manifest.SegmentName) bool { return lose == 0 && rnd.IntN(40) == 0 })
}

func torture() int {
	n, err := strconv.Atoi(os.Getenv("BDBVAULT_TORTURE"))
	if err != nil {
		return 1
	}
	return max(n, 1)
}

// TestFollowLogAsChain: by jumps the log reaches as far as over the list of all segments, what is picked is unbroken, and a gap is seen as one.
func TestFollowLogAsChain(t *testing.T) {
	for i := range 600 * torture() {
		seed := uint64(i)
		if s, err := strconv.ParseUint(os.Getenv("BDBVAULT_SEED"), 10, 64); err == nil {
			seed = s
		}
		rnd := rand.New(rand.NewPCG(seed, 1))
		list := randomLog(rnd)
		chain := manifest.NewChain(line, list)
		repo, _ := stored(list)
		restore := repository.Lists(1+rnd.IntN(40), 1<<30)
		first := uint32(1 + rnd.IntN(2))
		var limit bdb.LSN
		stop := func(repository.Segment) bool { return false }
		if rnd.IntN(2) == 0 {
			limit = bdb.LSN{File: uint32(1 + rnd.IntN(4)), Offset: uint32(rnd.IntN(20000))}
			stop = func(s repository.Segment) bool { return !s.EndLSN().Before(limit) }
		}
		want := chain.Follow(first, limit)
		piece, err := repo.FollowLog(t.Context(), "mail", line, first, stop)
		restore()
		if err == nil {
			err = unbroken(piece, first, list)
		}
		if reached := !limit.IsZero() && !piece.End().Before(limit); err == nil && !reached && piece.End().Before(want.End) {
			err = fmt.Errorf("reaches %s, want %s", piece.End(), want.End)
		}
		if newest, ok := chain.Newest(); err == nil && ok && limit.IsZero() && newest.File >= first {
			err = gapSeen(t, repo, piece, newest)
		}
		if err != nil {
			t.Fatalf("BDBVAULT_SEED=%d: %v", seed, err)
		}
	}
}

func unbroken(p *repository.LogPiece, first uint32, all []manifest.SegmentName) error {
	at, sealed := bdb.LSN{File: first}, false
	for _, s := range p.Segments {
		if sealed {
			at = bdb.LSN{File: at.File + 1}
		}
		if s.File != at.File || s.Start > at.Offset || s.EndLSN().Before(at) || !slices.Contains(all, s.SegmentName) {
			return fmt.Errorf("segment %s behind %s", s.SegmentName, at)
		}
		at, sealed = s.EndLSN(), s.Sealed
	}
	if p.End() != at {
		return fmt.Errorf("ends at %s, its segments at %s", p.End(), at)
	}
	return nil
}

func gapSeen(t *testing.T, repo *repository.Repository, p *repository.LogPiece, newest manifest.SegmentName) error {
	end := bdb.LSN{File: newest.File, Offset: newest.End}
	if gap := p.End().Before(end); gap != (p.Next != nil) {
		return fmt.Errorf("ends at %s of %s; next is %v", p.End(), end, p.Next)
	}
	if p.Next == nil {
		return nil
	}
	if got, err := repo.NewestLog(t.Context(), "mail", line, *p.Next); got != end {
		return fmt.Errorf("newest log ends at %s, want %s: %v", got, end, err)
	}
	return nil
}

// TestLogPieces: pieces and gaps together are all that is stored.
func TestLogPieces(t *testing.T) {
	list := slices.Concat(merged(3, 10, 1, true), merged(4, 5, 1, true), merged(6, 8, 1, false)[2:], merged(8, 3, 1, false))
	repo, _ := stored(list)
	pieces, whole, err := repo.LogPieces(t.Context(), "mail", line, 0, 0)
	var got []string
	for _, p := range pieces {
		got = append(got, fmt.Sprintf("%s-%s", p.Start, p.End()))
	}
	if want := []string{"3/0-4/501", "6/200-6/800", "8/0-8/300"}; err != nil || !whole || !slices.Equal(got, want) {
		t.Errorf("%v %v, want %v", got, err, want)
	}
	lines, err := repo.Timelines(t.Context(), "mail")
	if err != nil || !slices.Equal(lines, []manifest.Timeline{line}) {
		t.Errorf("%v %v", lines, err)
	}
}

// TestFollowLogRequests: a day of shipping every second into one log file, and a month of such days before it, cost few requests.
func TestFollowLogRequests(t *testing.T) {
	const day, r = 86400, 32
	var list []manifest.SegmentName
	for file := range uint32(30) {
		list = append(list, merged(file+1, day/10, r, true)...)
	}
	list = append(list, merged(31, day-1, r, false)...)
	repo, b := stored(list)
	for _, c := range []struct {
		first, most int
	}{{31, 100}, {30, 101}, {1, 130}} {
		before := b.Stats().Requests.List
		piece, err := repo.FollowLog(t.Context(), "mail", line, uint32(c.first), nil)
		n := b.Stats().Requests.List - before
		want := manifest.NewChain(line, list).Follow(uint32(c.first), bdb.LSN{})
		if err != nil || piece.End() != want.End || len(piece.Segments) != len(want.Segments) || piece.Next != nil {
			t.Errorf("from %d: %d segments to %s (%v), want %d to %s", c.first, len(piece.Segments), piece.End(), err, len(want.Segments), want.End)
		}
		t.Logf("from log file %d: %d segments by %d requests, of %d stored", c.first, len(piece.Segments), n, len(list))
		if n > int64(c.most) {
			t.Errorf("from %d: %d requests", c.first, n)
		}
	}
}

// TestFollowBackupReachesIt: that a target lies before the log a backup needs is no gap in that log.
func TestFollowBackupReachesIt(t *testing.T) {
	repo, _ := stored(append(merged(3, 4, 1, true), merged(4, 4, 1, false)...))
	m := &manifest.Manifest{Environment: "mail", Timeline: line, NeededFrom: bdb.LSN{File: 3, Offset: 28}, ConsistentAt: bdb.LSN{File: 4, Offset: 200}}
	piece, err := repo.FollowBackup(t.Context(), m, func(repository.Segment) bool { return true })
	if err != nil || piece.End() != m.ConsistentAt {
		t.Errorf("up to %s: %v", piece.End(), err)
	}
}

// shipping is a store into which somebody ships while it is listed: each answer shows what was stored in the meantime.
type shipping struct {
	names
	list  []manifest.SegmentName // in the order in which it is shipped
	shown int
	pace  func() int
}

func (s *shipping) List(ctx context.Context, prefix, after string, fn func(remote.Info) error) (time.Time, error) {
	var n names
	for _, name := range s.list[:s.shown] {
		n = append(n, name.Key("mail"))
	}
	slices.Sort(n)
	s.shown = min(len(s.list), s.shown+s.pace())
	return n.List(ctx, prefix, after, fn)
}

// TestFollowLogThatIsShipped: whoever follows the log while it is shipped finds all that was stored when he began, and no gap where there never was one.
func TestFollowLogThatIsShipped(t *testing.T) {
	for i := range 300 * torture() {
		seed := uint64(i)
		if s, err := strconv.ParseUint(os.Getenv("BDBVAULT_SEED"), 10, 64); err == nil {
			seed = s
		}
		rnd := rand.New(rand.NewPCG(seed, 2))
		s := &shipping{pace: func() int { return rnd.IntN(60) }}
		for file := range uint32(2 + rnd.IntN(4)) {
			s.list = append(s.list, merged(file+1, 1+rnd.IntN(150), 1+rnd.IntN(5), true)...)
		}
		s.shown = 1 + rnd.IntN(len(s.list))
		there := manifest.NewChain(line, s.list[:s.shown]).Follow(1, bdb.LSN{})
		repo := &repository.Repository{Bucket: remote.New(s, remote.Options{RetryFor: -1})}
		restore := repository.Lists(1+rnd.IntN(40), 1<<30)
		piece, err := repo.FollowLog(t.Context(), "mail", line, 1, nil)
		restore()
		if err == nil {
			err = unbroken(piece, 1, s.list)
		}
		if err != nil || piece.Next != nil || piece.End().Before(there.End) {
			t.Fatalf("BDBVAULT_SEED=%d: reaches %s of %s, next is %v: %v", seed, piece.End(), there.End, piece.Next, err)
		}
	}
}
