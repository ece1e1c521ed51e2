package manifest

import (
	"fmt"
	"time"
)

const (
	repositoryFormat = 1
	// DefaultGrace is how long what a prune condemned stays in the store.
	DefaultGrace = 24 * time.Hour
)

// Repository is the content of repository.json. It never changes after Init.
type Repository struct {
	Format       int       `json:"format"`
	ID           Timeline  `json:"id"` // random; tells repositories apart in the local state
	Created      time.Time `json:"created"`
	Tool         string    `json:"tool"`
	GraceSeconds int64     `json:"graceSeconds"` // see DefaultGrace
}

// NewRepository describes a new repository.
func NewRepository(now time.Time, tool string) Repository {
	return Repository{Format: repositoryFormat, ID: NewTimeline(), Created: now.UTC(), Tool: tool, GraceSeconds: int64(DefaultGrace / time.Second)}
}

// Grace is the time between condemning an object and deleting it.
func (r Repository) Grace() time.Duration { return time.Duration(r.GraceSeconds) * time.Second }

// Encode writes repository.json.
func (r Repository) Encode() ([]byte, error) { return seal("repository", r) }

// DecodeRepository reads what Encode writes.
func DecodeRepository(data []byte) (r Repository, err error) {
	if err := unseal("repository", repositoryFormat, data, &r); err != nil {
		return Repository{}, err
	}
	if r.Format < 1 || r.ID.IsZero() || r.GraceSeconds < 0 {
		return Repository{}, damaged("repository", "impossible values")
	}
	return r, nil
}

// Condemned names what a prune means to delete once its grace period is over. A backup references nothing in it.
type Condemned struct {
	Format    int                   `json:"format"`
	Created   time.Time             `json:"created"`
	Packs     []Hash                `json:"packs"`
	Maps      []Hash                `json:"maps"`
	Segments  []string              `json:"segments"` // names as SegmentName.String gives them
	Manifests map[BackupID]Manifest `json:"manifests"`
}

// Encode writes a condemned list.
func (c Condemned) Encode() ([]byte, error) { return seal("condemned", c) }

// DecodeCondemned reads what Encode writes.
func DecodeCondemned(data []byte) (c Condemned, err error) {
	if err := unseal("condemned", 1, data, &c); err != nil {
		return Condemned{}, err
	}
	if c.Format < 1 {
		return Condemned{}, fmt.Errorf("condemned list: format %d: %w", c.Format, ErrDamaged)
	}
	return c, nil
}
