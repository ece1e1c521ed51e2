package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"bdbvault/archive"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

// Flags of write-once stores.
const (
	flagRetain = "retain"
	flagLock   = "lock"
	flagAsOf   = "as-of"
)

func lockFlags() []cli.Flag {
	return []cli.Flag{
		stringFlag(inEnvironment, flagRetain, "`SPAN`, as in 30d, for which what is stored can't be deleted or replaced; needs a bucket with object lock"),
		stringFlag(inEnvironment, flagLock, "`MODE` of --retain: governance (default: those with a permission of its own can lift it) or compliance (nobody can)"),
	}
}

func asOfFlag() cli.Flag {
	return stringFlag(inRepository, flagAsOf, "read the repository as it was at that `TIME`, whatever was deleted or replaced since; needs a bucket with versions")
}

// lock is what --retain and --lock say.
func (c *call) lock() (l archive.Lock, err error) {
	if l.For, err = c.span(flagRetain); err != nil {
		return l, err
	}
	switch mode := c.String(flagLock); {
	case c.String(flagRetain) == "" && mode != "":
		return l, usagef("--%s needs --%s SPAN, as in --%s 30d", flagLock, flagRetain, flagRetain)
	case c.String(flagRetain) == "":
		return l, nil
	case l.For.IsZero():
		return l, usagef("--%s %s: want more than 0", flagRetain, c.String(flagRetain))
	case mode == "", mode == manifest.LockGovernance:
		l.Mode = remote.Governance
	case mode == manifest.LockCompliance:
		l.Mode = remote.Compliance
	default:
		return l, usagef("--%s %q: want %s or %s", flagLock, mode, manifest.LockGovernance, manifest.LockCompliance)
	}
	return l, nil
}

// asOf is the bucket as --as-of wants it.
func (c *call) asOf(ctx context.Context, b *remote.Bucket) (*remote.Bucket, error) {
	if !c.hasFlag(flagAsOf) {
		return b, nil
	}
	c.store = b
	text := c.String(flagAsOf)
	if text == "" {
		return b, nil
	}
	at, note, err := parseTime(text, time.Now(), time.Local)
	if err != nil {
		return nil, usageError{err}
	}
	if note != "" {
		c.progress.Note(note)
	}
	if at.After(time.Now()) {
		return nil, usagef("--%s %s: that is in the future", flagAsOf, text)
	}
	return b.AsOf(ctx, at)
}

// reading makes f, which reads a repository, tell more when what it looks for is gone or no longer what it was: versions of it may be there.
func reading(f action) action {
	return func(ctx context.Context, c *call) (result, error) {
		res, err := f(ctx, c)
		if err == nil {
			return res, nil
		}
		if since := c.tampered(ctx, err); !since.IsZero() {
			err = &tamperedError{err, since}
		}
		return res, err
	}
}

// tamperedError is a failure whose cause is that something was deleted or replaced, of which the store has versions.
type tamperedError struct {
	error
	since time.Time
}

func (e *tamperedError) Unwrap() error { return e.error }

// before is the last moment before that.
func (e *tamperedError) before() string { return e.since.Add(-time.Second).UTC().Format(time.RFC3339) }

func tamperedHint(err error) string {
	e, ok := errors.AsType[*tamperedError](err)
	if !ok {
		return ""
	}
	return fmt.Sprintf("Objects were deleted or replaced from %s on, but the store still has what they were: --%s %s reads it as it was before.",
		stamp(e.since), flagAsOf, e.before())
}

// maxVersions bounds how much is looked at to explain a failure.
const maxVersions = 100_000

var errEnough = errors.New("enough")

// tampered looks for the first moment since which something is missing or another. A prune deletes too, so deleted objects count only where the command misses
// them; objects of ours are never replaced.
func (c *call) tampered(ctx context.Context, err error) (since time.Time) {
	if c.store == nil || c.String(flagAsOf) != "" {
		return since
	}
	missed := ""
	if e, ok := errors.AsType[*remote.Error](err); ok && e.Kind == remote.NotFound {
		missed = e.Key
	}
	gone := errors.Is(err, repository.ErrNone) || errors.Is(err, restore.ErrNoBackup) || is[*restore.NotFoundError](err) || is[*noBackupError](err)
	if missed == "" && !gone && !isDamage(err) && !is[*unusableError](err) {
		return since
	}
	t := trail{missed: missed, gone: gone}
	if gone {
		missed = ""
	}
	ctx, cancel := context.WithTimeout(remote.WithRetry(ctx, remote.Retry{For: -1}), time.Minute)
	defer cancel()
	if err := c.store.Versions(ctx, missed, t.add); err != nil && !errors.Is(err, errEnough) {
		return since // a store without versions, or keys that may not list them
	}
	t.end()
	return t.since
}

// trail follows the versions of each object, from the newest to the oldest.
type trail struct {
	missed string // the key that the command misses
	gone   bool   // it misses backups
	n      int
	key    string
	newer  remote.Version // of this key, the one seen last
	top    remote.Version // of this key, the newest
	since  time.Time
}

func (t *trail) add(v remote.Version) error {
	if t.n++; t.n > maxVersions {
		return errEnough
	}
	if v.Key != t.key {
		t.end()
		t.key, t.top = v.Key, v
	} else if !v.Deleted && !t.newer.Deleted {
		t.note(t.newer.Modified) // replaced
	}
	t.newer = v
	return nil
}

// end judges the object that was followed.
func (t *trail) end() {
	ours := t.key == manifest.RepositoryKey || strings.Contains(t.key, "/backups/")
	if t.top.Deleted && (t.key == t.missed || t.gone && ours) {
		t.note(t.top.Modified)
	}
}

func (t *trail) note(at time.Time) {
	if t.since.IsZero() || at.Before(t.since) {
		t.since = at
	}
}

// lockedNote says how long a backup is locked.
func lockedNote(l *manifest.Lock) string {
	if l == nil {
		return "no"
	}
	return fmt.Sprintf("until %s, in %s mode", stamp(l.Until), l.Mode)
}
