package manifest

import (
	"errors"
	"strings"
	"testing"

	"bdbvault/localenv/bdb"
)

var tl = Timeline{1}

// seg reads "file:start-end" with "!" behind it for sealed.
func seg(t *testing.T, s string) SegmentName {
	t.Helper()
	n := SegmentName{Timeline: tl, LastCommit: 5}
	s, n.Sealed = strings.CutSuffix(s, "!")
	if _, err := sscan(s, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFollow(t *testing.T) {
	for _, c := range []struct {
		name  string
		have  string
		first uint32
		limit bdb.LSN
		want  string
		end   bdb.LSN
	}{
		{"nothing", "", 1, bdb.LSN{}, "", bdb.LSN{File: 1}},
		{"tails", "1:0-10 1:10-20", 1, bdb.LSN{}, "1:0-10 1:10-20", bdb.LSN{File: 1, Offset: 20}},
		{"sealed supersedes tails", "1:0-10 1:10-20 1:0-30! 2:0-5", 1, bdb.LSN{}, "1:0-30! 2:0-5", bdb.LSN{File: 2, Offset: 5}},
		{"unsealed file ends the chain", "1:0-10 2:0-5!", 1, bdb.LSN{}, "1:0-10", bdb.LSN{File: 1, Offset: 10}},
		{"gap in a file", "1:0-10 1:12-20", 1, bdb.LSN{}, "1:0-10", bdb.LSN{File: 1, Offset: 10}},
		{"missing file", "1:0-10! 3:0-5", 1, bdb.LSN{}, "1:0-10!", bdb.LSN{File: 1, Offset: 10}},
		{"overlap takes the farther", "1:0-10 1:5-30 1:10-20", 1, bdb.LSN{}, "1:0-10 1:5-30", bdb.LSN{File: 1, Offset: 30}},
		{"stops at the limit", "1:0-10! 2:0-5 2:5-9", 1, bdb.LSN{File: 2, Offset: 5}, "1:0-10! 2:0-5", bdb.LSN{File: 2, Offset: 5}},
		{"begins at a later file", "1:0-10! 2:0-5", 2, bdb.LSN{}, "2:0-5", bdb.LSN{File: 2, Offset: 5}},
		{"sealed before a tail of equal end", "1:0-10 1:0-10! 2:0-5", 1, bdb.LSN{}, "1:0-10! 2:0-5", bdb.LSN{File: 2, Offset: 5}},
		{"no beginning", "1:5-10!", 1, bdb.LSN{}, "", bdb.LSN{File: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			list := []SegmentName{{Timeline: Timeline{2}, File: 1, End: 99, Sealed: true}} // another timeline's
			for s := range strings.FieldsSeq(c.have) {
				list = append(list, seg(t, s))
			}
			got := NewChain(tl, list).Follow(c.first, c.limit)
			var names []string
			for _, s := range got.Segments {
				names = append(names, short(s))
			}
			if strings.Join(names, " ") != c.want || got.End != c.end {
				t.Errorf("got %v to %s, want %s to %s", names, got.End, c.want, c.end)
			}
		})
	}
}

func TestCoverBackup(t *testing.T) {
	m := &Manifest{ID: "x", NeededFrom: bdb.LSN{File: 1, Offset: 28}, ConsistentAt: bdb.LSN{File: 2, Offset: 5}}
	chain := NewChain(tl, []SegmentName{seg(t, "1:0-10!"), seg(t, "2:0-5"), seg(t, "2:5-9")})
	if c, err := chain.CoverBackup(m, bdb.LSN{}); err != nil || c.End != (bdb.LSN{File: 2, Offset: 9}) {
		t.Errorf("latest: %v %v", c, err)
	}
	if _, err := chain.CoverBackup(m, bdb.LSN{File: 2, Offset: 4}); err == nil {
		t.Error("a target before consistent-at is taken")
	}
	var gap *GapError
	if _, err := chain.CoverBackup(m, bdb.LSN{File: 2, Offset: 10}); !errors.As(err, &gap) {
		t.Errorf("a target beyond the log: %v", err)
	}
}

func TestKeys(t *testing.T) {
	n := SegmentName{Timeline: tl, File: 7, Start: 28, End: 4294967295, LastCommit: 1795152000, Sealed: true}
	if got, err := ParseSegmentKey("mail", n.Key("mail")); err != nil || got != n {
		t.Errorf("%s: %+v %v", n, got, err)
	}
	for _, bad := range []string{"mail/logs/", "mail/logs/0100000000000000/0000000001/0000000005-0000000005-0000000000",
		"mail/logs/0100000000000000/0000000001/0000000005-9999999999-0000000000", "mail/logs/x"} {
		if got, err := ParseSegmentKey("mail", bad); err == nil {
			t.Errorf("%s: %+v", bad, got)
		}
	}
	for _, bad := range []string{"", ".x", "-x", "a/b", "a b", RepositoryKey, strings.Repeat("x", 65)} {
		if CheckEnv(bad) == nil {
			t.Errorf("environment name %q is taken", bad)
		}
	}
	if _, err := ParseBackupID("20261320T053012Z-4f3a"); err == nil {
		t.Error("month 13 is taken")
	}
	for _, n := range []ObjectName{{Hash{0xab}, true}, {Hash{0xab}, false}} {
		if got, err := ParseObjectKey("mail", n.Key("mail")); err != nil || got != n {
			t.Errorf("%+v becomes %+v: %v", n, got, err)
		}
	}
	hash := Hash{0xab}.String()
	for _, bad := range []string{"mail/packs/00/" + hash, "mail/packs/" + hash, "mail/maps/ab/" + hash, "mail/maps/" + strings.ToUpper(hash), "other/maps/" + hash, "mail/logs/" + hash, hash} {
		if n, err := ParseObjectKey("mail", bad); err == nil {
			t.Errorf("%s: %+v", bad, n)
		}
	}
}
