// Package archive is the way out: it takes a live environment on this disk into a repository. Backup makes a full backup, Ship sends
// the log records that are new.
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
// # State
//
// The state directory caches the parent's manifest and maps, the place up to which the log is shipped, and the packs that an interrupted run
// finished. It is a cache: losing it costs time and requests, never data.
package archive
