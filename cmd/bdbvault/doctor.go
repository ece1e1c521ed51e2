package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"bdbvault/archive"
	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/remote"
)

const flagQuick = "quick"

func doctorFlags() []cli.Flag {
	return []cli.Flag{
		homeFlag(),
		envFlag("`NAME` of the environment in the repository (default: the home's last part)"),
		stateFlag(),
		boolFlag(inRepository, flagQuick, "do not measure throughput"),
		&cli.StringFlag{Name: flagBulkSafe, Category: inEngine, Value: archive.BulkAuto, EnvVars: variables(flagBulkSafe),
			Usage: "`MODE` of the hot-backup flag that a backup would use: auto, require or off (do not try to join the environment)"},
	}
}

// grade is what a check comes to.
type grade string

const (
	fine    grade = "fine"
	warning grade = "warning"
	problem grade = "problem"
	unknown grade = "unknown" // could not be found out
)

// check is one thing that was looked at.
type check struct {
	ID      string   `json:"id"`
	Subject string   `json:"subject"` // environment, store or archive: what of the one is in the other
	Title   string   `json:"title"`
	Verdict grade    `json:"verdict"`
	Found   string   `json:"found"`
	Advice  string   `json:"advice,omitempty"`  // what to do
	Details []string `json:"details,omitempty"` // all of which Found names the first few

	code int // of a problem
}

// note makes a check fine; the words may be followed by more of the kind.
func (c *check) note(format string, args ...any) {
	c.Verdict, c.Found = fine, fmt.Sprintf(format, args...)
}

func (c *check) warn(found, advice string) { c.Verdict, c.Found, c.Advice = warning, found, advice }

func (c *check) fail(found, advice string) {
	c.Verdict, c.Found, c.Advice, c.code = problem, found, advice, exitFailed
}

// unsure says that it could not be found out.
func (c *check) unsure(found, advice string) { c.Verdict, c.Found, c.Advice = unknown, found, advice }

// fault makes an error a problem, with the words and the exit code that it has everywhere.
func (c *check) fault(err error) {
	c.fail(words(err), firstText(hint(err), "The logs of the store, or of this host, may tell more."))
	c.code = judge(context.Background(), err).code
}

// doctorReport is the result of doctor.
type doctorReport struct {
	Repository  string   `json:"repository,omitempty"`
	Environment string   `json:"environment,omitempty"`
	Home        string   `json:"home,omitempty"`
	Checks      []*check `json:"checks"`
	Fine        int      `json:"fine"`
	Warnings    int      `json:"warnings"`
	Problems    int      `json:"problems"`
	Unknown     int      `json:"unknown"`

	subject string // of the checks that are added
	quiet   bool
}

// add begins a check.
func (r *doctorReport) add(id, title string) *check {
	c := &check{ID: id, Subject: r.subject, Title: title, Verdict: fine}
	r.Checks = append(r.Checks, c)
	return c
}

// Subjects of checks.
const (
	aboutEnvironment = "environment"
	aboutStore       = "store"
	aboutArchive     = "archive"
)

// doctor looks at an environment and tries out a store.
type doctor struct {
	*call
	*doctorReport
	name string // of the environment in the repository
	key  *bdb.Key
	pass string

	env    *localenv.Env // nil: there is none, or it can't be opened
	survey *localenv.Survey
	log    *localenv.LogSurvey
	exam   *remote.Examination
}

// doctorCommand is the command doctor.
func doctorCommand(ctx context.Context, c *call) (result, error) {
	home, store := c.String(flagHome), c.String(flagRepository)
	if home == "" && store == "" {
		return nil, usagef("doctor needs -h HOME, -r REPOSITORY, or both")
	}
	d := &doctor{call: c, doctorReport: &doctorReport{Home: home, quiet: c.Bool(flagQuiet), Checks: []*check{}}}
	if err := d.prepare(); err != nil {
		return nil, err
	}
	if home != "" {
		d.subject = aboutEnvironment
		d.lookAtEnvironment(ctx)
	}
	if store != "" && ctx.Err() == nil {
		if err := d.lookAtStore(ctx); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return d.doctorReport, d.count()
}

// prepare reads what the command line says.
func (d *doctor) prepare() (err error) {
	if _, err := d.oneOf(flagBulkSafe, archive.BulkAuto, archive.BulkRequire, archive.BulkOff); err != nil {
		return err
	}
	if _, err := d.engineOptions(""); err != nil {
		return err
	}
	if d.pass, err = d.password(); err != nil {
		return err
	}
	d.key = bdb.NewKey(d.pass)
	if d.Home == "" {
		return nil
	}
	d.name, err = d.envName(d.Home)
	d.Environment = d.name
	return err
}

// unwellError says that problems were found. The report names them.
type unwellError struct {
	problems, warnings int
	code               int
}

func (e *unwellError) Error() string {
	s := count(e.problems, "problem")
	if e.warnings > 0 {
		s += " and " + count(e.warnings, "warning")
	}
	return s + " found"
}

// count sums up. Damage weighs more than anything that may fail, and that more than a chain that needs a full backup.
func (r *doctorReport) count() error {
	code := 0
	for _, c := range r.Checks {
		switch c.Verdict {
		case fine:
			r.Fine++
		case warning:
			r.Warnings++
		case unknown:
			r.Unknown++
		case problem:
			r.Problems++
			if slices.Index(codesByWeight, c.code) > slices.Index(codesByWeight, code) {
				code = c.code
			}
		}
	}
	if r.Problems == 0 {
		return nil
	}
	return &unwellError{r.Problems, r.Warnings, code}
}

var codesByWeight = []int{exitDone, exitChain, exitFailed, exitDamage}

func (r *doctorReport) text(w io.Writer) {
	subject, width := "", 0
	for _, c := range r.Checks {
		width = max(width, len(c.Title))
	}
	for _, c := range r.Checks {
		if r.quiet && c.Verdict == fine {
			continue
		}
		if c.Subject != subject {
			if subject != "" {
				fmt.Fprintln(w)
			}
			subject = c.Subject
			fmt.Fprintln(w, r.heading(subject))
		}
		fmt.Fprintf(w, "  %-7s  %-*s  %s\n", c.Verdict, width, c.Title, c.Found)
		if c.Advice != "" && c.Verdict != fine {
			fmt.Fprintf(w, "  %-7s  %s\n", "", strings.ReplaceAll(c.Advice, "\n", "\n           "))
		}
	}
	if !r.quiet {
		fmt.Fprintf(w, "\n%s, %s, %s\n", count(r.Problems, "problem"), count(r.Warnings, "warning"), r.rest())
	}
}

func (r *doctorReport) rest() string {
	s := fmt.Sprintf("%d fine", r.Fine)
	if r.Unknown > 0 {
		s += fmt.Sprintf(", %d unknown", r.Unknown)
	}
	return s
}

func (r *doctorReport) heading(subject string) string {
	switch subject {
	case aboutEnvironment:
		return "environment " + r.Home
	case aboutStore:
		return "store " + r.Repository
	}
	return fmt.Sprintf("environment %s in %s", r.Environment, r.Repository)
}

// some names the first few of a list.
func some(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// several is how many of a thing, and the first few by name.
func (c *check) several(what string, names []string) string {
	c.Details = names
	return fmt.Sprintf("%s: %s", count(len(names), what), some(names))
}
