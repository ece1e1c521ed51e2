package archive

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sort"
	"sync"

	"bdbvault/manifest"
)

// journal lists the packs that a backup sends, so that the next run need not send them again if this one does not reach its commit. It is a row
// of JSON documents, one per pack, appended just before the pack is sent; a torn last one is passed over, and so is a pack that the store
// turns out not to have.
type journal struct {
	mu   sync.Mutex
	file *os.File
}

type journalPack struct {
	Pack   manifest.Hash  `json:"pack"`
	Size   int64          `json:"size"`
	Chunks []journalChunk `json:"chunks"`
}

type journalChunk struct {
	Dir       int          `json:"dir"`
	Path      string       `json:"path"`
	BlockSize int          `json:"blockSize"`
	Offset    int64        `json:"offset"`
	Length    int          `json:"length"`
	Raw       int          `json:"raw"`
	Rows      []journalRow `json:"rows"`
	Hashes    []byte       `json:"hashes"`
}

// journalRow is a row of blocks of the file that stand in the chunk from a slot on.
type journalRow struct {
	First int64 `json:"first"`
	Count int   `json:"count"`
	Slot  int   `json:"slot"`
}

// note remembers blocks of an extent that went into the chunk.
func (c *chunk) note(e *extent, first, count, slot int) {
	c.rows = append(c.rows, journalRow{First: e.off/int64(e.job.entry.BlockSize) + int64(first), Count: count, Slot: slot})
	for _, b := range e.blocks[first : first+count] {
		c.sums = append(c.sums, b.hash[:]...)
	}
}

func (c *chunk) entry(offset int64) journalChunk {
	return journalChunk{
		Dir: c.job.entry.Dir, Path: c.job.entry.Path, BlockSize: c.job.entry.BlockSize,
		Offset: offset, Length: len(c.out), Raw: c.n,
		Rows: append([]journalRow(nil), c.rows...), Hashes: bytes.Clone(c.sums),
	}
}

// openJournal begins to append to the journal of the state.
func openJournal(st *state) (*journal, error) {
	f, err := os.OpenFile(st.path(stateJournal), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	return &journal{file: f}, nil
}

func (j *journal) add(pack manifest.Hash, size int64, chunks []journalChunk) error {
	line, err := json.Marshal(journalPack{Pack: pack, Size: size, Chunks: chunks})
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	// The line feed in front ends a line that a crash may have torn.
	if _, err := j.file.Write(append(append([]byte{'\n'}, line...), '\n')); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return nil
}

func (j *journal) close() error { return j.file.Close() }

// forgetJournal removes the journal: a manifest names its packs now.
func forgetJournal(st *state) error { return st.forget(stateJournal) }

// journalFile finds blocks of one file in the packs of an interrupted run. A nil one finds nothing.
type journalFile struct {
	blockSize int
	rows      []foundRow // by first block
}

type foundRow struct {
	journalRow
	chunk  manifest.Chunk // Pack is an ordinal of the pack table
	hashes []byte
}

type journalKey struct {
	dir  int
	path string
}

// readJournal reads the journal; usable says under which ordinal a pack may be referred to, noPack if it may not.
func readJournal(st *state, usable func(manifest.Hash, int64) int) (map[journalKey]*journalFile, error) {
	f, err := os.Open(st.path(stateJournal))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	defer f.Close()
	files := map[journalKey]*journalFile{}
	r := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := r.ReadBytes('\n')
		var p journalPack
		if json.Unmarshal(line, &p) == nil {
			if ordinal := usable(p.Pack, p.Size); ordinal != noPack {
				p.index(files, ordinal)
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("state directory: %w", err)
		}
	}
	for _, jf := range files {
		sort.SliceStable(jf.rows, func(a, b int) bool { return jf.rows[a].First < jf.rows[b].First })
	}
	return files, nil
}

func (p *journalPack) index(files map[journalKey]*journalFile, ordinal int) {
	for _, c := range p.Chunks {
		key := journalKey{c.Dir, c.Path}
		jf := files[key]
		if jf == nil {
			jf = &journalFile{blockSize: c.BlockSize}
			files[key] = jf
		}
		at := 0
		for _, row := range c.Rows {
			n := row.Count * manifest.HashSize
			if row.Count <= 0 || at+n > len(c.Hashes) || c.BlockSize != jf.blockSize {
				break
			}
			jf.rows = append(jf.rows, foundRow{row, manifest.Chunk{Pack: ordinal, Offset: c.Offset, Length: c.Length, Raw: c.Raw}, c.Hashes[at : at+n]})
			at += n
		}
	}
}

// find looks for a block with this hash at this place.
func (j *journalFile) find(n int64, hash manifest.Hash) (c manifest.Chunk, slot int, ok bool) {
	if j == nil {
		return c, 0, false
	}
	i := sort.Search(len(j.rows), func(i int) bool { return j.rows[i].First > n })
	// Rows of several interrupted runs may overlap: the nearest few are tried.
	for k := i - 1; k >= max(0, i-4); k-- {
		r := &j.rows[k]
		if at := n - r.First; at < int64(r.Count) && bytes.Equal(r.hashes[at*manifest.HashSize:][:manifest.HashSize], hash[:]) {
			return r.chunk, r.Slot + int(at), true
		}
	}
	return c, 0, false
}
