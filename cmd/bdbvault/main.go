// Command bdbvault archives live Berkeley DB environments to S3-compatible object storage and brings them back.
//
// This package holds commands, flags, messages and exit codes, and nothing else: what a command does is done by the packages
// archive and restore. Every command prints one result, as text or with --json as one object, and every error a person
// sees is put into words in one place, errors.go, which also knows the exit codes.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

func main() {
	// The engine's child is this program again. It must not get the signal handling of a command.
	if len(os.Args) > 1 && os.Args[1] == engineCommand {
		os.Exit(serveEngine(os.Stdin, os.Stdout, os.Stderr))
	}
	thriftily()
	os.Exit(run(os.Args, os.Stdout, os.Stderr))
}

// gcPercent is how much garbage may pile up beside what is in use, in percent. Most of that is buffers of fixed size, which cost the collector
// nothing, so that half of Go's default saves a fifth of the memory of a backup and no time is lost.
const gcPercent = 50

// thriftily sets it, unless the user did.
func thriftily() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// run carries out one command line and returns its exit code.
func run(args []string, out, errs io.Writer) int {
	ctx := interruptible(errs)
	if name, rest, ok := asHotbackup(args); ok {
		return runHotbackup(ctx, name, rest, out, errs)
	}
	p := &program{ctx: ctx, out: out, errs: errs, json: wantsJSON(args)}
	app := p.app()
	// What urfave/cli itself returns is about the command line; errors of commands went to finish already.
	if err := app.RunContext(ctx, flagsFirst(app.Commands, args)); err != nil {
		p.finish("", nil, asUsage(err))
	}
	return p.code
}

// program is one run of bdbvault: where it writes, and what it ends with.
type program struct {
	ctx       context.Context
	out, errs io.Writer
	json      bool
	lines     bool // JSON as one object a line
	meter     meter
	code      int
}

func (p *program) app() *cli.App {
	cli.HelpFlag = &cli.BoolFlag{Name: "help", Usage: "show help", DisableDefaultText: true} // -h is --home
	cli.VersionFlag = &cli.BoolFlag{Name: "version", Usage: "print the version", DisableDefaultText: true}
	app := &cli.App{
		Name:            "bdbvault",
		Usage:           "archives live Berkeley DB environments to object storage and brings them back",
		Version:         version,
		Commands:        p.commands(),
		Writer:          p.out,
		ErrWriter:       p.errs,
		Action:          noCommand,
		OnUsageError:    onUsageError,
		ExitErrHandler:  func(*cli.Context, error) {}, // finish decides
		HideHelpCommand: true,
	}
	for _, c := range app.Commands {
		c.OnUsageError = onUsageError
		c.HideHelpCommand = true
	}
	return app
}

func noCommand(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("there is no command %q", c.Args().First())
	}
	return usagef("no command given")
}

func onUsageError(_ *cli.Context, err error, _ bool) error { return asUsage(err) }

// result is what a command has to say when it is done. With --json it is encoded instead.
type result interface {
	text(w io.Writer)
}

// action is a command: its result is printed even beside an error, if there is one.
type action func(ctx context.Context, c *call) (result, error)

// deed makes f, which does something, an action of urfave/cli that takes exactly the arguments named. With --quiet its result is not printed:
// no news is good news.
func (p *program) deed(f action, arguments ...string) cli.ActionFunc {
	return p.command(f, func(c *call) bool { return p.json || !c.Bool(flagQuiet) }, arguments...)
}

// answer makes f, whose result is what was asked for, an action of urfave/cli that takes exactly the arguments named.
func (p *program) answer(f action, arguments ...string) cli.ActionFunc {
	return p.command(f, func(*call) bool { return true }, arguments...)
}

func (p *program) command(f action, printed func(*call) bool, arguments ...string) cli.ActionFunc {
	return func(cc *cli.Context) error {
		if err := checkArguments(cc, arguments); err != nil {
			return err
		}
		c := newCall(cc, p.errs)
		c.meter = &p.meter
		res, err := c.configured(p.ctx, f)
		c.progress.end()
		if !printed(c) {
			res = nil
		}
		p.finish(cc.Command.Name, res, err)
		if line := p.meter.line(); line != "" && c.Bool(flagVerbose) {
			c.progress.say(line)
		}
		return nil
	}
}

// stream makes f, which goes on and on and has no result, an action of urfave/cli. With --json it prints objects line by line, and if it fails
// the last one says why.
func (p *program) stream(f func(ctx context.Context, c *call, out io.Writer) error) cli.ActionFunc {
	run := p.deed(func(ctx context.Context, c *call) (result, error) { return nil, f(ctx, c, p.out) })
	return func(cc *cli.Context) error {
		p.lines = true
		return run(cc)
	}
}

func checkArguments(cc *cli.Context, want []string) error {
	switch n := cc.NArg(); {
	case n < len(want):
		return usagef("%s wants %s", cc.Command.Name, strings.Join(want[n:], " "))
	case n > len(want):
		return usagef("%s: what is %q for?", cc.Command.Name, cc.Args().Get(len(want)))
	}
	return nil
}

// finish prints the result and the error of a command and sets the exit code.
func (p *program) finish(command string, res result, err error) {
	if p.json {
		err = p.finishJSON(res, err)
	} else if res != nil {
		err = firstError(err, writeText(p.out, res))
	}
	v := judge(p.ctx, err)
	p.code = v.code
	if err == nil {
		return
	}
	fmt.Fprintf(p.errs, "%s: %s\n", strings.TrimSpace("bdbvault "+command), v.text)
	if v.hint != "" {
		fmt.Fprintf(p.errs, "%s\n", indent(v.hint))
	}
}

// failure is the object that a command ends with if it fails.
type failure struct {
	Error  string `json:"error"`
	Code   int    `json:"code"`
	Hint   string `json:"hint,omitempty"`
	Result result `json:"result,omitempty"` // as far as there is one
}

func (p *program) finishJSON(res result, err error) error {
	var object any = res
	if err != nil {
		v := judge(p.ctx, err)
		object = failure{Error: v.text, Code: v.code, Hint: v.hint, Result: res}
	}
	if p.lines && err == nil {
		return nil
	}
	if e := p.print(object); e != nil && err == nil {
		err = &outputError{e}
	}
	return err
}

func (p *program) print(object any) error {
	data, err := p.meter.encode(object)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if p.lines {
		b.Write(data)
	} else if err := json.Indent(&b, data, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err = p.out.Write(b.Bytes())
	return err
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// writeText prints a result in one write, so that a failing output is noticed: exit code 0 has to mean that it was printed.
func writeText(out io.Writer, res result) error {
	var b strings.Builder
	res.text(&b)
	if _, err := io.WriteString(out, b.String()); err != nil {
		return &outputError{err}
	}
	return nil
}

// wantsJSON looks for --json by itself, since an error in the command line has to be answered with an object as well.
func wantsJSON(args []string) bool {
	on, _ := strconv.ParseBool(os.Getenv("BDBVAULT_JSON"))
	for _, a := range args {
		switch name, value, has := strings.Cut(strings.TrimLeft(a, "-"), "="); {
		case a == "--":
			return on
		case !strings.HasPrefix(a, "-") || name != flagJSON:
		case has:
			on, _ = strconv.ParseBool(value)
		default:
			on = true
		}
	}
	return on
}

// flagsFirst moves arguments behind the flags, where urfave/cli wants them: "show ID --json" is as good as "show --json ID".
func flagsFirst(commands []*cli.Command, args []string) []string {
	if len(args) < 2 {
		return args
	}
	i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[1]) })
	if i < 0 {
		return args
	}
	var front, rest []string
	for left := args[2:]; len(left) > 0; left = left[1:] {
		a := left[0]
		if a == "--" {
			rest = append(rest, left[1:]...)
			break
		}
		if !strings.HasPrefix(a, "-") || a == "-" {
			rest = append(rest, a)
			continue
		}
		front = append(front, withValue(a))
		if takesValue(commands[i].Flags, a) {
			if left = left[1:]; len(left) == 0 {
				return args // urfave/cli says what is missing
			}
			front = append(front, left[0])
		}
	}
	return slices.Concat(args[:2], front, []string{"--"}, rest)
}

// withValue gives --read-data, which may stand alone, the value that it then has.
func withValue(a string) string {
	if strings.TrimLeft(a, "-") == flagReadData {
		return a + "=" + readAllData
	}
	return a
}

// takesValue reports whether the argument after a is the value of flag a.
func takesValue(flags []cli.Flag, a string) bool {
	name := strings.TrimLeft(a, "-")
	if name == flagReadData {
		return false
	}
	for _, f := range flags {
		if _, boolean := f.(*cli.BoolFlag); !boolean && slices.Contains(f.Names(), name) {
			return true
		}
	}
	return false
}
