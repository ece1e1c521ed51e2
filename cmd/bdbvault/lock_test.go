package main

import (
	"strings"
	"testing"
	"time"

	"bdbvault/remote"
)

// TestTrail: of versions, which say since when something is not as it was stored?
func TestTrail(t *testing.T) {
	const pack, backup = "mail/packs/00/aa", "mail/backups/20261120T053012Z-4f3a.json"
	for _, c := range []struct {
		name   string
		trail  trail
		stored string // KEY HOUR, of a delete marker with a minus sign; the newest of each key first
		since  int    // 0: never
	}{
		{"as stored", trail{gone: true}, pack + " 1, " + backup + " 2", 0},
		{"pruned", trail{}, pack + " -3, " + pack + " 1", 0},
		{"pruned and put back", trail{gone: true}, backup + " 4, " + backup + " -3, " + backup + " 1", 0},
		{"overwritten", trail{}, pack + " 7, " + pack + " 1, mail/packs/00/bb 6, mail/packs/00/bb 2", 6},
		{"overwritten twice", trail{}, pack + " 7, " + pack + " 5, " + pack + " 1", 5},
		{"overwritten and deleted", trail{}, pack + " -8, " + pack + " 7, " + pack + " 1", 7},
		{"missed", trail{missed: pack}, pack + " -5, " + pack + " 1, mail/packs/00/bb -4, mail/packs/00/bb 1", 5},
		{"the last one missed", trail{missed: pack}, "mail/maps/00 1, " + pack + " -5, " + pack + " 1", 5},
		{"all backups gone", trail{gone: true}, backup + " -6, " + backup + " 2, " + pack + " -3, " + pack + " 1", 6},
		{"all gone", trail{gone: true}, backup + " -6, " + backup + " 2, repository.json -5, repository.json 1", 5},
	} {
		day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
		for _, s := range strings.Split(c.stored, ", ") {
			key, at, _ := strings.Cut(s, " ")
			at, deleted := strings.CutPrefix(at, "-")
			v := remote.Version{Info: remote.Info{Key: key, Modified: day.Add(time.Duration(at[0]-'0') * time.Hour)}, Deleted: deleted}
			if err := c.trail.add(v); err != nil {
				t.Fatal(err)
			}
		}
		c.trail.end()
		want := time.Time{}
		if c.since > 0 {
			want = day.Add(time.Duration(c.since) * time.Hour)
		}
		if !c.trail.since.Equal(want) {
			t.Errorf("%s: since %s, want %s", c.name, c.trail.since, want)
		}
	}
}
