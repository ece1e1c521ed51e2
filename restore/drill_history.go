package restore

import (
	"context"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote/repository"
)

// DrillHistory is what the store knows of an environment's drills.
type DrillHistory struct {
	Count      int           `json:"count"`
	Last       *DrillSummary `json:"last"`              // nil: there is none
	LastPassed *DrillSummary `json:"lastPassed"`        // nil: there is none, or many have failed since
	Problem    string        `json:"problem,omitempty"` // why a newer record than Last can't be read
}

// DrillSummary is the record of a drill in short.
type DrillSummary struct {
	ID         manifest.BackupID    `json:"id"`
	Started    time.Time            `json:"started"`
	Finished   time.Time            `json:"finished"`
	Seconds    float64              `json:"seconds"`
	Host       string               `json:"host"`
	Scheduled  bool                 `json:"scheduled"`
	Result     manifest.DrillResult `json:"result"`
	Phase      string               `json:"phase,omitempty"`
	Error      string               `json:"error,omitempty"`
	Backup     manifest.BackupID    `json:"backup,omitempty"`
	NoLog      bool                 `json:"noLog,omitempty"`
	End        bdb.LSN              `json:"end,omitzero"`
	EndTime    time.Time            `json:"endTime,omitzero"`
	AgeSeconds *float64             `json:"ageSeconds,omitempty"`
	Bytes      int64                `json:"bytes"` // of files restored, and of log replayed
	Verified   int                  `json:"verified"`
}

// Passed reports whether it did.
func (s *DrillSummary) Passed() bool { return s.Result == manifest.DrillPassed }

// ReadDrills reads the newest drills of an environment: with one LIST, and as a rule one GET.
func ReadDrills(ctx context.Context, repo *repository.Repository, env string) (*DrillHistory, error) {
	l, err := repo.LastDrill(ctx, env)
	if err != nil {
		return nil, err
	}
	h := &DrillHistory{Count: l.Count, Last: summarize(l.Last), LastPassed: summarize(l.Passed)}
	if l.Unread != nil {
		h.Problem = l.Unread.Error()
	}
	return h, nil
}

func summarize(d *manifest.Drill) *DrillSummary {
	if d == nil {
		return nil
	}
	return &DrillSummary{
		ID: d.ID, Started: d.Started, Finished: d.Finished, Seconds: d.Duration().Seconds(), Host: d.Host, Scheduled: d.Scheduled,
		Result: d.Result, Phase: d.Phase, Error: d.Error, Backup: d.Backup, NoLog: d.NoLog, End: d.End, EndTime: d.EndTime, AgeSeconds: d.AgeSeconds,
		Bytes: d.Bytes + d.LogBytes, Verified: d.Verified,
	}
}
