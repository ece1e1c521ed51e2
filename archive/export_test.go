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
