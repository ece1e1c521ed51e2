package localenv

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Disk is a file system as seen from a directory on it.
type Disk struct {
	Path   string // the directory
	Type   string // as mount(8) names it: ext4, nfs4, fuse.sshfs; "" if /proc does not tell
	Size   int64  // bytes
	Free   int64  // bytes that this user may still fill
	Device uint64 // tells file systems apart
}

// Calm reports whether the barrier between two reads of a page was measured to work on such a file system: no torn page was accepted there.
func (d Disk) Calm() bool {
	return slices.Contains([]string{"ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs"}, d.Type)
}

// DiskOf looks at the file system of a directory, or of the nearest one above it that exists.
func DiskOf(dir string) (Disk, error) {
	dir, err := existing(dir)
	if err != nil {
		return Disk{}, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Disk{}, fmt.Errorf("file system of %s: %w", dir, err)
	}
	stat, err := statPath(dir)
	if err != nil {
		return Disk{}, err
	}
	d := Disk{Path: dir, Size: int64(st.Blocks) * st.Bsize, Free: int64(st.Bavail) * st.Bsize, Device: stat.Device}
	d.Type = mountType(dir)
	return d, nil
}

// existing is dir, or what of it there is, free of symbolic links.
func existing(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for {
		real, err := filepath.EvalSymlinks(dir)
		if err == nil || dir == filepath.Dir(dir) {
			return real, err
		}
		dir = filepath.Dir(dir)
	}
}

// mountType is the type of the file system that is mounted nearest above dir.
func mountType(dir string) string {
	mounts, err := procfs.GetMounts()
	if err != nil {
		return ""
	}
	mounts = slices.DeleteFunc(mounts, func(m *procfs.MountInfo) bool { return m.MountPoint != "/" && !within(dir, m.MountPoint) })
	if len(mounts) == 0 {
		return ""
	}
	// Of two mounted on one place the later one is seen.
	slices.SortStableFunc(mounts, func(a, b *procfs.MountInfo) int { return cmp.Compare(len(a.MountPoint), len(b.MountPoint)) })
	return mounts[len(mounts)-1].FSType
}

// MayWrite reports whether this process may make files in dir, or make dir itself. It tries nothing.
func MayWrite(dir string) error {
	at, err := existing(dir)
	if err != nil {
		return err
	}
	if err := unix.Faccessat(unix.AT_FDCWD, at, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("write to %s: %w", at, err)
	}
	return nil
}

// Limits are what the system grants this process. 0: not limited, or not known.
type Limits struct {
	Memory    uint64 // bytes, of its control group
	Available uint64 // bytes of memory that the host could still give
	OpenFiles uint64
}

// HostLimits asks the system.
func HostLimits() Limits {
	var l Limits
	if limit, err := memlimit.FromCgroup(); err == nil {
		l.Memory = limit
	}
	if proc, err := procfs.NewDefaultFS(); err == nil {
		if m, err := proc.Meminfo(); err == nil && m.MemAvailableBytes != nil {
			l.Available = *m.MemAvailableBytes
		}
	}
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil {
		l.OpenFiles = files.Max // Go raises the soft limit to it
	}
	return l
}

// ClockSynchronised reports whether the kernel believes that somebody keeps its clock right.
func ClockSynchronised() (bool, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, err
}
