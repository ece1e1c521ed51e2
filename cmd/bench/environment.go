package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/localenv/envtest"
)

// regions is the pattern of the files that are no data.
const regions = "__db.0*"

const (
	dataDir     = "data"
	logFileSize = 10 << 20
	logToShip   = 50 << 20
	changeShare = 0.02
	// pageOverhead is how much larger a database file is than the values in it.
	pageOverhead = 1.15
)

// environment is what is backed up.
type environment struct {
	*envtest.Environment
	home      string
	databases []envtest.Database // the large ones
	ratio     float64            // how far zstd -1 shrinks them; 0: not known
	random    *rand.Rand
	version   uint64 // of the values written last
}

// specification of an environment whose databases take about size bytes.
func specification(size int64) envtest.Spec {
	half := int64(float64(size) / 2 / pageOverhead)
	return envtest.Spec{
		DataDirs: []string{dataDir}, Cache: 64 * mib, LogFileSize: logFileSize,
		Databases: []envtest.Database{
			{File: "a.db", Method: "btree", PageSize: 8 * kib, Bytes: half, ValueSize: 400, Bulk: true},
			{File: "b.db", Method: "btree", PageSize: 16 * kib, Bytes: half, ValueSize: 1200, Bulk: true},
		},
		Bank: &envtest.Bank{Accounts: 1000},
	}
}

// makeEnvironment makes one that nobody has open, with as little log as can be.
func (b *bench) makeEnvironment(ctx context.Context, size int64) error {
	b.say("making an environment of %s", sizeText(size))
	spec := specification(size)
	text, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	tool, err := envtest.Tool()
	if err != nil {
		return err
	}
	home := filepath.Join(b.dir, "home")
	b.env = &environment{Environment: envtest.Open(home, ""), home: home, databases: spec.Databases, random: rand.New(rand.NewPCG(1, 2))}
	create := command{args: []string{tool, "create", "--home", home, "--spec", "-"}, in: text}
	if _, err := runAll(ctx, pipeline{create}); err != nil {
		return err
	}
	if err := b.env.tidy(); err != nil {
		return err
	}
	b.env.ratio, err = b.shrinks(ctx)
	return err
}

// shrinks measures how far zstd -1 gets with the databases.
func (b *bench) shrinks(ctx context.Context) (float64, error) {
	if b.programs["zstd"] == "" {
		return 0, nil
	}
	var before, after int64
	for _, d := range b.env.databases {
		info, err := os.Stat(b.env.path(d))
		if err != nil {
			return 0, err
		}
		to := filepath.Join(b.dir, "shrunk.zst")
		zstd := command{args: []string{b.programs["zstd"], "-q", "-f", "-1", "-T2", b.env.path(d), "-o", to}}
		if _, err := runAll(ctx, pipeline{zstd}); err != nil {
			return 0, err
		}
		small, err := os.Stat(to)
		if err != nil {
			return 0, err
		}
		before, after = before+info.Size(), after+small.Size()
		if err := os.Remove(to); err != nil {
			return 0, err
		}
	}
	return float64(before) / float64(after), nil
}

func (e *environment) path(d envtest.Database) string { return filepath.Join(e.home, dataDir, d.File) }

// work joins the environment for the length of f.
func (e *environment) work(f func(*envtest.Hold) error) error {
	h, err := e.RunHold()
	if err != nil {
		return err
	}
	return errors.Join(f(h), h.Close())
}

// do does steps until one fails.
func do(h *envtest.Hold, steps ...envtest.Step) error {
	for _, s := range steps {
		if _, err := h.Do(s); err != nil {
			return err
		}
	}
	return nil
}

// tidy writes everything to the database files and removes the log that is not needed any more.
func (e *environment) tidy() error {
	return e.work(func(h *envtest.Hold) error {
		// The first of two checkpoints needs the log back to the one before it.
		return do(h, envtest.Step{Do: envtest.DoCheckpoint}, envtest.Step{Do: envtest.DoCheckpoint}, envtest.Step{Do: envtest.DoRemoveLogs})
	})
}

// put replaces count records from number first on by shorter ones, so that no page is split.
func (e *environment) put(txn string, d envtest.Database, first, count int) envtest.Step {
	return envtest.Step{Do: envtest.DoPut, Txn: txn, File: d.File, From: first, Count: count, Size: d.ValueSize / 3, Version: e.version}
}

func records(d envtest.Database) int { return int(d.Bytes / int64(d.ValueSize)) }

// open keeps all large databases open, which spares the log the registration of files in each transaction.
func (e *environment) open(h *envtest.Hold) error {
	for _, d := range e.databases {
		if err := do(h, envtest.Step{Do: envtest.DoOpen, File: d.File}); err != nil {
			return err
		}
	}
	return nil
}

// changePages changes a record each on changeShare of all pages, at random places, in transactions, and has them written to the
// database files. It returns the share of pages that did change, and how much log was written.
func (e *environment) changePages(ctx context.Context) (share float64, log int64, err error) {
	before, err := e.pageLSNs()
	if err != nil {
		return 0, 0, err
	}
	e.version++
	err = e.work(func(h *envtest.Hold) error {
		from, err := h.Do(envtest.Step{Do: envtest.DoLogEnd})
		if err != nil {
			return err
		}
		if err := e.open(h); err != nil {
			return err
		}
		for i, d := range e.databases {
			if err := e.changeSome(ctx, h, d, len(before[i])); err != nil {
				return err
			}
		}
		to, err := h.Do(envtest.Step{Do: envtest.DoCheckpoint})
		log = distance(from.End, to.End)
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	after, err := e.pageLSNs()
	return changed(before, after), log, err
}

// perTransaction is a compromise between many fsyncs and many locks.
const perTransaction = 200

// changeSome draws as many records as it takes to meet changeShare of the pages: of n draws some meet the same page.
func (e *environment) changeSome(ctx context.Context, h *envtest.Hold, d envtest.Database, pages int) error {
	draws := int(math.Ceil(-math.Log1p(-changeShare) * float64(pages)))
	for draws > 0 && ctx.Err() == nil {
		steps := []envtest.Step{{Do: envtest.DoBegin, Txn: "change"}}
		for range min(draws, perTransaction) {
			steps = append(steps, e.put("change", d, e.random.IntN(records(d)), 1))
		}
		draws -= perTransaction
		if err := do(h, append(steps, envtest.Step{Do: envtest.DoCommit, Txn: "change"})...); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// pageLSNs reads the first eight bytes of every page of the large databases: whoever changes a page changes them.
func (e *environment) pageLSNs() (all [][]uint64, err error) {
	for _, d := range e.databases {
		lsns, err := readLSNs(e.path(d), d.PageSize)
		if err != nil {
			return nil, err
		}
		all = append(all, lsns)
	}
	return all, nil
}

func readLSNs(path string, pageSize int) (lsns []uint64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var lsn [8]byte
	for off := int64(0); ; off += int64(pageSize) {
		if _, err := f.ReadAt(lsn[:], off); err == io.EOF {
			return lsns, nil
		} else if err != nil {
			return nil, err
		}
		lsns = append(lsns, binary.LittleEndian.Uint64(lsn[:]))
	}
}

// changed is the share of pages that differ.
func changed(before, after [][]uint64) float64 {
	var n, all int
	for i := range after {
		for p, lsn := range after[i] {
			if all++; p >= len(before[i]) || before[i][p] != lsn {
				n++
			}
		}
	}
	return float64(n) / float64(max(1, all))
}

// distance in bytes of log between two LSNs.
func distance(from, to bdb.LSN) int64 {
	return (int64(to.File)-int64(from.File))*logFileSize + int64(to.Offset) - int64(from.Offset)
}

// makeLog writes at least n bytes of log by changing records at random places, and no checkpoint. It returns how many it wrote.
func (e *environment) makeLog(ctx context.Context, n int64) (written int64, err error) {
	e.version++
	err = e.work(func(h *envtest.Hold) error {
		start, err := h.Do(envtest.Step{Do: envtest.DoLogEnd})
		if err != nil {
			return err
		}
		if err := e.open(h); err != nil {
			return err
		}
		for i := 0; written < n; i++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			d := e.databases[i%len(e.databases)]
			count := min(perTransaction/10, records(d))
			a, err := h.Do(e.put("", d, e.random.IntN(records(d)-count+1), count))
			if err != nil {
				return err
			}
			written = distance(start.End, a.End)
		}
		return nil
	})
	return written, err
}

// files of the home that are data or log.
func (e *environment) files() ([]string, error) { return filesBelow(e.home) }

func filesBelow(dir string) (files []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if region, _ := filepath.Match(regions, d.Name()); d.Type().IsRegular() && !region {
			files = append(files, path)
		}
		return nil
	})
	return files, err
}

// sizeBelow is the size of all data and log in a home.
func sizeBelow(dir string) (n int64, err error) {
	files, err := filesBelow(dir)
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			return n, err
		}
		n += info.Size()
	}
	return n, err
}

// warm reads everything once.
func warm(ctx context.Context, files []string) error {
	buf := make([]byte, mib)
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, buf)
		if err := errors.Join(err, f.Close(), ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

// settleTime is a little more than what bdbvault asks of a file before it trusts its times.
const settleTime = 4 * time.Second

// settle waits until all files were last changed some time ago.
func (e *environment) settle(ctx context.Context) error {
	files, err := e.files()
	if err != nil {
		return err
	}
	var newest time.Time
	for _, f := range files {
		var st syscall.Stat_t
		if err := syscall.Stat(f, &st); err != nil {
			return fmt.Errorf("stat %s: %w", f, err)
		}
		for _, t := range []syscall.Timespec{st.Mtim, st.Ctim} {
			if at := time.Unix(t.Unix()); at.After(newest) {
				newest = at
			}
		}
	}
	return pause(ctx, time.Until(newest.Add(settleTime)))
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
