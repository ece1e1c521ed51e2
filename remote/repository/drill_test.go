package repository_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
)

func drillOf(n int, result manifest.DrillResult) *manifest.Drill {
	d := manifest.NewDrill("a", manifest.BackupID(fmt.Sprintf("20261120T0400%02dZ-0000", n)))
	d.Started, d.Result = time.Unix(int64(n), 0).UTC(), result
	if result == manifest.DrillPassed {
		d.Backup, d.End = "20261119T000000Z-0000", bdb.LSN{File: 1, Offset: 28}
	} else {
		d.Error = "broken"
	}
	return d
}

// TestLastDrill: the newest drill and the newest that passed are found, also behind records that can't be read; none is ever replaced.
func TestLastDrill(t *testing.T) {
	r, b := open(t)
	last := func() *repository.LastDrill {
		t.Helper()
		l, err := r.LastDrill(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	if l := last(); l.Count != 0 || l.Last != nil || l.Passed != nil {
		t.Errorf("of none: %+v", l)
	}
	passed, failed := drillOf(1, manifest.DrillPassed), drillOf(2, manifest.DrillDamaged)
	for _, d := range []*manifest.Drill{passed, failed} {
		sum, err := r.PutDrill(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if got, again, err := r.Drill(t.Context(), "a", d.ID); err != nil || again != sum || got.Result != d.Result {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if l := last(); l.Count != 2 || l.Last.ID != failed.ID || l.Passed.ID != passed.ID || l.Stored.ID != failed.ID || l.Stored.Stored.IsZero() {
		t.Errorf("%+v", l)
	}
	again := drillOf(2, manifest.DrillPassed)
	if _, err := r.PutDrill(t.Context(), again); !errors.Is(err, remote.ErrExists) {
		t.Errorf("a record was replaced: %v", err)
	}
	put(t, b, manifest.DrillKey("a", "20261120T040003Z-0000"), []byte("{"))
	put(t, b, manifest.DrillsPrefix("a")+"README", nil)
	if l := last(); l.Count != 3 || l.Last.ID != failed.ID || l.Passed.ID != passed.ID || !errors.Is(l.Unread, manifest.ErrDamaged) {
		t.Errorf("%+v", l)
	}
	data, err := failed.Encode()
	if err != nil {
		t.Fatal(err)
	}
	put(t, b, manifest.DrillKey("a", "20261120T040004Z-0000"), bytes.Clone(data))
	if _, _, err := r.Drill(t.Context(), "a", "20261120T040004Z-0000"); !errors.Is(err, manifest.ErrDamaged) {
		t.Errorf("another drill's record: %v", err)
	}
}
