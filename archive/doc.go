// Package archive is the way out: it takes a live environment on this disk into a repository. Backup makes a full backup, Ship sends
// the log records that are new, and a Watcher does both for as long as it runs.
//
// # Backup
//
//	dispatch ──► read, check, hash (workers) ──► sequence ──► compress (workers) ──► pack ──► upload
//
// The dispatcher cuts every file into extents of 1 MiB. Workers read an extent (localenv's barrier double read, page checks),
// hash its blocks and compare them with the parent backup's. The sequencer takes the extents back in file order, writes
// the file's map and fills chunks with the blocks that are new; workers compress chunks; the packer appends them, again in order, and hands full packs
// to uploaders. All buffers come from two pools of fixed size, which is what bounds memory, whatever the size of the environment:
//
//	extents, chunks        (2·workers + 2) × 1 MiB of each, and as much for what chunks are compressed to
//	packs                  (uploads + 1) × 17 MiB
//	hashes                 on disk, in an unlinked file of the state directory
//	parent's maps          of the files that are being read, some 40 bytes per row of blocks
//	new maps               of all files that changed: some 80 bytes per chunk and 24 per row of blocks
//
// What grows with the environment is the last of these, by about a ten-thousandth of its size.
//
// When every page has been read, the log is shipped up to its end as it is then; that end is the backup's consistent-at. Maps follow, then
// a last look at the store that everything named exists, then the manifest: the one object that makes all of it a backup.
//
// # Watch
//
//	kernel, clock ──► listen: take in new log files ──► round: look, ship, begin a full backup, remove log files
//	                                                      flag: hold hot-backup-in-progress in a child
//
// A sitting is the watch of one environment as it was found. It holds the log files from the shipped end on and keeps one shipper: the place, and the hash
// of the log file up to there. To see that nothing happened takes a few system calls; to ship what did, one request. Before anything is stored, the bytes
// shortly before the known end are read again with those that are new, in one walk and one hash, and the regions have to be those they were: recovery zeroes
// the end of the log in place and may write other records there. Where that is in doubt the log file is hashed from its beginning. A log that does not
// continue what is stored makes a full backup due at once, on a new timeline.
//
// While the store is away nothing is queued but the log files themselves, which are held open and count against the process's files. Log files that the
// application removes meanwhile keep their space until they are stored; when the disk is nearly full they are let go, which breaks the chain and
// spares the application.
//
// Tails of a log file that is written slowly are merged as they are sent: see tail.
//
// # State
//
// The state directory caches the parent's manifest and maps, the place up to which the log is shipped, and the packs that an interrupted run
// finished. It is a cache: losing it costs time and requests, never data.
package archive
