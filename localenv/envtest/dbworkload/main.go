// Command dbworkload makes Berkeley DB environments and works on them: it is the load of bdbvault's tests, demonstration and
// benchmarks. Package envtest runs it; `dbworkload help` says how to run it by hand.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"

	"bdbvault/localenv/envtest"
)

// command is one thing the program can do.
type command struct {
	name    string
	summary string
	run     func(*flag.FlagSet, []string) error
}

func commands() []command {
	return []command{
		{"create", "make an environment of a given size, or from a description in JSON", create},
		{"bank", "run writer processes that transfer money between accounts, until told to stop", bank},
		{"churn", "run processes that create, fill, truncate, compact, rename and remove databases, until told to stop", churn},
		{"change", "write into a part of a database's pages, at random places", change},
		{"grow", "add records until the log has grown by so many bytes", grow},
		{"check-bank", "prove that a closed home holds an exact prefix of the bank's commits", checkBank},
		{"verify", "check the structure of every database file in a closed home", verify},
		{"dump", "print a digest of every database in a closed home", dump},
		{"diff", "compare what the databases of two closed homes hold", diff},
		{"log-marks", "list the checkpoints and the committed renames of database files in a log", logMarks},
		{"resolve", "open a home with recovery, and commit or abort the transactions that are prepared", resolve},
		{"hold", "keep an environment open and do steps that come as JSON lines (type Step of package envtest)", hold},
		{"keeper", "checkpoint an environment until told to stop", keeper},
		{"bank-worker", "be one of the bank's processes", bankWorker},
		{"churn-worker", "be one of the churn's processes", churnWorker},
	}
}

func main() {
	runtime.LockOSThread() // the engine's handles belong to one thread
	args := os.Args[1:]
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" {
		usage()
		return
	}
	for _, c := range commands() {
		if c.name == args[0] {
			finish(c, c.run(newFlags(c), args[1:]))
			return
		}
	}
	fmt.Fprintf(os.Stderr, "dbworkload: no command %q\n", args[0])
	usage()
	os.Exit(2)
}

func finish(c command, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "dbworkload %s: %v\n", c.name, err)
		os.Exit(1)
	}
}

func newFlags(c command) *flag.FlagSet {
	f := flag.NewFlagSet(c.name, flag.ExitOnError)
	f.Usage = func() {
		fmt.Fprintf(os.Stderr, "dbworkload %s: %s\n\n", c.name, c.summary)
		f.PrintDefaults()
	}
	return f
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: dbworkload COMMAND [FLAGS]   (each COMMAND has --help)")
	for _, c := range commands() {
		fmt.Fprintf(os.Stderr, "  %-12s %s\n", c.name, c.summary)
	}
	fmt.Fprintln(os.Stderr, "What runs until told to stop does so at SIGINT, SIGTERM and the end of standard input; see --no-stdin and --for.")
	fmt.Fprintf(os.Stderr, "The password of an encrypted environment comes from --password or $%s.\n", envtest.PasswordVariable)
}

// place is the environment that nearly every command is about.
type place struct{ home, password string }

func placeFlags(f *flag.FlagSet) *place {
	p := &place{}
	f.StringVar(&p.home, "home", os.Getenv("DB_HOME"), "the environment's home `directory`")
	f.StringVar(&p.password, "password", os.Getenv(envtest.PasswordVariable), "the environment's password")
	return p
}

// printJSON is how commands answer a program.
func printJSON(v any) error {
	return json.NewEncoder(os.Stdout).Encode(v)
}
