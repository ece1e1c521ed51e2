package manifest

import (
	"fmt"
	"time"
)

const (
	condemnedFormat = 1
	holdFormat      = 1
)

// Condemned is what one prune means to have deleted once the grace period is over, and what it takes to undo that until then. Backups
// refer to nothing that it names.
type Condemned struct {
	Format      int         `json:"format"`
	ID          BackupID    `json:"id"` // of the prune, by the store's clock
	Environment string      `json:"environment"`
	Created     time.Time   `json:"created"` // by the store's clock, when the prune began to list; grace counts from when the object was stored
	Tool        string      `json:"tool"`
	Policy      string      `json:"policy"` // in words, for people
	Packs       []Hash      `json:"packs"`
	Maps        []Hash      `json:"maps"`
	Segments    []string    `json:"segments"`  // as SegmentName's String
	Manifests   []*Manifest `json:"manifests"` // of the backups that expired, oldest first
}

// NewCondemned returns an empty list of the current format.
func NewCondemned(env string, id BackupID) *Condemned {
	return &Condemned{Format: condemnedFormat, ID: id, Environment: env}
}

// Check reports the first thing in c that can't be.
func (c *Condemned) Check() error {
	if _, err := ParseBackupID(string(c.ID)); err != nil {
		return err
	}
	if err := CheckEnv(c.Environment); err != nil {
		return err
	}
	if c.Format < 1 {
		return fmt.Errorf("condemned list %s: format missing", c.ID)
	}
	if _, err := c.SegmentNames(); err != nil {
		return err
	}
	for i, m := range c.Manifests {
		if m == nil || m.Environment != c.Environment || i > 0 && m.ID <= c.Manifests[i-1].ID {
			return fmt.Errorf("condemned list %s: manifests of another environment, or not in order", c.ID)
		}
		if err := m.Check(); err != nil {
			return err
		}
	}
	return nil
}

// SegmentNames are the condemned segments.
func (c *Condemned) SegmentNames() ([]SegmentName, error) {
	names := make([]SegmentName, len(c.Segments))
	for i, s := range c.Segments {
		var err error
		if names[i], err = ParseSegmentKey(c.Environment, LogsPrefix(c.Environment)+s); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// Encode writes a condemned list.
func (c *Condemned) Encode() ([]byte, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("encode condemned list: %w", err)
	}
	return seal("condemned", c)
}

// DecodeCondemned reads what Encode writes and checks it.
func DecodeCondemned(data []byte) (*Condemned, error) {
	c := new(Condemned)
	if err := unseal("condemned", condemnedFormat, data, c); err != nil {
		return nil, err
	}
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("condemned: %w: %w", err, ErrDamaged)
	}
	return c, nil
}

// Hold keeps one backup from every prune, by being there: a hold that can't be read still holds.
type Hold struct {
	Format      int       `json:"format"`
	Environment string    `json:"environment"`
	Backup      BackupID  `json:"backup"`
	Created     time.Time `json:"created"` // by the clock of the host
	Host        string    `json:"host"`    // that asked for it
	Tool        string    `json:"tool"`
}

// NewHold returns a hold of the current format.
func NewHold(env string, id BackupID) *Hold {
	return &Hold{Format: holdFormat, Environment: env, Backup: id}
}

// Encode writes a hold.
func (h *Hold) Encode() ([]byte, error) { return seal("hold", h) }

// DecodeHold reads what Encode writes and checks it.
func DecodeHold(data []byte) (*Hold, error) {
	h := new(Hold)
	if err := unseal("hold", holdFormat, data, h); err != nil {
		return nil, err
	}
	if _, err := ParseBackupID(string(h.Backup)); err != nil || h.Format < 1 || CheckEnv(h.Environment) != nil {
		return nil, damaged("hold", "impossible values")
	}
	return h, nil
}
