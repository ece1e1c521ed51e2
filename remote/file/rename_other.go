//go:build !linux

package file

import (
	"os"

	"golang.org/x/sys/unix"
)

// renameNoReplace is for file systems without hard links; only Linux can do it.
func renameNoReplace(_ *os.Root, from, to string) error {
	return &os.LinkError{Op: "rename", Old: from, New: to, Err: unix.ENOTSUP}
}
