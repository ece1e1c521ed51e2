package remote

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrNoLock says that nothing can be locked there.
var ErrNoLock = errors.New("objects can't be locked there")

// LockMode says who may lift a lock before its time: nobody with Compliance; with Governance those who are explicitly allowed to.
type LockMode string

// The modes that S3 knows.
const (
	Governance LockMode = "GOVERNANCE"
	Compliance LockMode = "COMPLIANCE"
)

// Retention keeps one version of an object from being deleted or replaced until a moment. The zero value keeps from nothing.
type Retention struct {
	Mode  LockMode
	Until time.Time
}

// Locker is what a driver of a store with object lock does besides. Keys are those of Driver; the newest version is meant.
type Locker interface {
	// Retention of an object: the zero value if it is not locked. NotFound if there is none such.
	Retention(ctx context.Context, key string) (Retention, error)

	// Retain locks an object. The store refuses (Denied) to shorten or soften what is in force, and a bucket without object lock is Unsupported.
	Retain(ctx context.Context, key string, r Retention) error
}

// Facts are what a bucket is set to.
type Facts struct {
	Versioning  string        // "Enabled", "Suspended", or "" if it was never on
	ObjectLock  bool          // objects can be locked
	DefaultMode LockMode      // of objects that are put without a retention of their own; "" if they are not locked
	DefaultFor  time.Duration // how long then
}

// Inspector is a driver that can tell a bucket's facts.
type Inspector interface {
	Facts(ctx context.Context) (Facts, error)
}

// Versioned is a driver whose store can keep replaced and deleted versions.
type Versioned interface {
	// AsOf is a view of the store as it was at t: of each object the newest version not younger than t, unless it is a delete
	// marker. It takes no writes (ReadOnly). List tells the earlier of t and the store's clock for a date.
	AsOf(t time.Time) Driver

	// Versions calls fn for every version of the objects whose keys start with prefix, by ascending key and, within a key, from the newest to the oldest.
	Versions(ctx context.Context, prefix string, fn func(Version) error) error
}

// Version is one version of an object, or the mark that it was deleted.
type Version struct {
	Info
	ID      string
	Deleted bool // a delete marker; Modified says when
}

// Retention tells how long an object is locked. Unsupported if the store has no locks.
func (b *Bucket) Retention(ctx context.Context, key string) (Retention, error) {
	var r Retention
	err := b.lock(ctx, key, func(ctx context.Context, l Locker, full string) (err error) {
		r, err = l.Retention(ctx, full)
		return err
	})
	return r, err
}

// ExtendRetention locks an object for at least as long as r says, in r's mode if it is not locked yet, and returns what is in force then. A lock that
// is longer stays, and so does the mode of one: to change that takes rights that nobody who backs up should have.
func (b *Bucket) ExtendRetention(ctx context.Context, key string, r Retention) (Retention, error) {
	err := b.retain(ctx, key, r)
	if KindOf(err) != Denied {
		return r, err
	}
	// Either we may not, or the lock in force is longer or of another mode.
	old, lookErr := b.Retention(ctx, key)
	switch {
	case lookErr != nil || old.Until.IsZero():
		return old, err
	case !old.Until.Before(r.Until):
		return old, nil
	case old.Mode == r.Mode:
		return old, err
	}
	r.Mode = old.Mode
	return r, b.retain(ctx, key, r)
}

func (b *Bucket) retain(ctx context.Context, key string, r Retention) error {
	return b.lock(ctx, key, func(ctx context.Context, l Locker, full string) error { return l.Retain(ctx, full, r) })
}

func (b *Bucket) lock(ctx context.Context, key string, try func(context.Context, Locker, string) error) error {
	full, err := b.checkKey(opLock, key)
	if err != nil {
		return err
	}
	l, ok := b.d.(Locker)
	if !ok {
		return b.fail(ctx, opLock, key, &Error{Kind: Unsupported, Err: ErrNoLock})
	}
	return b.do(ctx, opLock, key, b.newPatience(ctx), func(ctx context.Context) error { return try(ctx, l, full) })
}

// Facts tells what the bucket is set to. Unsupported if the store has no such settings.
func (b *Bucket) Facts(ctx context.Context) (f Facts, err error) {
	i, ok := b.d.(Inspector)
	if !ok {
		return f, b.unsupported(ctx, opFacts, "", "it has neither versions nor locks")
	}
	err = b.do(ctx, opFacts, "", b.newPatience(ctx), func(ctx context.Context) (err error) {
		f, err = i.Facts(ctx)
		return err
	})
	return f, err
}

// AsOf is the repository as it was at t, to be read only; what it does counts as b's. Unsupported if the store keeps no versions.
func (b *Bucket) AsOf(ctx context.Context, t time.Time) (*Bucket, error) {
	v, ok := b.d.(Versioned)
	if !ok {
		return nil, b.unsupported(ctx, opOpen, "", "it keeps no versions")
	}
	opt := b.opt
	opt.Prefix = b.prefix
	opt.Name = fmt.Sprintf("%s as of %s", b.opt.Name, t.UTC().Format(time.RFC3339))
	then := New(v.AsOf(t), opt)
	then.stats = b.stats
	return then, nil
}

// Versions calls fn for every version of the objects whose keys start with prefix, from the newest to the oldest of each key. Unsupported if the store keeps none. It begins
// anew after a fault, so fn may be told of a version twice.
func (b *Bucket) Versions(ctx context.Context, prefix string, fn func(Version) error) error {
	v, ok := b.d.(Versioned)
	if !ok {
		return b.unsupported(ctx, opList, prefix, "it keeps no versions")
	}
	var stop error
	err := b.do(ctx, opList, prefix, b.newPatience(ctx), func(ctx context.Context) error {
		err := v.Versions(ctx, b.prefix+prefix, func(v Version) error {
			v.Key = v.Key[len(b.prefix):]
			stop = fn(v)
			return stop
		})
		if stop != nil {
			return &Error{Kind: Canceled, Err: stop}
		}
		return err
	})
	if stop != nil {
		return stop
	}
	return err
}

func (b *Bucket) unsupported(ctx context.Context, op operation, key, why string) error {
	return b.fail(ctx, op, key, &Error{Kind: Unsupported, Err: errors.New(why)})
}
