package engine

import (
	"fmt"
	"strings"
)

// Bounds of a Transcript: a verification of a bad file can say a line for every page.
const (
	transcriptLines = 40
	transcriptWidth = 1000
)

// Transcript collects what an engine says during a call: the first lines and every verdict on a database, then only how many more lines
// there were. The zero value is empty. It is not safe for use by several goroutines.
type Transcript struct {
	lines []string
	more  int
}

// Add takes one line. It reports whether it kept it, which is also when it is worth to be passed on: an engine in trouble repeats itself
// thousands of times.
func (t *Transcript) Add(line string) bool {
	line = strings.TrimRight(line, " \r\n")
	if line == "" {
		return false
	}
	room := transcriptLines
	if SaysDamaged([]string{line}) {
		room *= 2
	}
	if len(t.lines) >= room {
		t.more++
		return false
	}
	t.lines = append(t.lines, clip(line, transcriptWidth))
	return true
}

// Lines returns what was said.
func (t *Transcript) Lines() []string {
	if t.more == 0 {
		return t.lines
	}
	return append(t.lines[:len(t.lines):len(t.lines)], fmt.Sprintf("and %d more lines", t.more))
}

// clip shortens s to n bytes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
