package main

import (
	"fmt"
	"strconv"
	"time"
)

// localForms are the ways to write a local time beside db_recover's.
var localForms = []string{"2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04"}

// parseTime reads a moment: RFC 3339, or local time, also as db_recover -t takes it, [[CC]YY]MMDDhhmm[.SS]. When clocks are set back, local times come twice: the
// later one is taken, since it includes the earlier, and note says so. Those that a clock set forward leaves out are refused.
func parseTime(s string, now time.Time, zone *time.Location) (t time.Time, note string, err error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, "", nil
	}
	wall, ok := parseRecoverTime(s, now.In(zone).Year())
	for _, form := range localForms {
		if t, err := time.Parse(form, s); err == nil {
			wall, ok = t, true
		}
	}
	if !ok {
		return t, "", fmt.Errorf("time %q: want RFC 3339 (2006-01-02T15:04:05Z), local time (2006-01-02 15:04:05), or local time as db_recover takes it ([[CC]YY]MMDDhhmm[.SS])", s)
	}
	found := local(wall, zone)
	switch len(found) {
	case 0:
		return t, "", fmt.Errorf("time %q: clocks here were set forward over it; give it as RFC 3339", s)
	case 1:
		return found[0], "", nil
	}
	return found[1], fmt.Sprintf("clocks here were set back over %s, so it came twice: %s and %s; the later one is taken", wall.Format("2006-01-02 15:04:05"),
		found[0].Format(time.RFC3339), found[1].Format(time.RFC3339)), nil
}

// local are the moments, in order, at which clocks in a zone show a time.
func local(wall time.Time, zone *time.Location) (found []time.Time) {
	for _, day := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		_, offset := wall.Add(day).In(zone).Zone()
		t := wall.Add(-time.Duration(offset) * time.Second).In(zone)
		if t.Format(time.DateTime) == wall.Format(time.DateTime) && (len(found) == 0 || !found[0].Equal(t)) {
			found = append(found, t)
		}
	}
	if len(found) == 2 && found[1].Before(found[0]) {
		found[0], found[1] = found[1], found[0]
	}
	return found
}

// parseRecoverTime reads [[CC]YY]MMDDhhmm[.SS] as if it were UTC. Years of two digits are those from 1969 to 2068.
func parseRecoverTime(s string, year int) (t time.Time, ok bool) {
	if len(s) < 3 || s[len(s)-3] != '.' {
		s += ".00"
	}
	switch len(s) - len("MMDDhhmm.SS") {
	case 0:
		s = fmt.Sprintf("%04d%s", year, s)
	case 2:
		century := "20"
		if yy, err := strconv.Atoi(s[:2]); err == nil && yy >= 69 {
			century = "19"
		}
		s = century + s
	case 4:
	default:
		return t, false
	}
	// The package time takes fractions of seconds for granted where a point stands, so the point goes.
	t, err := time.Parse("20060102150405", s[:12]+s[13:])
	return t, err == nil
}
