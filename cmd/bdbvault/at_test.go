package main

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata"
)

// TestParseTime: all forms, also at the hours that clocks skip and repeat.
func TestParseTime(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	lordHowe, err := time.LoadLocation("Australia/Lord_Howe") // half an hour
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		in   string
		zone *time.Location
		want string // RFC 3339 in UTC; empty: refused
		note string
	}{
		{"2026-11-20T05:30:12Z", berlin, "2026-11-20T05:30:12Z", ""},
		{"2026-11-20T05:30:12.9+01:00", berlin, "2026-11-20T04:30:12Z", ""},
		{"2026-11-20 05:30:12", berlin, "2026-11-20T04:30:12Z", ""},
		{"2026-07-20 05:30", berlin, "2026-07-20T03:30:00Z", ""},
		{"11200530", berlin, "2026-11-20T04:30:00Z", ""},
		{"11200530.12", berlin, "2026-11-20T04:30:12Z", ""},
		{"2511200530.12", berlin, "2025-11-20T04:30:12Z", ""},
		{"9911200530", berlin, "1999-11-20T04:30:00Z", ""},
		{"202511200530.12", berlin, "2025-11-20T04:30:12Z", ""},
		{"2026-10-25 02:30:00", berlin, "2026-10-25T01:30:00Z", "came twice: 2026-10-25T02:30:00+02:00 and 2026-10-25T02:30:00+01:00; the later"},
		{"10250230", berlin, "2026-10-25T01:30:00Z", "came twice"},
		{"2026-10-25 03:00:00", berlin, "2026-10-25T02:00:00Z", ""},
		{"2026-10-25 01:59:59", berlin, "2026-10-24T23:59:59Z", ""},
		{"2026-10-25T02:30:00+02:00", berlin, "2026-10-25T00:30:00Z", ""},
		{"2026-03-29 02:30:00", berlin, "", ""},
		{"2026-03-29 03:00:00", berlin, "2026-03-29T01:00:00Z", ""},
		{"2026-04-05 01:45:00", lordHowe, "2026-04-04T15:15:00Z", "came twice"},
		{"13200530", berlin, "", ""},
		{"yesterday", berlin, "", ""},
		{"", berlin, "", ""},
		{".00", berlin, "", ""},
		{"1120053", berlin, "", ""},
	} {
		got, note, err := parseTime(c.in, now, c.zone)
		switch {
		case (err != nil) != (c.want == ""):
			t.Errorf("%q: %v %v", c.in, got, err)
		case err == nil && got.UTC().Truncate(time.Second).Format(time.RFC3339) != c.want:
			t.Errorf("%q is %s, want %s", c.in, got.UTC().Format(time.RFC3339), c.want)
		case !strings.Contains(note, c.note) || (c.note == "") != (note == ""):
			t.Errorf("%q: note %q, want %q", c.in, note, c.note)
		}
	}
}
