package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
)

const (
	// longRecovery is how much log a recovery may have to read before that is worth a word, and longPause how long commits may go on without a checkpoint.
	longRecovery = 256 << 20
	longPause    = time.Hour
	// rateSpan is the least time from which it is told how fast the log grows: a burst tells nothing.
	rateSpan = 10 * time.Minute
)

// lookAtLog judges the log, and the environment by it.
func (d *doctor) lookAtLog(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	var err error
	d.log, err = d.env.LogSurvey(limited, d.survey)
	l := d.log
	slow := errors.Is(err, context.DeadlineExceeded)
	checkLog(d.add("log", "log"), l, d.env.Config.LogInMemory, err)
	if l.Files == 0 || l.End.IsZero() {
		return
	}
	checkVersion(d.add("log-version", "log version"), l)
	checkRemoval(d.add("log-removal", "log removal"), l, d.env.Config.LogAutoRemove)
	checkCheckpoint(d.add("checkpoint", "checkpoint"), l, time.Now())
	prepared, named := d.add("prepared", "prepared transactions"), d.add("named", "databases in the log")
	switch {
	case l.Unreadable:
		prepared.unsure("the log is encrypted", "")
		named.unsure("the log is encrypted", "")
	case err != nil:
		why := "the log could not be read to its end"
		if slow {
			why += " within " + duration(lookLimit)
		}
		prepared.unsure(why, "")
		named.unsure(why, "")
	default:
		checkPrepared(prepared, l)
		checkNamed(named, l)
	}
}

func checkLog(c *check, l *localenv.LogSurvey, inMemory bool, err error) {
	switch {
	case inMemory:
		c.fail("in memory (DB_LOG_IN_MEMORY)", "An environment without a log on disk can't be backed up while it is in use. Take that line out of DB_CONFIG.")
	case errors.Is(err, localenv.ErrNoLog):
		c.fail("none", hint(err)+" Is it in memory, or in another directory?")
	case err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, bdb.ErrPassword):
		c.logFault(err)
	default:
		c.note("%s, %d to %d, %s%s", count(l.Files, "file"), l.First, l.Newest, size(l.Bytes), rate(l))
	}
}

// logFault is a log that is not whole.
func (c *check) logFault(err error) {
	c.fault(err)
	_, gap := errors.AsType[*localenv.LogGap](err)
	_, damage := errors.AsType[*localenv.LogDamage](err)
	switch {
	case gap:
		c.Advice = "Only the oldest log files may be removed (db_archive -d). Checkpoint, remove those before the gap, and take a full backup."
	case damage:
		c.Advice, c.code = "Check the disk. Checkpoint and take a full backup: it needs no log from before.", exitDamage
	}
}

// growth is how fast the log grows, in bytes a second; 0: not known.
func growth(l *localenv.LogSurvey) float64 {
	if l == nil || l.Span < rateSpan {
		return 0
	}
	return l.Rate
}

func rate(l *localenv.LogSurvey) string {
	if growth(l) == 0 {
		return ""
	}
	return fmt.Sprintf("; %s an hour during the last %s", size(int64(l.Rate*3600)), duration(l.Span))
}

// releases are what the log version tells, as rep.h of 5.3 lists them.
var releases = map[uint32]string{8: "4.2", 10: "4.3", 11: "4.4", 12: "4.5", 13: "4.6", 14: "4.7", 15: "4.8", 16: "4.8", 17: "5.0 or 5.1", 18: "5.2", 19: "5.3"}

// ownLogVersion is that of the library built in.
const ownLogVersion = 19

func checkVersion(c *check, l *localenv.LogSurvey) {
	release, known := releases[l.Version]
	switch {
	case l.Version == 0:
		c.unsure("the log is encrypted", "")
	case l.Version == ownLogVersion:
		c.note("%d, of Berkeley DB %s", l.Version, release)
	case known:
		c.warn(fmt.Sprintf("%d, of Berkeley DB %s", l.Version, release), "Restore with that release's programs: --engine dbutil --db-bin DIR.")
	default:
		c.warn(fmt.Sprintf("%d, which is not that of a release up to 5.3", l.Version), "Restore with the programs of the application's release: --engine dbutil --db-bin DIR. Try it: bdbvault restore to a new directory.")
	}
}

func checkRemoval(c *check, l *localenv.LogSurvey, auto bool) {
	switch {
	case auto:
		c.warn("DB_LOG_AUTOREMOVE: the engine removes log files itself", "What is removed before it was shipped breaks the chain. bdbvault watch holds files open until they are stored; with cron, ship often.")
	case l.First == 1:
		c.note("none so far")
	case l.Checkpoint != nil && l.Removable == 0:
		c.note("files before %d are gone, as soon as recovery does not need them; watch holds such files open until they are stored", l.First)
	default:
		c.note("files before %d are gone", l.First)
	}
}

func checkCheckpoint(c *check, l *localenv.LogSurvey, now time.Time) {
	const advice = "Have the application checkpoint more often (DB_ENV->txn_checkpoint, db_checkpoint -p 5); bdbvault backup -c takes one."
	switch k := l.Checkpoint; {
	case l.Unreadable:
		c.unsure("the log is encrypted", "")
	case k == nil:
		c.warn("none in the log", advice+" Recovery and every restore begin with the oldest log file.")
	case l.LastCommit.Sub(k.Time) > longPause, l.Needed > longRecovery:
		c.warn(fmt.Sprintf("%s; a recovery reads %s of log", humanize.RelTime(k.Time, now, "ago", "from now"), size(l.Needed)), advice+open(l))
	default:
		c.note("%s; a recovery reads %s of log", humanize.RelTime(k.Time, now, "ago", "from now"), size(l.Needed))
	}
}

// open tells of a transaction that keeps the last checkpoint from helping.
func open(l *localenv.LogSurvey) string {
	if k := l.Checkpoint; k.LSN.File-k.CkpLSN.File < 2 {
		return ""
	}
	return fmt.Sprintf("\nA transaction was open at that checkpoint since LSN %s.", l.Checkpoint.CkpLSN)
}

func checkPrepared(c *check, l *localenv.LogSurvey) {
	if len(l.Prepared) == 0 {
		c.note("none")
		return
	}
	var lsns []string
	for _, lsn := range l.Prepared {
		lsns = append(lsns, "LSN "+lsn.String())
	}
	c.warn(c.several("transaction", lsns), "Their coordinator has to end them (DB_ENV->txn_recover). A restore leaves them prepared; until then no checkpoint shortens recovery.")
}

func checkNamed(c *check, l *localenv.LogSurvey) {
	switch {
	case len(l.Strays) > 0:
		c.fail("outside of the environment's directories: "+c.several("name", l.Strays), fmt.Sprintf("No backup can be taken: no restore could follow the log beyond LSN %s. Name the directory in DB_CONFIG (add_data_dir).", l.StraysFirst))
	case len(l.Absent) > 0:
		c.warn("not in its directories: "+c.several("database", l.Absent), "Removed without a transaction, that is no harm. If the application still has them open, a backup refuses.")
	default:
		c.note("all there")
	}
}
