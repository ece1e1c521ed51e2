package main

import (
	"testing"
	"time"
)

// TestCronAcrossClockChanges: a full backup is never left out because an hour is, and never taken twice because an hour comes twice.
func TestCronAcrossClockChanges(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	local := time.Local
	time.Local = berlin
	defer func() { time.Local = local }()
	const layout = "2006-01-02 15:04 MST"
	for _, c := range []struct {
		expression, after string
		want              []string
	}{
		{"0 3 * * 0", "2027-03-27 12:00 CET", []string{"2027-03-28 03:00 CEST", "2027-04-04 03:00 CEST"}},
		{"30 2 * * *", "2027-03-27 12:00 CET", []string{"2027-03-28 03:30 CEST", "2027-03-29 02:30 CEST"}},
		{"30 2 * * *", "2027-10-30 12:00 CEST", []string{"2027-10-31 02:30 CEST", "2027-11-01 02:30 CET"}},
		{"0 3 * * 0", "2027-10-30 12:00 CEST", []string{"2027-10-31 03:00 CET", "2027-11-07 03:00 CET"}},
		{"*/30 * * * *", "2027-10-31 02:10 CEST", []string{"2027-10-31 02:30 CEST", "2027-10-31 02:00 CET", "2027-10-31 02:30 CET", "2027-10-31 03:00 CET"}},
		{"5 0 1-7 * 0", "2027-03-28 01:20 CET", []string{"2027-04-01 00:05 CEST", "2027-04-02 00:05 CEST"}}, // the day or the weekday, as crontab has it
		{"@weekly", "2027-03-27 12:00 CET", []string{"2027-03-28 00:00 CET"}},
		{"CRON_TZ=UTC 0 3 * * *", "2027-07-01 12:00 CEST", []string{"2027-07-02 05:00 CEST"}},
	} {
		s, err := parseCron(c.expression, flagFullCron, flagFullEvery)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.ParseInLocation(layout, c.after, berlin)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range c.want {
			at = s.Next(at)
			if got := at.In(berlin).Format(layout); got != want {
				t.Errorf("%s after %s: got %s, want %s", c.expression, c.after, got, want)
			}
		}
	}
	for _, wrong := range []string{"", "x", "61 0 * * *", "0 3 * *", "0 0 30 2 *", "0 0 0 3 * *", "@every 1h"} {
		if _, err := parseCron(wrong, flagFullCron, flagFullEvery); !is[usageError](err) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}
