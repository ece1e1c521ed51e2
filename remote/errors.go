package remote

import (
	"context"
	"errors"
	"fmt"
)

// Kind says what is wrong in terms that do not depend on the store.
type Kind int

// The kinds of errors. Unreachable and Transient are retried, Damaged twice; the others are final.
const (
	Unknown     Kind = iota
	NotFound         // no such object
	Exists           // Put if absent found the key taken
	NoBucket         // the bucket or directory does not exist
	Auth             // no credentials, or keys that the store doesn't know or whose signature is wrong
	Expired          // credentials that were right once
	Denied           // known to the store, but not allowed to do this
	WrongRegion      // the bucket is in another region than the one asked
	ClockSkew        // the clocks of store and client differ too much for signatures
	Untrusted        // no TLS connection: unknown certificate authority, wrong name, or no TLS at all
	Unreachable      // no connection: refused, no route, no such host, timeout
	Transient        // a connection that broke or stalled, an overloaded or failing store
	Damaged          // the store received other bytes than were sent
	Full             // no space left, or a quota reached
	ReadOnly         // the store takes no writes at all
	Archived         // the object is in a storage class from which it has to be brought back before it can be read
	NoClass          // the store has no such storage class
	OutOfRange       // reading beyond the end of the object
	Unsupported      // the store can't do that
	Invalid          // a key, size or setting that can't be right
	Canceled         // the context ended
)

var kindText = map[Kind]string{
	Unknown:     "error",
	NotFound:    "no such object",
	Exists:      "object already exists",
	NoBucket:    "no such bucket or directory",
	Auth:        "credentials missing or not accepted",
	Expired:     "credentials have expired",
	Denied:      "permission denied",
	WrongRegion: "bucket is in another region",
	ClockSkew:   "clock differs too much from the store's",
	Untrusted:   "no trusted TLS connection",
	Unreachable: "store can't be reached",
	Transient:   "store or connection failing",
	Damaged:     "damaged on the way to the store",
	Full:        "no space left",
	ReadOnly:    "store is read-only",
	Archived:    "object is archived and can't be read as it is",
	NoClass:     "no such storage class",
	OutOfRange:  "beyond the end of the object",
	Unsupported: "not supported by the store",
	Invalid:     "invalid request",
	Canceled:    "cancelled",
}

func (k Kind) String() string {
	if s, ok := kindText[k]; ok {
		return s
	}
	return fmt.Sprintf("kind %d", int(k))
}

// sentinel lets errors.Is ask for a kind.
type sentinel Kind

func (s sentinel) Error() string { return Kind(s).String() }

// Sentinels for errors.Is; each stands for all errors of its kind.
var (
	ErrNotFound    error = sentinel(NotFound)
	ErrExists      error = sentinel(Exists)
	ErrNoBucket    error = sentinel(NoBucket)
	ErrAuth        error = sentinel(Auth)
	ErrExpired     error = sentinel(Expired)
	ErrDenied      error = sentinel(Denied)
	ErrWrongRegion error = sentinel(WrongRegion)
	ErrUntrusted   error = sentinel(Untrusted)
	ErrUnreachable error = sentinel(Unreachable)
	ErrTransient   error = sentinel(Transient)
	ErrDamaged     error = sentinel(Damaged)
	ErrFull        error = sentinel(Full)
	ErrReadOnly    error = sentinel(ReadOnly)
	ErrArchived    error = sentinel(Archived)
	ErrOutOfRange  error = sentinel(OutOfRange)
	ErrUnsupported error = sentinel(Unsupported)
	ErrInvalid     error = sentinel(Invalid)
)

// Error is what every operation of a Bucket fails with: what was done to which key in which store, what kind of
// fault it was, and the driver's own error.
type Error struct {
	Op    string // put, open, stat, list, delete, …
	Key   string // within the repository; a prefix for list, a number for delete of several
	Store string
	Kind  Kind
	Err   error // may be nil
}

func (e *Error) Error() string {
	s := e.Op
	if e.Key != "" {
		s += " " + e.Key
	}
	if e.Store != "" {
		s += " in " + e.Store
	}
	switch {
	case e.Err == nil:
		return s + ": " + e.Kind.String()
	case e.Kind == Unknown, e.Kind == Canceled:
		return s + ": " + e.Err.Error()
	}
	return s + ": " + e.Kind.String() + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is(err, ErrNotFound) and the like work.
func (e *Error) Is(target error) bool {
	s, ok := target.(sentinel)
	return ok && Kind(s) == e.Kind
}

// SourceError is a driver's failure to read what it was to store: no fault of the store, so nothing to retry.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return "read what is to be stored: " + e.Err.Error() }
func (e *SourceError) Unwrap() error { return e.Err }

// KindOf finds the kind of an error that passed through this package, else Unknown.
func KindOf(err error) Kind {
	var e *Error
	var s sentinel
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.As(err, &s):
		return Kind(s)
	case errors.Is(err, context.Canceled):
		return Canceled
	}
	return Unknown
}

// mayPass reports whether waiting may help.
func (k Kind) mayPass() bool { return k == Unreachable || k == Transient }
