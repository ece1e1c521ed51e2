package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bdbvault/localenv"
)

// InUseError says that somebody has the environment open that was to be restored into.
type InUseError struct {
	Dir     string
	Holders []localenv.Holder // one file of each
}

func (e *InUseError) Error() string {
	const most = 5
	var list []string
	for i, h := range e.Holders {
		if i == most {
			list = append(list, fmt.Sprintf("and %d more", len(e.Holders)-most))
			break
		}
		list = append(list, h.String())
	}
	return fmt.Sprintf("restore into %s: the environment is in use: %s", e.Dir, strings.Join(list, "; "))
}

// holders finds out who has regular files of the target open: regions, databases, log, or whatever the application keeps there. Our own names
// are left out, so that whoever restores may hold them. Processes of other users can be looked into by root only: that they have a file open
// shows by a lease. Where there are no leases, hidden is how many processes could not be looked into.
func (t *target) holders() (list []localenv.Holder, hidden int, err error) {
	files := map[string]localenv.Stat{}
	err = t.each(func(name string, st *syscall.Stat_t) {
		if !strings.HasPrefix(path.Base(name), ownPrefix) {
			files[name] = localenv.Stat{Device: st.Dev, Inode: st.Ino}
		}
	})
	if err != nil {
		return nil, 0, err
	}
	if list, hidden, err = localenv.Holders(files); err != nil || len(list) > 0 {
		return list, hidden, err
	}
	name, known := t.leased(files)
	if name != "" {
		list = append(list, localenv.Holder{File: name})
	}
	if known {
		hidden = 0
	}
	return list, hidden, nil
}

// ownPrefix begins the names that are ours.
const ownPrefix = ".bdbvault-"

// each calls do for every regular file in the target.
func (t *target) each(do func(name string, st *syscall.Stat_t)) error {
	return t.root.walk(".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := t.root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		do(name, info.Sys().(*syscall.Stat_t))
		return nil
	})
}

// leasePatience is how long somebody may have a file open who only looks.
const leasePatience = time.Second

// leased names a file that anybody has open, whoever it is: the kernel grants a write lease only to one who is alone. Leases are not to be had
// everywhere, nor for others' files; then known is false.
func (t *target) leased(files map[string]localenv.Stat) (held string, known bool) {
	for end := time.Now().Add(leasePatience); ; time.Sleep(20 * time.Millisecond) {
		held, known = "", true
		for name := range files {
			err := t.lease(name)
			if errors.Is(err, unix.EAGAIN) {
				held = name
			}
			known = known && (err == nil || errors.Is(err, unix.EAGAIN))
		}
		if held == "" || time.Now().After(end) {
			return held, known
		}
	}
}

// lease takes a write lease and gives it back.
func (t *target) lease(name string) error {
	f, err := t.root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close() // only read; gives the lease back
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	return err
}
