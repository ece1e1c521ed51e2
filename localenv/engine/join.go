package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"bdbvault/localenv/bdb"
)

// regionName is the file that every environment in shared memory has, also one whose regions are System V segments.
const regionName = "__db.001"

// CheckJoinable refuses what must not even be tried, before anything is touched: a home without region files, where joining would
// have to create something, and one whose DB_CONFIG turns joining into something else, because the engine adds the flags in there to
// those that it is given. The error is ErrNotJoinable.
func CheckJoinable(home string) error {
	refuse := func(why string) error {
		return &EngineError{Op: "join " + home, Kind: ErrNotJoinable, Text: []string{why}}
	}
	switch _, err := os.Stat(filepath.Join(home, regionName)); {
	case errors.Is(err, fs.ErrNotExist):
		return refuse("it has no region files: no process has it open, or it is private to one")
	case err != nil:
		return refuse(err.Error())
	}
	switch c, err := readConfig(home); {
	case err != nil:
		return refuse(err.Error())
	case c.Private:
		return refuse("DB_CONFIG makes it private (set_open_flags db_private)")
	case c.Register:
		return refuse("DB_CONFIG would register this process (set_open_flags db_register), and its death would force a recovery")
	}
	return nil
}

// Regions identifies the region files of an environment: an application that makes them anew gets another file.
type Regions struct{ dev, inode uint64 }

// RegionsOf looks at the region files that home has now. None, or none that can be seen, are the zero Regions.
func RegionsOf(home string) Regions {
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(home, regionName), &st); err != nil {
		return Regions{}
	}
	return Regions{dev: uint64(st.Dev), inode: st.Ino}
}

// LogPosition is what the shared log region believes.
type LogPosition struct {
	End    bdb.LSN // where the next record will go
	Synced bdb.LSN // everything before is on stable storage
}

// CheckLogEnd compares the region's belief with the log on disk, which it looks at before and after. The region of a live
// environment is never behind what could be read before it was asked, and what it holds for synced can be read afterwards. Anything
// else is a region that was left behind by a crash: ErrStaleRegion.
func CheckLogEnd(ctx context.Context, home string, logEnd func(context.Context) (bdb.LSN, error), position func() (LogPosition, error)) error {
	if logEnd == nil {
		return nil
	}
	before, err := logEnd(ctx)
	if err != nil {
		return err
	}
	region, err := position()
	if err != nil {
		return err
	}
	after, err := logEnd(ctx)
	if err != nil {
		return err
	}
	synced := region.Synced
	if synced.Offset == 0 && synced.File > 0 {
		synced = bdb.LSN{File: synced.File - 1} // a new log file, of which nothing is written yet
	}
	if !region.End.Before(before) && !after.Before(synced) {
		return nil
	}
	return &EngineError{Op: "join " + home, Kind: ErrStaleRegion, Text: []string{fmt.Sprintf(
		"the log ends at %s, the regions say %s (synced %s)", after, region.End, region.Synced)}}
}
