// Command bench measures bdbvault side by side with what a user would pick instead, and prints a Markdown table.
//
// What is compared: restic on the live directory; tar, zstd and aws s3 cp of it, which nobody should do to a live environment; and
// db5.3_hotbackup, which makes a safe copy, followed by rclone, or by tar, zstd and aws s3 cp. All of them, and bdbvault, store into one
// MinIO server on loopback.
//
// A run is a story: first full backup, 2 % of the pages changed, second full backup, nothing changed, 50 MiB of log, restore. Each tool
// does each step in turn, and the tables show the medians of several runs. Then a live workload's commits are counted during backups and,
// in alternation, during equal load without one. The last part is memory, with larger environments.
//
// How it is measured:
//   - Wall time is from the start of the first process to the end of the last.
//   - CPU time is user and system time of all the tool's processes, as the kernel reports it when they are waited for (which includes
//     children that they waited for themselves). The store's is the server's own over the same time.
//   - Peak memory is the largest resident set that any one process of the tool reached, from the same report. The kernel counts a
//     program's own size from before it was replaced by the tool, so figures below the size of this program (some 20 MiB) mean nothing.
//     Parent and children apart are sampled 20 times a second.
//   - Requests are counted by the server, as are bytes sent back; bytes stored are the sizes of objects that are new in the bucket.
//   - Everything is read once before each measurement, so that the page cache is warm for all, and what was written is synced.
//   - No files are given to a tool that bdbvault leaves out: the environment's region files.
//
// Everything lies in a temporary directory that is removed at the end, also on SIGINT and SIGTERM.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// rows are the parts of the bench, as -only names them, in the order in which they happen.
var rows = []string{rowFirst, rowSecond, rowUnchanged, rowShip, rowRestore, rowLive, rowMemory}

const (
	rowFirst     = "first"
	rowSecond    = "second"
	rowUnchanged = "unchanged"
	rowShip      = "ship"
	rowRestore   = "restore"
	rowLive      = "live"
	rowMemory    = "memory"
)

type options struct {
	sizes        []int64
	runs, rounds int
	dir, bin     string
	out          string
	only         map[string]bool // nil: all
}

func (o options) wants(row string) bool { return o.only == nil || o.only[row] }

func main() {
	// The parts of the bench that must be processes of their own are this program again.
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case burnCommand:
			exit(burn(os.Args[2:]))
		case layDownCommand:
			exit(layDown(os.Args[2:]))
		}
	}
	opt, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, opt)
	if ctx.Err() != nil {
		stop()
		fmt.Fprintln(os.Stderr, "bench: interrupted")
		os.Exit(130)
	}
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func parseOptions(args []string) (opt options, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	size := f.String("size", "2GiB,8GiB", "`sizes` of the databases: everything is measured at the first, memory at all")
	only := f.String("only", "", "only these `parts`, of "+strings.Join(rows, ","))
	f.IntVar(&opt.runs, "runs", 3, "how often each step is measured; the tables have the `medians`")
	f.IntVar(&opt.rounds, "rounds", 5, "`rounds` of the live workload")
	f.StringVar(&opt.dir, "dir", os.TempDir(), "`directory` on the disk to use; a temporary one is made in it")
	f.StringVar(&opt.bin, "bin", "", "bdbvault `program` to measure (default bin/bdbvault; if there is none, one is built)")
	f.StringVar(&opt.out, "o", "", "write the table to this `file` as well")
	if err := f.Parse(args); err != nil {
		return opt, err
	}
	if f.NArg() > 0 {
		return opt, fmt.Errorf("what is %q for?", f.Arg(0))
	}
	if opt.runs < 1 || opt.rounds < 1 {
		return opt, errors.New("-runs and -rounds must be at least 1")
	}
	if opt.sizes, err = parseSizes(*size); err != nil {
		return opt, err
	}
	opt.only, err = parseRows(*only)
	return opt, err
}

func run(ctx context.Context, opt options) (err error) {
	dir, err := os.MkdirTemp(opt.dir, "bdbvault-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	b, err := newBench(ctx, opt, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.store.stop()) }()
	if err := b.all(ctx); err != nil {
		return err
	}
	if err := b.write(ctx); err != nil {
		return err
	}
	if b.failed > 0 {
		return fmt.Errorf("%d steps failed; the table has notes about them", b.failed)
	}
	return nil
}

// write prints the table, and writes it to a file if asked.
func (b *bench) write(ctx context.Context) error {
	text := b.report(ctx)
	if _, err := io.WriteString(os.Stdout, text); err != nil {
		return err
	}
	if b.opt.out == "" {
		return nil
	}
	return os.WriteFile(b.opt.out, []byte(text), 0o644)
}
