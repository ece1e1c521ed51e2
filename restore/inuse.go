package restore

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Holder is a process that has a file of an environment open or mapped.
type Holder struct {
	PID     int    // 0: one that can't be seen from here, of another user or in another container
	Command string // may be empty
	File    string // in the target
}

func (h Holder) String() string {
	if h.PID == 0 {
		return fmt.Sprintf("a process that can't be seen from here, of another user or in another container, has %s open", h.File)
	}
	return fmt.Sprintf("process %d (%s) has %s open", h.PID, h.Command, h.File)
}

// InUseError says that somebody has the environment open that was to be restored into.
type InUseError struct {
	Dir     string
	Holders []Holder // one file of each
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

// inode is a file as the kernel knows it.
type inode struct{ dev, ino uint64 }

// openFiles are files of which it is to be found out who has them open.
type openFiles struct {
	byInode map[inode]string // name in the target
	bases   map[string]bool  // last parts of their names
	hidden  int              // processes that could not be looked into
}

// holders finds out who has regular files of the target open: regions, databases, log, or whatever the application keeps there. Our own names
// are left out, so that whoever restores may hold them. Processes of other users can be looked into by root only: that they have a file open
// shows by a lease. Where there are no leases, hidden is how many processes could not be looked into.
func (t *target) holders() (list []Holder, hidden int, err error) {
	o := &openFiles{byInode: map[inode]string{}, bases: map[string]bool{}}
	err = t.each(func(name string, st *syscall.Stat_t) {
		if !strings.HasPrefix(path.Base(name), ownPrefix) {
			o.byInode[inode{st.Dev, st.Ino}] = name
			o.bases[path.Base(name)] = true
		}
	})
	if err != nil {
		return nil, 0, err
	}
	if list, err = o.scan("/proc"); err != nil || len(list) > 0 {
		return list, o.hidden, err
	}
	name, known := t.leased(o.byInode)
	if name != "" {
		list = append(list, Holder{File: name})
	}
	if known {
		o.hidden = 0
	}
	return list, o.hidden, nil
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

// scan looks at every process but this one.
func (o *openFiles) scan(proc string) (list []Holder, err error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, fmt.Errorf("find out who has the environment open: %w", err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		dir := filepath.Join(proc, e.Name())
		file, err := o.open(dir)
		if file == "" && err == nil {
			file, err = o.mapped(dir)
		}
		if errors.Is(err, fs.ErrPermission) {
			o.hidden++
		}
		if file != "" {
			list = append(list, Holder{PID: pid, Command: command(dir), File: file})
		}
	}
	return list, nil
}

// command is the name of the process in dir.
func command(dir string) string {
	name, err := os.ReadFile(filepath.Join(dir, "comm"))
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(name))
}

// open names one of the files that the process in dir has a descriptor of. Names are looked at before files, because only
// the file systems that we know to answer should be asked.
func (o *openFiles) open(dir string) (file string, err error) {
	entries, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		at := filepath.Join(dir, "fd", e.Name())
		to, err := os.Readlink(at)
		if err != nil || !o.bases[path.Base(to)] {
			continue
		}
		var st unix.Stat_t
		if unix.Stat(at, &st) == nil {
			if name, ok := o.byInode[inode{st.Dev, st.Ino}]; ok {
				return name, nil
			}
		}
	}
	return "", nil
}

// mapped names one of the files that the process in dir has in its memory, as regions are. Some file systems show another device here than
// elsewhere, so inode and name have to do.
func (o *openFiles) mapped(dir string) (file string, err error) {
	f, err := os.Open(filepath.Join(dir, "maps"))
	if err != nil {
		return "", err
	}
	defer f.Close() // only read
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		words := strings.Fields(lines.Text()) // addresses, rights, offset, device, inode, path
		if len(words) < 6 || !o.bases[path.Base(words[5])] {
			continue
		}
		ino, err := strconv.ParseUint(words[4], 10, 64)
		if err != nil {
			continue
		}
		for is, name := range o.byInode {
			if is.ino == ino && path.Base(name) == path.Base(words[5]) {
				return name, nil
			}
		}
	}
	return "", lines.Err()
}

// leasePatience is how long somebody may have a file open who only looks.
const leasePatience = time.Second

// leased names a file that anybody has open, whoever it is: the kernel grants a write lease only to one who is alone. Leases are not to be had
// everywhere, nor for others' files; then known is false.
func (t *target) leased(files map[inode]string) (held string, known bool) {
	for end := time.Now().Add(leasePatience); ; time.Sleep(20 * time.Millisecond) {
		held, known = "", true
		for _, name := range files {
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
