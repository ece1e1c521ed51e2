package manifest

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"time"
)

// Hash is a SHA-256 (names of objects) or a BLAKE3-256 (identity of a block).
type Hash [32]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// ParseHash reads 64 lower-case hexadecimal digits.
func ParseHash(s string) (h Hash, err error) {
	err = h.UnmarshalText([]byte(s))
	return h, err
}

// MarshalText writes hexadecimal.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (h *Hash) UnmarshalText(b []byte) error { return unhex(h[:], b, "hash") }

// Timeline names an unbroken history of one environment's log.
type Timeline [8]byte

// NewTimeline returns a random Timeline.
func NewTimeline() (t Timeline) {
	rand.Read(t[:])
	return t
}

func (t Timeline) String() string { return hex.EncodeToString(t[:]) }

// IsZero reports whether t is unset.
func (t Timeline) IsZero() bool { return t == Timeline{} }

// MarshalText writes hexadecimal.
func (t Timeline) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (t *Timeline) UnmarshalText(b []byte) error { return unhex(t[:], b, "timeline") }

// unhex fills dst from exactly as many lower-case hexadecimal digits, so that every value has one spelling.
func unhex(dst, src []byte, what string) error {
	if len(src) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("%s %q: want %d hexadecimal digits", what, src, hex.EncodedLen(len(dst)))
	}
	if _, err := hex.Decode(dst, src); err != nil || bytes.ContainsAny(src, "ABCDEF") {
		return fmt.Errorf("%s %q: want lower-case hexadecimal digits", what, src)
	}
	return nil
}

// BackupID names a full backup: its start in UTC and four random digits. IDs sort by time.
type BackupID string

const backupTime = "20060102T150405Z"

var backupID = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}$`)

// NewBackupID makes an id for a backup that starts at t.
func NewBackupID(t time.Time) BackupID {
	var b [2]byte
	rand.Read(b[:])
	return BackupID(t.UTC().Format(backupTime) + "-" + hex.EncodeToString(b[:]))
}

// ParseBackupID checks the form 20261120T053012Z-4f3a.
func ParseBackupID(s string) (BackupID, error) {
	if !backupID.MatchString(s) {
		return "", fmt.Errorf("backup id %q: want the form 20261120T053012Z-4f3a", s)
	}
	if _, err := time.Parse(backupTime, s[:len(backupTime)]); err != nil {
		return "", fmt.Errorf("backup id %q: %w", s, err)
	}
	return BackupID(s), nil
}

// Time is the moment in the id, to the second, in UTC.
func (id BackupID) Time() time.Time {
	if len(id) < len(backupTime) {
		return time.Time{}
	}
	t, _ := time.Parse(backupTime, string(id[:len(backupTime)]))
	return t
}

var envName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)

// CheckEnv reports whether name can name an environment: 1 to 64 letters, digits, '.', '_' and '-', not starting with '.' or '-',
// and not the name of the repository file.
func CheckEnv(name string) error {
	if !envName.MatchString(name) || name == RepositoryKey {
		return fmt.Errorf("environment name %q: want 1 to 64 letters, digits, '.', '_' or '-', starting with a letter, a digit or '_'", name)
	}
	return nil
}
