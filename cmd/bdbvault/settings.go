package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"bdbvault/cmd/bdbvault/config"
)

// Ranks of origins: the command line wins over the environment, and that over the file.
const (
	rankDefault = iota
	rankFile
	rankVariable
	rankFlag
)

// origin is where the value of a setting comes from.
type origin struct {
	rank  int
	where string
}

func (o origin) String() string {
	if o.rank == rankDefault {
		return "default"
	}
	return o.where
}

// givenOrigins finds which flags are on the command line and which have a variable. Where both say the same, the variable is named.
func givenOrigins(cc *cli.Context) map[string]origin {
	origins := map[string]origin{}
	given := cc.LocalFlagNames()
	for _, f := range cc.Command.Flags {
		name := f.Names()[0]
		variable := setVariable(f)
		switch {
		case !slices.Contains(given, name), f.IsSet() && variable == "": // an empty variable says nothing
		case f.IsSet() && fmt.Sprint(cc.Value(name)) == withoutCommandLine(f):
			origins[name] = origin{rankVariable, "$" + variable}
		default:
			origins[name] = origin{rankFlag, "--" + name}
		}
	}
	return origins
}

// withoutCommandLine is the value that a flag has of its variable.
func withoutCommandLine(f cli.Flag) string {
	set := flag.NewFlagSet("", flag.ContinueOnError)
	if f.Apply(set) != nil {
		return ""
	}
	return set.Lookup(f.Names()[0]).Value.String()
}

// setVariable is the environment variable that a flag has its value of.
func setVariable(f cli.Flag) string {
	named, ok := f.(interface{ GetEnvVars() []string })
	if !ok {
		return ""
	}
	for _, v := range named.GetEnvVars() {
		if os.Getenv(v) != "" {
			return v
		}
	}
	return ""
}

// configured runs f when what the configuration file says, if there is one, has been added to the flags.
func (c *call) configured(ctx context.Context, f action) (result, error) {
	if err := c.readConfig(); err != nil {
		return nil, err
	}
	if c.file != nil && !c.serves() {
		if err := c.adoptOne(); err != nil {
			return nil, err
		}
	}
	return f(ctx, c)
}

// serves reports whether the command is about all environments of the file, and not about one.
func (c *call) serves() bool {
	return c.Command.Name == commandWatch || c.Command.Name == commandConfig
}

func (c *call) readConfig() error {
	path := c.String(flagConfig)
	if path == "" {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	all, each := settingNames()
	if c.file, err = config.Parse(path, data, all, each); err != nil {
		return usageError{err}
	}
	return nil
}

// settingNames are the names that the file may use at its top, and in each environment: those of watch's flags.
func settingNames() (all, each []string) {
	for _, f := range join(watchFlags(), passwordFlags(), engineFlags(), repositoryFlags(), outputFlags()) {
		name, group := f.Names()[0], f.(cli.CategorizableFlag).GetCategory()
		if slices.Contains([]string{flagConfig, flagPassword, flagJSON}, name) {
			continue
		}
		single := name == flagHome || name == flagEnv
		if !single {
			all = append(all, name)
		}
		if single || slices.Contains([]string{inEnvironment, inEngine, inSchedule}, group) {
			each = append(each, name)
		}
	}
	return all, each
}

// rivals are settings of which a higher one overrules the other.
var rivals = map[string]string{flagFullEvery: flagFullCron, flagFullCron: flagFullEvery, flagDrillEvery: flagDrillCron, flagDrillCron: flagDrillEvery}

// adopt takes over the settings of a section that nothing of higher rank says otherwise.
func (c *call) adopt(s *config.Section) error {
	before := make(map[string]bool, len(c.origins))
	for name := range c.origins {
		before[name] = true
	}
	for _, t := range s.Settings {
		if before[t.Name] || before[rivals[t.Name]] || !c.hasFlag(t.Name) {
			continue
		}
		where := fmt.Sprintf("%s:%d", c.file.Path, t.Line)
		if err := c.Set(t.Name, t.Value); err != nil {
			return usagef("%s: %s: %w", where, t.Name, err)
		}
		c.origins[t.Name] = origin{rankFile, where}
	}
	return nil
}

func (c *call) hasFlag(name string) bool {
	return slices.ContainsFunc(c.Command.Flags, func(f cli.Flag) bool { return f.Names()[0] == name })
}

// adoptOne takes over the file's settings for a command about one environment: that of the name or of the home given, or the only one
// there is. Commands that need no home need no entry in the file either.
func (c *call) adoptOne() error {
	local := c.hasFlag(flagHome)
	i, err := c.chosen()
	if err != nil && local {
		return err
	}
	if err == nil && i >= 0 && (local || c.String(flagEnv) != "") {
		if err := c.adopt(&c.file.Environments[i]); err != nil {
			return err
		}
	}
	return c.adopt(&c.file.Section)
}

// chosen is the entry that --env or -h means, or the only one; -1: the file has none at all.
func (c *call) chosen() (int, error) {
	list := c.file.Environments
	env, home := c.String(flagEnv), c.String(flagHome)
	if len(list) == 0 {
		return -1, nil
	}
	if env == "" && home == "" {
		if len(list) == 1 {
			return 0, nil
		}
		return 0, usagef("%s has several environments: choose one with --env: %s", c.file.Path, entryNames(list))
	}
	for i := range list {
		if (env == "" || entryName(&list[i]) == env) && (home == "" || sameHome(&list[i], home)) {
			return i, nil
		}
	}
	return 0, usagef("%s has no environment %s; it has %s", c.file.Path, firstText(env, home), entryNames(list))
}

func firstText(texts ...string) string {
	return texts[slices.IndexFunc(texts, func(t string) bool { return t != "" })]
}

// entryName is what an entry's environment is called.
func entryName(s *config.Section) string {
	if env, ok := s.Get(flagEnv); ok {
		return env.Value
	}
	home, _ := s.Get(flagHome)
	return sanitize(filepath.Base(home.Value))
}

func sameHome(s *config.Section, home string) bool {
	own, ok := s.Get(flagHome)
	a, err := filepath.Abs(own.Value)
	b, err2 := filepath.Abs(home)
	return ok && err == nil && err2 == nil && a == b
}

func entryNames(list []config.Section) string {
	var names []string
	for i := range list {
		names = append(names, entryName(&list[i]))
	}
	return strings.Join(names, ", ")
}

// environments are the calls of all environments that the command is about, each with settings of its own: the file's, or the one
// chosen of them, or that of the flags.
func (c *call) environments() ([]*call, error) {
	if c.file == nil || len(c.file.Environments) == 0 {
		e, err := c.clone()
		if err == nil && c.file != nil {
			err = e.adopt(&c.file.Section)
		}
		return []*call{e}, err
	}
	entries := c.file.Environments
	if c.String(flagEnv) != "" || c.String(flagHome) != "" {
		i, err := c.chosen()
		if err != nil {
			return nil, err
		}
		entries = entries[i : i+1]
	}
	var list []*call
	for i := range entries {
		e, err := c.clone()
		if err != nil {
			return nil, err
		}
		if err := firstError(e.adopt(&entries[i]), e.adopt(&c.file.Section)); err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

// clone is the same command line once more, for settings of its own.
func (c *call) clone() (*call, error) {
	set := flag.NewFlagSet(c.Command.Name, flag.ContinueOnError)
	for _, f := range c.Command.Flags {
		if err := f.Apply(set); err != nil {
			return nil, err
		}
	}
	cc := cli.NewContext(c.App, set, nil)
	cc.Command = c.Command
	e := &call{Context: cc, progress: c.progress, origins: map[string]origin{}, file: c.file, meter: c.meter, throttle: c.throttle}
	for name, o := range c.origins {
		e.origins[name] = o
		if o.rank != rankFlag {
			continue
		}
		if err := cc.Set(name, fmt.Sprint(c.Value(name))); err != nil {
			return nil, err
		}
	}
	return e, nil
}
