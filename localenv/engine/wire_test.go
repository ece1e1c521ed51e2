package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"bdbvault/localenv/bdb"
)

// FuzzReceive: what is read as a message is written and read again as the same message, and nothing else is more than an error.
func FuzzReceive(f *testing.F) {
	var b bytes.Buffer
	s := &sender{w: &b}
	for _, m := range []message{
		{Verb: verbSetup, Setup: &setup{Kind: "libdb", Home: []byte("/home\xff"), Password: []byte("pä\x00ss"), AskLog: true}},
		{Verb: verbCall, ID: 7, Op: opRecover, Home: []byte("/scratch"), Cache: 1 << 30},
		{Verb: verbAnswer, ID: 1, LSN: bdb.LSN{File: 3, Offset: 12345}},
		{Verb: verbResult, ID: 7, Err: &wireError{Op: "recover", Code: -30973, Text: []string{"no"}, Kind: "password"}},
	} {
		b.Reset()
		if err := s.send(m); err != nil {
			f.Fatal(err)
		}
		f.Add(slices.Clone(b.Bytes()))
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := receive(bytes.NewReader(frame))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := (&sender{w: &again}).send(m); err != nil {
			return // it grew too long by escapes
		}
		if n, err := receive(&again); err != nil || !reflect.DeepEqual(m, n) {
			t.Errorf("%+v became %+v: %v", m, n, err)
		}
	})
}

func TestReceiveCut(t *testing.T) {
	var b bytes.Buffer
	if err := (&sender{w: &b}).send(message{Verb: verbHeld, ID: 3}); err != nil {
		t.Fatal(err)
	}
	for n := range b.Len() {
		_, err := receive(bytes.NewReader(b.Bytes()[:n]))
		if err == nil || (err == io.EOF) != (n == 0) {
			t.Errorf("%d bytes of a message: %v", n, err)
		}
	}
	if err := (&sender{w: &b}).send(message{Text: strings.Repeat("x", maxFrame)}); err == nil {
		t.Error("a message was sent that nobody may receive")
	}
}

func TestErrorsTravel(t *testing.T) {
	for name, kind := range kinds {
		sent := &EngineError{Op: "verify a.db", Code: int(syscall.ENOENT), Text: []string{"BDB1066", "BDB0090"}, Kind: kind}
		got := encodeError(fmt.Errorf("wrapped: %w", sent)).decode()
		if !reflect.DeepEqual(got, error(sent)) || !errors.Is(got, kind) || !errors.Is(got, fs.ErrNotExist) || errors.Is(got, fs.ErrPermission) {
			t.Errorf("%s: got %#v", name, got)
		}
	}
	died := &ChildError{Op: "recover /home", Signal: "SIGSEGV", ExitCode: -1, LastMessage: "Recovery starting", Stderr: []string{"oops"}}
	if got := encodeError(died).decode(); !reflect.DeepEqual(got, error(died)) {
		t.Errorf("got %#v", got)
	}
	other := encodeError(fmt.Errorf("open it: %w", syscall.EACCES)).decode()
	if other.Error() != "open it: permission denied" || !errors.Is(other, fs.ErrPermission) {
		t.Errorf("got %#v", other)
	}
	if err := encodeError(nil).decode(); err != nil {
		t.Error(err)
	}
}

func TestTranscript(t *testing.T) {
	var talk Transcript
	for i := range 1000 {
		if kept := talk.Add(fmt.Sprintf("BDB1066 line %d\n", i)); kept != (i < transcriptLines) {
			t.Fatalf("line %d kept: %t", i, kept)
		}
	}
	talk.Add("a.db: BDB0090 DB_VERIFY_BAD")
	talk.Add("  ")
	lines := talk.Lines()
	if n := len(lines); n != transcriptLines+2 || lines[n-1] != "and 960 more lines" || !SaysDamaged(lines) {
		t.Errorf("%q", lines)
	}
	if e := (&EngineError{Op: "verify a.db", Text: lines}); strings.Count(e.Error(), "BDB1066") > 6 {
		t.Errorf("a long error: %v", e)
	}
}

func TestCheckLogEnd(t *testing.T) {
	lsn := func(file, offset uint32) bdb.LSN { return bdb.LSN{File: file, Offset: offset} }
	cases := []struct {
		name                       string
		before, end, synced, after bdb.LSN
		stale                      bool
	}{
		{"quiet", lsn(2, 100), lsn(2, 100), lsn(2, 100), lsn(2, 100), false},
		{"busy", lsn(2, 100), lsn(2, 500), lsn(2, 300), lsn(2, 700), false},
		{"not yet written", lsn(2, 100), lsn(2, 500), lsn(2, 100), lsn(2, 100), false},
		{"next file", lsn(2, 100), lsn(3, 28), lsn(3, 0), lsn(2, 100), false},
		{"regions behind", lsn(2, 100), lsn(2, 90), lsn(2, 90), lsn(2, 100), true},
		{"regions ahead", lsn(2, 100), lsn(2, 200), lsn(2, 200), lsn(2, 100), true},
		{"a whole file ahead", lsn(2, 100), lsn(4, 28), lsn(4, 0), lsn(2, 100), true},
	}
	for _, c := range cases {
		ends := []bdb.LSN{c.before, c.after}
		logEnd := func(context.Context) (bdb.LSN, error) {
			end := ends[0]
			ends = ends[1:]
			return end, nil
		}
		err := CheckLogEnd(t.Context(), "/home", logEnd, func() (LogPosition, error) { return LogPosition{c.end, c.synced}, nil })
		if errors.Is(err, ErrStaleRegion) != c.stale || err != nil && !c.stale {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
