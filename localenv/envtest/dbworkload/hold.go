package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"bdbvault/localenv/bdb"
	"bdbvault/localenv/envtest"
	"bdbvault/localenv/envtest/bdbc"
)

// holder does steps on command.
type holder struct {
	env     *bdbc.Env
	spec    envtest.Spec // for its password and seed
	filler  *filler
	txns    map[string]*holdTxn
	open    map[string]*bdbc.DB // handles kept open without a transaction
	commits bdbc.LSN            // the commit record of the step being done
}

// holdTxn is a transaction with the handles that were opened in it, which must live as long.
type holdTxn struct {
	*bdbc.Txn
	handles map[string]*bdbc.DB
}

func hold(f *flag.FlagSet, args []string) error {
	p := placeFlags(f)
	create := f.Bool("create", true, "make the environment's regions if there are none")
	f.Parse(args)
	return withEnv(p.home, bdbc.EnvOptions{Password: p.password, Create: *create}, func(env *bdbc.Env) error {
		h := &holder{env: env, spec: envtest.Spec{Password: p.password}, filler: newFiller(0),
			txns: map[string]*holdTxn{}, open: map[string]*bdbc.DB{}}
		fmt.Println("ready")
		return errors.Join(h.serve(os.Stdin, os.Stdout), h.end())
	})
}

// serve reads steps, one JSON object a line, and answers each with one.
func (h *holder) serve(r io.Reader, w io.Writer) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var s envtest.Step
		err := json.Unmarshal(lines.Bytes(), &s)
		if err == nil {
			err = h.step(s)
		}
		if err := json.NewEncoder(w).Encode(h.answer(err)); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (h *holder) answer(err error) (a envtest.Answer) {
	if err != nil {
		a.Error = err.Error()
		var e *bdbc.Error
		if errors.As(err, &e) {
			a.Code = e.Code
		}
	}
	end, err := h.env.LogEnd()
	if err != nil && a.Error == "" {
		a.Error = err.Error()
	}
	a.End, a.Commit = bdb.LSN(end), bdb.LSN(h.commits)
	return a
}

// end leaves the environment in order: what is open is aborted.
func (h *holder) end() error {
	var errs []error
	for name := range h.txns {
		errs = append(errs, h.finish(name, func(t *bdbc.Txn) error { return t.Abort() }))
	}
	for _, db := range h.open {
		errs = append(errs, db.Close())
	}
	return errors.Join(errs...)
}

func (h *holder) step(s envtest.Step) error {
	h.commits = bdbc.LSN{}
	switch s.Do {
	case envtest.DoBegin:
		return h.begin(s.Txn, s.Bulk)
	case envtest.DoCommit:
		return h.finish(s.Txn, h.commit)
	case envtest.DoAbort:
		return h.finish(s.Txn, func(t *bdbc.Txn) error { return t.Abort() })
	case envtest.DoPrepare:
		return h.prepare(s.Txn)
	case envtest.DoOpen, envtest.DoClose:
		return h.keep(s)
	case envtest.DoCheckpoint:
		return h.env.Checkpoint(true)
	case envtest.DoRemoveLogs:
		return h.env.RemoveLogs()
	case envtest.DoFlushLog:
		return h.env.FlushLog()
	case envtest.DoLogEnd:
		return nil
	}
	return h.change(s)
}

func (h *holder) begin(name string, bulk bool) error {
	if name == "" || h.txns[name] != nil {
		return fmt.Errorf("transaction %q: want a new name", name)
	}
	t, err := h.env.Begin(bulk)
	if err == nil {
		h.txns[name] = &holdTxn{Txn: t, handles: map[string]*bdbc.DB{}}
	}
	return err
}

func (h *holder) commit(t *bdbc.Txn) (err error) {
	h.commits, err = t.Commit(bdbc.Sync)
	return err
}

// finish ends a transaction and then closes its handles.
func (h *holder) finish(name string, how func(*bdbc.Txn) error) error {
	t := h.txns[name]
	if t == nil {
		return fmt.Errorf("no transaction %q", name)
	}
	delete(h.txns, name)
	errs := []error{how(t.Txn)}
	for _, db := range t.handles {
		errs = append(errs, db.Close())
	}
	return errors.Join(errs...)
}

// prepare uses the name, filled up with zeros, as the global id. The transaction can then still be committed or aborted here.
func (h *holder) prepare(name string) error {
	t := h.txns[name]
	if t == nil {
		return fmt.Errorf("no transaction %q", name)
	}
	var gid [128]byte
	copy(gid[:], name)
	return t.Prepare(gid)
}

func (h *holder) keep(s envtest.Step) error {
	key := envtest.Database{File: s.File, Name: s.Name}.String()
	db := h.open[key]
	if s.Do == envtest.DoClose && db != nil {
		delete(h.open, key)
		return db.Close()
	}
	if (db == nil) != (s.Do == envtest.DoOpen) {
		return fmt.Errorf("%s %s: it is open already, or not open", s.Do, key)
	}
	db, err := h.env.OpenDB(nil, s.File, s.Name)
	if err == nil {
		h.open[key] = db
	}
	return err
}

// change does a step that changes databases, in its own transaction if it names none.
func (h *holder) change(s envtest.Step) error {
	if s.Txn != "" {
		t := h.txns[s.Txn]
		if t == nil {
			return fmt.Errorf("no transaction %q", s.Txn)
		}
		return h.changeIn(t, s)
	}
	const own = "\x00own"
	if err := h.begin(own, false); err != nil {
		return err
	}
	if err := h.changeIn(h.txns[own], s); err != nil {
		return errors.Join(err, h.finish(own, func(t *bdbc.Txn) error { return t.Abort() }))
	}
	return h.finish(own, h.commit)
}

func (h *holder) changeIn(t *holdTxn, s envtest.Step) error {
	switch s.Do {
	case envtest.DoRemove:
		return h.env.Remove(t.Txn, s.File, s.Name)
	case envtest.DoRename:
		return h.env.Rename(t.Txn, s.File, s.Name, s.To)
	case envtest.DoCreate:
		return h.create(t, s)
	}
	db, err := h.handle(t, s)
	if err != nil {
		return err
	}
	switch s.Do {
	case envtest.DoPut:
		return h.put(t, db, s)
	case envtest.DoDelete:
		return each(s, func(n uint64) error { return db.Delete(t.Txn, recordKey(db, n)) })
	case envtest.DoConsume:
		return each(s, func(uint64) error { return db.Consume(t.Txn) })
	case envtest.DoTruncate:
		return db.Truncate(t.Txn)
	case envtest.DoCompact:
		return db.Compact(t.Txn)
	}
	return fmt.Errorf("no step %q", s.Do)
}

func (h *holder) create(t *holdTxn, s envtest.Step) error {
	if s.Database == nil {
		return errors.New("create without a database")
	}
	d := *s.Database
	db, err := h.env.CreateDB(t.Txn, d.File, d.Name, createOptions(d, h.spec.Password != ""))
	if err != nil {
		return err
	}
	t.handles[d.String()] = db
	l := &load{env: h.env, db: d, spec: h.spec, filler: h.filler}
	for n := range recordCount(d) {
		if err := l.put(db, t.Txn, uint64(n)); err != nil {
			return err
		}
	}
	return nil
}

// handle is the database of a step: opened in its transaction before, or kept open without one, or opened now.
func (h *holder) handle(t *holdTxn, s envtest.Step) (*bdbc.DB, error) {
	key := envtest.Database{File: s.File, Name: s.Name}.String()
	if db := t.handles[key]; db != nil {
		return db, nil
	}
	if db := h.open[key]; db != nil {
		return db, nil
	}
	db, err := h.env.OpenDB(t.Txn, s.File, s.Name)
	if err == nil {
		t.handles[key] = db
	}
	return db, err
}

func (h *holder) put(t *holdTxn, db *bdbc.DB, s envtest.Step) error {
	size := s.Size
	if size == 0 {
		size = 100
	}
	var buf []byte
	return each(s, func(n uint64) error {
		r := seeded(n, s.Version)
		buf = h.filler.record(buf, s.Version^nameSeed(db.Name), n, size/2+r.below(size+1))
		if m := db.Method(); m == "heap" {
			_, err := db.Append(t.Txn, buf)
			return err
		} else if m == "queue" {
			buf = buf[:min(len(buf), db.RecordLen())]
		}
		return db.Put(t.Txn, recordKey(db, n), buf)
	})
}

func each(s envtest.Step, do func(n uint64) error) error {
	for i := range s.Count {
		if err := do(uint64(s.From + i)); err != nil {
			return err
		}
	}
	return nil
}

// recordKey is the key of record n, counted from 0, in whatever kind of database.
func recordKey(db *bdbc.DB, n uint64) []byte {
	if db.Numbered() {
		return bdbc.Recno(uint32(n + 1))
	}
	return numberKey(n)
}
