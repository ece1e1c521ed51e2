package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"

	"bdbvault/localenv/bdb"
)

const (
	segmentMagic = "BDBVSEG1"
	segmentFixed = len(segmentMagic) + 4
	// maxSegmentHeader bounds the JSON header of a segment.
	maxSegmentHeader = 64 << 10
	// segmentFormat is the version of the header.
	segmentFormat = 1
)

// SegmentHeader is the part of a segment that can be read on its own.
type SegmentHeader struct {
	Format      int      `json:"format"`
	Environment string   `json:"environment"`
	Timeline    Timeline `json:"timeline"`
	File        uint32   `json:"file"`  // number of the log file
	Start       uint32   `json:"start"` // byte offset of the first record
	End         uint32   `json:"end"`   // byte offset just after the last record
	Sealed      bool     `json:"sealed"`
	Records     int64    `json:"records"`
	Commits     int64    `json:"commits"`    // 0 where bodies are encrypted and the password was not given
	LastCommit  int64    `json:"lastCommit"` // Unix seconds
	LastRecord  uint32   `json:"lastRecord"` // byte offset of the last record's header: the next file's first record links back to it
	StartHash   Hash     `json:"startHash"`  // BLAKE3 of the log file's bytes from 0 to Start
	EndHash     Hash     `json:"endHash"`    // BLAKE3 of the log file's bytes from 0 to End
	LogVersion  uint32   `json:"logVersion"`
	LogFileSize uint32   `json:"logFileSize"` // size of a log file by its header
	Encrypted   bool     `json:"encrypted"`
	Host        string   `json:"host"`
	Home        string   `json:"home"`
}

// Name is the segment's name.
func (h *SegmentHeader) Name() SegmentName {
	return SegmentName{Timeline: h.Timeline, File: h.File, Start: h.Start, End: h.End, LastCommit: h.LastCommit, Sealed: h.Sealed}
}

// EndLSN is the place of the next record in this log file.
func (h *SegmentHeader) EndLSN() bdb.LSN { return bdb.LSN{File: h.File, Offset: h.End} }

// WriteSegment writes a segment to w: header, records (End-Start bytes of the log file), checksum.
func WriteSegment(w io.Writer, h *SegmentHeader, records io.Reader) error {
	h.Format = segmentFormat
	if h.Start >= h.End || h.File == 0 {
		return fmt.Errorf("encode segment: impossible range %d-%d of log file %d", h.Start, h.End, h.File)
	}
	head, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("encode segment: %w", err)
	}
	if len(head) > maxSegmentHeader {
		return fmt.Errorf("encode segment: header of %d bytes", len(head))
	}
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	fixed := binary.LittleEndian.AppendUint32([]byte(segmentMagic), uint32(len(head)))
	if _, err := out.Write(append(fixed, head...)); err != nil {
		return err
	}
	enc, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		return err
	}
	n, err := io.Copy(enc, records)
	if err == nil && n != int64(h.End-h.Start) {
		err = fmt.Errorf("encode segment: %d bytes of records, want %d", n, h.End-h.Start)
	}
	if err != nil {
		enc.Close()
		return err
	}
	if err := enc.Close(); err != nil {
		return err
	}
	_, err = w.Write(sum.Sum(nil))
	return err
}

// ReadSegmentHeader reads the header at the beginning of a segment, and no further. It checks the form, not the checksum, which stands at
// the end.
func ReadSegmentHeader(r io.Reader) (*SegmentHeader, error) {
	fixed := make([]byte, segmentFixed)
	if _, err := io.ReadFull(r, fixed); err != nil {
		return nil, segmentError(err)
	}
	if string(fixed[:len(segmentMagic)]) != segmentMagic {
		return nil, unknownMagic("segment", fixed, segmentMagic)
	}
	n := binary.LittleEndian.Uint32(fixed[len(segmentMagic):])
	if n > maxSegmentHeader {
		return nil, damaged("segment", "header of %d bytes", n)
	}
	head := make([]byte, n)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, segmentError(err)
	}
	return parseSegmentHeader(head)
}

func parseSegmentHeader(data []byte) (*SegmentHeader, error) {
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, damaged("segment", "header: %v", err)
	}
	if version.Format > segmentFormat {
		return nil, &FormatError{What: "segment", Found: version.Format, Known: segmentFormat}
	}
	h := new(SegmentHeader)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(h); err != nil {
		return nil, damaged("segment", "header: %v", err)
	}
	if h.Format < 1 || h.File == 0 || h.Start >= h.End {
		return nil, damaged("segment", "header: impossible values")
	}
	return h, nil
}

// SegmentReader reads the records of a segment. Only an io.EOF from Read proves that they are what was stored: the checksum stands
// at the end. Whoever uses the bytes before must be able to take it back.
type SegmentReader struct {
	Header *SegmentHeader

	dec  *zstd.Decoder
	body *trailerReader
	sum  hash.Hash
	left int64
	err  error
}

// NewSegmentReader reads the header of the segment in r. Close it.
func NewSegmentReader(r io.Reader) (*SegmentReader, error) {
	s := &SegmentReader{sum: sha256.New()}
	s.body = &trailerReader{r: r, sum: s.sum}
	var err error
	if s.Header, err = ReadSegmentHeader(s.body); err != nil {
		return nil, err
	}
	s.left = int64(s.Header.End - s.Header.Start)
	s.dec, err = zstd.NewReader(s.body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderLowmem(true))
	return s, err
}

func segmentError(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return damaged("segment", "cut short")
	}
	return fmt.Errorf("read segment: %w", err)
}

// Read returns records; io.EOF comes only after the length and the checksum were found right.
func (s *SegmentReader) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.dec.Read(p)
	if s.left -= int64(n); s.left < 0 {
		err = damaged("segment", "more records than its header says")
	}
	if err == io.EOF {
		err = s.finish()
	} else if err != nil && s.body.err == nil {
		err = damaged("segment", "%v", err)
	}
	s.err = err
	return n, err
}

func (s *SegmentReader) finish() error {
	if s.left != 0 {
		return damaged("segment", "fewer records than its header says")
	}
	if err := s.body.drain(); err != nil {
		return err
	}
	if !bytes.Equal(s.sum.Sum(nil), s.body.tail) {
		return damaged("segment", "checksum does not fit")
	}
	return io.EOF
}

// Close releases the decoder; the underlying reader stays the caller's.
func (s *SegmentReader) Close() { s.dec.Close() }

// trailerReader passes on all but the last 32 bytes of r, hashing what it passes on.
type trailerReader struct {
	r    io.Reader
	sum  hash.Hash
	tail []byte // read and held back, at most 32 bytes when err is set
	buf  []byte
	err  error // of r, other than io.EOF
	eof  bool
}

func (t *trailerReader) Read(p []byte) (int, error) {
	for !t.eof && t.err == nil && len(t.tail) <= sha256.Size {
		if err := t.fill(); err != nil {
			return 0, err
		}
	}
	if t.err != nil {
		return 0, t.err
	}
	n := copy(p, t.tail[:max(0, len(t.tail)-sha256.Size)])
	t.sum.Write(p[:n])
	t.tail = t.tail[n:]
	if n == 0 && t.eof && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// fill reads one piece of r behind what is held back.
func (t *trailerReader) fill() error {
	if t.buf == nil {
		t.buf = make([]byte, 64<<10)
	}
	held := copy(t.buf, t.tail)
	n, err := t.r.Read(t.buf[held:])
	t.tail = t.buf[:held+n]
	if err == io.EOF {
		t.eof = true
	} else if err != nil {
		t.err = fmt.Errorf("read segment: %w", err)
		return t.err
	}
	return nil
}

// drain reads to the end; bytes that no frame used are damage.
func (t *trailerReader) drain() error {
	n, err := io.Copy(io.Discard, t)
	switch {
	case err != nil:
		return err
	case n > 0:
		return damaged("segment", "%d bytes behind the records", n)
	case len(t.tail) != sha256.Size:
		return damaged("segment", "cut short")
	}
	return nil
}
