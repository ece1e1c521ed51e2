package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
)

// A home and its copy have the same log, so both continue the timeline that is stored. As soon as each has gone its own way, what they store there
// fits together no more, and each looks to itself as if all was well. So a watch looks from time to time, before it sends more, what else is stored: one LIST.
//
// It looks from where the stored log ended two looks ago. If another watch of that kind sent its first log before this one's last look, that
// log begins there or later; so of the two that mix their logs both notice, and what is mixed is no more than both sent between two looks.

// lookAround is the least time between two looks, as long as there is something to send. Tests make it shorter.
var lookAround = time.Minute

const (
	// lookShips is how many times ShipEvery it is at least, up to lookRarely: a look costs as much as a ship.
	lookShips  = 10
	lookRarely = 10 * time.Minute
	// lookNames bounds what is remembered of one's own: after so many segments it is time for a look too.
	lookNames = 3000
	// lookLists bounds the requests of one look.
	lookLists = 8
	// lookHeaders is how many segments of others are looked at each time, the newest first.
	lookHeaders = 4
)

// around is what a sitting knows of the segments that were stored lately.
type around struct {
	looked time.Time
	from   [2]bdb.LSN // where the stored log ended at the last look and at the one before
	own    [2]map[manifest.SegmentName]bool
}

func (a *around) begin(end bdb.LSN) {
	*a = around{looked: time.Now(), from: [2]bdb.LSN{end, end}, own: [2]map[manifest.SegmentName]bool{{}, {}}}
}

func (a *around) stored(n manifest.SegmentName) { a.own[0][n] = true }

func (a *around) turn(end bdb.LSN) {
	a.looked = time.Now()
	a.from = [2]bdb.LSN{end, a.from[0]}
	a.own = [2]map[manifest.SegmentName]bool{{}, a.own[0]}
}

// lookEvery is the time between two looks.
func lookEvery(ship time.Duration) time.Duration {
	return max(lookAround, min(lookShips*ship, lookRarely))
}

// lookAroundNow makes sure, if it was not done lately, that nobody else's log is stored on this timeline.
func (s *sitting) lookAroundNow(ctx context.Context) error {
	if time.Since(s.around.looked) < lookEvery(s.w.opt.ShipEvery) && len(s.around.own[0]) < lookNames {
		return nil
	}
	list, err := s.w.repo.LogFrom(ctx, s.w.opt.Env, s.ship.timeline, s.around.from[1], lookLists)
	if err != nil {
		return err
	}
	left := lookHeaders
	for _, n := range slices.Backward(list) {
		if s.around.own[0][n.SegmentName] || s.around.own[1][n.SegmentName] {
			continue
		}
		if left--; left < 0 {
			break
		}
		if err := s.fits(ctx, n.SegmentName); err != nil {
			return err
		}
	}
	s.around.turn(s.end())
	return nil
}

// fits looks whether a segment that this watch did not store is part of this log: another run may have sent the same.
func (s *sitting) fits(ctx context.Context, n manifest.SegmentName) error {
	h, err := s.w.repo.SegmentHeader(ctx, s.w.opt.Env, n)
	if errors.Is(err, remote.ErrNotFound) || errors.Is(err, manifest.ErrDamaged) {
		return nil // pruned by now, or nobody's log
	}
	if err != nil {
		return err
	}
	files, err := s.env.LogFiles()
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Number == n.File && isFile(f.Path, sealedSegment{name: n, hash: h.EndHash}) {
			return nil
		}
	}
	if len(files) == 0 || n.File < files[0].Number {
		return nil // removed here: nothing tells
	}
	return s.ship.mixed(s.end(), h)
}

// mixedNote says, in the state, that a timeline has to be left: another environment's log is stored on it too.
type mixedNote struct {
	Timeline manifest.Timeline `json:"timeline"`
	Reason   string            `json:"reason"`
}

// mixed is the error of a timeline on which a segment of another log was found. Nothing continues it from here on.
func (s *shipper) mixed(at bdb.LSN, h *manifest.SegmentHeader) error {
	reason := fmt.Sprintf("the log of %s on %s is shipped under the same name, and has parted from this one: give it a name of its own (--env)", h.Home, h.Host)
	err := s.st.save(stateMixed, mixedNote{s.timeline, reason})
	return errors.Join(&ChainError{Timeline: s.timeline, Shipped: at, Reason: reason}, err)
}

// wasMixed refuses to continue a timeline that was found to be mixed before.
func (s *shipper) wasMixed() error {
	var note mixedNote
	if !s.st.load(stateMixed, &note) || note.Timeline != s.timeline {
		return nil
	}
	at := bdb.LSN{File: s.first}
	if s.last != nil {
		at = s.last.EndLSN()
	}
	return &ChainError{Timeline: s.timeline, Shipped: at, Reason: note.Reason}
}
