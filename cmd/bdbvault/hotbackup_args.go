package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"bdbvault/localenv"
)

// hotbackupArgs are what the command line says, in db_hotbackup's words.
type hotbackupArgs struct {
	checkpoint bool     // -c
	keep       bool     // -D: directories keep their names
	dataDirs   []string // -d
	home       string   // -h
	logDir     string   // -l
	password   string   // -P
	update     bool     // -u
	version    bool     // -V
	verbose    bool     // -v
	debug      bool     // -g: leave all log files in the copy
	backup     string   // -b

	ownLogDir   string // -l, where DB_CONFIG names no log directory
	logConflict bool   // -l names another one than DB_CONFIG
}

// misuse is a command line that db_hotbackup would refuse with its usage.
type misuse struct {
	text string // empty: the usage says it
	odd  bool   // db_hotbackup prints its name behind the text, and so no newline
}

func (e *misuse) Error() string { return e.text }

var errHelp = errors.New("help")

// parse takes the arguments apart as getopt does: options may be bundled, and their values stand behind them or are the next argument.
func (a *hotbackupArgs) parse(args []string) error {
	var passwords []string
	f := pflag.NewFlagSet(commandHotbackup, pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	f.BoolVarP(&a.checkpoint, "checkpoint", "c", false, "")
	f.BoolVarP(&a.keep, "db-config", "D", false, "")
	f.StringArrayVarP(&a.dataDirs, "data-dir", "d", nil, "")
	f.BoolP("file-copy", "F", false, "") // db_hotbackup reads by itself then, which is what we always do
	f.BoolVarP(&a.debug, "debug", "g", false, "")
	f.StringVarP(&a.home, "home", "h", "", "")
	f.StringVarP(&a.logDir, "log-dir", "l", "", "")
	f.StringArrayVarP(&passwords, "password", "P", nil, "")
	f.BoolVarP(&a.update, "update", "u", false, "")
	f.BoolVarP(&a.version, "version", "V", false, "")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "")
	f.StringVarP(&a.backup, "backup-dir", "b", "", "")
	help := f.Bool("help", false, "")
	if err := f.Parse(args); err != nil {
		return &misuse{text: optionText(err)}
	}
	switch {
	case *help:
		return errHelp
	case a.version:
		return nil
	case len(passwords) > 1:
		return &misuse{text: "BDB5133 Password may not be specified twice"}
	case len(passwords) == 1:
		a.password = passwords[0]
	default:
		a.password, _ = passwordInVariable()
	}
	return a.check(f.NArg())
}

// optionText is getopt's word for what it can't take apart.
func optionText(err error) string {
	var unknown *pflag.NotExistError
	var short *pflag.ValueRequiredError
	switch {
	case errors.As(err, &unknown):
		return fmt.Sprintf("invalid option -- '%s'", unknown.GetSpecifiedName())
	case errors.As(err, &short):
		return fmt.Sprintf("option requires an argument -- '%s'", short.GetSpecifiedName())
	}
	return err.Error()
}

func (a *hotbackupArgs) check(extra int) error {
	if a.home == "" {
		a.home = os.Getenv("DB_HOME")
	}
	switch {
	case extra > 0:
		return &misuse{}
	case len(a.dataDirs) > 0 && a.checkpoint:
		return &misuse{text: "BDB5027 cannot specify -d and -c", odd: true}
	case a.keep && (len(a.dataDirs) > 0 || a.logDir != ""):
		return &misuse{text: "BDB5028 cannot specify -D and -d or -l", odd: true}
	case a.home == "":
		return &misuse{text: "BDB5030 no source database environment specified", odd: true}
	case a.backup == "":
		return &misuse{text: "BDB5031 no target backup directory specified", odd: true}
	}
	return nil
}

// directories adds those of the command line to those of DB_CONFIG. All are relative to home.
func (a *hotbackupArgs) directories(c *localenv.Config) {
	c.DataDirs = append(a.relativeDirs(), c.DataDirs...)
	switch {
	case c.LogDir == "":
		c.LogDir, a.ownLogDir = a.logDir, a.logDir
	case a.logDir != "" && a.logDir != c.LogDir:
		a.logConflict = true
	}
}

// relativeDirs takes the home off the data directories: older versions of db_hotbackup wanted it there. Where home has a directory of its own name, it may be
// meant, so nothing is taken off.
func (a *hotbackupArgs) relativeDirs() (list []string) {
	_, err := os.Stat(filepath.Join(a.home, a.home))
	for _, d := range a.dataDirs {
		rest, below := strings.CutPrefix(d, strings.TrimSuffix(a.home, "/")+"/")
		if below && err != nil {
			d = rest
		}
		if d == "" {
			d = "."
		}
		list = append(list, d)
	}
	return list
}
