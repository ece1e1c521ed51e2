package archive

import (
	"fmt"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
)

// StandbyError says that a home is the standby of another one, which is what has to be backed up.
type StandbyError struct{ Home string }

func (e *StandbyError) Error() string {
	return fmt.Sprintf("home %s is a standby that follows another home: what it holds is in the repository already", e.Home)
}

// CheckSource refuses homes that are no sources: a *StandbyError.
func CheckSource(env *localenv.Env) error {
	standby, err := env.IsStandby()
	if err == nil && standby {
		err = &StandbyError{Home: env.Home}
	}
	return err
}

// branched is the *ChainError of a home that was a standby of the timeline, or restored from it. Its log goes on where the stored one ended for it, and so may
// that of the home that it stands for: two histories must not get into one timeline.
func (s *shipper) branched() error {
	if err := CheckSource(s.source); err != nil {
		return err
	}
	for _, b := range []struct {
		read func() (*localenv.Promotion, error)
		what string
	}{{s.source.Promoted, "the home was a standby, and promoted at LSN %s"}, {s.source.Origin, "the home was restored, up to LSN %s"}} {
		note, err := b.read()
		if err != nil {
			return err
		}
		if note == nil || note.Timeline != s.timeline.String() {
			continue
		}
		shipped := bdb.LSN{File: s.first}
		if s.last != nil {
			shipped = s.last.EndLSN()
		}
		return &ChainError{Timeline: s.timeline, Shipped: shipped, Reason: fmt.Sprintf(b.what, note.End)}
	}
	return nil
}
