package status

import (
	"fmt"
	"time"
)

// bars is a picture of sizes over time.
type bars struct {
	Name  string
	Desc  string // the picture in words
	Class string
	Bars  []bar
	Ticks []tick
	Limit int // y of a line that bars should stay below; 0: there is none
}

type bar struct {
	X, Width  string
	Y, Height int
	Title     string
	Class     string
}

// height of a bar, which is never too low to be seen.
func height(n, highest int64) int { return max(2, int(float64(n)/float64(highest)*barRoom)) }

const (
	barRoom  = 52 // height of the highest bar, in pixels
	barFloor = 60 // where bars stand
)

func (b *bars) add(x, width float64, n, highest int64, title string) {
	if n <= 0 {
		return
	}
	h := height(n, highest)
	b.Bars = append(b.Bars, bar{X: percent(x), Width: percent(width), Y: barFloor - h, Height: h, Title: title})
}

// The last hour is drawn minute by minute.
const (
	minutes = 60
	slot    = time.Minute
)

// lastHour is the axis of the last hour and the width of a minute on it.
func lastHour(now time.Time) (a axis, width float64) {
	end := now.Truncate(slot).Add(slot)
	return axis{from: end.Add(-minutes * slot), to: end}, (100 - 2*edge) / minutes
}

// minute is the place of a moment on the axis of the last hour, -1 if it is not there.
func (a axis) minute(t time.Time) int {
	if i := int(t.Sub(a.from) / slot); a.contains(t) && i < minutes {
		return i
	}
	return -1
}

// drawShips draws how much log was shipped in each minute of the last hour.
func drawShips(e *Environment, now time.Time) *bars {
	a, width := lastHour(now)
	var sums [minutes]int64
	var total, highest int64
	for _, p := range e.Watch.History {
		if i := a.minute(p.Time); i >= 0 && !p.Full {
			sums[i] += p.Bytes
			total += p.Bytes
			highest = max(highest, sums[i])
		}
	}
	b := &bars{Name: "Log shipped", Ticks: a.ticks(), Desc: bytesOf(total) + " in the last hour"}
	for i, n := range sums {
		from := a.from.Add(time.Duration(i) * slot)
		b.add(a.at(from), width*0.72, n, highest, fmt.Sprintf("%s: %s", from.Local().Format("15:04"), bytesOf(n)))
	}
	return b
}

// drawLag draws the greatest lag in each minute of the last hour. Of minutes in which nothing was stored, it is what it had become by then.
func drawLag(e *Environment, now time.Time) *bars {
	a, width := lastHour(now)
	var lags [minutes]time.Duration
	var highest time.Duration
	for _, p := range e.Watch.History {
		if i := a.minute(p.Time); i >= 0 && !p.Full {
			lags[i] = max(lags[i], time.Duration(p.MaxLag*float64(time.Second)))
		}
	}
	for i := range lags {
		end := earliest(now, a.from.Add(time.Duration(i+1)*slot))
		if since := e.Watch.LagSince; !since.IsZero() && end.After(since) {
			lags[i] = max(lags[i], end.Sub(since))
		}
		highest = max(highest, lags[i])
	}
	b := &bars{Name: "Lag", Class: "lags", Ticks: a.ticks(), Desc: "at most " + span(highest) + " in the last hour"}
	if e.MaxLag > 0 {
		highest = max(highest, e.MaxLag)
		b.Limit = barFloor - height(int64(e.MaxLag), int64(highest))
	}
	for i, lag := range lags {
		from := a.from.Add(time.Duration(i) * slot)
		b.add(a.at(from), width*0.72, int64(lag), int64(highest), fmt.Sprintf("%s: %s", from.Local().Format("15:04"), span(lag)))
		if n := len(b.Bars); lag > 0 && e.MaxLag > 0 && lag > e.MaxLag {
			b.Bars[n-1].Class = "over"
		}
	}
	return b
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// maxFulls is how many full backups are drawn, the newest.
const maxFulls = 40

// drawFulls draws the size of the environment at each full backup.
func drawFulls(e *Environment) *bars {
	if e.History == nil || len(e.History.Backups) == 0 {
		return nil
	}
	fulls := e.History.Backups
	fulls = fulls[max(0, len(fulls)-maxFulls):]
	var highest int64
	for i := range fulls {
		highest = max(highest, fulls[i].Bytes)
	}
	newest := &fulls[len(fulls)-1]
	b := &bars{Name: "Size", Class: "fulls", Desc: fmt.Sprintf("%s, %s", bytesOf(newest.Bytes), plural(len(e.History.Backups), "full backup"))}
	width := (100 - 2*edge) / float64(max(12, len(fulls)))
	for i := range fulls {
		f := &fulls[i]
		b.add(edge+float64(i)*width, width*0.72, f.Bytes, highest, fmt.Sprintf("%s: %s", moment(consistent(f)), bytesOf(f.Bytes)))
	}
	last := edge + float64(len(fulls)-1)*width
	b.Ticks = []tick{{X: percent(edge), Text: consistent(&fulls[0]).Local().Format("2 Jan"), Anchor: "start"}}
	if len(fulls) > 2 {
		b.Ticks = append(b.Ticks, tick{X: percent(max(28, last+width*0.72)), Text: consistent(newest).Local().Format("2 Jan"), Anchor: "end"})
	}
	return b
}
