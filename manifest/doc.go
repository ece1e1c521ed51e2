// Package manifest holds bdbvault's stored formats and the decisions that rest on them: names of objects, the repository
// file, backup manifests, block maps, packs, log segments, and the chain of segments that carries a backup to a moment.
// It is pure: bytes in, values out, no disk and no network, so that every decoder can be fuzzed and every decision tabled.
//
// # Objects and their names
//
// Everything stands below a prefix that the caller chooses:
//
//	repository.json                                            Repository
//	ENV/backups/20261120T053012Z-4f3a.json                     Manifest, the commit marker of one full backup
//	ENV/maps/HASH                                              Map: where every block of one file is stored
//	ENV/packs/HH/HASH                                          pack: chunks, end to end (HH: first two digits of HASH)
//	ENV/logs/TIMELINE/0000000007/START-END-TIME[-sealed]       segment: consecutive records of log file 7
//	ENV/condemned/20261120T060000Z-91bd.json                   Condemned: what one prune means to have deleted
//	ENV/holds/20261120T053012Z-4f3a.json                       Hold: no prune takes this backup
//	ENV/drills/20261121T040000Z-77ac.json                      Drill: what one restore drill did, and what it proved
//	ENV/damaged/packs/HH/HASH                                  Damaged: no backup refers to that object, likewise maps/… and logs/…
//
// HASH is the SHA-256 of the object's bytes in hexadecimal. Maps and packs begin with a random salt, so that equal content
// stored twice gets two names: a new object never shares the name of one that is being deleted. START, END and TIME (Unix
// seconds of the last commit inside, 0 if there is none or it can't be read) are ten decimal digits, which makes the order of the
// names the order of the log. The names alone say which moments can be restored: "-sealed" marks a segment that reaches
// the last record of its log file, without which a file that is followed by a later one is not known to be whole.
//
// # Pack
//
//	+----------+------------+---------+---------+--- ... ---+
//	| BDBVPAK1 | salt       | chunk 0 | chunk 1 |           |
//	| 8 bytes  | 16 bytes   | zstd    | zstd    |           |
//	+----------+------------+---------+---------+--- ... ---+
//
// A chunk is one zstd frame of at most MaxChunk bytes of whole blocks of one file, in file order. Packs carry no table: the
// maps say what is where.
//
// # Map
//
//	+----------+----------+--------------+----------------+----------------------------+
//	| BDBVMAP1 | salt     | table length | table          | hashes                     |
//	| 8 bytes  | 16 bytes | uint32 LE    | one zstd frame | 32 bytes per stored block  |
//	+----------+----------+--------------+----------------+----------------------------+
//
// The table is a sequence of unsigned varints and raw hashes:
//
//	block size, file size
//	number of packs, then per pack its 32-byte name
//	number of chunks, then per chunk: pack index, offset in the pack, stored length, raw length
//	number of runs, then per run: number of blocks, chunk index + 1 (0: the blocks are all zero and stored nowhere),
//	    and for a stored run the slot (index of a block in the chunk) of its first block
//
// Runs follow the file from its first block to its last. The hashes are the BLAKE3-256 of each stored block, in file order;
// zero blocks have none. The last block of a file may be short. Hashes stand uncompressed, so that a backup can look up its parent's
// without holding them in memory.
//
// # Segment
//
//	+----------+---------------+--------+----------------+------------------+
//	| BDBVSEG1 | header length | header | records        | SHA-256 of all   |
//	| 8 bytes  | uint32 LE     | JSON   | one zstd frame | that is before   |
//	+----------+---------------+--------+----------------+------------------+
//
// The header is a SegmentHeader. The records are the log file's own bytes from START to END.
//
// # Manifest, repository, condemned list, hold, mark of damage, record of a drill
//
// JSON of the form {"sha256": HEX, "FORMAT": {…}}: the checksum covers the bytes of the inner object exactly as they stand in the file,
// whose "format" field is the version. Readers refuse versions newer than they know, by name and number. FORMAT is "manifest",
// "repository", "condemned", "hold", "damaged" or "drill"; the fields are those of the types Manifest, Repository, Condemned, Hold, Damaged and Drill, with
// their JSON names.
// A condemned list embeds the manifests of the backups that expired, whole, and names objects without their prefixes: packs and maps by
// HASH, segments by what follows "logs/". The record of a drill is written once, when the drill has ended, for those that failed as well; it names at
// most MaxDrillDatabases databases and MaxDrillLines lines of damage, and counts all.
//
// # Retention
//
// Policy.Decide says which full backups stay and which segments, and why. A backup stays as long as its manifest says that the store keeps it locked. A pack or a map stays as long as the manifest of a backup that stays
// names it.
package manifest
