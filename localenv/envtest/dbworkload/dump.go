package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash"
	"maps"
	"os"
	"slices"

	"bdbvault/localenv/envtest"
	"bdbvault/localenv/envtest/bdbc"
)

func dump(f *flag.FlagSet, args []string) error {
	p := placeFlags(f)
	asJSON := f.Bool("json", false, "print JSON")
	f.Parse(args)
	contents, err := dumpHome(p)
	if err != nil || *asJSON {
		return errors.Join(err, printJSON(contents))
	}
	for _, name := range slices.Sorted(maps.Keys(contents)) {
		c := contents[name]
		fmt.Printf("%-6s %9d  %.16s  %s\n", c.Method, c.Records, c.Digest, name)
	}
	return nil
}

func dumpHome(p *place) (envtest.Contents, error) {
	contents := envtest.Contents{}
	return contents, withFiles(p, func(env *bdbc.Env, files []databaseFile) error {
		for _, file := range files {
			if err := dumpFile(env, file, contents); err != nil {
				return err
			}
		}
		return nil
	})
}

func diff(f *flag.FlagSet, args []string) error {
	p := placeFlags(f)
	other := f.String("other", "", "the other home `directory`; the password is the same")
	f.Parse(args)
	first, err := dumpHome(p)
	if err != nil {
		return err
	}
	second, err := dumpHome(&place{*other, p.password})
	if err != nil {
		return err
	}
	lines := envtest.Diff(first, second)
	for _, l := range lines {
		fmt.Println(l)
	}
	if len(lines) > 0 {
		return fmt.Errorf("%d of %d databases differ", len(lines), len(first))
	}
	fmt.Printf("%d databases are equal\n", len(first))
	return nil
}

func dumpFile(env *bdbc.Env, file databaseFile, into envtest.Contents) error {
	names, err := namesIn(env, file)
	if err != nil {
		return err
	}
	for _, sub := range names {
		c, err := dumpDatabase(env, file.path, sub)
		if err != nil {
			return err
		}
		into[envtest.Database{File: file.name, Name: sub}.String()] = c
	}
	return nil
}

// namesIn lists the databases in a file; one that is a database itself has the name "". The file of an empty directory counts as
// that, so that it is not overlooked.
func namesIn(env *bdbc.Env, file databaseFile) ([]string, error) {
	db, err := env.OpenDB(nil, file.path, "")
	if err != nil {
		return nil, err
	}
	names := []string{""}
	if db.HoldsDatabases() {
		err = db.Each(nil, func(key, _ []byte) error {
			names = append(names, string(key))
			return nil
		})
	}
	if len(names) > 1 {
		names = names[1:]
	}
	return names, errors.Join(err, db.Close())
}

func dumpDatabase(env *bdbc.Env, path, sub string) (envtest.Content, error) {
	db, err := env.OpenDB(nil, path, sub)
	if err != nil {
		return envtest.Content{}, err
	}
	d := newDigest(db.Method() == "hash")
	err = db.Each(nil, func(key, value []byte) error { d.add(db, key, value); return nil })
	c := envtest.Content{Method: db.Method(), Records: d.records, Digest: d.String()}
	return c, errors.Join(err, db.Close())
}

// digest condenses records, in their order or, for a hash, in any: pages that split at another moment give another order there.
type digest struct {
	records uint64
	inOrder hash.Hash
	sum     *[4]uint64 // of the records' own digests, word by word; nil if order counts
	buf     []byte
}

func newDigest(unordered bool) *digest {
	d := &digest{inOrder: sha256.New()}
	if unordered {
		d.sum = new([4]uint64)
	}
	return d
}

func (d *digest) add(db *bdbc.DB, key, value []byte) {
	d.records++
	if db.Numbered() {
		key = binary.BigEndian.AppendUint32(nil, bdbc.ParseRecno(key))
	}
	d.buf = binary.BigEndian.AppendUint32(d.buf[:0], uint32(len(key)))
	d.buf = append(append(d.buf, key...), value...)
	if d.sum == nil {
		d.buf = binary.BigEndian.AppendUint32(d.buf, uint32(len(value)))
		d.inOrder.Write(d.buf)
		return
	}
	one := sha256.Sum256(d.buf)
	for i := range d.sum {
		d.sum[i] += binary.BigEndian.Uint64(one[8*i:])
	}
}

func (d *digest) String() string {
	if d.sum != nil {
		return fmt.Sprintf("%016x%016x%016x%016x", d.sum[0], d.sum[1], d.sum[2], d.sum[3])
	}
	return hex.EncodeToString(d.inOrder.Sum(nil))
}

// verify checks all files, each in its turn named on standard error, so that a crash of the engine says where.
func verify(f *flag.FlagSet, args []string) error {
	p := placeFlags(f)
	f.Parse(args)
	return withFiles(p, func(env *bdbc.Env, files []databaseFile) error {
		var errs []error
		for _, file := range files {
			fmt.Fprintln(os.Stderr, "verify", file.name)
			errs = append(errs, env.Verify(file.path))
		}
		return errors.Join(errs...)
	})
}
