package manifest

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

const (
	mapMagic = "BDBVMAP1"
	saltSize = 16
	// mapFixed is what stands before the table: magic, salt, table length.
	mapFixed = len(mapMagic) + saltSize + 4
	// maxTable bounds the table of a map, stored and unpacked. A block that has a run and a chunk of its own takes some 20 bytes of it, so that
	// this is room for the 2^22 blocks that a file may grow to before its blocks do, and for 6 TiB of the largest ones.
	maxTable = 128 << 20

	// MaxChunk is the most raw bytes in a chunk, and so the largest block.
	MaxChunk = 1 << 20
	// MaxBlocks is how many blocks a file has at most, unless its blocks are MaxChunk already.
	MaxBlocks = 1 << 20
	// HashSize is the size of a block's hash.
	HashSize = 32
)

// Map says where every block of one file is stored.
type Map struct {
	BlockSize int
	Size      int64 // of the file, in bytes
	Packs     []Hash
	Chunks    []Chunk
	Runs      []Run
}

// Chunk is a place in a pack.
type Chunk struct {
	Pack   int   // index in Map.Packs
	Offset int64 // in the pack
	Length int   // stored bytes
	Raw    int   // bytes after decompression
}

// Run is a row of blocks that stand in one chunk one after the other, or that are all zero.
type Run struct {
	Blocks int64
	Chunk  int // index in Map.Chunks; Zero: nothing is stored
	Slot   int // index in the chunk of the first block
}

// Zero is the Chunk of a Run of zero blocks.
const Zero = -1

// Blocks is the number of blocks of the file; the last one may be short.
func (m *Map) Blocks() int64 { return blocksOf(m.Size, m.BlockSize) }

func blocksOf(size int64, blockSize int) int64 {
	return (size + int64(blockSize) - 1) / int64(blockSize)
}

// Hashes is the number of stored blocks, each of which has a hash.
func (m *Map) Hashes() (n int64) {
	for _, r := range m.Runs {
		if r.Chunk != Zero {
			n += r.Blocks
		}
	}
	return n
}

// Add appends a block at the end of the file's runs, joining it to the last run where it follows on.
func (m *Map) Add(blocks int64, chunk, slot int) {
	if n := len(m.Runs); n > 0 {
		last := &m.Runs[n-1]
		if last.Chunk == chunk && (chunk == Zero || int64(last.Slot)+last.Blocks == int64(slot)) {
			last.Blocks += blocks
			return
		}
	}
	if chunk == Zero {
		slot = 0
	}
	m.Runs = append(m.Runs, Run{Blocks: blocks, Chunk: chunk, Slot: slot})
}

// NextBlockSize is the block size for a file of size bytes and pages of pageSize: one page, doubled until the file has at most
// MaxBlocks blocks, at most MaxChunk.
func NextBlockSize(size int64, pageSize int) int {
	b := pageSize
	for b < MaxChunk && blocksOf(size, b) > MaxBlocks {
		b *= 2
	}
	return b
}

// Head returns the bytes of the map object that stand before the hashes, with a fresh salt.
func (m *Map) Head() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("encode map: %w", err)
	}
	head := make([]byte, mapFixed, mapFixed+1024)
	copy(head, mapMagic)
	rand.Read(head[len(mapMagic) : len(mapMagic)+saltSize])
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	defer enc.Close()
	table := m.table()
	if len(table) > maxTable {
		return nil, fmt.Errorf("encode map: %d chunks and %d runs are more than readers take", len(m.Chunks), len(m.Runs))
	}
	head = enc.EncodeAll(table, head)
	binary.LittleEndian.PutUint32(head[mapFixed-4:], uint32(len(head)-mapFixed))
	return head, nil
}

func (m *Map) table() []byte {
	b := binary.AppendUvarint(nil, uint64(m.BlockSize))
	b = binary.AppendUvarint(b, uint64(m.Size))
	b = binary.AppendUvarint(b, uint64(len(m.Packs)))
	for _, p := range m.Packs {
		b = append(b, p[:]...)
	}
	b = binary.AppendUvarint(b, uint64(len(m.Chunks)))
	for _, c := range m.Chunks {
		for _, v := range []int64{int64(c.Pack), c.Offset, int64(c.Length), int64(c.Raw)} {
			b = binary.AppendUvarint(b, uint64(v))
		}
	}
	b = binary.AppendUvarint(b, uint64(len(m.Runs)))
	for _, r := range m.Runs {
		b = binary.AppendUvarint(b, uint64(r.Blocks))
		b = binary.AppendUvarint(b, uint64(r.Chunk+1))
		if r.Chunk != Zero {
			b = binary.AppendUvarint(b, uint64(r.Slot))
		}
	}
	return b
}

// ReadMap reads the head of a map object of the given size from r and returns the map and the offset at which its hashes begin.
// The object's own name has to be checked by whoever read it; ReadMap checks that it is well formed.
func ReadMap(r io.ReaderAt, size int64) (*Map, int64, error) {
	fixed := make([]byte, mapFixed)
	if size < int64(mapFixed) {
		return nil, 0, damaged("map", "only %d bytes", size)
	}
	if _, err := r.ReadAt(fixed, 0); err != nil && err != io.EOF {
		return nil, 0, fmt.Errorf("read map: %w", err)
	}
	if string(fixed[:len(mapMagic)]) != mapMagic {
		return nil, 0, unknownMagic("map", fixed, mapMagic)
	}
	length := int64(binary.LittleEndian.Uint32(fixed[mapFixed-4:]))
	if length > maxTable || int64(mapFixed)+length > size {
		return nil, 0, damaged("map", "its table of %d bytes does not fit", length)
	}
	packed := make([]byte, length)
	if _, err := r.ReadAt(packed, int64(mapFixed)); err != nil && err != io.EOF {
		return nil, 0, fmt.Errorf("read map: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxTable))
	if err != nil {
		return nil, 0, err
	}
	defer dec.Close()
	table, err := dec.DecodeAll(packed, nil)
	if err != nil {
		return nil, 0, damaged("map", "%v", err)
	}
	m, err := parseTable(table)
	if err != nil {
		return nil, 0, err
	}
	hashes := int64(mapFixed) + length
	if size-hashes != m.Hashes()*HashSize {
		return nil, 0, damaged("map", "%d bytes of hashes for %d blocks", size-hashes, m.Hashes())
	}
	return m, hashes, nil
}

// unknownMagic tells a newer format of the same kind from garbage.
func unknownMagic(what string, got []byte, magic string) error {
	n := len(magic) - 1
	if len(got) > n && string(got[:n]) == magic[:n] && got[n] > magic[n] && got[n] <= '9' {
		return &FormatError{What: what, Found: int(got[n] - '0'), Known: int(magic[n] - '0')}
	}
	return damaged(what, "it does not begin with %s", magic)
}

// tableReader takes varints off a table; after the first error it returns zeros.
type tableReader struct {
	b   []byte
	bad bool
}

func (t *tableReader) num(limit int64) int64 {
	v, n := binary.Uvarint(t.b)
	if n <= 0 || v > uint64(limit) {
		t.bad, t.b = true, nil
		return 0
	}
	t.b = t.b[n:]
	return int64(v)
}

// count reads the length of a list whose elements take at least min bytes each, so that no length allocates more than the table holds.
func (t *tableReader) count(min int) int {
	n := t.num(int64(len(t.b) / min))
	return int(n)
}

func (t *tableReader) hash() (h Hash) {
	if len(t.b) < len(h) {
		t.bad, t.b = true, nil
		return h
	}
	t.b = t.b[copy(h[:], t.b):]
	return h
}

func parseTable(table []byte) (*Map, error) {
	t := &tableReader{b: table}
	m := &Map{BlockSize: int(t.num(MaxChunk)), Size: t.num(maxSize)}
	m.Packs = make([]Hash, t.count(HashSize))
	for i := range m.Packs {
		m.Packs[i] = t.hash()
	}
	m.Chunks = make([]Chunk, t.count(4))
	for i := range m.Chunks {
		m.Chunks[i] = Chunk{Pack: int(t.num(1 << 31)), Offset: t.num(1 << 40), Length: int(t.num(2 * MaxChunk)), Raw: int(t.num(MaxChunk))}
	}
	m.Runs = make([]Run, t.count(2))
	for i := range m.Runs {
		r := Run{Blocks: t.num(1 << 53), Chunk: int(t.num(1<<31)) - 1}
		if r.Chunk != Zero {
			r.Slot = int(t.num(MaxChunk))
		}
		m.Runs[i] = r
	}
	if t.bad || len(t.b) != 0 {
		return nil, damaged("map", "its table is cut short or too long")
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrDamaged)
	}
	return m, nil
}

// check reports the first thing that can't be, so that whoever follows a checked map indexes nothing out of range.
func (m *Map) check() error {
	if m.BlockSize < 512 || m.BlockSize > MaxChunk || m.BlockSize&(m.BlockSize-1) != 0 || m.Size < 0 {
		return fmt.Errorf("map: impossible block size %d or file size %d", m.BlockSize, m.Size)
	}
	for i, c := range m.Chunks {
		if c.Pack < 0 || c.Pack >= len(m.Packs) || c.Offset < 0 || c.Length <= 0 || c.Raw <= 0 || c.Raw > MaxChunk {
			return fmt.Errorf("map: chunk %d is impossible", i)
		}
	}
	var blocks int64
	total := m.Blocks()
	for i, r := range m.Runs {
		if r.Blocks <= 0 || r.Blocks > total-blocks {
			return fmt.Errorf("map: run %d is impossible", i)
		}
		blocks += r.Blocks
		if r.Chunk == Zero {
			continue
		}
		if r.Chunk < 0 || r.Chunk >= len(m.Chunks) || r.Slot < 0 {
			return fmt.Errorf("map: run %d is impossible", i)
		}
		// Where the file ends in this run its last block may be short, in the chunk too.
		end := (int64(r.Slot) + r.Blocks) * int64(m.BlockSize)
		if blocks == total {
			end -= total*int64(m.BlockSize) - m.Size
		}
		if end > int64(m.Chunks[r.Chunk].Raw) {
			return fmt.Errorf("map: run %d leaves its chunk", i)
		}
	}
	if blocks != total {
		return fmt.Errorf("map: runs hold %d of %d blocks", blocks, total)
	}
	return nil
}
