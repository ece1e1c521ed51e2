package main

import "fmt"

// figure is one number of the results.
type figure struct{ row, tool, metric string }

// target is what is asked of bdbvault.
type target struct {
	what    string
	of      figure
	beside  figure  // the zero figure: of is to be held against the limit itself
	limit   float64 // at most, of the ratio or of the number
	atLeast bool    // the limit is the least that will do
	unit    unit    // of the numbers
}

// targets in the order of the parts.
func targets(sizes []int64) []target {
	vault := func(row, metric string) figure { return figure{row, toolVault, metric} }
	list := []target{
		{"first full backup, wall time beside restic", vault(rowFirst, wall), figure{rowFirst, toolRestic, wall}, 0.5, false, inSeconds},
		{"first full backup, CPU time beside restic", vault(rowFirst, cpu), figure{rowFirst, toolRestic, cpu}, 0.45, false, inSeconds},
		{"first full backup, wall time beside " + toolTar, vault(rowFirst, wall), figure{rowFirst, toolTar, wall}, 1, false, inSeconds},
		{"second full, bytes stored beside the first", vault(rowSecond, stored), vault(rowFirst, stored), 0.04, false, inMiB},
		{"second full, wall time beside the first", vault(rowSecond, wall), vault(rowFirst, wall), 1.0 / 3, false, inSeconds},
		{"nothing changed, requests", vault(rowUnchanged, requests), figure{}, 10, false, inCount},
		{"nothing changed, wall time", vault(rowUnchanged, wall), figure{}, 0.7, false, inSeconds},
		{"nothing changed, all read, wall time beside the first full", figure{rowUnchanged, toolReadAll, wall}, vault(rowFirst, wall), 0.25, false, inSeconds},
		{"ship of new log, wall time beside rclone", vault(rowShip, wall), figure{rowShip, toolRclone, wall}, 1.5, false, inSeconds},
		{"ship of new log, bytes stored beside rclone", vault(rowShip, stored), figure{rowShip, toolRclone, stored}, 1.0 / 3, false, inMiB},
		{"ship of nothing, requests", figure{rowShip, toolVault + nothingNew, requests}, figure{}, 3, false, inCount},
		{"restore, wall time of the data beside restic", vault(rowRestore, dataWall), figure{rowRestore, toolRestic, dataWall}, 0.7, false, inSeconds},
		{"restore, CPU time of the data beside restic", vault(rowRestore, dataCPU), figure{rowRestore, toolRestic, dataCPU}, 0.65, false, inSeconds},
		{"restore, recovery beside " + toolRecover, vault(rowRestore, recoverWall), figure{rowRestore, toolRecover, recoverWall}, 1, false, inSeconds},
		{"live workload, commits per second during a backup beside equal load", figure{rowLive, liveBackup, ratio}, figure{}, 0.95, true, inRatio},
	}
	return append(list, memoryTargets(sizes)...)
}

// maxPeak is how much memory bdbvault may take, whatever the size.
const maxPeak = 200 * mib

func memoryTargets(sizes []int64) (list []target) {
	for _, action := range []string{actionBackup, actionRestore} {
		of := func(size int64) figure { return figure{rowMemory, memoryTool(action, size), peak} }
		for _, size := range sizes {
			list = append(list, target{"peak memory, " + memoryTool(action, size), of(size), figure{}, maxPeak, false, inMiB})
		}
	}
	return list
}

// verdict is a target held against the results.
type verdict struct {
	of, beside, ratio float64
	met               bool
	off               float64 // how far, as a share of the limit, if it is missed
}

// judge a target; false if a figure is missing.
func (r results) judge(t target) (v verdict, ok bool) {
	if v.of, ok = r.median(t.of.row, t.of.tool, t.of.metric); !ok {
		return v, false
	}
	got := v.of
	if t.beside != (figure{}) {
		if v.beside, ok = r.median(t.beside.row, t.beside.tool, t.beside.metric); !ok || v.beside == 0 {
			return v, false
		}
		v.ratio = v.of / v.beside
		got = v.ratio
	}
	if t.atLeast {
		v.met, v.off = got >= t.limit, 1-got/t.limit
	} else {
		v.met, v.off = got <= t.limit, got/t.limit-1
	}
	return v, true
}

func (v verdict) String() string {
	if v.met {
		return "met"
	}
	return fmt.Sprintf("missed by %.0f %%", max(1, 100*v.off))
}
