package main

import (
	"time"

	"github.com/netresearch/go-cron"

	"bdbvault/archive"
)

// cronParser takes what crontab takes: five fields, or @weekly and its like. As there, a day fits if its number or its weekday does where both
// are given.
var cronParser = cron.MustNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.DowOrDom | cron.Descriptor)

// cronSchedule is a Schedule by the clock on the wall. What would fall into the hour that is skipped in spring comes an hour later, what would
// come twice in the hour that is repeated in autumn comes once.
type cronSchedule struct{ spec cron.Schedule }

// parseCron reads the value of a flag; every is the flag for intervals.
func parseCron(text, flag, every string) (archive.Schedule, error) {
	spec, err := cronParser.Parse(text)
	if err != nil {
		return nil, usagef("--%s %q: %w", flag, text, err)
	}
	if _, interval := spec.(cron.ConstantDelaySchedule); interval {
		return nil, usagef("--%s %q: for an interval use --%s", flag, text, every)
	}
	s := cronSchedule{spec}
	if s.Next(time.Now()).IsZero() {
		return nil, usagef("--%s %q: there is no such day", flag, text)
	}
	return s, nil
}

// Next implements archive.Schedule.
func (s cronSchedule) Next(after time.Time) time.Time {
	next := s.spec.Next(after.Local())
	if first, twice := firstPass(next); twice && s.spec.Next(first).Equal(next) {
		return s.spec.Next(next)
	}
	return next
}

// repeated is the longest time that clocks are set back by.
const repeated = 2 * time.Hour

// firstPass is the earlier moment at which clocks showed the same time as at t, if there is one.
func firstPass(t time.Time) (time.Time, bool) {
	_, now := t.Zone()
	_, before := t.Add(-repeated).Zone()
	first := t.Add(-time.Duration(before-now) * time.Second)
	return first, before > now && sameClock(first, t)
}

func sameClock(a, b time.Time) bool {
	return a.Day() == b.Day() && a.Hour() == b.Hour() && a.Minute() == b.Minute()
}
