package localenv

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bdbvault/localenv/bdb"
)

const (
	// StandbyName is the file that stands in a home as long as it follows another one as its standby. Names that begin with it are bdbvault's too.
	StandbyName = ".bdbvault-standby"
	// PromotedName is the file that tells of a home that it was a standby.
	PromotedName = ".bdbvault-promoted"
	// OriginName is the file that tells of a home from what it was restored.
	OriginName = ".bdbvault-origin"
)

// Promotion is what PromotedName and OriginName hold, as JSON. The home's log goes on where the log of that timeline ended for it, so that nothing but this
// note tells the two apart.
type Promotion struct {
	About       string    `json:"about"`
	Environment string    `json:"environment"` // whose standby it was, or from which it was restored
	Timeline    string    `json:"timeline"`    // which it followed
	End         bdb.LSN   `json:"end"`         // up to here
	At          time.Time `json:"at"`
}

// IsStandby reports whether the home follows another one: every record of its log will be replaced.
func (e *Env) IsStandby() (bool, error) {
	_, err := os.Lstat(filepath.Join(e.Home, StandbyName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Promoted returns the note of a home that was a standby; nil for all others.
func (e *Env) Promoted() (*Promotion, error) { return e.note(PromotedName) }

// Origin returns the note of a home that was restored; nil for all others.
func (e *Env) Origin() (*Promotion, error) { return e.note(OriginName) }

func (e *Env) note(name string) (*Promotion, error) {
	text, err := os.ReadFile(filepath.Join(e.Home, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p := new(Promotion)
	if err := json.Unmarshal(text, p); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(e.Home, name), err)
	}
	return p, nil
}

// ownFile says what a file of bdbvault's own is, by its name; "" for all others.
func ownFile(name string) (reason string) {
	switch {
	case name == MarkerName:
		return "mark of an unfinished restore"
	case strings.HasPrefix(name, StandbyName):
		return "state of a standby"
	case name == PromotedName:
		return "note of a promotion"
	case name == OriginName:
		return "note of a restore"
	}
	return ""
}
