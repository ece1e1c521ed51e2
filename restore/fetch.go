package restore

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"

	"bdbvault/manifest"
	"bdbvault/remote"
)

const (
	// workers fetch, decode, compare and write side by side. Each holds a stored and a raw chunk: about two and a half MiB.
	workers = 6
	// decodeSlack is room behind a raw chunk that lets the decoder write in large steps to the very end.
	decodeSlack = 4 << 10
	// gapMost is how many bytes that nobody needs are read rather than asking a second time.
	gapMost = 512 << 10
	// spanMost is how long a read may become by joining chunks, so that the workers share the work.
	spanMost = 8 << 20
)

// mostly reports whether so much of a pack is needed that it is read whole.
func mostly(live, size int64) bool { return live*2 >= size }

// chunkRef is a chunk that has to be fetched.
type chunkRef struct {
	offset int64
	length int32
	pack   int32 // index in batch.packs
	file   int32 // index in batch.files
	chunk  int32 // index in the file's map
}

func (r *chunkRef) end() int64 { return r.offset + int64(r.length) }

// same reports whether two chunks are the same bytes.
func (r *chunkRef) same(o *chunkRef) bool {
	return r.pack == o.pack && r.offset == o.offset && r.length == o.length
}

// span is one read.
type span struct {
	refs  []chunkRef // of one pack, in its order
	size  int64      // of the pack, if it is read whole and its name checked; else 0
	start int64
	end   int64
}

// spans sorts refs and joins neighbours. Sizes are those of the packs, 0 where unknown.
func spans(refs []chunkRef, sizes []int64) (list []span) {
	slices.SortFunc(refs, func(a, b chunkRef) int {
		return cmp.Or(cmp.Compare(a.pack, b.pack), cmp.Compare(a.offset, b.offset), cmp.Compare(a.length, b.length))
	})
	for len(refs) > 0 {
		n := slices.IndexFunc(refs, func(r chunkRef) bool { return r.pack != refs[0].pack })
		if n < 0 {
			n = len(refs)
		}
		list = append(list, packSpans(refs[:n], sizes[refs[0].pack])...)
		refs = refs[n:]
	}
	return list
}

func packSpans(refs []chunkRef, size int64) (list []span) {
	var live int64
	var overlap bool
	for i := range refs {
		if i > 0 && refs[i].same(&refs[i-1]) {
			continue
		}
		live += int64(refs[i].length)
		overlap = overlap || i > 0 && refs[i].offset < refs[i-1].end()
	}
	last := refs[len(refs)-1].end()
	if size >= last && mostly(live, size) && !overlap {
		return []span{{refs: refs, size: size, end: size}}
	}
	from := 0
	for i := 1; i <= len(refs); i++ {
		if i < len(refs) && joins(&refs[from], &refs[i-1], &refs[i]) {
			continue
		}
		list = append(list, span{refs: refs[from:i], start: refs[from].offset, end: refs[i-1].end()})
		from = i
	}
	return list
}

// joins reports whether next is read together with the chunks from first to prev.
func joins(first, prev, next *chunkRef) bool {
	if next.same(prev) {
		return true
	}
	return next.offset >= prev.end() && next.offset-prev.end() <= gapMost && next.end()-first.offset <= spanMost
}

// worker turns spans into files.
type worker struct {
	b      *batch
	dec    *zstd.Decoder
	packed []byte // a stored chunk
	raw    []byte // the same unpacked, aligned for direct writes
	sums   []byte
}

// newDecoder makes a decoder of chunks. It leaves it to the hashes of the blocks to tell which of them are right.
func newDecoder() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true), zstd.IgnoreChecksum(true),
		zstd.WithDecoderMaxMemory(manifest.MaxChunk+decodeSlack), zstd.WithDecoderMaxWindow(8<<20))
}

func newCrew(b *batch, n int) ([]*worker, error) {
	crew := make([]*worker, n)
	for i := range crew {
		dec, err := newDecoder()
		if err != nil {
			return nil, err
		}
		crew[i] = &worker{b: b, dec: dec, raw: aligned(manifest.MaxChunk + decodeSlack)}
	}
	return crew, nil
}

// serve works off spans until there are no more. Only what would fail for every span ends it: what is missing or damaged in
// the store is noted, and the work goes on.
func (w *worker) serve(ctx context.Context, todo <-chan span) error {
	defer w.dec.Close()
	for s := range todo {
		left, err := w.fetch(ctx, s)
		if err != nil && !w.b.stored(err) {
			return err
		}
		for i := range left {
			if err := w.lost(ctx, &left[i], err); err != nil {
				return err
			}
		}
	}
	return nil
}

// fetch reads a span and serves its chunks. What it returns could not be read.
func (w *worker) fetch(ctx context.Context, s span) (left []chunkRef, err error) {
	key := w.b.key(s.refs[0].pack)
	length := s.end - s.start
	if s.size > 0 {
		length = -1 // whatever its size: its name covers all of it
	}
	rc, err := w.b.repo.Bucket.Open(ctx, key, s.start, length)
	if err != nil {
		return s.refs, err
	}
	r := &packReader{r: rc, at: s.start}
	if s.size > 0 {
		r.sum = sha256.New()
	}
	left, err = w.chunks(ctx, r, s.refs)
	if err == nil && s.size > 0 {
		err = w.b.checkName(r, key, s)
	}
	rc.Close() // reading is over, nothing can be lost
	return left, err
}

func (w *worker) chunks(ctx context.Context, r *packReader, refs []chunkRef) (left []chunkRef, err error) {
	for i := range refs {
		ref := &refs[i]
		if i == 0 || !ref.same(&refs[i-1]) {
			if w.packed, err = r.chunk(w.packed, ref); err != nil {
				return refs[i:], fmt.Errorf("object %s: %w", w.b.key(ref.pack), err)
			}
		}
		if err := w.write(ctx, ref); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// packReader reads a pack forward, hashing what goes by if its name is to be checked.
type packReader struct {
	r   io.Reader
	at  int64
	sum hash.Hash // nil: not all of it is read
}

func (p *packReader) chunk(buf []byte, ref *chunkRef) ([]byte, error) {
	if err := p.skip(ref.offset - p.at); err != nil {
		return buf, err
	}
	buf = slices.Grow(buf[:0], int(ref.length))[:ref.length]
	n, err := io.ReadFull(p.r, buf)
	p.at += int64(n)
	if p.sum != nil {
		p.sum.Write(buf[:n])
	}
	return buf, cutShort(err)
}

func (p *packReader) skip(n int64) error {
	if n == 0 {
		return nil
	}
	m, err := io.CopyN(p.rest(), p.r, n)
	p.at += m
	return cutShort(err)
}

func (p *packReader) rest() io.Writer {
	if p.sum != nil {
		return p.sum
	}
	return io.Discard
}

func cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, remote.ErrOutOfRange) {
		return fmt.Errorf("it is cut short: %w", manifest.ErrDamaged)
	}
	return err
}

// checkName reads the rest of a pack and compares its bytes with its name. Its chunks are served already, each block proven by its own
// hash; what shows here is damage in bytes that this restore did not need.
func (b *batch) checkName(r *packReader, key string, s span) error {
	_, err := io.Copy(r.sum, r.r)
	if err != nil {
		return err
	}
	if name := b.packs[s.refs[0].pack]; manifest.Hash(r.sum.Sum(nil)) != name {
		b.damage.object(key, fmt.Errorf("object %s: its bytes do not have its name: %w", key, manifest.ErrDamaged))
	}
	return nil
}

// write unpacks the chunk in w.packed and puts its blocks where the file's map wants them.
func (w *worker) write(ctx context.Context, ref *chunkRef) error {
	f := w.b.files[ref.file]
	c := &f.bm.Chunks[ref.chunk]
	raw, err := w.dec.DecodeAll(w.packed, w.raw[:0:c.Raw+decodeSlack])
	if err != nil || len(raw) != c.Raw {
		return w.lost(ctx, ref, fmt.Errorf("object %s: its chunk at %d can't be unpacked: %w", w.b.key(ref.pack), ref.offset, manifest.ErrDamaged))
	}
	for _, i := range f.runs(int(ref.chunk)) {
		if err := w.run(ref, f, i, raw); err != nil {
			return err
		}
	}
	return w.b.done(ctx, f)
}

// run writes those blocks of one run that are needed and right, neighbours together.
func (w *worker) run(ref *chunkRef, f *dataFile, i uint32, raw []byte) (err error) {
	r := &f.bm.Runs[i]
	first, size := int64(f.block[i]), f.bm.BlockSize
	if w.sums, err = f.readHashes(w.sums, int64(f.hash[i]), r.Blocks); err != nil {
		return err
	}
	raw = raw[r.Slot*size:]
	from, end := int64(0), int64(0) // blocks to write
	for n := int64(0); n < r.Blocks; n++ {
		good, err := w.block(ref, f, first+n, raw[int(n)*size:], w.sums[n*manifest.HashSize:])
		if err != nil {
			return err
		}
		if good {
			end = n + 1
			continue
		}
		if err := w.put(f, first, from, end, raw); err != nil {
			return err
		}
		from, end = n+1, n+1
	}
	return w.put(f, first, from, end, raw)
}

// block reports whether a block is needed and has the hash that the map says.
func (w *worker) block(ref *chunkRef, f *dataFile, number int64, raw, sum []byte) (bool, error) {
	if !f.need.has(number) {
		return false, nil
	}
	_, length := f.span(number, 1)
	if blockSum(raw[:length]) == manifest.Hash(sum[:manifest.HashSize]) {
		return true, nil
	}
	key := w.b.key(ref.pack)
	w.b.damage.file(f, f.pages(number, 1), key, fmt.Errorf("object %s: a block does not have its hash: %w", key, manifest.ErrDamaged))
	return false, nil
}

// put writes the blocks from from to end of a run that begins in the file at block first.
func (w *worker) put(f *dataFile, first, from, end int64, raw []byte) error {
	if from == end {
		return nil
	}
	off, length := f.span(first+from, end-from)
	if _, err := f.out.WriteAt(raw[from*int64(f.bm.BlockSize):][:length], off); err != nil {
		return err
	}
	w.b.progress.Add(length)
	return nil
}

// lost notes that a chunk can't be brought back.
func (w *worker) lost(ctx context.Context, ref *chunkRef, err error) error {
	f := w.b.files[ref.file]
	for _, i := range f.runs(int(ref.chunk)) {
		if n := f.bm.Runs[i].Blocks; f.need.any(int64(f.block[i]), n) {
			w.b.damage.file(f, f.pages(int64(f.block[i]), n), w.b.key(ref.pack), err)
		}
	}
	return w.b.done(ctx, f)
}

// stored reports whether an error is about what the store holds, rather than about reaching it.
func (b *batch) stored(err error) bool {
	return errors.Is(err, remote.ErrNotFound) || errors.Is(err, remote.ErrOutOfRange) || errors.Is(err, manifest.ErrDamaged)
}
