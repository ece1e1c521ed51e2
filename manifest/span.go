package manifest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Span is a time span as people set limits by: calendar years, months and days, and hours.
type Span struct{ Years, Months, Days, Hours int }

var spanForm = regexp.MustCompile(`^(?:([0-9]{1,6})y)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?$`)

// ParseSpan reads the form 1y5m7d2h: years, months, days and hours, in that order, each of which may be missing but not all of them.
func ParseSpan(s string) (Span, error) {
	m := spanForm.FindStringSubmatch(s)
	if m == nil || s == "" {
		return Span{}, fmt.Errorf("time span %q: want years, months, days and hours, as in 1y5m7d2h, 30d or 12h", s)
	}
	var n [4]int
	for i := range n {
		if m[i+1] != "" {
			n[i], _ = strconv.Atoi(m[i+1]) // six digits at most
		}
	}
	return Span{Years: n[0], Months: n[1], Days: n[2], Hours: n[3]}, nil
}

// String writes what ParseSpan reads; the zero span is 0h.
func (s Span) String() string {
	var b strings.Builder
	for _, p := range []struct {
		n    int
		unit string
	}{{s.Years, "y"}, {s.Months, "m"}, {s.Days, "d"}, {s.Hours, "h"}} {
		if p.n != 0 {
			fmt.Fprintf(&b, "%d%s", p.n, p.unit)
		}
	}
	if b.Len() == 0 {
		return "0h"
	}
	return b.String()
}

// IsZero reports whether the span has no length.
func (s Span) IsZero() bool { return s == Span{} }

// After is the moment that lies the span behind t, in t's calendar.
func (s Span) After(t time.Time) time.Time {
	return t.AddDate(s.Years, s.Months, s.Days).Add(time.Duration(s.Hours) * time.Hour)
}

// Before is the moment that lies the span before t, in t's calendar.
func (s Span) Before(t time.Time) time.Time {
	return t.AddDate(-s.Years, -s.Months, -s.Days).Add(-time.Duration(s.Hours) * time.Hour)
}
