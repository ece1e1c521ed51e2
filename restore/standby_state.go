package restore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
)

// Names of a standby's own.
const (
	stateName = localenv.StandbyName
	stagedLog = stateName + ".log"
	filesName = stateName + ".files."
)

// Phases of a standby's home.
const (
	phaseBuilding   = "building"   // a restore is under way: no usable home
	phaseFollowing  = "following"  // it stands at End
	phaseRecovering = "recovering" // somewhere between End and To: no usable home, until the recovery is repeated
)

const standbyText = "This directory is a standby, kept by bdbvault standby. Everything in it is replaced as it follows its environment: do not open it. " +
	"To make it a home of its own: bdbvault standby --promote --to DIR"

// standbyState is what StandbyName holds.
type standbyState struct {
	About       string                 `json:"about"`
	Format      int                    `json:"format"`
	Phase       string                 `json:"phase"`
	Repository  manifest.Timeline      `json:"repository"`
	Environment string                 `json:"environment"`
	Made        bool                   `json:"made"`     // the directory itself was made for the standby
	Backup      manifest.BackupID      `json:"backup"`   // the home was built from it, or held against it since
	Timeline    manifest.Timeline      `json:"timeline"` // that is followed
	Looked      manifest.BackupID      `json:"looked"`   // the newest backup that was looked at
	End         bdb.LSN                `json:"end"`      // where the home stands
	EndTime     time.Time              `json:"endTime,omitzero"`
	Needed      bdb.LSN                `json:"needed"`            // the ckp_lsn of the last checkpoint before End
	To          bdb.LSN                `json:"to"`                // where it is going, if it is between two states
	Tries       int                    `json:"tries"`             // to get there
	Starts      []uint32               `json:"starts"`            // where the newest segments of the log file of End begin
	Log         logMark                `json:"log"`               // the newest log file in the home, as it was left
	Created     map[bdb.FileID]bdb.LSN `json:"created,omitempty"` // databases that the log has made since the backup, with the commits that did it
	Names       map[string]bool        `json:"names,omitempty"`   // last parts of all names that the log had for databases since the backup
	Seen        map[bdb.FileID]bool    `json:"seen,omitempty"`    // databases that the log has named since the home was built
	Prepared    []bdb.Prepared         `json:"prepared,omitempty"`
}

const standbyFormat = 1

// logMark tells whether a log file is still as it was.
type logMark struct {
	Name  string `json:"name"`
	Size  int64  `json:"size"`
	Mtime int64  `json:"mtime"` // nanoseconds
}

// load reads the state, if there is one.
func (s *Standby) load() error {
	text, err := s.t.root.ReadFile(stateName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &StandbyError{Dir: s.t.dir, Problem: "its state can't be read", Err: err}
	}
	st := new(standbyState)
	if err := json.Unmarshal(text, st); err != nil {
		return &StandbyError{Dir: s.t.dir, Problem: "its " + stateName + " can't be understood", Err: err}
	}
	if st.Format > standbyFormat {
		return &StandbyError{Dir: s.t.dir, Problem: fmt.Sprintf("it is kept by a newer bdbvault (format %d)", st.Format)}
	}
	s.st = st
	if st.Phase == phaseBuilding {
		return nil
	}
	data, err := s.t.root.ReadFile(filesName + lsnName(st.End))
	if err == nil {
		s.files, err = manifest.DecodeManifest(data)
	}
	if err != nil { // it has to be built anew
		s.opt.Progress.Note(fmt.Sprintf("the standby's list of files can't be read: %v", err))
		st.Phase, st.To, st.Backup = phaseBuilding, bdb.LSN{}, ""
	}
	return nil
}

// lsnName is an LSN as a part of a file's name.
func lsnName(l bdb.LSN) string { return fmt.Sprintf("%d-%d", l.File, l.Offset) }

// save replaces the state.
func (s *Standby) save() error {
	s.st.About, s.st.Format = standbyText, standbyFormat
	text, err := json.MarshalIndent(s.st, "", "  ")
	if err != nil {
		return err
	}
	return s.t.replace(stateName, append(text, '\n'))
}

// saveFiles writes the list of files for the state that is saved next.
func (s *Standby) saveFiles(m *manifest.Manifest, end bdb.LSN) error {
	data, err := m.Encode()
	if err != nil {
		return err
	}
	return s.t.replace(filesName+lsnName(end), data)
}

// keep makes a new state that of the home, with its list of files.
func (s *Standby) keep(st *standbyState, m *manifest.Manifest) error {
	if err := s.saveFiles(m, st.End); err != nil {
		return err
	}
	s.st, s.files = st, m
	if err := s.save(); err != nil {
		return err
	}
	return s.removeOld()
}

// removeOld removes what the state does not need: lists of files of other ends, and the log of a recovery that is over.
func (s *Standby) removeOld() error {
	names, err := fs.Glob(s.t.root.FS(), filesName+"*")
	if err != nil {
		return err
	}
	for _, name := range names {
		if name != filesName+lsnName(s.st.End) {
			err = errors.Join(err, s.t.root.Remove(name))
		}
	}
	return errors.Join(err, s.t.root.RemoveAll(stagedLog))
}

// replace writes a small file whole or not at all.
func (t *target) replace(name string, data []byte) error {
	temp := stateName + ".new"
	f, err := t.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := t.root.Rename(temp, name); err != nil {
		return err
	}
	return t.syncDir(".")
}

// markLog looks at the newest log file in the home.
func (s *Standby) markLog() (mark logMark, err error) {
	lay, err := s.layout()
	if err != nil {
		return mark, err
	}
	newest, err := s.newestLog(lay.logDir)
	if err != nil || newest == "" {
		return mark, err
	}
	info, err := s.t.root.Stat(path.Join(lay.logDir, newest))
	if err != nil {
		return mark, err
	}
	return logMark{newest, info.Size(), info.ModTime().UnixNano()}, nil
}

func (s *Standby) newestLog(dir string) (newest string, err error) {
	entries, err := fs.ReadDir(s.t.root.FS(), dir)
	for _, e := range entries {
		if logFileName.MatchString(e.Name()) && strings.Compare(newest, e.Name()) < 0 {
			newest = e.Name()
		}
	}
	return newest, err
}
