package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "bdbvault/"

// arrows names, for every package of the product, which others of this module it may import. What a package needs of its own tests
// is not restricted. A new package has to find its place here first.
var arrows = map[string][]string{
	"cmd/bdbvault": {"cmd/bdbvault/config", "cmd/bdbvault/status", "archive", "restore", "manifest", "remote", "remote/awsconf", "remote/file", "remote/minio", "remote/repository", "remote/s3",
		"localenv", "localenv/bdb", "localenv/hotcopy", "localenv/engine", "localenv/libdb", "localenv/dbutil"},

	// What the command line reads and shows.
	"cmd/bdbvault/config": {},
	"cmd/bdbvault/status": {"archive", "restore", "remote"},

	// The two ways never meet.
	"archive": {"manifest", "remote", "remote/repository", "localenv", "localenv/bdb", "localenv/engine"},
	"restore": {"manifest", "remote", "remote/repository", "localenv", "localenv/bdb", "localenv/hotcopy", "localenv/engine"},

	// Formats and decisions. LSN and file id are Berkeley DB's own.
	"manifest": {"localenv/bdb"},

	// The store knows nothing of environments. remote/repository alone joins formats and store.
	"remote":            {},
	"remote/awsconf":    {"remote"},
	"remote/file":       {"remote"},
	"remote/minio":      {"remote", "remote/awsconf"},
	"remote/s3":         {"remote", "remote/awsconf"},
	"remote/repository": {"remote", "manifest", "localenv/bdb"},

	// The environment knows nothing of stores.
	"localenv":         {"localenv/bdb"},
	"localenv/bdb":     {},
	"localenv/hotcopy": {"localenv", "localenv/bdb"},
	"localenv/engine":  {"localenv", "localenv/bdb"},
	"localenv/libdb":   {"localenv/engine", "localenv/bdb"},
	"localenv/dbutil":  {"localenv/engine", "localenv/bdb"},
}

// testTools are what only tests, the demonstration and the benchmarks use. They may import anything, nothing of the
// product may import them.
var testTools = []string{"cmd/bdbvault/endtoend", "localenv/envtest", "localenv/engine/enginetest", "remote/remotetest", "cmd/bench"}

// pure are the packages that do no I/O, with what they must not import for that.
var (
	pure = []string{"manifest", "localenv/bdb"}
	disk = []string{"os", "net", "syscall", "io/ioutil", "path/filepath", "golang.org/x/sys"}
)

// cgo are the only packages that may contain C.
var cgo = []string{"localenv/libdb", "localenv/envtest"}

type goPackage struct {
	ImportPath string
	Imports    []string
	CgoFiles   []string
}

func TestArrows(t *testing.T) {
	packages := listPackages(t)
	if len(packages) < len(arrows) {
		t.Fatalf("go list found %d packages, fewer than the %d with a place", len(packages), len(arrows))
	}
	for _, p := range packages {
		name := strings.TrimPrefix(p.ImportPath, module)
		if len(p.CgoFiles) > 0 && !within(cgo, name) {
			t.Errorf("%s: has cgo, which belongs into %s", name, strings.Join(cgo, " and "))
		}
		if within(testTools, name) {
			continue
		}
		allowed, ok := arrows[name]
		if !ok {
			t.Errorf("%s: has no place among the arrows", name)
		}
		for _, i := range p.Imports {
			if inner, ours := strings.CutPrefix(i, module); ours && !slices.Contains(allowed, inner) {
				t.Errorf("%s: must not import %s", name, inner)
			}
			if slices.Contains(pure, name) && within(disk, i) {
				t.Errorf("%s: does no I/O, so it must not import %s", name, i)
			}
		}
	}
}

// within reports whether name is one of list, or below one.
func within(list []string, name string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return name == s || strings.HasPrefix(name, s+"/") })
}

func listPackages(t *testing.T) (list []goPackage) {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,CgoFiles", module+"...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderrOf(err))
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func stderrOf(err error) string {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(e.Stderr)
	}
	return ""
}
