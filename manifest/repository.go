package manifest

import "time"

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
