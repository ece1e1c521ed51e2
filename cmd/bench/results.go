package main

import "slices"

// Metrics of a sample. Times are in seconds, sizes in bytes.
const (
	wall       = "wall"
	cpu        = "cpu"
	storeCPU   = "storeCPU"
	peak       = "peak"       // the largest process
	parentPeak = "parentPeak" // the process that was started, sampled
	childPeak  = "childPeak"  // the largest of its children, sampled
	childCPU   = "childCPU"   // of its children, sampled
	requests   = "requests"
	stored     = "stored" // bytes new in the store
	fetched    = "fetched"

	dataWall    = "dataWall" // bringing the data back, without recovery
	dataCPU     = "dataCPU"
	syncWall    = "syncWall" // until all of it is on disk
	recoverWall = "recoverWall"
	verifyWall  = "verifyWall"
	restored    = "restored" // bytes in the target

	logBytes = "logBytes"
	share    = "share"   // of what was changed
	commits  = "commits" // per second
	ratio    = "ratio"   // of commits per second
	burnt    = "burnt"   // of the CPU time that was to be burnt
)

// sample is what one measurement showed.
type sample map[string]float64

// results are all samples, by row and tool.
type results map[string]map[string][]sample

func (r results) add(row, tool string, s sample) {
	if r[row] == nil {
		r[row] = map[string][]sample{}
	}
	r[row][tool] = append(r[row][tool], s)
}

// median of a metric; false if nobody measured it.
func (r results) median(row, tool, metric string) (float64, bool) {
	values := r.values(row, tool, metric)
	return median(values), len(values) > 0
}

func (r results) values(row, tool, metric string) (values []float64) {
	for _, s := range r[row][tool] {
		if v, ok := s[metric]; ok {
			values = append(values, v)
		}
	}
	return values
}

// largest value of a metric in several rows.
func (r results) largest(tool, metric string, rows ...string) (most float64, ok bool) {
	for _, row := range rows {
		for _, v := range r.values(row, tool, metric) {
			most, ok = max(most, v), true
		}
	}
	return most, ok
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}
