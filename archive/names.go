package archive

import (
	"fmt"
	"slices"

	"bdbvault/localenv/bdb"
)

// noteStrays remembers names that no restore could follow. The log is shipped all the same: what comes before them can be restored.
func (s *shipper) noteStrays(r *bdb.Record) {
	for _, name := range s.source.Strays(r) {
		if len(s.strays) == 0 {
			s.strayed = r.LSN
		}
		if !slices.Contains(s.strays, name) {
			s.strays = append(s.strays, name)
		}
	}
}

// sayStrays warns of them, in backup's words.
func (s *shipper) sayStrays() {
	if len(s.strays) > 0 {
		s.progress.Note(fmt.Sprintf("%v: no restore can follow the log beyond LSN %s", &NotCoveredError{Names: s.strays}, s.strayed))
	}
	s.strays = nil
}
