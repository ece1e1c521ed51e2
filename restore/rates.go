package restore

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"bdbvault/manifest"
)

const (
	ratesFile = "restores.json"
	// ratesKept is how many restores are remembered.
	ratesKept = 8
	// telling is how much a phase has to work on for its speed to say anything about larger ones.
	telling = 16 << 20
)

// Rates are what earlier restores on this host took, with one repository: a cache in the local state, DIR/<repository id>/restores.json.
type Rates struct {
	Restores []Run `json:"restores"` // the newest last
}

// Run is what one restore took, phase by phase.
type Run struct {
	At      time.Time `json:"at"`
	Data    Work      `json:"data"`    // bytes of files
	Log     Work      `json:"log"`     // bytes of log laid down
	Recover Work      `json:"recover"` // bytes of log
	Verify  Work      `json:"verify"`  // bytes of files
}

// Work is how much was done, and how long it took; zero: nothing was measured.
type Work struct {
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

func ratesPath(dir string, repository manifest.Timeline) string {
	return filepath.Join(dir, repository.String(), ratesFile)
}

// LoadRates reads what was recorded. What can't be read counts as nothing.
func LoadRates(dir string, repository manifest.Timeline) *Rates {
	var r Rates
	data, err := os.ReadFile(ratesPath(dir, repository))
	if err != nil || json.Unmarshal(data, &r) != nil {
		return &Rates{}
	}
	return &r
}

// RecordRates adds a restore that has just ended to what is recorded.
func RecordRates(dir string, repository manifest.Timeline, done *Result) error {
	r := LoadRates(dir, repository)
	r.Restores = append(r.Restores, runOf(done, time.Now()))
	r.Restores = r.Restores[max(0, len(r.Restores)-ratesKept):]
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	path := ratesPath(dir, repository)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return renameio.WriteFile(path, data, 0o600, renameio.WithTempDir(filepath.Dir(path)))
}

// runOf is what a restore took. Files that were there already say nothing about how long fetching takes.
func runOf(r *Result, at time.Time) Run {
	run := Run{
		At:      at.UTC().Truncate(time.Second),
		Log:     Work{r.LogBytes, r.LogTime.Seconds()},
		Recover: Work{r.LogBytes, r.RecoverTime.Seconds()},
	}
	if r.Reused == 0 {
		run.Data = Work{r.Bytes, r.DataTime.Seconds()}
	}
	if r.Verified > 0 {
		run.Verify = Work{r.Bytes, r.VerifyTime.Seconds()}
	}
	return run
}

// Estimate is how long a plan will take, going by the restores recorded; false if they don't tell.
func (r *Rates) Estimate(p *Plan) (time.Duration, bool) {
	total := 0.0
	for _, phase := range []struct {
		bytes int64
		of    func(Run) Work
	}{
		{p.Bytes, func(r Run) Work { return r.Data }},
		{p.LogBytes, func(r Run) Work { return r.Log }},
		{p.LogBytes, func(r Run) Work { return r.Recover }},
		{p.verified(), func(r Run) Work { return r.Verify }},
	} {
		seconds, ok := r.phase(phase.bytes, phase.of)
		if !ok {
			return 0, false
		}
		total += seconds
	}
	return time.Duration(total * float64(time.Second)), true
}

// verified is how much a restore verifies unless it is told otherwise.
func (p *Plan) verified() int64 {
	if p.Bytes > VerifyLimit {
		return 0
	}
	return p.Bytes
}

// phase is how long a phase takes with so many bytes. The time of small ones is mostly that of beginning, so it is taken as it is, and only for small ones.
func (r *Rates) phase(bytes int64, of func(Run) Work) (seconds float64, ok bool) {
	var large, small Work
	smalls := 0
	for _, run := range r.Restores {
		switch w := of(run); {
		case w.Bytes == 0:
		case w.Bytes >= telling:
			large = Work{large.Bytes + w.Bytes, large.Seconds + w.Seconds}
		default:
			small.Seconds += w.Seconds
			smalls++
		}
	}
	switch {
	case bytes == 0:
		return 0, true
	case bytes < telling && smalls > 0:
		return small.Seconds / float64(smalls), true
	case large.Bytes > 0:
		return float64(bytes) * large.Seconds / float64(large.Bytes), true
	}
	return 0, false
}
