package envtest

import (
	"fmt"
	"maps"
	"slices"
)

// Content is what one database holds.
type Content struct {
	Method  string
	Records uint64
	Digest  string // of all keys and values in cursor order; for a hash database in no order
}

// Contents are all databases of a home by name: the file's path as the engine takes it, with ":NAME" for a database inside.
type Contents map[string]Content

// Dump reads every database of a closed home. It changes nothing there and makes no region files.
func Dump(home, password string) (Contents, error) {
	var c Contents
	err := run(password, nil, &c, "dump", "--json", "--home", home)
	return c, err
}

// Diff says in what two homes differ, one line for each database, nothing if they are equal.
func Diff(a, b Contents) []string {
	names := maps.Clone(a)
	maps.Copy(names, b)
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		x, inA := a[name]
		y, inB := b[name]
		switch {
		case !inB:
			lines = append(lines, fmt.Sprintf("%s: only in the first (%s, %d records)", name, x.Method, x.Records))
		case !inA:
			lines = append(lines, fmt.Sprintf("%s: only in the second (%s, %d records)", name, y.Method, y.Records))
		case x != y:
			lines = append(lines, fmt.Sprintf("%s: %s with %d records, digest %.12s; in the second %s with %d records, digest %.12s",
				name, x.Method, x.Records, x.Digest, y.Method, y.Records, y.Digest))
		}
	}
	return lines
}

// Verify checks the structure of every database file in a closed home, as db_verify does. A crash of the engine is an error too.
func Verify(home, password string) error {
	return run(password, nil, nil, "verify", "--home", home)
}
