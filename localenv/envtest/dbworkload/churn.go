package main

import (
	"errors"
	"flag"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"bdbvault/localenv/envtest"
	"bdbvault/localenv/envtest/bdbc"
)

// churner makes databases come and go. It alone uses its databases, so it knows which exist: those whose step committed.
type churner struct {
	env       *bdbc.Env
	encrypted bool
	options   churnFlags
	prefix    string
	random    random
	filler    *filler
	files     []*churnFile
	made      int
	version   uint64
}

type churnFlags struct {
	files, rows, pageSize int
	folder                string
	without               string
	worker                uint
	seed                  uint64
	rate                  float64
}

// with reports whether a kind of change is wanted.
func (o churnFlags) with(kind string) bool {
	return !slices.Contains(strings.Split(o.without, ","), kind)
}

// churnFile is a database file that exists.
type churnFile struct {
	shape envtest.Database
	names []string // of the databases inside; one that is "" if the file is the database
}

// step is one thing to do in a transaction, and what to remember if it commits.
type step struct {
	name       string
	do         func(*bdbc.Txn, *[]*bdbc.DB) error
	commit     func()
	mustCommit bool // aborting it could hang the engine
}

func newStep(name string, do func(*bdbc.Txn, *[]*bdbc.DB) error, commit func()) step {
	return step{name: name, do: do, commit: commit}
}

func churnWorker(f *flag.FlagSet, args []string) error {
	p := placeFlags(f)
	stop := addStopFlags(f)
	var o churnFlags
	f.UintVar(&o.worker, "worker", 0, "this worker's `number`; it is part of its databases' names")
	f.Uint64Var(&o.seed, "seed", 0, "which steps are done")
	f.Float64Var(&o.rate, "rate", 0, "steps per second; 0 is as fast as possible")
	f.IntVar(&o.files, "files", 8, "how many database files to keep, about")
	f.IntVar(&o.rows, "rows", 200, "how many records a step writes at most")
	f.IntVar(&o.pageSize, "page-size", 0, "of all databases; 0 is a mix")
	f.StringVar(&o.folder, "folder", "", "put the databases into this folder of the create directory")
	f.StringVar(&o.without, "without", "", "`kinds` of change to leave out, as in renames,extents (the constants of package envtest)")
	f.Parse(args)
	s := stop.begin()
	return withEnv(p.home, bdbc.EnvOptions{Password: p.password, Create: true}, func(env *bdbc.Env) error {
		now := uint64(time.Now().UnixNano())
		c := &churner{env: env, encrypted: p.password != "", options: o, filler: newFiller(0), version: now,
			random: seeded(o.seed, uint64(o.worker)), prefix: fmt.Sprintf("churn-%d-%x", o.worker, now>>20&0xffffff)}
		return c.work(s)
	})
}

func (c *churner) work(s *stopper) error {
	fmt.Println("ready")
	pace := newPace(c.options.rate)
	for {
		if on, err := s.goOn(c.env); !on || err != nil {
			return err
		}
		if err := c.one(); err != nil {
			return err
		}
		pace.wait(s)
	}
}

// one does a step and commits it, or aborts it now and then.
func (c *churner) one() error {
	st := c.choose()
	txn, err := c.env.Begin(false)
	if err != nil {
		return err
	}
	var handles []*bdbc.DB // live as long as the transaction
	end := "commit"
	err = st.do(txn, &handles)
	if err != nil || !st.mustCommit && c.options.with(envtest.ChurnAborts) && c.random.below(7) == 0 {
		end = "abort"
		err = errors.Join(ignoreDeadlock(err), txn.Abort())
	} else if _, err = txn.Commit(bdbc.WriteNoSync); err == nil {
		st.commit()
	}
	for _, db := range handles {
		if closed := db.Close(); !bdbc.IsFileGone(closed) { // else as in checkpoint: the pages of other files are flushed along
			err = errors.Join(err, closed)
		}
	}
	fmt.Println("step", st.name, end)
	if err != nil {
		return fmt.Errorf("%s: %w", st.name, err)
	}
	return nil
}

func ignoreDeadlock(err error) error {
	if bdbc.IsDeadlock(err) || bdbc.IsNotFound(err) {
		return nil
	}
	return err
}

// choose picks the next step. Too many files are brought down by removals, or grow no further where those are off.
func (c *churner) choose() step {
	o := c.options
	switch n := len(c.files); {
	case n < 2 || n < o.files && c.random.below(4) == 0:
		return c.create()
	case n > o.files+2 && o.with(envtest.ChurnRemoves):
		return c.remove(c.random.below(n))
	}
	i := c.random.below(len(c.files))
	for {
		switch c.random.below(12) {
		case 0:
			if o.with(envtest.ChurnTruncate) && c.files[i].shape.Extent == 0 { // else libdb 5.3.28 crashes at times, in __qam_fremove
				return c.truncate(c.files[i])
			}
		case 1:
			if m := c.files[i].shape.Method; m == "btree" || m == "hash" || m == "recno" && o.with(envtest.ChurnCompact) {
				return c.compact(c.files[i])
			}
		case 2:
			if o.with(envtest.ChurnRenames) {
				return c.rename(c.files[i])
			}
		case 3:
			if o.with(envtest.ChurnRemoves) {
				return c.remove(i)
			}
		case 4, 5:
			if c.files[i].names[0] != "" {
				return c.inside(c.files[i])
			}
		case 6, 7:
			return c.delete(c.files[i])
		default:
			return c.fill(c.files[i])
		}
	}
}

func (c *churner) newName() string {
	c.made++
	return path.Join(c.options.folder, fmt.Sprintf("%s-%d.db", c.prefix, c.made))
}

// shape invents a database.
func (c *churner) shape() (envtest.Database, []string) {
	d := envtest.Database{File: c.newName(), PageSize: c.options.pageSize, RecordLen: 60, Checksum: c.random.below(2) == 0}
	if d.PageSize == 0 {
		d.PageSize = 512 << c.random.below(8)
	}
	kind := c.kind()
	switch kind {
	case envtest.ChurnQueue:
		d.Method = "queue"
		if c.options.with(envtest.ChurnExtents) {
			d.Extent = 1 + c.random.below(4)
		}
	case envtest.ChurnDup:
		d.Method, d.DupSort = "btree", true
	case envtest.ChurnInside:
		d.Method = "btree"
		return d, []string{"one", "two"}
	default:
		d.Method = kind
	}
	return d, []string{""}
}

func (c *churner) kind() string {
	kinds := []string{"btree", "btree", envtest.ChurnHash, envtest.ChurnHash, envtest.ChurnQueue, envtest.ChurnQueue, envtest.ChurnHeap, envtest.ChurnRecno,
		envtest.ChurnDup, envtest.ChurnInside}
	for {
		if k := kinds[c.random.below(len(kinds))]; c.options.with(k) {
			return k
		}
	}
}

func (c *churner) create() step {
	d, names := c.shape()
	return newStep("create "+d.File, func(t *bdbc.Txn, handles *[]*bdbc.DB) error {
		for _, name := range names {
			db, err := c.env.CreateDB(t, d.File, name, createOptions(d, c.encrypted))
			if err != nil {
				return err
			}
			*handles = append(*handles, db)
			if err := c.write(t, db); err != nil {
				return err
			}
		}
		return nil
	}, func() { c.files = append(c.files, &churnFile{d, names}) })
}

// write stores some records. In a queue it also consumes, so that extents go at one end as they come at the other.
func (c *churner) write(t *bdbc.Txn, db *bdbc.DB) error {
	method := db.Method()
	var buf []byte
	for range 1 + c.random.below(c.options.rows) {
		c.version++
		size := 20 + c.random.below(180)
		if c.random.below(40) == 0 && c.options.with(envtest.ChurnOverflow) {
			size *= 30
		}
		n := uint64(c.random.below(3000))
		buf = c.filler.record(buf, c.version, n, size)
		var err error
		switch method {
		case "queue":
			_, err = db.Append(t, buf[:min(len(buf), db.RecordLen())])
		case "heap":
			_, err = db.Append(t, buf)
		default:
			err = db.Put(t, recordKey(db, n), buf)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// on is a step on one database of a file.
func (c *churner) on(what string, file *churnFile, do func(*bdbc.Txn, *bdbc.DB) error) step {
	d := file.shape
	d.Name = file.names[c.random.below(len(file.names))]
	// To undo a slot that moved in a hash database, libdb 5.3.28 asks for the lock on its metadata page on behalf of nobody
	// (__ham_changeslot_recover), and waits for ever if the aborting transaction itself has it.
	st := newStep(what+" "+d.String(), func(t *bdbc.Txn, handles *[]*bdbc.DB) error {
		db, err := c.env.OpenDB(t, d.File, d.Name)
		if err != nil {
			return err
		}
		*handles = append(*handles, db)
		return do(t, db)
	}, func() {})
	st.mustCommit = d.Method == "hash" || d.Name != ""
	return st
}

func (c *churner) fill(file *churnFile) step { return c.on("fill", file, c.write) }

func (c *churner) truncate(file *churnFile) step {
	st := c.on("truncate", file, func(t *bdbc.Txn, db *bdbc.DB) error { return db.Truncate(t) })
	// No recovery of libdb 5.3.28 gets past a heap that was truncated, truncated again in vain, and truncated once more.
	st.mustCommit = st.mustCommit || file.shape.Method == "heap"
	return st
}

func (c *churner) compact(file *churnFile) step {
	return c.on("compact", file, func(t *bdbc.Txn, db *bdbc.DB) error { return db.Compact(t) })
}

func (c *churner) delete(file *churnFile) step {
	return c.on("delete", file, func(t *bdbc.Txn, db *bdbc.DB) error {
		for range 1 + c.random.below(c.options.rows) {
			if err := c.deleteOne(t, db); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *churner) deleteOne(t *bdbc.Txn, db *bdbc.DB) error {
	var err error
	switch db.Method() {
	case "queue":
		err = db.Consume(t)
	case "heap":
		return nil // its keys are not known here
	default:
		err = db.Delete(t, recordKey(db, uint64(c.random.below(3000))))
	}
	if bdbc.IsNotFound(err) {
		return nil
	}
	return err
}

func (c *churner) remove(i int) step {
	d := c.files[i].shape
	return newStep("remove "+d.File, func(t *bdbc.Txn, _ *[]*bdbc.DB) error {
		return c.env.Remove(t, d.File, "")
	}, func() { c.files = slices.Delete(c.files, i, i+1) })
}

func (c *churner) rename(file *churnFile) step {
	to := c.newName()
	return newStep("rename "+file.shape.File+" "+to, func(t *bdbc.Txn, _ *[]*bdbc.DB) error {
		return c.env.Rename(t, file.shape.File, "", to)
	}, func() { file.shape.File = to })
}

// inside makes, renames or removes a database in a file that holds several.
func (c *churner) inside(file *churnFile) step {
	c.made++
	name, i := fmt.Sprintf("d%d", c.made), c.random.below(len(file.names))
	switch c.random.below(3) {
	case 0:
		if len(file.names) > 1 && c.options.with(envtest.ChurnRemoves) {
			return newStep("remove "+file.shape.File+":"+file.names[i], func(t *bdbc.Txn, _ *[]*bdbc.DB) error {
				return c.env.Remove(t, file.shape.File, file.names[i])
			}, func() { file.names = slices.Delete(file.names, i, i+1) })
		}
	case 1:
		if c.options.with(envtest.ChurnRenames) {
			return newStep("rename "+file.shape.File+":"+file.names[i], func(t *bdbc.Txn, _ *[]*bdbc.DB) error {
				return c.env.Rename(t, file.shape.File, file.names[i], name)
			}, func() { file.names[i] = name })
		}
	}
	return c.createInside(file, name)
}

func (c *churner) createInside(file *churnFile, name string) step {
	d := file.shape
	d.Method = []string{"btree", "hash", "recno"}[c.random.below(3)]
	return newStep("create "+d.File+":"+name, func(t *bdbc.Txn, handles *[]*bdbc.DB) error {
		db, err := c.env.CreateDB(t, d.File, name, createOptions(d, c.encrypted))
		if err != nil {
			return err
		}
		*handles = append(*handles, db)
		return c.write(t, db)
	}, func() { file.names = append(file.names, name) })
}
