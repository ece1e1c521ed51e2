package localenv

import (
	"bytes"
	"context"
	"errors"
	"io"
	"syscall"
	"testing"
)

// scripted is a file that is different at every read: read i sees images[i], all later ones the last.
type scripted struct {
	images  [][]byte
	reads   int
	seeks   int
	seekErr error
	failAt  int // number of the call, of both kinds, that fails; 0: none
}

var errScripted = errors.New("scripted")

func (s *scripted) ReadAt(p []byte, off int64) (int, error) {
	image := s.images[min(s.reads, len(s.images)-1)]
	s.reads++
	if s.reads+s.seeks == s.failAt {
		return 0, errScripted
	}
	if off >= int64(len(image)) {
		return 0, io.EOF
	}
	n := copy(p, image[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (s *scripted) Seek(off int64, whence int) (int64, error) {
	s.seeks++
	if s.reads+s.seeks == s.failAt {
		return 0, errScripted
	}
	return off, s.seekErr
}

// pages is an image of one byte per page of four.
func pages(contents string) []byte {
	var b []byte
	for _, c := range []byte(contents) {
		b = append(b, c, c, c, c)
	}
	return b
}

func TestReadStable(t *testing.T) {
	for _, c := range []struct {
		what   string
		images [][]byte
		want   []byte
		reads  int
		reread int64
	}{
		{"quiet", [][]byte{pages("abcd")}, pages("abcd"), 2, 0},
		{"one page changed between the reads", [][]byte{pages("abcd"), pages("abXd")}, pages("abXd"), 3, 1},
		{"torn at first", [][]byte{[]byte("aaaabbXXccccdddd"), pages("aXcd")}, pages("aXcd"), 3, 1},
		{"torn at the second read", [][]byte{pages("abcd"), []byte("aaaabbXXccccdddd"), pages("aXcd")}, pages("aXcd"), 4, 2},
		{"changing on", [][]byte{pages("abcd"), pages("Abcd"), pages("Bbcd"), pages("Cbcd")}, pages("Cbcd"), 5, 3},
		{"two pages changed", [][]byte{pages("abcd"), pages("AbcD")}, pages("AbcD"), 4, 2},
		{"changed behind the page being settled", [][]byte{pages("abcd"), pages("aBcd"), pages("aBcX"), pages("aBcX")}, pages("aBcd"), 3, 1},
		{"short", [][]byte{pages("ab")}, pages("ab"), 2, 0},
		{"ends inside a page", [][]byte{[]byte("aaaabb")}, []byte("aaaabb"), 2, 0},
		{"empty", [][]byte{nil}, nil, 2, 0},
		{"grew", [][]byte{pages("ab"), pages("abcd")}, pages("abcd"), 4, 2},
		{"grew by part of a page, then by the rest", [][]byte{pages("ab"), []byte("aaaabbbbcc"), pages("abc")}, pages("abc"), 4, 2},
		{"shrank", [][]byte{pages("abcd"), pages("ab")}, pages("ab"), 2, 0},
		{"shrank and changed", [][]byte{pages("abcd"), pages("aX")}, pages("aX"), 3, 1},
		{"shrank while settling", [][]byte{pages("abcd"), pages("abXd"), pages("ab")}, pages("ab"), 4, 2},
		{"shrank into a page", [][]byte{pages("abcd"), pages("abXd"), []byte("aaaabb"), []byte("aaaabb")}, pages("ab"), 4, 2},
	} {
		f := &scripted{images: c.images}
		buf := make([]byte, 16)
		n, reread, err := readStable(context.Background(), f, buf, 0, 4)
		if err != nil || !bytes.Equal(buf[:n], c.want) || f.reads != c.reads || reread != c.reread {
			t.Errorf("%s: %q, %v; %d reads, %d again", c.what, buf[:n], err, f.reads, reread)
		}
		if f.seeks < f.reads-1 {
			t.Errorf("%s: %d barriers among %d reads", c.what, f.seeks, f.reads)
		}
	}
}

func TestReadStableHoles(t *testing.T) {
	for _, c := range []struct {
		what    string
		image   []byte
		seekErr error
		reads   int
	}{
		{"hole", make([]byte, 16), syscall.ENXIO, 1},
		{"data that the file system calls a hole", pages("abcd"), syscall.ENXIO, 2},
		{"zeros that are no hole", make([]byte, 16), nil, 2},
		{"hole up to the end", make([]byte, 8), syscall.ENXIO, 2},
		{"file system without SEEK_DATA", make([]byte, 16), syscall.EINVAL, 2},
	} {
		f := &scripted{images: [][]byte{c.image}, seekErr: c.seekErr}
		buf := bytes.Repeat([]byte{1}, 16)
		n, _, err := readStable(context.Background(), f, buf, 0, 4)
		if err != nil || !bytes.Equal(buf[:n], c.image) || f.reads != c.reads {
			t.Errorf("%s: %q, %v; %d reads", c.what, buf[:n], err, f.reads)
		}
	}
}

func TestReadStableFails(t *testing.T) {
	script := func() *scripted {
		return &scripted{images: [][]byte{pages("abcd"), pages("Abcd"), pages("Bbcd"), pages("Bbcd")}}
	}
	quiet := script()
	if _, _, err := readStable(context.Background(), quiet, make([]byte, 16), 0, 4); err != nil {
		t.Fatal(err)
	}
	for call := 1; call <= quiet.reads+quiet.seeks; call++ {
		f := script()
		f.failAt = call
		if _, _, err := readStable(context.Background(), f, make([]byte, 16), 0, 4); !errors.Is(err, errScripted) {
			t.Errorf("call %d failed, readStable: %v", call, err)
		}
	}
}

// restless changes at every read.
type restless struct {
	scripted
	cancel context.CancelFunc
}

func (r *restless) ReadAt(p []byte, off int64) (int, error) {
	r.reads++
	if r.reads == 1000 {
		r.cancel()
	}
	for i := range p {
		p[i] = byte(r.reads)
	}
	return len(p), nil
}

func TestReadStableStopsByContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if _, _, err := readStable(ctx, &restless{cancel: cancel}, make([]byte, 16), 0, 4); !errors.Is(err, context.Canceled) {
		t.Errorf("readStable: %v", err)
	}
}

func TestReadStableInPieces(t *testing.T) {
	image := make([]byte, 3*pieceSize+100)
	for i := range image {
		image[i] = byte(i / 1000)
	}
	buf := make([]byte, 4*pieceSize)
	n, _, err := readStable(context.Background(), &scripted{images: [][]byte{image}}, buf, 0, 512)
	if err != nil || !bytes.Equal(buf[:n], image) {
		t.Errorf("%d of %d bytes, %v", n, len(image), err)
	}
}
