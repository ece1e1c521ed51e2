package localenv_test

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bdbvault/localenv/bdb"
	"bdbvault/localenv/envtest"
)

// TestRecordPages holds what records say of pages against the pages: each has the LSN of the record that changed it last.
func TestRecordPages(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	env := envtest.Create(t, home, envtest.Spec{Databases: envtest.AllShapes(1024, false)})
	w := envtest.StartChurn(t, env, envtest.ChurnOptions{Processes: 2, PageSize: 1024, Seed: 7})
	if err := errors.Join(w.WaitSteps(t.Context(), 300), w.Stop()); err != nil {
		t.Fatal(err)
	}
	named := namedPages(t, home)
	const metagroup = 29 // makes a row of pages at the end of the file and writes the last of them, too
	var pages int
	missed := map[uint32]int{} // by type of record
	for _, file := range databaseFiles(t, home) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at+1024 <= len(data); at += 1024 {
			lsn := bdb.LSN{File: binary.LittleEndian.Uint32(data[at:]), Offset: binary.LittleEndian.Uint32(data[at+4:])}
			r, ok := named[lsn]
			if !ok || r.kind == metagroup {
				continue // not logged, or changed by a record that is no page's
			}
			pages++
			if !slices.Contains(r.pages.Number[:r.pages.Count], binary.LittleEndian.Uint32(data[at+8:])) {
				missed[r.kind]++
			}
		}
	}
	if pages < 1000 || len(missed) > 0 {
		t.Errorf("of %d pages, the last record does not name so many, by its type: %v", pages, missed)
	}
}

type recordPages struct {
	kind  uint32
	pages bdb.Pages
}

func namedPages(t *testing.T, home string) map[bdb.LSN]recordPages {
	t.Helper()
	named := map[bdb.LSN]recordPages{}
	_, err := openLog(t, home, "").Walk(t.Context(), bdb.LSN{File: 1}, func(r *bdb.Record) error {
		p, _ := r.Pages()
		named[r.LSN] = recordPages{r.Type, p}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return named
}

func databaseFiles(t *testing.T, home string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(home, func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		if err == nil && d.Type().IsRegular() && !strings.HasPrefix(name, "log.") && !strings.HasPrefix(name, "__db.") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
