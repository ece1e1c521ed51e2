package archive

import (
	"bytes"
	"time"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
)

// fileJob is one file of the environment on its way into the backup.
type fileJob struct {
	file    localenv.File
	src     *localenv.Source
	entry   manifest.File
	size    int64 // when it was opened: as much is read
	round   int   // in which it was found
	last    seenAt
	started time.Time // before the first read

	old    *manifest.File // in the parent backup; nil: not there, or not comparable
	unread bool           // taken over from the parent as it is

	// While it is read: see recall and letGo.
	parent   *parentFile  // old's map; nil as old
	oldPacks []int        // ordinals of parent's packs in the pack table; noPack: its blocks are stored anew
	journal  *journalFile // what interrupted runs stored of it; nil: nothing
	chunks   map[chunkKey]int

	// Written by the sequencer.
	m       manifest.Map // Chunks[i].Pack is an ordinal of the pack table until the map is stored; new chunks stand in placed
	changed bool         // the map is not the parent's
	ended   bool         // a read came back short: the file was truncated, and ends there
	read    int64
	hashAt  int64 // offset of its hashes in the spool
	stats   localenv.ReadStats

	placed []placement // written by the packer
}

// seenAt says where a file was seen last, and in which round of listing.
type seenAt struct {
	round int
	at    journalKey
}

// placement says where a new chunk of a file's map is.
type placement struct {
	index int // in m.Chunks
	chunk manifest.Chunk
}

// chunkKey is where a chunk stands: the ordinal of a pack and an offset in it.
type chunkKey struct {
	pack   int
	offset int64
}

func (j *fileJob) name() string { return j.entry.Path }

func (j *fileJob) place() journalKey { return journalKey{j.entry.Dir, j.entry.Path} }

// letGo gives back what only reading needed.
func (j *fileJob) letGo() error {
	p := j.parent
	j.parent, j.oldPacks, j.journal, j.chunks = nil, nil, nil, nil
	if !j.changed {
		j.m = manifest.Map{} // the parent's stands for it
	}
	if p == nil {
		return nil
	}
	return p.close()
}

// oldChunk returns the index in j's map of a chunk that stands in the store already.
func (j *fileJob) oldChunk(pack int, c manifest.Chunk) int {
	key := chunkKey{pack, c.Offset}
	i, ok := j.chunks[key]
	if !ok {
		i = len(j.m.Chunks)
		c.Pack = pack
		j.m.Chunks = append(j.m.Chunks, c)
		j.chunks[key] = i
	}
	return i
}

// uses sums up how many stored bytes of each pack the file's blocks take, in proportion to the part of each chunk that they are.
func uses(m *manifest.Map) map[int]int64 {
	blocks := make([]int64, len(m.Chunks))
	for _, r := range m.Runs {
		if r.Chunk != manifest.Zero {
			blocks[r.Chunk] += r.Blocks
		}
	}
	live := map[int]int64{}
	for i, c := range m.Chunks {
		live[c.Pack] += min(int64(c.Length), int64(c.Length)*blocks[i]*int64(m.BlockSize)/int64(c.Raw))
	}
	return live
}

func newEntry(f localenv.File, src *localenv.Source) manifest.File {
	st := f.Stat
	e := manifest.File{
		Dir: f.Dir, Path: f.Path, Kind: src.Kind(), Size: st.Size, PageSize: src.PageSize(),
		Mode: st.Mode & 0o7777, UID: st.UID, GID: st.GID,
		Stat: manifest.Stat{Device: st.Device, Inode: st.Inode, Mtime: st.Mtime, Ctime: st.Ctime},
	}
	if m := src.Meta(); m != nil {
		e.Checksummed, e.Encrypted = m.Checksummed, m.Encrypted
		if e.Kind != bdb.KindQueueExtent {
			e.FileID, e.PartialID = m.FileID, m.FileIDPartial
		}
	}
	return e
}

// sameFileID compares as many bytes as both know.
func sameFileID(a bdb.FileID, aPartial bool, b bdb.FileID, bPartial bool) bool {
	if aPartial || bPartial {
		return bytes.Equal(a[:partialID], b[:partialID]) && !a.IsZero()
	}
	return a == b && !a.IsZero()
}

// partialID is how many bytes of a file id stand in the clear in an encrypted database.
const partialID = 12

// settled is how much older than the parent's read a file's last change has to be for its times to tell that it did not change since: time stamps
// are as coarse as 2 s on some file systems.
var settled = 3 * time.Second

// unchanged reports whether the file is by its inode what the parent backup read.
func unchanged(old *manifest.File, now localenv.Stat) bool {
	s := manifest.Stat{Device: now.Device, Inode: now.Inode, Mtime: now.Mtime, Ctime: now.Ctime}
	last := time.Unix(0, max(now.Mtime, now.Ctime))
	return old.Stat == s && old.Size == now.Size && len(old.Damaged) == 0 && last.Add(settled).Before(old.ReadAt)
}
