package localenv

import (
	"io/fs"
	"os"
	"syscall"
)

// Stat is what the file system says about a file. Two equal Stats, of a time well before they were taken, are the same bytes.
type Stat struct {
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
	Size   int64  `json:"size"`
	Mode   uint32 `json:"mode"` // type and permissions, as in stat(2)
	UID    uint32 `json:"uid"`
	GID    uint32 `json:"gid"`
	Mtime  int64  `json:"mtime"` // nanoseconds since 1970
	Ctime  int64  `json:"ctime"`
}

// identity tells files apart, whatever their names.
type identity struct{ device, inode uint64 }

func (s Stat) identity() identity { return identity{s.Device, s.Inode} }

func statOf(info fs.FileInfo) Stat {
	s := info.Sys().(*syscall.Stat_t)
	return Stat{
		Device: s.Dev,
		Inode:  s.Ino,
		Size:   s.Size,
		Mode:   s.Mode,
		UID:    s.Uid,
		GID:    s.Gid,
		Mtime:  s.Mtim.Nano(),
		Ctime:  s.Ctim.Nano(),
	}
}

// fstat is the Stat of an open file as it is now.
func fstat(f *os.File) (Stat, error) {
	info, err := f.Stat()
	if err != nil {
		return Stat{}, err
	}
	return statOf(info), nil
}
