package localenv

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

	"golang.org/x/sys/unix"
)

// Holder is a process that has a file of an environment open or mapped.
type Holder struct {
	PID     int    // 0: one that can't be seen from here, of another user or in another container
	Command string // may be empty
	File    string // as the caller names it
}

func (h Holder) String() string {
	if h.PID == 0 {
		return fmt.Sprintf("a process that can't be seen from here, of another user or in another container, has %s open", h.File)
	}
	return fmt.Sprintf("process %d (%s) has %s open", h.PID, h.Command, h.File)
}

// openFiles are files of which it is to be found out who has them open.
type openFiles struct {
	byInode map[identity]string
	bases   map[string]bool // last parts of their names
	hidden  int             // processes that could not be looked into
}

// Holders finds the processes, but this one, that have any of the files open or mapped, and one file of each. Of the files' Stats only Device and Inode
// matter. Processes of other users can be looked into by root only: hidden counts those that could not.
func Holders(files map[string]Stat) (list []Holder, hidden int, err error) {
	o := &openFiles{byInode: map[identity]string{}, bases: map[string]bool{}}
	for name, stat := range files {
		o.byInode[stat.identity()] = name
		o.bases[path.Base(name)] = true
	}
	list, err = o.scan("/proc")
	return list, o.hidden, err
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
			if name, ok := o.byInode[identity{st.Dev, st.Ino}]; ok {
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
			if is.inode == ino && path.Base(name) == path.Base(words[5]) {
				return name, nil
			}
		}
	}
	return "", lines.Err()
}
