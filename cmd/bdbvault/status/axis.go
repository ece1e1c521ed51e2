package status

import (
	"fmt"
	"time"
)

// A picture's x axis runs in per cent of its width, its y axis in pixels. So it is as wide as the screen lets it be, and what is written in it
// does not shrink on a phone.

// axis maps moments to per cent of a picture's width.
type axis struct{ from, to time.Time }

// edge is the room left and right, so that a mark on the border is seen whole.
const edge = 2.0

func (a axis) at(t time.Time) float64 {
	whole := a.to.Sub(a.from)
	if whole <= 0 {
		return edge
	}
	part := float64(t.Sub(a.from)) / float64(whole)
	return edge + min(1, max(0, part))*(100-2*edge)
}

func (a axis) contains(t time.Time) bool { return !t.Before(a.from) && !t.After(a.to) }

// percent is an x coordinate or a width as SVG takes it.
func percent(x float64) string { return fmt.Sprintf("%.2f%%", x) }

// tick is a mark below the axis.
type tick struct {
	X      string
	Text   string
	Anchor string
	Class  string // "between" is left out on narrow screens
}

// steps are the distances that ticks may have.
var steps = []time.Duration{
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	day, 2 * day, 5 * day, 10 * day, 15 * day, 30 * day, 60 * day, 90 * day, 180 * day, 365 * day,
}

const day = 24 * time.Hour

// ticks are the picture's beginning and at most about six round moments, in the host's zone, none too near to the borders.
func (a axis) ticks() []tick {
	whole := a.to.Sub(a.from)
	step := steps[len(steps)-1]
	for _, s := range steps {
		if whole/s <= 6 {
			step = s
			break
		}
	}
	list := []tick{{X: percent(a.at(a.from)), Text: startText(a.from.Local(), step), Anchor: "start"}}
	for t := roundUp(a.from.Local(), step); t.Before(a.to) && len(list) < 20; t = later(t, step) {
		x := a.at(t)
		if x < 16 || x > 80 {
			continue
		}
		class := ""
		if len(list)%2 == 0 {
			class = "between"
		}
		list = append(list, tick{X: percent(x), Text: tickText(t, step), Anchor: "middle", Class: class})
	}
	return list
}

// roundUp is the first round moment at or after t. Days begin at midnight where the host is, whatever its clocks do.
func roundUp(t time.Time, step time.Duration) time.Time {
	midnight := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, t.Location())
	if step >= day {
		return midnight.AddDate(0, 0, 1)
	}
	for m := midnight; ; m = m.Add(step) {
		if !m.Before(t) {
			return m
		}
	}
}

func later(t time.Time, step time.Duration) time.Time {
	if step >= day {
		return t.AddDate(0, 0, int(step/day))
	}
	return t.Add(step)
}

func startText(t time.Time, step time.Duration) string {
	if step >= 180*day {
		return t.Format("Jan 2006")
	}
	if step >= 6*time.Hour {
		return t.Format("2 Jan")
	}
	return t.Format("15:04")
}

func tickText(t time.Time, step time.Duration) string {
	switch {
	case step >= 365*day:
		return t.Format("2006")
	case step >= day, t.Hour() == 0 && t.Minute() == 0:
		return t.Format("2 Jan")
	}
	return t.Format("15:04")
}
