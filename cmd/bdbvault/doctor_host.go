package main

import (
	"fmt"
	"math"
	"time"

	"bdbvault/localenv"
)

const (
	// wantedMemory is more than bdbvault was measured to take for a backup or a restore of whatever size (README, Speed).
	wantedMemory = 256 << 20
	// wantedFiles is what is opened beside the log files, all of which a backup holds.
	wantedFiles = 256
	// fullSoon is how soon a disk may be full of log before that is worth a word, littleSpace what is little on any.
	fullSoon    = 24 * time.Hour
	littleSpace = 0.05
)

// lookAtHost judges what this host gives.
func (d *doctor) lookAtHost() {
	checkFileSystems(d.add("file-system", "file system"), d.disks())
	d.checkSpace(d.add("space", "free space"))
	d.checkState(d.add("state", "state directory"))
	limits := localenv.HostLimits()
	checkMemory(d.add("memory", "memory"), limits)
	files := 0
	if d.log != nil {
		files = d.log.Files
	}
	checkOpenFiles(d.add("open-files", "open files"), limits, files)
	synchronised, err := localenv.ClockSynchronised()
	checkClock(d.add("clock", "clock"), d.log, time.Now(), synchronised || err != nil)
}

// disks are the file systems of the environment, each once.
func (d *doctor) disks() (list []localenv.Disk) {
	seen := map[uint64]bool{}
	for _, dir := range append([]localenv.Dir{d.env.LogDir}, d.env.Dirs...) {
		disk, err := localenv.DiskOf(dir.Path)
		if err == nil && !seen[disk.Device] {
			seen[disk.Device] = true
			list = append(list, disk)
		}
	}
	return list
}

func checkFileSystems(c *check, disks []localenv.Disk) {
	var all, odd []string
	for _, disk := range disks {
		name := firstText(disk.Type, "unknown type")
		all = append(all, name)
		if !disk.Calm() {
			odd = append(odd, fmt.Sprintf("%s (%s)", name, disk.Path))
		}
	}
	switch {
	case len(disks) == 0:
		c.unsure("not known", "")
	case len(odd) > 0:
		c.warn(some(odd), "That two reads with a barrier between find every torn page was measured on ext4, XFS, btrfs and tmpfs. Here let databases have checksums, or back up on the host that has the disk.")
	default:
		c.note("%s", some(all))
	}
}

// checkSpace looks at the disks of the environment: a disk that fills up stops the application, and what was not shipped by then has no other copy.
func (d *doctor) checkSpace(c *check) {
	file := int64(0)
	if d.log != nil {
		file = int64(d.log.FileSize)
	}
	judgeSpace(c, d.disks(), growth(d.log), file)
}

func judgeSpace(c *check, disks []localenv.Disk, rate float64, logFile int64) {
	const advice = "Make room. bdbvault watch --remove-shipped-logs removes log files that are stored and that recovery no longer needs."
	if len(disks) == 0 {
		c.unsure("not known", "")
		return
	}
	worst := fine
	for i, disk := range disks { // the first has the log
		found := fmt.Sprintf("%s of %s on %s", size(disk.Free), size(disk.Size), disk.Path)
		full := time.Duration(math.MaxInt64)
		if rate > 0 && i == 0 {
			full = time.Duration(min(float64(disk.Free)/rate, 1e9) * float64(time.Second))
		}
		switch {
		case i == 0 && disk.Free < 2*logFile:
			c.fail(found+": there is hardly room for the next log file", advice)
			return
		case full < fullSoon:
			c.warn(fmt.Sprintf("%s: full of log in %s if it grows on like this", found, duration(full)), advice)
			worst = warning
		case float64(disk.Free) < littleSpace*float64(disk.Size):
			c.warn(found, advice)
			worst = warning
		case worst == fine:
			c.note("%s", found)
		}
	}
}

// checkState looks at the directory of the local state: a hash of 32 bytes for each block of the environment, and what is being stored.
func (d *doctor) checkState(c *check) {
	dir, err := d.stateDir()
	if err == nil {
		err = localenv.MayWrite(dir)
	}
	if err != nil {
		c.fault(err)
		c.Advice = "Run bdbvault as a user who may write there, or choose another directory: --state-dir DIR."
		return
	}
	disk, err := localenv.DiskOf(dir)
	switch {
	case err != nil:
		c.fault(err)
	case disk.Free < d.survey.Bytes/50:
		c.warn(fmt.Sprintf("%s free for %s", size(disk.Free), dir), "Of an environment of this size it may take that much. Make room, or choose another: --state-dir DIR.")
	default:
		c.note("%s, %s free", dir, size(disk.Free))
	}
}

func checkMemory(c *check, l localenv.Limits) {
	const advice = "A backup and a restore take up to 200 MiB, whatever the size of the environment."
	switch {
	case l.Memory != 0 && l.Memory < wantedMemory:
		c.warn("limited to "+size(int64(l.Memory))+" by the control group", advice)
	case l.Available != 0 && l.Available < wantedMemory:
		c.warn(size(int64(l.Available))+" available", advice)
	case l.Available == 0:
		c.unsure("not known", "")
	case l.Memory != 0:
		c.note("%s available, limited to %s", size(int64(l.Available)), size(int64(l.Memory)))
	default:
		c.note("%s available", size(int64(l.Available)))
	}
}

func checkOpenFiles(c *check, l localenv.Limits, logFiles int) {
	if uint64(logFiles+wantedFiles) > l.OpenFiles {
		c.fail(fmt.Sprintf("limited to %d, and there are %s", l.OpenFiles, count(logFiles, "log file")),
			"A backup holds all log files open. Raise the limit (ulimit -n, LimitNOFILE=), or remove log files that are stored.")
		return
	}
	c.note("up to %d", l.OpenFiles)
}

func checkClock(c *check, l *localenv.LogSurvey, now time.Time, kept bool) {
	switch {
	case l != nil && l.LastCommit.Sub(now) > 2*time.Second:
		c.warn(fmt.Sprintf("the newest commit is dated %s ahead of it", duration(l.LastCommit.Sub(now).Round(time.Second))),
			"It was set back. Until it has caught up, restore by --lsn or --before-txn, not by --at.")
	case !kept:
		c.note("%s; nothing keeps it right (no NTP), says the kernel", stamp(now))
	default:
		c.note("%s", stamp(now))
	}
}
