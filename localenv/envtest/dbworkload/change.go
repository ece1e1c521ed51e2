package main

import (
	"errors"
	"flag"
	"fmt"

	"bdbvault/localenv/envtest"
	"bdbvault/localenv/envtest/bdbc"
)

// pagesOf is roughly how many leaf pages a btree has that was filled in order, and how many records lie on one.
type pagesOf struct{ pages, perPage int }

func change(f *flag.FlagSet, args []string) error {
	p := placeFlags(f)
	percent := f.Float64("percent", 2, "how many of each database's pages")
	seed := f.Uint64("seed", 0, "which pages, and what is written there")
	var files list
	f.Var(&files, "file", "a btree database that create made, may be repeated (default orders.db and items.db)")
	f.Parse(args)
	if len(files) == 0 {
		files = []string{"orders.db", "items.db"}
	}
	return withEnv(p.home, bdbc.EnvOptions{Password: p.password, Create: true}, func(env *bdbc.Env) error {
		for _, file := range files {
			if err := changeFile(env, file, *percent/100, *seed); err != nil {
				return err
			}
		}
		return env.Checkpoint(true)
	})
}

func changeFile(env *bdbc.Env, file string, share float64, seed uint64) error {
	db, err := env.OpenDB(nil, file, "")
	if err != nil {
		return err
	}
	c := &changer{env: env, db: db, filler: newFiller(0), random: seeded(seed, nameSeed(file))}
	return errors.Join(c.run(share), db.Close())
}

// changer rewrites one record on each of some pages, in its place and length, so that no other page changes.
type changer struct {
	env    *bdbc.Env
	db     *bdbc.DB
	filler *filler
	random random
}

func (c *changer) run(share float64) error {
	size, err := c.measure()
	if err != nil {
		return err
	}
	left := int(float64(size.pages) * share)
	chosen := map[int]bool{}
	for left > 0 {
		n := min(left, 200)
		if err := c.batch(size, n, chosen); err != nil {
			return err
		}
		left -= n
	}
	return nil
}

func (c *changer) measure() (pagesOf, error) {
	leaves, records, err := c.db.BtreeSize()
	if err != nil {
		return pagesOf{}, err
	}
	if leaves == 0 || records < leaves {
		return pagesOf{}, fmt.Errorf("%s: %d records on %d pages are too few", c.db.Name, records, leaves)
	}
	return pagesOf{leaves, records / leaves}, nil
}

func (c *changer) batch(size pagesOf, n int, chosen map[int]bool) error {
	txn, err := c.env.Begin(false)
	if err != nil {
		return err
	}
	for range n {
		if err := c.one(txn, c.choose(size, chosen)); err != nil {
			return errors.Join(err, txn.Abort())
		}
	}
	_, err = txn.Commit(bdbc.WriteNoSync)
	return err
}

// choose is a record on a page that was not chosen before.
func (c *changer) choose(size pagesOf, chosen map[int]bool) uint64 {
	page := c.random.below(size.pages)
	for chosen[page] {
		page = c.random.below(size.pages)
	}
	chosen[page] = true
	return uint64(page*size.perPage + size.perPage/2)
}

func (c *changer) one(txn *bdbc.Txn, n uint64) error {
	key := numberKey(n)
	old, err := c.db.Get(txn, key, true)
	if err != nil {
		return err
	}
	return c.db.Put(txn, key, c.filler.record(nil, c.random.next(), n, len(old)))
}

func grow(f *flag.FlagSet, args []string) error {
	p := placeFlags(f)
	text := f.String("bytes", "50MiB", "how much log")
	seed := f.Uint64("seed", 0, "what is written")
	file := f.String("file", "grown.db", "the btree database that grows; it is made if it does not exist")
	f.Parse(args)
	bytes, err := parseSize(*text)
	if err != nil {
		return err
	}
	return withEnv(p.home, bdbc.EnvOptions{Password: p.password, Create: true}, func(env *bdbc.Env) error {
		d := envtest.Database{File: *file, Method: "btree", PageSize: 8192, ValueSize: 400}
		spec := envtest.Spec{Seed: *seed, Password: p.password}
		return (&load{env: env, db: d, spec: spec, filler: newFiller(0)}).growLog(bytes)
	})
}

// growLog appends records, a batch at a time, until the log is so much longer.
func (l *load) growLog(bytes int64) error {
	db, err := l.env.CreateDB(nil, l.db.File, l.db.Name, createOptions(l.db, l.spec.Password != ""))
	if err != nil {
		return err
	}
	_, next, err := db.BtreeSize()
	end, errEnd := l.env.LogBytes()
	err = errors.Join(err, errEnd)
	for until := end + bytes; err == nil && end < until; {
		next, err = l.batch(db, next, next+500)
		if err == nil {
			end, err = l.env.LogBytes()
		}
	}
	return errors.Join(err, l.env.FlushLog(), db.Close())
}
