package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"bdbvault/archive"
	"bdbvault/remote/repository"
)

const (
	// oldBackup is an age from which on a restore has much log to replay; lateShip how long commits may be here alone.
	oldBackup = 31 * 24 * time.Hour
	lateShip  = time.Hour
)

// compare looks what of the environment is stored, and whether its log goes on from there.
func (d *doctor) compare(ctx context.Context, repo *repository.Repository) {
	backup := d.add("backup", "newest backup")
	dir, err := d.stateDir()
	if err != nil {
		backup.fault(err)
		return
	}
	st, err := archive.Stand(ctx, repo, d.env, d.survey, archive.ShipOptions{Env: d.name, StateDir: dir})
	if errors.Is(err, archive.ErrNoBackup) {
		backup.warn("none yet", "Take one: bdbvault backup")
		return
	}
	if st == nil {
		backup.fault(err)
		return
	}
	checkBackup(backup, st, time.Now())
	checkChain(d.add("chain", "shipped log"), st, d.log.LastCommit, err)
}

func checkBackup(c *check, st *archive.Standing, now time.Time) {
	m := st.Backup
	age := now.Sub(m.Started)
	found := fmt.Sprintf("%s, begun %s", m.ID, humanize.RelTime(m.Started, now, "ago", "from now"))
	switch {
	case !st.Related:
		c.fail(fmt.Sprintf("%s is of another environment: %s on %s", m.ID, m.Home, m.Host),
			"Choose another name with --env NAME. If this environment has taken the old one's place for good: bdbvault backup --new-environment")
	case age > oldBackup:
		c.warn(found, "A restore replays all log since then. Take one: bdbvault backup")
	default:
		c.note("%s", found)
	}
}

// checkChain judges how the log here stands to what is stored. newest is the newest commit here, as far as it is known.
func checkChain(c *check, st *archive.Standing, newest time.Time, err error) {
	stored := fmt.Sprintf("stored up to LSN %s", st.Shipped)
	late := newest.Sub(st.LastCommit)
	switch {
	case err != nil:
		c.fault(err)
	case st.Shipped == st.End:
		c.note("all of it is stored, up to LSN %s", st.Shipped)
	case !newest.IsZero() && !st.LastCommit.IsZero() && late > lateShip:
		c.warn(fmt.Sprintf("%s, %s behind the newest commit here", stored, duration(late)), "Does bdbvault watch run, or ship from cron? Until then these commits are on this host only.")
	default:
		c.note("%s, which the log here continues", stored)
	}
}
