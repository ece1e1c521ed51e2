package dbutil

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// programs says where one release's programs are and how they are called: db_recover, db5.3_recover, db_recover-5.3, db48_recover.
type programs struct {
	dir, prefix, suffix string
}

func (p programs) path(name string) string { return filepath.Join(p.dir, p.prefix+name+p.suffix) }

// recoverName is any spelling of db_recover.
var recoverName = regexp.MustCompile(`^(db([0-9.]*)_)recover(-?([0-9.]*))$`)

// findPrograms looks in bin, which is a directory or, to choose among several releases in one, a directory and what the names begin with
// (/usr/bin/db5.3_), or along PATH if bin is empty. Plain names win over those with a release in them, and then the highest release.
func findPrograms(bin string) (programs, error) {
	dirs, prefix := filepath.SplitList(os.Getenv("PATH")), ""
	if bin != "" {
		dirs = []string{bin}
		if info, err := os.Stat(bin); err != nil || !info.IsDir() {
			dirs[0], prefix = filepath.Split(bin)
		}
	}
	for _, dir := range dirs {
		if found := search(dir, prefix); len(found) > 0 {
			return found[0], nil
		}
	}
	if bin != "" {
		return programs{}, fmt.Errorf("no db_recover program (db_recover, db5.3_recover, …) in %s", bin)
	}
	return programs{}, fmt.Errorf("no db_recover program (db_recover, db5.3_recover, …) in PATH")
}

// search lists the releases in a directory, best first. A directory that can't be read has none.
func search(dir, prefix string) (found []programs) {
	entries, _ := os.ReadDir(dir)
	release := map[programs]string{}
	for _, e := range entries {
		m := recoverName.FindStringSubmatch(e.Name())
		if m == nil || !strings.HasPrefix(e.Name(), prefix) || !executable(filepath.Join(dir, e.Name())) {
			continue
		}
		p := programs{dir: dir, prefix: m[1], suffix: m[3]}
		release[p] = cmp.Or(m[2], m[4])
		found = append(found, p)
	}
	slices.SortFunc(found, func(a, b programs) int { return compareReleases(release[a], release[b]) })
	return found
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// compareReleases orders no release first, then the highest number; 48 is 4.8.
func compareReleases(a, b string) int {
	if a == "" || b == "" {
		return cmp.Compare(len(a), len(b))
	}
	return slices.Compare(numbers(b), numbers(a))
}

func numbers(release string) (n []int) {
	if len(release) == 2 && !strings.Contains(release, ".") {
		release = release[:1] + "." + release[1:]
	}
	for _, word := range strings.Split(release, ".") {
		i, _ := strconv.Atoi(word) // what is no number counts as 0
		n = append(n, i)
	}
	return n
}
