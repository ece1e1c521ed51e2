package awsconf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"bdbvault/remote"
)

// VersionStore is what a view of a moment needs of a driver.
type VersionStore interface {
	remote.Driver

	// ListVersions calls fn for the versions of each object whose key starts with prefix and sorts after after, by ascending key, and of one key from the
	// newest to the oldest. Date is as in remote.Driver.List.
	ListVersions(ctx context.Context, prefix, after string, fn func(remote.Version) error) (date time.Time, err error)

	// OpenVersion is Open for one version.
	OpenVersion(ctx context.Context, key, id string, offset, length int64) (io.ReadCloser, error)
}

// maxKnown bounds how many versions a view remembers: some hundred bytes each.
const maxKnown = 1 << 16

// asOf is a store as it was at a moment.
type asOf struct {
	VersionStore
	at time.Time

	mu    sync.Mutex
	known map[string]remote.Version
}

// AsOf is remote.Versioned's, for any store that can list versions and open one. Whoever has a key asks once which version is
// meant, unless a list has just told.
func AsOf(store VersionStore, at time.Time) remote.Driver {
	return &asOf{VersionStore: store, at: at, known: map[string]remote.Version{}}
}

// String names the store below, which remote.Bucket asks for.
func (a *asOf) String() string {
	if s, ok := a.VersionStore.(interface{ String() string }); ok {
		return s.String()
	}
	return ""
}

// List implements remote.Driver.
func (a *asOf) List(ctx context.Context, prefix, after string, fn func(remote.Info) error) (time.Time, error) {
	decided := ""
	date, err := a.ListVersions(ctx, prefix, after, func(v remote.Version) error {
		if v.Key == decided || v.Modified.After(a.at) {
			return nil
		}
		decided = v.Key
		if v.Deleted || strings.HasSuffix(v.Key, "/") {
			return nil
		}
		a.note(v)
		return fn(v.Info)
	})
	if date.After(a.at) {
		date = a.at
	}
	return date, err
}

func (a *asOf) note(v remote.Version) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= maxKnown {
		clear(a.known)
	}
	a.known[v.Key] = v
}

var (
	errFound    = errors.New("found")
	errNotThen  = errors.New("it was not there at that time")
	errReadOnly = errors.New("what is past can't be changed")
)

// version finds the one that was there.
func (a *asOf) version(ctx context.Context, key string) (remote.Version, error) {
	a.mu.Lock()
	v, ok := a.known[key]
	a.mu.Unlock()
	if ok {
		return v, nil
	}
	_, err := a.ListVersions(ctx, key, "", func(one remote.Version) error {
		switch {
		case one.Key != key:
			return errFound // behind it
		case one.Modified.After(a.at):
			return nil
		}
		v, ok = one, !one.Deleted
		return errFound
	})
	switch {
	case err != nil && !errors.Is(err, errFound):
		return v, err
	case !ok:
		return v, &remote.Error{Kind: remote.NotFound, Err: errNotThen}
	}
	a.note(v)
	return v, nil
}

// Open implements remote.Driver.
func (a *asOf) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	v, err := a.version(ctx, key)
	if err != nil {
		return nil, err
	}
	return a.OpenVersion(ctx, key, v.ID, offset, length)
}

// Stat implements remote.Driver.
func (a *asOf) Stat(ctx context.Context, key string) (remote.Info, error) {
	v, err := a.version(ctx, key)
	return v.Info, err
}

// Put implements remote.Driver.
func (a *asOf) Put(context.Context, string, io.ReaderAt, int64, remote.PutOptions) error {
	return &remote.Error{Kind: remote.ReadOnly, Err: errReadOnly}
}

// Delete implements remote.Driver.
func (a *asOf) Delete(context.Context, []string) error {
	return &remote.Error{Kind: remote.ReadOnly, Err: errReadOnly}
}

// MissesLock reports whether an answer says that the bucket was made without object lock. S3 and its like agree on the words only.
func MissesLock(err error) bool {
	e, ok := errors.AsType[*ServerError](err)
	if !ok || e.Status/100 != 4 {
		return false
	}
	said := strings.ToLower(strings.ReplaceAll(e.Code+" "+e.Message, " ", ""))
	return strings.Contains(said, "missing") && strings.Contains(said, "objectlock") || e.Code == "ObjectLockConfigurationNotFoundError" ||
		e.Code == "InvalidBucketObjectLockConfiguration"
}

// NotLocked reports whether an answer says that an object has no retention.
func NotLocked(err error) bool {
	e, ok := errors.AsType[*ServerError](err)
	return ok && e.Code == "NoSuchObjectLockConfiguration"
}

// LockError says so of an error, if it is that.
func LockError(err error) error {
	if !MissesLock(err) {
		return err
	}
	return &remote.Error{Kind: remote.Unsupported, Err: fmt.Errorf("%w: %w", remote.ErrNoLock, err)}
}
