package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/urfave/cli/v2"
)

const flagOnline = "online"

func configFlags() []cli.Flag {
	return []cli.Flag{boolFlag(inRepository, flagOnline, "open the repository as well")}
}

// configReport is the result of config check: what watch would do, and where each setting comes from.
type configReport struct {
	File         string              `json:"file,omitempty"`
	Settings     []settingReport     `json:"settings"`
	Environments []environmentConfig `json:"environments"`
	Online       bool                `json:"online"` // the repository was opened
}

type environmentConfig struct {
	Name      string          `json:"name"`
	Home      string          `json:"home"`
	NextFull  time.Time       `json:"nextFull,omitzero"`  // if one were taken now
	NextDrill time.Time       `json:"nextDrill,omitzero"` // likewise
	Settings  []settingReport `json:"settings"`
}

type settingReport struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Origin string `json:"origin"` // flag, variable, file and line, or default
}

// checkConfig is the command config check.
func checkConfig(ctx context.Context, c *call) (result, error) {
	if what := c.Args().First(); what != "check" {
		return nil, usagef("config: %q: want check", what)
	}
	plan, err := c.watchPlan()
	if err != nil {
		return nil, err
	}
	all, each := settingNames()
	all = slices.DeleteFunc(all, func(name string) bool { return slices.Contains(each, name) })
	r := &configReport{Settings: plan.calls[0].settingReports(all), Online: c.Bool(flagOnline)}
	if c.file != nil {
		r.File = c.file.Path
	}
	var errs []error
	for _, s := range plan.specs {
		e := environmentConfig{Name: s.name, Home: s.home, Settings: s.call.settingReports(each)}
		if _, cron := s.options.Full.(cronSchedule); cron {
			e.NextFull = s.options.Full.Next(time.Now())
		}
		if _, cron := s.drill.(cronSchedule); cron {
			e.NextDrill = s.drill.Next(time.Now())
		}
		r.Environments = append(r.Environments, e)
		if _, err := s.open(); err != nil {
			errs = append(errs, fmt.Errorf("environment %s: %w", s.name, err))
		}
	}
	if r.Online {
		if _, err := plan.calls[0].openRepository(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return r, errors.Join(errs...)
}

// settingReports are the values that are in force, without those that say nothing.
func (c *call) settingReports(names []string) (list []settingReport) {
	for _, name := range names {
		o, given := c.origins[name]
		value := fmt.Sprint(c.Value(name))
		if idle := c.overruled(name); idle || !given && (value == "" || value == "false" || value == "0s") {
			continue
		}
		list = append(list, settingReport{Name: name, Value: value, Origin: o.String()})
	}
	return list
}

// overruled reports whether a rival of the setting has more weight.
func (c *call) overruled(name string) bool {
	rival, ok := rivals[name]
	return ok && c.origins[rival].rank > c.origins[name].rank
}

func (r *configReport) text(w io.Writer) {
	t := newTable(w)
	for _, s := range r.Settings {
		t.row(s.Name, s.Value, s.Origin)
	}
	for _, e := range r.Environments {
		t.row("")
		t.row("environment " + e.Name)
		for _, s := range e.Settings {
			t.row("  "+s.Name, s.Value, s.Origin)
		}
		if !e.NextFull.IsZero() {
			t.row("  (next full backup)", stamp(e.NextFull), "")
		}
		if !e.NextDrill.IsZero() {
			t.row("  (next drill)", stamp(e.NextDrill), "")
		}
	}
	t.flush()
}
