// Package dbutil is the engine that runs Berkeley DB's own programs: db_recover, db_checkpoint, db_verify and db_stat. It serves hosts
// whose environments belong to another release than the library that this program was built with, and programs built without cgo.
//
// What it can't do, and why:
//   - HotBackup. No program sets the hot-backup flag for others to use; only db_hotbackup sets it, for itself. ErrNotSupported.
//   - Passwords. The programs take one as an argument only (-P), and although they wipe it, anybody on the host can read it until then.
//     No setting in DB_CONFIG, environment variable or input stands in for it. So an engine with a password is ErrNotSupported.
//
// How the programs are kept from doing harm:
//   - db_checkpoint -1 opens a private environment over live files when it can't join the environment, and writes a checkpoint into a
//     log that is not its own. Without -1 it does not, so it is started to checkpoint by amount of log (-k 1) and stopped by SIGTERM when it
//     says that it has done so. It catches SIGTERM, leaves the environment and only then dies of it. A checkpoint is thus skipped if less
//     than one KiB was logged since the last.
//   - db_stat -l does the same as db_checkpoint -1, so the log's end is taken from db_stat -e.
//   - db_verify joins an environment that has region files, so such a home is refused.
//   - The programs that join a live environment are never killed. Those that recover and verify are, when the call is cancelled: they
//     would take SIGTERM as a request and go on.
package dbutil
