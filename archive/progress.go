package archive

// Progress hears how a long operation goes. Its methods are called from several goroutines.
type Progress interface {
	Phase(name string, total int64) // a phase begins; total bytes, 0 if unknown
	Add(n int64)                    // bytes done in this phase
	File(name string)               // one file is done
	Note(text string)               // something a person should know, and no error
}

// Phases of Backup, Ship and Prune, as Progress hears them.
const (
	PhaseRead    = "reading pages"
	PhaseLog     = "shipping log"
	PhaseMaps    = "storing maps"
	PhaseLock    = "locking what is stored"
	PhaseLook    = "taking stock"
	PhaseCondemn = "condemning"
	PhaseDelete  = "deleting"
)

type silent struct{}

func (silent) Phase(string, int64) {}
func (silent) Add(int64)           {}
func (silent) File(string)         {}
func (silent) Note(string)         {}
