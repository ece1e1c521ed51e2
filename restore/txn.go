package restore

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote/repository"
)

// txnReads is how many segments are searched side by side. Each takes a decoder and one record.
const txnReads = 3

// beforeTxn plans the state before the commit of a transaction. Only reading the log tells where that is, so it is searched from the newest backup on
// backwards, each time the log from a backup to the next. Ids recur: what lies before the place that was found is not searched any more, and a note says so.
func (p *planner) beforeTxn(ctx context.Context, backups []repository.Stored) (*Plan, error) {
	upper := map[manifest.Timeline]bdb.LSN{}
	for i, s := range slices.Backward(backups) {
		if p.target.Backup != "" && s.ID != p.target.Backup {
			continue
		}
		m, err := p.repo.Manifest(ctx, p.env, s)
		var piece *repository.LogPiece
		if err == nil {
			piece, err = p.repo.FollowBackup(ctx, m, reaches(upper[m.Timeline]))
		}
		if err == nil && m.Encrypted && p.target.Key == nil {
			return nil, ErrPassword
		}
		var found []CommitPoint
		if err == nil {
			found, err = p.findTxn(ctx, m, piece, upper[m.Timeline])
		}
		if err != nil {
			if p.target.Backup != "" || !p.passedOver(s.ID, err) {
				return nil, p.unusable(s.ID, err)
			}
			continue
		}
		upper[m.Timeline] = m.ConsistentAt
		switch {
		case len(found) > 1:
			return nil, &AmbiguousError{Txn: p.target.BeforeTxn, Commits: found[:min(len(found), MaxMatches)]}
		case len(found) == 1:
			return p.before(ctx, m, piece, found[0].LSN, i > 0 && p.target.Backup == "")
		}
	}
	return nil, p.unreachable(ctx, &UnreachableError{})
}

func reaches(lsn bdb.LSN) func(repository.Segment) bool {
	return func(s repository.Segment) bool { return !lsn.IsZero() && !s.EndLSN().Before(lsn) }
}

func (p *planner) before(ctx context.Context, m *manifest.Manifest, piece *repository.LogPiece, lsn bdb.LSN, more bool) (*Plan, error) {
	c := p.cutter(m, piece)
	x, err := c.lsn(ctx, lsn)
	if err != nil {
		return nil, p.unusable(m.ID, err)
	}
	if more {
		x.note("ids of transactions come again after every recovery of the environment; the log before LSN %s was not searched for %s", m.ConsistentAt, p.target.BeforeTxn)
	}
	return p.finish(ctx, c, x)
}

// findTxn finds the commits of a transaction's id between where a backup is consistent and upper (zero: the end of the log).
func (p *planner) findTxn(ctx context.Context, m *manifest.Manifest, piece *repository.LogPiece, upper bdb.LSN) ([]CommitPoint, error) {
	scan := p.cutter(m, piece).scan
	var mu sync.Mutex
	found := map[bdb.LSN]CommitPoint{} // segments overlap
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(txnReads)
	for i := range slices.Backward(piece.Segments) {
		s := &piece.Segments[i]
		if !m.ConsistentAt.Before(s.EndLSN()) {
			break
		}
		group.Go(func() error {
			var here []CommitPoint
			err := scan.each(gctx, i, func(r *bdb.Record) error {
				c, ok := commitOf(r)
				if ok && c.Txn == p.target.BeforeTxn && !c.LSN.Before(m.ConsistentAt) && (upper.IsZero() || c.LSN.Before(upper)) && len(here) <= MaxMatches {
					here = append(here, c)
				}
				return nil
			})
			mu.Lock()
			defer mu.Unlock()
			for _, c := range here {
				found[c.LSN] = c
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	list := make([]CommitPoint, 0, len(found))
	for _, c := range found {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b CommitPoint) int { return a.LSN.Compare(b.LSN) })
	return list, nil
}
