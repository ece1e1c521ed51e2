package bdb

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// LSN is a log sequence number: the place of a record in the log, as the number of its log file and the byte offset in it.
// {0,0} is no LSN at all; {0,1} on a page means that the page was written without logging.
type LSN struct {
	File   uint32
	Offset uint32
}

// NotLogged is the LSN of a page that was written without logging (DB_LSN's LSN_NOT_LOGGED).
var NotLogged = LSN{File: 0, Offset: 1}

// ParseLSN reads the form that String writes: "3/12345".
func ParseLSN(s string) (LSN, error) {
	file, offset, ok := strings.Cut(s, "/")
	if !ok {
		return LSN{}, fmt.Errorf("LSN %q: want FILE/OFFSET, as in 3/12345", s)
	}
	f, err := parse32(file)
	if err != nil {
		return LSN{}, fmt.Errorf("LSN %q: file: %w", s, err)
	}
	o, err := parse32(offset)
	if err != nil {
		return LSN{}, fmt.Errorf("LSN %q: offset: %w", s, err)
	}
	return LSN{File: f, Offset: o}, nil
}

// parse32 accepts canonical decimal only, so that every LSN has one spelling.
func parse32(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("%s is more than %d", s, uint32(math.MaxUint32))
	}
	if err != nil {
		return 0, fmt.Errorf("%q is not a plain decimal number", s)
	}
	if strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("%q is not a plain decimal number", s)
	}
	return uint32(n), nil
}

func (l LSN) String() string { return fmt.Sprintf("%d/%d", l.File, l.Offset) }

// Compare orders LSNs as the log does: by file, then by offset.
func (l LSN) Compare(m LSN) int {
	if c := cmp.Compare(l.File, m.File); c != 0 {
		return c
	}
	return cmp.Compare(l.Offset, m.Offset)
}

// Before reports whether l stands earlier in the log than m.
func (l LSN) Before(m LSN) bool { return l.Compare(m) < 0 }

// IsZero reports whether l is {0,0}, no LSN.
func (l LSN) IsZero() bool { return l == LSN{} }

// MarshalText writes the form of String, so that LSNs stand in JSON as "3/12345".
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (l *LSN) UnmarshalText(b []byte) (err error) {
	*l, err = ParseLSN(string(b))
	return err
}

// FileID is the 20-byte identity that libdb gives a database file at its creation and never changes, not even by a rename.
type FileID [20]byte

func (id FileID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id is unset.
func (id FileID) IsZero() bool { return id == FileID{} }

// MarshalText writes lower-case hexadecimal.
func (id FileID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (id *FileID) UnmarshalText(b []byte) error {
	if hex.DecodedLen(len(b)) != len(id) || strings.ToLower(string(b)) != string(b) {
		return fmt.Errorf("file id %q: want %d lower-case hexadecimal digits", b, hex.EncodedLen(len(id)))
	}
	_, err := hex.Decode(id[:], b)
	return err
}
