// Package restore brings an environment back: from a repository to a home that an application can open.
//
// It goes in five steps, and until the last one is done a marker file stands in the target that says so:
//
//   - Plan: the newest full backup that fits the target, and the fewest log segments that carry it there.
//   - Data: every file's map says which block stands where in which pack. What is needed of each pack is read forward, decoded,
//     compared block by block with the hashes of the map, and written to its place. Zeros are left as holes.
//   - Log: the segments are laid down as log files, each checked against its own checksum, against the bytes it shares with its neighbours and
//     against the links of the log itself, and cut at the record where the target's history ends.
//   - Recovery: libdb's alone loses files that were renamed, without a word. So the files are first laid under the names that they had when
//     the log begins, and the records that mislead it are amended in a copy of the log (bdb.History.Replay). The engine then recovers from
//     a scratch home of its own, whose links and DB_CONFIG lead to the target (see scratch).
//   - Check: recovery that ends well proves nothing. What must exist now is known from the manifest and from the log, so it is
//     looked for, by file id.
//
// A restore that was interrupted is taken up by running it again: blocks that are already right are not fetched.
//
// Everything in the target is reached through os.Root, and every name that the manifest or the log would have outside is refused before
// anything follows it. Memory does not grow with the environment: maps of 2^20 blocks at a time, with their hashes in a file,
// and two and a half MiB for each of the workers that fetch, decode, compare and write.
package restore
