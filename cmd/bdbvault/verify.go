package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"bdbvault/manifest"
	"bdbvault/restore"
)

const (
	flagReadData = "read-data"
	readAllData  = "100%"
	// linesMost is how many files of a backup, and how many backups of an object, are named to a person; --json names all.
	linesMost = 20
)

func verifyFlags() []cli.Flag {
	return []cli.Flag{
		envFlag("verify only environment `NAME`"),
		stateFlag(),
		stringFlag(inEnvironment, flagReadData, "read what is stored and hold it against its checksums: all of it, or as in --read-data=10% a `SHARE`, each time the next one"),
	}
}

// readShare is the share of what is stored that is to be read.
func (c *call) readShare() (float64, error) {
	text := c.String(flagReadData)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || math.IsNaN(n) || n <= 0 || n > 100 {
		return 0, usagef("--%s=%s: want a share of 100%%, as in --%s=10%%", flagReadData, text, flagReadData)
	}
	return n / 100, nil
}

// verifyReport is the result of verify.
type verifyReport struct {
	Repository   string                  `json:"repository"`
	Sound        bool                    `json:"sound"`
	Environments []*restore.VerifyResult `json:"environments"`
}

// verify is the command of that name.
func verify(ctx context.Context, c *call) (result, error) {
	share, err := c.readShare()
	if err != nil {
		return nil, err
	}
	env, err := c.givenEnv()
	if err != nil {
		return nil, err
	}
	dir, err := c.stateDir()
	if err != nil {
		return nil, err
	}
	repo, names, err := c.openEnvironments(ctx, env)
	if err != nil {
		return nil, err
	}
	r := &verifyReport{Repository: repo.Bucket.String(), Sound: true, Environments: []*restore.VerifyResult{}}
	bad := &restore.UnsoundError{}
	for _, name := range names {
		res, err := restore.Verify(ctx, repo, restore.VerifyOptions{Env: name, ReadData: share, StateDir: dir, Tool: tool, Progress: c.progress})
		if err != nil {
			return nil, err
		}
		r.Environments = append(r.Environments, res)
		if !res.Sound() {
			r.Sound = false
			bad.Results = append(bad.Results, res)
		}
	}
	if !r.Sound {
		return r, bad
	}
	return r, nil
}

func (r *verifyReport) text(w io.Writer) {
	fmt.Fprintf(w, "repository %s\n", r.Repository)
	if len(r.Environments) == 0 {
		fmt.Fprintln(w, "no environments yet")
	}
	for _, e := range r.Environments {
		fmt.Fprintf(w, "\nenvironment %s\n", e.Environment)
		verifiedBackups(w, e)
		listRanges(w, &restore.History{Ranges: e.Ranges})
		verifiedDamage(w, e)
		verifiedSums(w, e)
	}
}

func verifiedBackups(w io.Writer, e *restore.VerifyResult) {
	if len(e.Backups) == 0 {
		return
	}
	t := newTable(w)
	t.row("  BACKUP", "STARTED", "CONSISTENT AT", "RESTORABLE TO", "LAST COMMIT", "STATE")
	for _, b := range e.Backups {
		state := b.State
		if b.Problem != "" {
			state += ": " + b.Problem
		}
		to := "-"
		if !b.RestorableTo.IsZero() && b.State == restore.StateOK {
			to = b.RestorableTo.String()
		}
		t.row("  "+string(b.ID), stamp(b.ID.Time()), b.ConsistentAt.String(), to, stamp(b.RestorableTime), state)
	}
	t.flush()
}

// verifiedDamage says what is wrong, and whom it touches.
func verifiedDamage(w io.Writer, e *restore.VerifyResult) {
	if e.Sound() {
		return
	}
	fmt.Fprintln(w)
	for _, d := range e.Damage {
		fmt.Fprintf(w, "  %s %s: %s; %s\n", d.Kind, d.Object, d.Problem, touched(d.Backups))
	}
	for _, g := range e.Gaps {
		fmt.Fprintf(w, "  timeline %s: the log from LSN %s to %s is missing\n", g.Timeline, g.After, g.Before)
	}
	for _, b := range e.Backups {
		if len(b.Lost) == 0 {
			continue
		}
		fmt.Fprintf(w, "  backup %s has lost\n", b.ID)
		for i, f := range b.Lost {
			if i == linesMost {
				fmt.Fprintf(w, "    and %d more\n", len(b.Lost)-i)
				break
			}
			fmt.Fprintf(w, "    %s\n", f)
		}
	}
}

func touched(ids []manifest.BackupID) string {
	if len(ids) == 0 {
		return "touches no backup"
	}
	var names []string
	for i, id := range ids {
		if i == linesMost {
			names = append(names, fmt.Sprintf("and %d more", len(ids)-i))
			break
		}
		names = append(names, string(id))
	}
	return "touches " + strings.Join(names, ", ")
}

func verifiedSums(w io.Writer, e *restore.VerifyResult) {
	fmt.Fprintln(w)
	t := newTable(w)
	t.row("  stored", size(e.Bytes)+" in "+count(e.Objects, "object"))
	read := "nothing; --read-data does"
	if e.Share > 0 {
		read = size(e.ReadBytes) + " in " + count(e.ReadObjects, "object")
	}
	t.row("  read", read)
	if e.Archived > 0 {
		t.row("  archived", "not read, since it is archived: "+count(e.Archived, "object"))
	}
	if e.Spare > 0 {
		t.row("  spare", size(e.SpareBytes)+" in "+count(e.Spare, "object")+" that no backup needs")
	}
	if !e.Sound() {
		newest := "none"
		if e.Newest != "" {
			newest = string(e.Newest)
		}
		t.row("  newest whole backup", newest)
	} else {
		t.row("  damage", "none")
	}
	t.flush()
	for _, n := range e.Notes {
		fmt.Fprintf(w, "  note: %s\n", n)
	}
}
