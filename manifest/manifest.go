package manifest

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"bdbvault/localenv/bdb"
)

// Versions of the format. Each manifest has the lowest that says all that is in it, so that older programs read what they can understand.
const (
	manifestPlain  = 1
	manifestLocked = 2 // has Lock
	manifestNoLog  = 3 // may have NoLog
	manifestFormat = manifestNoLog
)

// Manifest describes one full backup. It is the commit marker: written last, after everything it names is stored.
type Manifest struct {
	Format      int       `json:"format"`
	ID          BackupID  `json:"id"`
	Environment string    `json:"environment"`
	Timeline    Timeline  `json:"timeline"`
	NewTimeline string    `json:"newTimeline,omitempty"` // why this backup began a timeline; empty: it continues its parent's
	Parent      BackupID  `json:"parent,omitempty"`
	Started     time.Time `json:"started"`
	Finished    time.Time `json:"finished"` // by the source's clock
	Look        time.Time `json:"look"`     // the store's clock at the last look at packs, maps and condemned lists
	Host        string    `json:"host"`
	Home        string    `json:"home"`
	Tool        string    `json:"tool"`
	Engine      string    `json:"engine"`
	BulkSafe    BulkSafe  `json:"bulkSafe"`
	Offline     *Offline  `json:"offline,omitempty"` // nil: it was not said that nobody has the environment open
	NoLog       bool      `json:"noLog,omitempty"`   // the environment has no log: what was copied is all there is. Timeline is this backup's own, LSNs are zero
	Lock        *Lock     `json:"lock,omitempty"`    // nil: nothing was asked to be locked

	LogVersion     uint32    `json:"logVersion"`
	NeededFrom     bdb.LSN   `json:"neededFrom"`     // recovery has to start here: restore lays down this log file from its beginning
	BegunAt        bdb.LSN   `json:"begunAt"`        // the log ended here before the first file was opened; zero: not known
	ConsistentAt   bdb.LSN   `json:"consistentAt"`   // the log has to be replayed at least up to (not including) here
	ConsistentHash Hash      `json:"consistentHash"` // BLAKE3 of ConsistentAt's log file up to there: which log it is; zero: not known
	ConsistentTime time.Time `json:"consistentTime"` // of the last commit before ConsistentAt; zero: none known
	MaxPageLSN     bdb.LSN   `json:"maxPageLSN"`     // the largest LSN on any copied page
	Encrypted      bool      `json:"encrypted"`      // the environment needs a password

	DBConfig *string  `json:"dbConfig"` // text of DB_CONFIG; null: there is none
	Dirs     []Dir    `json:"dirs"`     // data directories; the first is home
	LogDir   string   `json:"logDir"`   // as DB_CONFIG spells it; "." is home
	Folders  []Folder `json:"folders"`  // directories below the data directories

	Files   []File    `json:"files"`
	Packs   []Pack    `json:"packs"`
	Skipped []Skipped `json:"skipped,omitempty"`
	Pages   PageStats `json:"pages"`
}

// Lock says until when everything that a restore of the backup needs is locked in the store, at least, and how strictly.
type Lock struct {
	Mode  string    `json:"mode"` // LockGovernance if anything of it has that mode
	Until time.Time `json:"until"`
}

// Modes of a Lock: one that those who are allowed to may lift, and one that nobody may.
const (
	LockGovernance = "governance"
	LockCompliance = "compliance"
)

// LockedAt reports whether everything that the backup needs is locked at a moment.
func (m *Manifest) LockedAt(t time.Time) bool { return m.Lock != nil && t.Before(m.Lock.Until) }

// BulkSafe says what was known of DB_TXN_BULK transactions while the pages were read.
type BulkSafe struct {
	Asked string `json:"asked"`         // auto, require or off
	Held  bool   `json:"held"`          // the hot-backup flag was set from before the first page to after the last one
	Why   string `json:"why,omitempty"` // why not
}

// Offline says how it was made certain that nobody had the environment open from before the first page to after the last one.
type Offline struct {
	Unseen  int      `json:"unseen,omitempty"`  // processes of other users that could not be asked
	Regions []string `json:"regions,omitempty"` // region files that were there all the same
}

// Dir is a data directory.
type Dir struct {
	Name string `json:"name"` // as DB_CONFIG spells it; "." is home
	Mode uint32 `json:"mode"` // permission bits
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
}

// Folder is a directory below a data directory.
type Folder struct {
	Dir  int    `json:"dir"`
	Path string `json:"path"`
	Mode uint32 `json:"mode"`
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
}

// Skipped is something in the environment that a backup leaves out, and why.
type Skipped struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// Stat identifies a state of a file on the source: a file whose Stat has not changed need not be read again.
type Stat struct {
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
	Mtime  int64  `json:"mtime"` // Unix nanoseconds
	Ctime  int64  `json:"ctime"` // Unix nanoseconds
}

// File is one file of the environment.
type File struct {
	Dir         int        `json:"dir"`  // index in Manifest.Dirs
	Path        string     `json:"path"` // relative to that directory, with slashes
	Kind        bdb.Kind   `json:"kind"`
	Size        int64      `json:"size"`
	PageSize    int        `json:"pageSize"`
	FileID      bdb.FileID `json:"fileID"`              // zero: an application file or a queue extent
	PartialID   bool       `json:"partialID,omitempty"` // only the first 12 bytes of FileID are known
	Mode        uint32     `json:"mode"`                // permission bits
	UID         uint32     `json:"uid"`
	GID         uint32     `json:"gid"`
	Stat        Stat       `json:"stat"`
	ReadAt      time.Time  `json:"readAt"` // when the read of its pages began
	Checksummed bool       `json:"checksummed,omitempty"`
	Encrypted   bool       `json:"encrypted,omitempty"`
	Unlogged    int64      `json:"unlogged,omitempty"` // pages written without logging (LSN 0/1)
	MaxLSN      bdb.LSN    `json:"maxLSN"`             // the largest LSN on its pages
	Damaged     []uint32   `json:"damaged,omitempty"`  // pages that were bad on the source's disk (--allow-damaged), the first hundred of them
	BlockSize   int        `json:"blockSize"`
	Map         Hash       `json:"map"`
	MapSize     int64      `json:"mapSize"`
	Uses        []PackUse  `json:"uses"` // which packs hold its blocks
}

// PackUse says how many stored bytes of a pack a file's blocks take, about.
type PackUse struct {
	Pack int   `json:"pack"` // index in Manifest.Packs
	Live int64 `json:"live"`
}

// Pack is an object that the backup needs.
type Pack struct {
	Name Hash  `json:"name"`
	Size int64 `json:"size"`
	Live int64 `json:"live"` // bytes of it that this backup uses, about
}

// PageStats counts what reading the environment's pages met.
type PageStats struct {
	Read    int64 `json:"read"`
	Reread  int64 `json:"reread"`  // changed under the first read
	Bad     int64 `json:"bad"`     // failed their check for good
	Skipped int64 `json:"skipped"` // taken over from the parent unread
}

// Encode writes the manifest.
func (m *Manifest) Encode() ([]byte, error) {
	if m.Lock != nil {
		m.Format = manifestLocked
	}
	if m.NoLog {
		m.Format = manifestNoLog
	}
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return seal("manifest", m)
}

// DecodeManifest reads what Encode writes and checks it.
func DecodeManifest(data []byte) (*Manifest, error) {
	m := new(Manifest)
	if err := unseal("manifest", manifestFormat, data, m); err != nil {
		return nil, err
	}
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("manifest: %w: %w", err, ErrDamaged)
	}
	return m, nil
}

// New returns a manifest of the current format.
func New(env string, id BackupID) *Manifest {
	return &Manifest{Format: manifestPlain, ID: id, Environment: env}
}

// Check reports the first thing in m that can't be: an index out of range, a name that leaves its directory, a size below zero.
func (m *Manifest) Check() error {
	if _, err := ParseBackupID(string(m.ID)); err != nil {
		return err
	}
	if err := CheckEnv(m.Environment); err != nil {
		return err
	}
	if m.Format < 1 || m.Timeline.IsZero() || len(m.Dirs) == 0 || m.Dirs[0].Name != "." {
		return fmt.Errorf("manifest %s: format, timeline or directories missing", m.ID)
	}
	if l := m.Lock; l != nil && (l.Mode != LockGovernance && l.Mode != LockCompliance || l.Until.IsZero()) {
		return fmt.Errorf("manifest %s: locked until %s by mode %q: impossible", m.ID, l.Until, l.Mode)
	}
	for i := range m.Packs {
		if p := &m.Packs[i]; p.Size < 0 || p.Live < 0 {
			return fmt.Errorf("pack %s has a size below zero", p.Name)
		}
	}
	if err := m.checkLog(); err != nil {
		return err
	}
	return m.checkTree()
}

// checkLog checks that the places in the log are in order.
func (m *Manifest) checkLog() error {
	needed, begun, end := m.NeededFrom, m.BegunAt, m.ConsistentAt
	if m.NoLog && needed.IsZero() && begun.IsZero() && end.IsZero() && m.Format >= manifestNoLog {
		return nil
	}
	if needed.File == 0 || end.Before(needed) || !begun.IsZero() && (end.Before(begun) || begun.Before(needed)) {
		return fmt.Errorf("manifest %s: recovery from LSN %s, copied from %s to %s: impossible", m.ID, needed, begun, end)
	}
	return nil
}

// place is a name in a data directory.
type place struct {
	dir  int
	path string
}

// checkTree checks that files and folders have places of their own, below their directories.
func (m *Manifest) checkTree() error {
	files := make(map[place]bool, len(m.Files))
	for i := range m.Files {
		f := &m.Files[i]
		if err := m.checkFile(f); err != nil {
			return err
		}
		if files[place{f.Dir, f.Path}] {
			return fmt.Errorf("file %q stands in it twice", f.Path)
		}
		files[place{f.Dir, f.Path}] = true
	}
	for i := range m.Files {
		for dir := path.Dir(m.Files[i].Path); dir != "."; dir = path.Dir(dir) {
			if files[place{m.Files[i].Dir, dir}] {
				return fmt.Errorf("file %q is below file %q", m.Files[i].Path, dir)
			}
		}
	}
	for i := range m.Folders {
		f := &m.Folders[i]
		if !m.placed(f.Dir, f.Path) || f.Mode > maxMode {
			return fmt.Errorf("folder %q leaves its directory, or has an impossible mode", f.Path)
		}
		if files[place{f.Dir, f.Path}] {
			return fmt.Errorf("%q is a file and a folder", f.Path)
		}
	}
	return nil
}

// placed reports whether a path stays in the data directory that it is said to be in.
func (m *Manifest) placed(dir int, p string) bool {
	return dir >= 0 && dir < len(m.Dirs) && localPath(p)
}

const (
	maxSize = 1 << 62 // of a file: sums of it and a block don't overflow
	maxMode = 0o7777
)

func (m *Manifest) checkFile(f *File) error {
	switch {
	case !m.placed(f.Dir, f.Path) || f.Mode > maxMode:
		return fmt.Errorf("file %q leaves its directory, or has an impossible mode", f.Path)
	case f.Size < 0 || f.Size > maxSize || f.PageSize < 512 || f.PageSize > 65536 || f.PageSize&(f.PageSize-1) != 0:
		return fmt.Errorf("file %q: impossible size or page size", f.Path)
	case f.BlockSize < f.PageSize || f.BlockSize > MaxChunk || f.BlockSize&(f.BlockSize-1) != 0:
		return fmt.Errorf("file %q: impossible block size %d", f.Path, f.BlockSize)
	}
	for _, u := range f.Uses {
		if u.Pack < 0 || u.Pack >= len(m.Packs) || u.Live < 0 {
			return fmt.Errorf("file %q: pack %d is not in the manifest", f.Path, u.Pack)
		}
	}
	return nil
}

// localPath reports whether p is a clean relative path with slashes that stays below its directory.
func localPath(p string) bool {
	return fs.ValidPath(p) && p != "." && path.Clean(p) == p && !strings.ContainsRune(p, 0)
}

// Void reports whether the manifest was stored so long after its last look that what it names may be gone: more than half the
// grace period, by the store's clock. A void manifest is no backup.
func (m *Manifest) Void(stored time.Time, grace time.Duration) bool {
	return stored.Sub(m.Look) > grace/2
}

// Bytes is the sum of the sizes of all files.
func (m *Manifest) Bytes() (n int64) {
	for i := range m.Files {
		n += m.Files[i].Size
	}
	return n
}

// StoredBytes is the sum of the sizes of all packs and maps that the backup needs.
func (m *Manifest) StoredBytes() (n int64) {
	for i := range m.Packs {
		n += m.Packs[i].Size
	}
	for i := range m.Files {
		n += m.Files[i].MapSize
	}
	return n
}
