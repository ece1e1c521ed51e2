package archive

import (
	"errors"
	"time"

	"github.com/fsnotify/fsnotify"
)

// SettleAtOnce lets tests trust time stamps that are younger than settled, on a file system whose time stamps are fine enough.
func SettleAtOnce() { settled = time.Millisecond }

// Deaf has watches hear of no change, as where the kernel has no inotify instance left.
func Deaf() (undo func()) {
	newEar = func() (*fsnotify.Watcher, error) { return nil, errors.New("too many open files") }
	return func() { newEar = fsnotify.NewWatcher }
}

// DiskFull has watches take every file system for nearly full.
func DiskFull() (undo func()) {
	before := leastFree
	leastFree = 101
	return func() { leastFree = before }
}

// LookAround makes a watch look more often at what others store.
func LookAround(d time.Duration) (undo func()) {
	old := lookAround
	lookAround = d
	return func() { lookAround = old }
}

// ErrStale is that of a prune that stood still for too long.
var ErrStale = errStale

// SmallMemory bounds the manifests that a prune remembers, and those that it takes at once, in bytes.
func SmallMemory(remembered, expire int64) (undo func()) {
	r, e := maxRemembered, maxExpire
	maxRemembered, maxExpire = remembered, expire
	return func() { maxRemembered, maxExpire = r, e }
}
