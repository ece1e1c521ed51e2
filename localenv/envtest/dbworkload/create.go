package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"strconv"
	"strings"

	"bdbvault/localenv/envtest"
	"bdbvault/localenv/envtest/bdbc"
)

func create(f *flag.FlagSet, args []string) error {
	p := placeFlags(f)
	size := f.String("size", "100MiB", "how much data, about: two btree databases, of 8 and 16 KiB pages, in the folder data, and a bank")
	file := f.String("spec", "", "instead, a `file` with a description (type Spec of package envtest, as JSON); - is standard input")
	f.Parse(args)
	spec, err := chooseSpec(*file, *size)
	if err != nil {
		return err
	}
	if spec.Password == "" {
		spec.Password = p.password
	}
	return makeEnvironment(p.home, spec)
}

func chooseSpec(file, size string) (envtest.Spec, error) {
	if file != "" {
		return readSpec(file)
	}
	n, err := parseSize(size)
	return envtest.SizedSpec(n), err
}

// parseSize reads a number of bytes with a binary unit, as in 2GiB.
func parseSize(s string) (int64, error) {
	number := strings.TrimRight(s, "KMGTiB")
	shift, ok := map[string]int{"": 0, "B": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}[s[len(number):]]
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !ok || n < 0 {
		return 0, fmt.Errorf("size %q: want a number with KiB, MiB or GiB", s)
	}
	return int64(n * float64(int64(1)<<shift)), nil
}

func readSpec(file string) (spec envtest.Spec, err error) {
	in := io.Reader(os.Stdin)
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return spec, err
		}
		defer f.Close()
		in = f
	}
	d := json.NewDecoder(in)
	d.DisallowUnknownFields()
	if err := d.Decode(&spec); err != nil {
		return spec, fmt.Errorf("read description: %w", err)
	}
	return spec, nil
}

func makeEnvironment(home string, spec envtest.Spec) error {
	if err := envtest.Prepare(home, spec); err != nil {
		return err
	}
	return withEnv(home, bdbc.EnvOptions{Password: spec.Password, Create: true, Cache: spec.Cache}, func(env *bdbc.Env) error {
		fl := newFiller(spec.Ratio)
		for _, d := range spec.Databases {
			if err := (&load{env: env, db: d, spec: spec, filler: fl}).run(); err != nil {
				return err
			}
		}
		if spec.Bank != nil {
			if err := createBank(env, spec); err != nil {
				return err
			}
		}
		return tidy(env, spec.TrimLog)
	})
}

// withEnv opens an environment for the length of fn. Databases must be closed when fn returns.
func withEnv(home string, o bdbc.EnvOptions, fn func(*bdbc.Env) error) error {
	env, err := bdbc.OpenEnv(home, o)
	if err != nil {
		return err
	}
	if err := fn(env); err != nil {
		env.Close()
		return err
	}
	return env.Close()
}

// createOptions says the same as d in the engine's terms.
func createOptions(d envtest.Database, encrypted bool) bdbc.Create {
	c := bdbc.Create{
		Method: d.Method, PageSize: d.Page(), BigEndian: d.BigEndian, Checksum: d.Checksum, Encrypt: encrypted && !d.Plain,
		Dup: d.Dup, DupSort: d.DupSort, Renumber: d.Renumber, NoLog: d.NoLog, Extent: d.Extent,
	}
	if d.Method == "queue" {
		c.RecordLen = recordLen(d)
	}
	for i := 1; i < d.Partitions; i++ {
		c.Ranges = append(c.Ranges, numberKey(uint64(i*recordCount(d)/d.Partitions)))
	}
	return c
}

// recordLen leaves room for the largest page header, an encrypted and checksummed one's.
func recordLen(d envtest.Database) int {
	if d.RecordLen != 0 {
		return d.RecordLen
	}
	return min(valueSize(d), d.Page()-160)
}

func valueSize(d envtest.Database) int {
	if d.ValueSize == 0 {
		return 100
	}
	return d.ValueSize
}

func recordCount(d envtest.Database) int {
	if d.Bytes > 0 {
		return int(d.Bytes / int64(valueSize(d)))
	}
	return d.Records
}

// numberKey is the key of record n in a btree or hash: always 8 bytes, in the order of the numbers.
func numberKey(n uint64) []byte { return fmt.Appendf(nil, "%08d", n) }

// nameSeed makes databases of one environment differ.
func nameSeed(name string) uint64 {
	h := fnv.New64a()
	io.WriteString(h, name)
	return h.Sum64()
}
