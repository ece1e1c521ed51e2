package archive

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
)

// TestMergedTails ships a log file in very many tails, as shippers that start anew now and then do, and looks at what a restore would have to fetch and how
// much was sent.
func TestMergedTails(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("BDBVAULT_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("BDBVAULT_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for _, c := range []struct {
		name string
		size func() uint32
		most int     // segments that cover the file, at any time
		sent float64 // bytes sent per byte of log
	}{
		{"a hundred bytes at a time", func() uint32 { return 100 }, 100, 8},
		{"a kilobyte at a time", func() uint32 { return 1 << 10 }, 100, 6},
		{"as it comes", func() uint32 { return 40 << rnd.IntN(12) }, 130, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			var names []manifest.SegmentName
			tl := tail{}
			sent, most := 0.0, 0
			for n := range 20000 {
				start, end := tl.next().at, tl.end()+c.size()
				if end > 10<<20 {
					break
				}
				if n%3000 == 2999 { // another process goes on, knowing only the names
					chain := manifest.NewChain(manifest.Timeline{}, names)
					tl.parts = rowOf(1, chain.Follow(1, atOffset(tl.end())).Segments)
				}
				tl.add(part{start: start, end: end, before: blake3.New()}, mark{})
				sent += float64(end - start)
				names = append(names, manifest.SegmentName{File: 1, Start: start, End: end})
				if n%499 == 0 {
					cover := manifest.NewChain(manifest.Timeline{}, names).Follow(1, atOffset(end))
					if cover.End.Offset != end {
						t.Fatalf("segments reach %d of %d", cover.End.Offset, end)
					}
					most = max(most, len(cover.Segments))
				}
			}
			factor := sent / float64(tl.end())
			t.Logf("%d segments over %d bytes: at most %d needed, %.1f times sent", len(names), tl.end(), most, factor)
			if most > c.most || factor > c.sent {
				t.Errorf("%d segments are needed, %.1f times the log is sent; at most %d and %.0f", most, factor, c.most, c.sent)
			}
		})
	}
}

func atOffset(n uint32) bdb.LSN { return bdb.LSN{File: 1, Offset: n} }

// TestFullDueWhenTheClockWasSetBack: the last full backup seems to lie in the future, and the next one must not wait for that.
func TestFullDueWhenTheClockWasSetBack(t *testing.T) {
	f := newFullState()
	if next := f.next(Every(time.Hour)); !next.IsZero() {
		t.Errorf("before anything is known of backups, one is due at %v", next)
	}
	f.last = time.Now().Add(-2 * time.Hour)
	if next := f.next(Every(time.Hour)); next.After(time.Now()) {
		t.Errorf("due at %v", next)
	}
	f.last = time.Now().Add(24 * time.Hour)
	if next := f.next(Every(time.Hour)); time.Until(next) > time.Hour {
		t.Errorf("due at %v", next)
	}
	if next := f.next(nil); !next.IsZero() {
		t.Errorf("without a schedule, due at %v", next)
	}
}
