package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// section is a row of the bench in the report.
type section struct {
	row, title string
	text       string
	tools      []string
	columns    []column
	against    string // the metric by which the last column compares; "": none
}

var usual = []column{
	{wall, "wall s", inSeconds}, {cpu, "CPU s", inSeconds}, {storeCPU, "store's CPU s", inSeconds},
	{requests, "requests", inCount}, {stored, "stored MiB", inMiB}, {peak, "peak MiB", inMiB},
}

func sections(sizes []int64) []section {
	memory := section{row: rowMemory, title: "Peak memory",
		text: "The largest resident set of any process, in a first full backup and in a restore with 50 MiB of log to replay; parent and " +
			"engine's child apart are sampled. Above 4 GiB restore does not verify databases by itself, so the child has less to do.",
		columns: []column{{peak, "peak MiB", inMiB}, {parentPeak, "parent MiB", inMiB}, {childPeak, "engine's child MiB", inMiB}}}
	for _, size := range sizes {
		memory.tools = append(memory.tools, memoryTool(actionBackup, size), memoryTool(actionRestore, size))
	}
	return []section{
		{row: rowFirst, title: "First full backup", text: "Each tool stores the whole environment into an empty bucket. " +
			"The ones with db5.3_hotbackup make a copy on the same disk first, which includes its recovery. tar reads a live environment as it " +
			"comes and so stores what may not be restorable.",
			tools: []string{toolVault, toolRestic, toolTar, toolCopyClone, toolCopyTar}, columns: usual, against: wall},
		{row: rowSecond, title: "Second full backup", text: "After records on 2 % of all pages, at random places, were changed in transactions " +
			"and written to the database files. Stored is what the tool added to the bucket, the log of those changes included.",
			tools:   []string{toolVault, toolRestic},
			columns: append(usual[:len(usual):len(usual)], column{share, "pages changed %", inPercent}, column{logBytes, "log written MiB", inMiB}),
			against: wall},
		{row: rowUnchanged, title: "Nothing changed", text: "A full backup right after the one before. --read-all and --force read every file " +
			"all the same.", tools: []string{toolVault, toolRestic, toolReadAll, toolForce}, columns: usual},
		{row: rowShip, title: "Ship of new log", text: "Log written in transactions that change records at random places. rclone copies whole " +
			"log files that are new or have changed since its last call; the engine makes each at its full size.",
			tools:   []string{toolVault, toolRclone, toolVault + nothingNew, toolRclone + nothingNew},
			columns: append(usual[:len(usual):len(usual)], column{logBytes, "log written MiB", inMiB})},
		{row: rowRestore, title: "Restore", text: "The newest state comes back to an empty directory. Data is the time of the whole command " +
			"without recovery and verification, so it includes planning, laying down the log and syncing files; CPU likewise is without the " +
			"engine's child, which is sampled. restic writes all files and leaves it to the kernel to bring them to the disk; the column sync " +
			"says how long that took afterwards. db5.3_recover runs on files that bdbvault brought back and did not recover.",
			tools: []string{toolVault, toolRestic, toolRecover},
			columns: []column{{wall, "wall s", inSeconds}, {dataWall, "data wall s", inSeconds}, {dataCPU, "data CPU s", inSeconds},
				{recoverWall, "recovery s", inSeconds}, {verifyWall, "verification s", inSeconds}, {syncWall, "sync s", inSeconds},
				{requests, "requests", inCount}, {fetched, "fetched MiB", inMiB}, {restored, "restored MiB", inMiB}, {peak, "peak MiB", inMiB}}},
		{row: rowLive, title: "Live workload during a backup", text: fmt.Sprintf("Commits per second of %d processes that transfer money as fast as "+
			"they can, with a checkpoint every %v. The equal load is a cat of the same files to /dev/null and a loop that burns the CPU time "+
			"of the backup and of the store, spread over the backup's wall time; what the store writes to the same disk has no counterpart "+
			"in it. The ratio is the median of those of the rounds.", liveWriters, liveCheckpoint),
			tools: []string{liveAlone, liveBackup, liveLoad},
			columns: []column{{commits, "commits per second", inRate}, {wall, "during s", inSeconds},
				{burnt, "CPU burnt of due %", inPercent}, {ratio, "ratio to equal load", inRatio}}},
		memory,
	}
}

// report is the whole document.
func (b *bench) report(ctx context.Context) string {
	var w strings.Builder
	fmt.Fprintf(&w, "# bdbvault beside other tools\n\nMeasured on %s; medians of %d runs, of %d rounds for the live workload.\n\n",
		b.began.UTC().Format(time.DateOnly), b.opt.runs, b.opt.rounds)
	fmt.Fprintf(&w, "- Machine: %s\n- Store: MinIO on loopback, its data on the same disk\n", b.machine)
	for _, f := range b.facts {
		fmt.Fprintf(&w, "- Environment: %s\n", f)
	}
	fmt.Fprintf(&w, "- Page cache warm for all; region files excluded everywhere\n")
	for _, v := range b.versions(ctx) {
		fmt.Fprintf(&w, "- %s\n", v)
	}
	b.writeTargets(&w)
	for _, s := range sections(b.opt.sizes) {
		b.writeSection(&w, s)
	}
	return w.String()
}

func (b *bench) writeTargets(w *strings.Builder) {
	t := table{head: []string{"target", "bdbvault", "beside", "ratio", "wanted", "result"}}
	for _, goal := range targets(b.opt.sizes) {
		if !b.opt.wants(goal.of.row) {
			continue
		}
		t.rows = append(t.rows, b.targetRow(goal))
	}
	fmt.Fprintf(w, "\n## Targets\n\n%s", t)
}

func (b *bench) targetRow(t target) []string {
	v, ok := b.results.judge(t)
	if !ok {
		return []string{t.what, "", "", "", wanted(t), "not measured"}
	}
	row := []string{t.what, t.unit.with(v.of), "", "", wanted(t), v.String()}
	if t.beside != (figure{}) {
		row[2], row[3] = t.unit.with(v.beside), fmt.Sprintf("%.3f", v.ratio)
	}
	return row
}

func wanted(t target) string {
	word := "at most "
	if t.atLeast {
		word = "at least "
	}
	if t.beside != (figure{}) {
		return word + fmt.Sprintf("%.3g", t.limit)
	}
	return word + t.unit.with(t.limit)
}

func (b *bench) writeSection(w *strings.Builder, s section) {
	if !b.opt.wants(s.row) {
		return
	}
	fmt.Fprintf(w, "\n## %s\n\n%s\n", s.title, s.text)
	t := b.table(s)
	if len(t.rows) > 0 {
		fmt.Fprintf(w, "\n%s", t)
	}
	for _, n := range b.notes[s.row] {
		fmt.Fprintf(w, "\nNote: %s\n", n)
	}
}

// table of a section: a line for each tool that was measured, a column for each metric that any of them has.
func (b *bench) table(s section) (t table) {
	t.head = []string{""}
	var columns []column
	for _, c := range s.columns {
		if b.anybodyHas(s, c.metric) {
			columns = append(columns, c)
			t.head = append(t.head, c.title)
		}
	}
	own, compare := b.results.median(s.row, s.tools[0], s.against)
	if compare {
		t.head = append(t.head, "bdbvault's wall time to it")
	}
	for _, tool := range s.tools {
		if len(b.results[s.row][tool]) == 0 {
			continue
		}
		row := []string{tool}
		for _, c := range columns {
			v, ok := b.results.median(s.row, tool, c.metric)
			row = append(row, c.unit.text(v, ok))
		}
		if compare {
			v, ok := b.results.median(s.row, tool, s.against)
			row = append(row, inRatio.text(own/v, ok))
		}
		t.rows = append(t.rows, row)
	}
	return t
}

func (b *bench) anybodyHas(s section, metric string) bool {
	for _, tool := range s.tools {
		if _, ok := b.results.median(s.row, tool, metric); ok {
			return true
		}
	}
	return false
}
