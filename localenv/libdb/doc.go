// Package libdb is the engine that calls the Berkeley DB library itself, the only package of the product that uses cgo. Where the
// program is built without cgo, Available is false and New fails; package dbutil serves then.
//
// It is meant to run in the child process of package engine: a crash inside the library is a crash of the process.
//
// What it asks of the library:
//   - A live environment is joined with no flags at all, so that nothing is created, recovered or registered; the library itself then
//     takes the subsystems that the environment was made with. Without DB_THREAD, too: a threaded handle that checkpoints the master
//     of a replication group would start the replication manager's threads in this process. (Such a checkpoint is refused.)
//   - Recovery opens a private environment with DB_RECOVER_FATAL, as db_recover -c does, and writes all pages before it is closed.
//   - Verification opens a private environment with nothing but a cache, so it reads files and can't touch a log or a region.
package libdb
