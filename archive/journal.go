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

	"github.com/zeebo/blake3"

	"bdbvault/manifest"
)

// journal lists the packs that a backup sends, so that the next run need not send them again if this one does not reach its commit. It is a row
// of lines, one per pack, each a checksum and a JSON document, appended just before the pack is sent; a torn line is passed over, and so is a pack
// that the store turns out not to have.
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
	if _, err := fmt.Fprintf(j.file, "\n%s %s\n", sumOf(line), line); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return nil
}

func (j *journal) close() error { return j.file.Close() }

// forgetJournal removes the journal: a manifest names its packs now.
func forgetJournal(st *state) error { return st.forget(stateJournal) }

// storedPacks is the journal of interrupted runs, as far as the store still has the packs. It knows which file stands in which line, and reads a line
// when a file is asked for. A nil one is empty.
type storedPacks struct {
	f     *os.File
	lines map[journalKey][]*journalLine
	last  *journalLine // read last: files that follow one another stand in the same lines
	pack  *journalPack // what it says
}

type journalLine struct {
	at      int64
	length  int
	ordinal int // of its pack in the pack table
}

type journalKey struct {
	dir  int
	path string
}

// readJournal reads the journal; usable says under which ordinal a pack may be referred to, noPack if it may not. Close it.
func readJournal(st *state, usable func(manifest.Hash, int64) int) (*storedPacks, error) {
	f, err := os.Open(st.path(stateJournal))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a run beside this one has just reached its commit
	}
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	s := &storedPacks{f: f, lines: map[journalKey][]*journalLine{}}
	r := bufio.NewReaderSize(f, 1<<20)
	for at := int64(0); ; {
		line, err := r.ReadBytes('\n')
		if p := parseJournal(line); p != nil {
			if ordinal := usable(p.Pack, p.Size); ordinal != noPack {
				s.add(p, &journalLine{at, len(line), ordinal})
			}
		}
		if err == io.EOF {
			return s, nil
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("state directory: %w", err), f.Close())
		}
		at += int64(len(line))
	}
}

// parseJournal returns nil for a line that is not whole: what it said would be taken for what the store has.
func parseJournal(line []byte) *journalPack {
	sum, text, ok := bytes.Cut(bytes.TrimSuffix(line, []byte{'\n'}), []byte{' '})
	p := new(journalPack)
	if !ok || string(sum) != sumOf(text) || json.Unmarshal(text, p) != nil {
		return nil
	}
	return p
}

func sumOf(text []byte) string { return manifest.Hash(blake3.Sum256(text)).String() }

func (s *storedPacks) add(p *journalPack, line *journalLine) {
	for _, c := range p.Chunks {
		key := journalKey{c.Dir, c.Path}
		if n := len(s.lines[key]); n == 0 || s.lines[key][n-1] != line {
			s.lines[key] = append(s.lines[key], line)
		}
	}
}

// file finds what is stored of a file in blocks of a size.
func (s *storedPacks) file(key journalKey, blockSize int) (*journalFile, error) {
	if s == nil || len(s.lines[key]) == 0 {
		return nil, nil
	}
	j := &journalFile{}
	for _, line := range s.lines[key] {
		if err := s.read(line); err != nil {
			return nil, err
		}
		for _, c := range s.pack.Chunks {
			if c.Dir == key.dir && c.Path == key.path && c.BlockSize == blockSize {
				j.add(c, line.ordinal)
			}
		}
	}
	sort.SliceStable(j.rows, func(a, b int) bool { return j.rows[a].First < j.rows[b].First })
	return j, nil
}

func (s *storedPacks) read(line *journalLine) error {
	if s.last == line {
		return nil
	}
	data := make([]byte, line.length)
	if _, err := s.f.ReadAt(data, line.at); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	p := parseJournal(data)
	if p == nil {
		return fmt.Errorf("state directory: %s changed while it was read", s.f.Name())
	}
	s.last, s.pack = line, p
	return nil
}

func (s *storedPacks) close() error {
	if s == nil {
		return nil
	}
	return s.f.Close()
}

// journalFile finds blocks of one file in the packs of interrupted runs. A nil one finds nothing.
type journalFile struct{ rows []foundRow } // by first block

type foundRow struct {
	journalRow
	chunk  manifest.Chunk // Pack is an ordinal of the pack table
	hashes []byte
}

func (j *journalFile) add(c journalChunk, ordinal int) {
	at := 0
	for _, row := range c.Rows {
		n := row.Count * manifest.HashSize
		j.rows = append(j.rows, foundRow{row, manifest.Chunk{Pack: ordinal, Offset: c.Offset, Length: c.Length, Raw: c.Raw}, c.Hashes[at : at+n]})
		at += n
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
