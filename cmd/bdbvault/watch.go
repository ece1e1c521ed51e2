package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"bdbvault/archive"
	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
)

const (
	commandWatch  = "watch"
	commandConfig = "config"
)

// Names of watch's own flags.
const (
	flagShipEvery         = "ship-every"
	flagFullEvery         = "full-every"
	flagFullCron          = "full-cron"
	flagRemoveShippedLogs = "remove-shipped-logs"
	flagMaxLag            = "max-lag"
	flagListen            = "listen"
)

// Groups of watch's flags in the help.
const (
	inSchedule = "Schedule"
	inService  = "Service"
)

// maxPoll is how long the log is left unlooked at, at most, where no change of it is heard of.
const maxPoll = 10 * time.Second

func watchFlags() []cli.Flag {
	// An environment that takes another's place does so once, by a backup that somebody looks at.
	ofBackups := slices.DeleteFunc(backupFlags(), func(f cli.Flag) bool { return f.Names()[0] == flagNewEnvironment })
	return join([]cli.Flag{
		&cli.DurationFlag{Name: flagShipEvery, Category: inSchedule, Value: time.Second, EnvVars: variables(flagShipEvery),
			Usage: "`DURATION` between two ships of log, at least"},
		&cli.DurationFlag{Name: flagFullEvery, Category: inSchedule, Value: 24 * time.Hour, EnvVars: variables(flagFullEvery),
			Usage: "`DURATION` between two full backups; 0: only when the chain of logs needs one"},
		stringFlag(inSchedule, flagFullCron, "`EXPRESSION` of when full backups are due, as in crontab: \"0 3 * * 0\" is Sundays at three"),
		&cli.DurationFlag{Name: flagMaxLag, Category: inSchedule, EnvVars: variables(flagMaxLag), DefaultText: "a minute, or three times --ship-every",
			Usage: "`DURATION` for which log may be missing from the store before /healthz fails"},
		boolFlag(inSchedule, flagRemoveShippedLogs, "remove log files from the home that are in the store and that recovery no longer needs"),
		stringFlag(inService, flagListen, "`ADDRESS` for status page, metrics and health, as in 127.0.0.1:9321 (default: none)"),
	}, watchDrillFlags(), ofBackups)
}

// watch is the command of that name. It goes on until a signal ends it, which is no error.
func watch(ctx context.Context, c *call, out io.Writer) error {
	plan, err := c.watchPlan()
	if err != nil {
		return err
	}
	s := newService(plan, out)
	return s.run(ctx)
}

// watchPlan is what the settings come to.
type watchPlan struct {
	location location
	listen   string
	calls    []*call // of the environments, by place
	specs    []*watchSpec
}

// watchSpec is what the settings of one environment come to.
type watchSpec struct {
	call     *call
	name     string
	home     string
	password string
	maxLag   time.Duration
	pace     localenv.Pace
	options  archive.WatchOptions
	drill    archive.Schedule // nil: there are none
	scratch  string           // for drills
}

// watchPlan checks all settings, before anything is begun.
func (c *call) watchPlan() (*watchPlan, error) {
	calls, err := c.environments()
	if err != nil {
		return nil, err
	}
	p := &watchPlan{calls: calls}
	if p.location, err = calls[0].location(); err != nil {
		return nil, err
	}
	if p.listen, err = listenAddress(calls[0].String(flagListen)); err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range calls {
		spec, err := e.watchSpec()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		p.specs = append(p.specs, spec)
	}
	return p, errors.Join(append(errs, p.distinct()...)...)
}

// distinct makes sure that no two environments share a name or a home.
func (p *watchPlan) distinct() (errs []error) {
	names, homes := map[string]bool{}, map[string]string{}
	for _, s := range p.specs {
		if names[s.name] {
			errs = append(errs, usagef("two environments are called %q: give one of them another name (env)", s.name))
		}
		if other, twice := homes[s.home]; twice && other != s.name {
			errs = append(errs, usagef("environments %s and %s have the same home %s", other, s.name, s.home))
		}
		names[s.name], homes[s.home] = true, s.name
	}
	return errs
}

func (c *call) watchSpec() (s *watchSpec, err error) {
	s = &watchSpec{call: c}
	if s.home, err = c.need(flagHome, "-h HOME, the environment's home directory, or a --config with environments"); err != nil {
		return nil, err
	}
	if s.name, err = c.envName(s.home); err != nil {
		return nil, err
	}
	if err := s.fill(); err != nil {
		return nil, fmt.Errorf("environment %s: %w", s.name, err)
	}
	return s, nil
}

func (s *watchSpec) fill() (err error) {
	c, o := s.call, &s.options
	if s.password, err = c.password(); err != nil {
		return err
	}
	if s.pace, err = c.readPace(); err != nil {
		return err
	}
	if _, _, err := c.storeRates(); err != nil {
		return err
	}
	if o.StateDir, err = c.stateDir(); err != nil {
		return err
	}
	if o.BulkSafe, err = c.oneOf(flagBulkSafe, archive.BulkAuto, archive.BulkRequire, archive.BulkOff); err != nil {
		return err
	}
	if o.ShipEvery, err = c.positive(flagShipEvery); err != nil {
		return err
	}
	if o.Full, err = c.schedule(flagFullEvery, flagFullCron); err != nil {
		return err
	}
	if s.drill, err = c.schedule(flagDrillEvery, flagDrillCron); err != nil {
		return err
	}
	if s.scratch, err = c.scratch(flagDrillScratch); err != nil {
		return err
	}
	if s.maxLag = c.Duration(flagMaxLag); s.maxLag == 0 {
		s.maxLag = max(time.Minute, 3*o.ShipEvery)
	}
	if o.BulkSafe != archive.BulkOff || c.Bool(flagCheckpoint) {
		e, err := c.engineOptions(s.password)
		if err != nil {
			return err
		}
		o.Engine = &e
	}
	o.Env, o.Tool, o.PollEvery = s.name, tool, min(o.ShipEvery, maxPoll)
	o.Checkpoint, o.ReadAll, o.AllowDamaged = c.Bool(flagCheckpoint), c.Bool(flagReadAll), c.Bool(flagAllowDamaged)
	if o.Lock, err = c.lock(); err != nil {
		return err
	}
	o.RemoveShippedLogs = c.Bool(flagRemoveShippedLogs)
	return nil
}

// open looks at the environment anew.
func (s *watchSpec) open() (*localenv.Env, error) {
	e, err := localenv.Open(s.home, bdb.NewKey(s.password))
	if err == nil {
		e.Pace = s.pace
	}
	return e, err
}

func (c *call) positive(name string) (time.Duration, error) {
	d := c.Duration(name)
	if d <= 0 {
		return 0, usagef("--%s %s: want more than 0", name, d)
	}
	return d, nil
}

// schedule is when full backups or drills are due: by the interval or the expression, whichever was said with more weight. Nil: never of their own.
func (c *call) schedule(flagEvery, flagCron string) (archive.Schedule, error) {
	every, expression := c.origins[flagEvery].rank, c.origins[flagCron].rank
	if expression > 0 && expression == every {
		return nil, usagef("give --%s or --%s, not both", flagEvery, flagCron)
	}
	if expression > every {
		return parseCron(c.String(flagCron), flagCron, flagEvery)
	}
	switch d := c.Duration(flagEvery); {
	case d < 0:
		return nil, usagef("--%s %s: want 0 or more", flagEvery, d)
	case d == 0:
		return nil, nil
	default:
		return archive.Every(d), nil
	}
}

// listenAddress completes what --listen says: a bare port is one of this host's own.
func listenAddress(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	if !strings.Contains(text, ":") {
		text = ":" + text
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil || port == "" {
		return "", usagef("--%s %q: want ADDRESS:PORT, as in 127.0.0.1:9321", flagListen, text)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return "", usagef("--%s %q: there is no such port", flagListen, text)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

// isLoopback reports whether only this host can reach an address.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
