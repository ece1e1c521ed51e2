package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"bdbvault/archive"
	"bdbvault/manifest"
	"bdbvault/remote/repository"
)

// Flags of prune.
const (
	flagKeepLast       = "keep-last"
	flagKeepHourly     = "keep-hourly"
	flagKeepDaily      = "keep-daily"
	flagKeepWeekly     = "keep-weekly"
	flagKeepMonthly    = "keep-monthly"
	flagKeepYearly     = "keep-yearly"
	flagKeepWithin     = "keep-within"
	flagRecoveryWindow = "recovery-window"
	flagDryRun         = "dry-run"
	flagUndo           = "undo"
)

const inPolicy = "Policy (a backup stays if any of these keeps it)"

func pruneFlags() []cli.Flag {
	newestOf := func(name, period string) cli.Flag {
		return stringFlag(inPolicy, name, "keep the newest backup of each of the last `N` "+period+" that have any, or unlimited")
	}
	return []cli.Flag{
		envFlag("prune only environment `NAME`"),
		stringFlag(inPolicy, flagKeepLast, "keep the last `N` backups, or unlimited"),
		newestOf(flagKeepHourly, "hours"), newestOf(flagKeepDaily, "days"), newestOf(flagKeepWeekly, "weeks"),
		newestOf(flagKeepMonthly, "months"), newestOf(flagKeepYearly, "years"),
		stringFlag(inPolicy, flagKeepWithin, "keep all backups of the `SPAN` before the newest, as in 1y5m7d2h"),
		stringFlag(inPolicy, flagRecoveryWindow, "keep every commit of the last `SPAN` within reach; of older log, only what kept backups need (default: keep all log behind kept backups)"),
		short(boolFlag(inEnvironment, flagDryRun, "say what stays and what goes, and change nothing"), "n"),
		stringFlag(inEnvironment, flagUndo, "put back what prune `ID` took, within the grace period"),
	}
}

// policy reads the flags; manifest.ErrNoPolicy if there are none.
func (c *call) policy() (p manifest.Policy, err error) {
	for flag, n := range map[string]*int{flagKeepLast: &p.Last, flagKeepHourly: &p.Hourly, flagKeepDaily: &p.Daily, flagKeepWeekly: &p.Weekly,
		flagKeepMonthly: &p.Monthly, flagKeepYearly: &p.Yearly} {
		switch v := c.String(flag); v {
		case "":
		case "unlimited":
			*n = manifest.Unlimited
		default:
			if *n, err = strconv.Atoi(v); err != nil || *n < 0 {
				return p, usagef("--%s %q: want a number, or unlimited", flag, v)
			}
		}
	}
	if p.Within, err = c.span(flagKeepWithin); err != nil {
		return p, err
	}
	if c.String(flagRecoveryWindow) != "" {
		window, err := c.span(flagRecoveryWindow)
		if err != nil {
			return p, err
		}
		p.Window = &window
	}
	if errors.Is(p.Check(), manifest.ErrNoPolicy) {
		return p, usagef("prune needs a policy, such as --keep-daily 7 --keep-weekly 5 --recovery-window 14d: without one everything would go")
	}
	return p, p.Check()
}

func (c *call) span(flag string) (manifest.Span, error) {
	v := c.String(flag)
	if v == "" {
		return manifest.Span{}, nil
	}
	s, err := manifest.ParseSpan(v)
	if err != nil {
		return s, usagef("--%s: %v", flag, err)
	}
	return s, nil
}

// prune is the command of that name.
func prune(ctx context.Context, c *call) (result, error) {
	env, err := c.givenEnv()
	if err != nil {
		return nil, err
	}
	if c.String(flagUndo) != "" {
		return undo(ctx, c, env)
	}
	policy, err := c.policy()
	if err != nil {
		return nil, err
	}
	repo, names, err := c.openEnvironments(ctx, env)
	if err != nil {
		return nil, err
	}
	r := &pruneReport{Repository: repo.Bucket.String(), DryRun: c.Bool(flagDryRun), Environments: []*archive.PruneResult{}}
	var errs []error
	for _, name := range names {
		res, err := archive.Prune(ctx, repo, archive.PruneOptions{Env: name, Policy: policy, DryRun: r.DryRun, Tool: tool, Progress: c.progress})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.Environments = append(r.Environments, res)
	}
	return r, errors.Join(errs...)
}

// pruneReport is the result of prune.
type pruneReport struct {
	Repository   string                 `json:"repository"`
	DryRun       bool                   `json:"dryRun"`
	Environments []*archive.PruneResult `json:"environments"`
}

func (r *pruneReport) text(w io.Writer) {
	fmt.Fprintf(w, "repository %s\n", r.Repository)
	if r.DryRun {
		fmt.Fprintln(w, "a dry run: nothing is changed")
	}
	if len(r.Environments) == 0 {
		fmt.Fprintln(w, "no environments yet")
	}
	for _, e := range r.Environments {
		fmt.Fprintf(w, "\nenvironment %s\n", e.Environment)
		pruneTables(w, e)
		pruneSums(w, e)
	}
}

func pruneTables(w io.Writer, e *archive.PruneResult) {
	verdict := map[bool]string{true: "stays", false: "goes"}
	if len(e.Backups) > 0 {
		t := newTable(w)
		t.row("  BACKUP", "STARTED", "", "FREES", "WHY")
		for _, b := range e.Backups {
			why, frees := strings.Join(b.Why, ", "), "-"
			if !b.Keep {
				why, frees = "no rule keeps it", size(b.Frees)
			}
			if b.Problem != "" {
				why += "; can't be restored: " + b.Problem
			}
			t.row("  "+string(b.ID), stamp(b.ID.Time()), verdict[b.Keep], frees, why)
		}
		t.flush()
	}
	if len(e.Log) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := newTable(w)
	t.row("  TIMELINE", "LOG FROM", "TO", "", "SEGMENTS", "STORED", "WHY")
	for _, l := range e.Log {
		t.row("  "+l.Timeline.String(), l.From, l.To, verdict[l.Keep], strconv.Itoa(l.Segments), size(l.Bytes), l.Why.String())
	}
	t.flush()
}

func pruneSums(w io.Writer, e *archive.PruneResult) {
	fmt.Fprintln(w)
	t := newTable(w)
	line := func(what string, a archive.Amount, more string) {
		if !a.Empty() {
			t.row("  "+what, amount(a)+more)
		}
	}
	line("condemned", e.Condemned, "")
	line("  of dead runs", e.Orphans, "")
	line("condemned before", e.Pending, "")
	for _, u := range e.Undoable {
		t.row("  undo", fmt.Sprintf("until %s: bdbvault prune --undo %s", stamp(u.UndoUntil), u.Prune))
	}
	line("deleted", e.Deleted, "")
	if e.Drills > 0 {
		t.row("  deleted", count(e.Drills, "old record")+" of drills")
	}
	if e.Condemned.Empty() && e.Deleted.Empty() && e.Pending.Empty() && e.Drills == 0 {
		t.row("  nothing to remove")
	}
	for _, id := range e.PutBack {
		t.row("  put back", fmt.Sprintf("%s, which is held", id))
	}
	if e.Prune != "" {
		t.row("  undo", fmt.Sprintf("until %s: bdbvault prune --undo %s", stamp(e.UndoUntil), e.Prune))
		t.row("  deleted by", "the first prune after that")
	}
	t.flush()
}

func amount(a archive.Amount) string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{a.Backups, "backup"}, {a.Packs, "pack"}, {a.Maps, "map"}, {a.Segments, "segment"}} {
		if p.n > 0 {
			parts = append(parts, count(p.n, p.what))
		}
	}
	return size(a.Bytes) + " in " + strings.Join(parts, ", ")
}

// undo takes a prune back.
func undo(ctx context.Context, c *call, env string) (result, error) {
	if c.Bool(flagDryRun) {
		return nil, usagef("--%s can't be tried out with --%s: it takes back all that the prune condemned, and deletes nothing", flagUndo, flagDryRun)
	}
	id, err := manifest.ParseBackupID(c.String(flagUndo))
	if err != nil {
		return nil, usageError{err}
	}
	repo, names, err := c.openEnvironments(ctx, env)
	if err != nil {
		return nil, err
	}
	none := &archive.NotCondemnedError{Env: env, ID: id}
	for _, name := range names {
		res, err := archive.Undo(ctx, repo, name, id)
		if e, ok := errors.AsType[*archive.NotCondemnedError](err); ok {
			if e.By != "" {
				none = e
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		return &undoReport{res}, lostError(res)
	}
	return nil, none
}

// lostBackupsError says that an undo could not put back everything.
type lostBackupsError struct{ lost []archive.PrunedBackup }

func (e *lostBackupsError) Error() string {
	return fmt.Sprintf("%s can't be put back, the first is %s: %s", count(len(e.lost), "backup"), e.lost[0].ID, e.lost[0].Problem)
}

func lostError(res *archive.UndoResult) error {
	if len(res.Lost) == 0 {
		return nil
	}
	return &lostBackupsError{res.Lost}
}

// undoReport is the result of prune --undo.
type undoReport struct{ *archive.UndoResult }

func (r *undoReport) text(w io.Writer) {
	fmt.Fprintf(w, "took back prune %s of %s\n", r.Prune, r.Environment)
	for _, id := range r.Backups {
		fmt.Fprintf(w, "  backup %s is back\n", id)
	}
	if r.Unfinished {
		fmt.Fprintln(w, "  that prune still runs, or was stopped before it had taken all: if more of its backups vanish, take it back once more")
	}
	if r.Still {
		fmt.Fprintln(w, "  another prune names some of their objects too: they stay, but the next backup stores that content anew")
	}
}

// holdReport is the result of hold and release.
type holdReport struct {
	Environment string            `json:"environment"`
	Backup      manifest.BackupID `json:"backup"`
	Held        bool              `json:"held"`
	Was         bool              `json:"was"` // held before
}

func (r *holdReport) text(w io.Writer) {
	switch {
	case r.Held:
		fmt.Fprintf(w, "backup %s of %s is held: no prune takes it\n", r.Backup, r.Environment)
	case r.Was:
		fmt.Fprintf(w, "backup %s of %s is released: the next prune decides\n", r.Backup, r.Environment)
	default:
		fmt.Fprintf(w, "backup %s of %s was not held\n", r.Backup, r.Environment)
	}
}

func holdFlags() []cli.Flag {
	return []cli.Flag{envFlag("`NAME` of the backup's environment (default: look in all)")}
}

// chosenBackup opens the repository and finds the environment of the backup that was named.
func chosenBackup(ctx context.Context, c *call) (*repository.Repository, string, manifest.BackupID, error) {
	id, err := manifest.ParseBackupID(c.Args().First())
	if err != nil {
		return nil, "", "", usageError{err}
	}
	env, err := c.givenEnv()
	if err != nil {
		return nil, "", "", err
	}
	repo, err := c.openRepository(ctx)
	if err != nil {
		return nil, "", "", err
	}
	if env == "" {
		env, _, err = findBackup(ctx, repo, "", id)
	}
	return repo, env, id, err
}

// hold is the command of that name.
func hold(ctx context.Context, c *call) (result, error) {
	repo, env, id, err := chosenBackup(ctx, c)
	if err != nil {
		return nil, err
	}
	return &holdReport{Environment: env, Backup: id, Held: true}, archive.Hold(ctx, repo, env, id, tool)
}

// release is the command of that name.
func release(ctx context.Context, c *call) (result, error) {
	repo, env, id, err := chosenBackup(ctx, c)
	if err != nil {
		return nil, err
	}
	was, err := archive.Release(ctx, repo, env, id)
	return &holdReport{Environment: env, Backup: id, Was: was}, err
}
