package main

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// unit is how a number is written.
type unit int

const (
	inSeconds unit = iota
	inMiB
	inCount
	inPercent
	inRate
	inRatio
)

// text of a number without its unit, which the column's title has. Nothing if there is no number.
func (u unit) text(v float64, ok bool) string {
	switch {
	case !ok:
		return ""
	case u == inMiB:
		return decimals(v / mib)
	case u == inPercent:
		return fmt.Sprintf("%.1f", 100*v)
	case u == inSeconds || u == inRatio:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// decimals shows small numbers to a tenth.
func decimals(v float64) string {
	if v < 100 {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// with is the number with its unit.
func (u unit) with(v float64) string {
	suffix := map[unit]string{inSeconds: " s", inMiB: " MiB", inPercent: " %", inRate: " per second"}
	return u.text(v, true) + suffix[u]
}

// column of a table.
type column struct {
	metric, title string
	unit          unit
}

// table in Markdown. The first column is text, the others are numbers.
type table struct {
	head []string
	rows [][]string
}

func (t table) String() string {
	widths := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell), 3)
		}
	}
	var w strings.Builder
	writeRow(&w, t.head, widths)
	for i, n := range widths {
		line := strings.Repeat("-", n)
		if i > 0 {
			line = line[1:] + ":"
		}
		fmt.Fprintf(&w, "| %s ", line)
	}
	w.WriteString("|\n")
	for _, row := range t.rows {
		writeRow(&w, row, widths)
	}
	return w.String()
}

func writeRow(w *strings.Builder, cells []string, widths []int) {
	for i, cell := range cells {
		pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		if i == 0 {
			fmt.Fprintf(w, "| %s%s ", cell, pad)
		} else {
			fmt.Fprintf(w, "| %s%s ", pad, cell)
		}
	}
	w.WriteString("|\n")
}

// joinWords without repeating any.
func joinWords(words []string) string {
	seen := map[string]bool{}
	var kept []string
	for _, w := range words {
		if !seen[w] {
			seen[w] = true
			kept = append(kept, w)
		}
	}
	return strings.Join(kept, " ")
}
