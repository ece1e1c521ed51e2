package file

import (
	"errors"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// renameNoReplace is for file systems without hard links, such as most SMB shares.
func renameNoReplace(root *os.Root, from, to string) (err error) {
	old, err := root.Open(path.Dir(from))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	folder, err := root.Open(path.Dir(to))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	err = unix.Renameat2(int(old.Fd()), path.Base(from), int(folder.Fd()), path.Base(to), unix.RENAME_NOREPLACE)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}
