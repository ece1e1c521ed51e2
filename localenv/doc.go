// Package localenv is a Berkeley DB environment as it lies on this machine's disks: its DB_CONFIG, its directories and files, its pages, its log. It only reads
// files. It never joins the environment, maps no region, takes no lock that libdb knows of, and may be killed at any moment.
//
// [Open] finds the directories. [Env.List] finds the files that a backup needs, [Env.OpenFile] opens one of them as a [Source] and finds out what it
// is. [Env.OpenLog] opens the log.
//
// # Reading what somebody writes
//
// On Linux, reading a page of a file while another process writes it can give the beginning of the new page and the end of the old, or the
// reverse: neither ext4 nor btrfs nor tmpfs makes a buffered read wait for a write. Such a page is worse than a missing one, because
// recovery believes its LSN. So everything is read by barrier double read:
//
//	read the range
//	lseek(fd, offset, SEEK_DATA)    waits for any write in flight, as both take the inode's lock
//	read the range again
//	equal pages are good; the others are read again, with the barrier between, until two reads in a row are equal
//
// A write that tore the first read has ended at the barrier, so a second read that is torn was torn by another write, and differs. Without the barrier a
// writer that loses its processor in mid-copy makes both reads see the same torn page.
//
// Then the pages are checked: page number, type and LSN always, checksums and HMACs where there are any, see package bdb. What fails is read
// again for a while; what goes on failing is damaged on the disk.
package localenv
