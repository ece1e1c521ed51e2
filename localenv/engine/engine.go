// Package engine runs Berkeley DB's own code where nothing else will do: to hold the hot-backup flag and take a checkpoint in a
// live environment, to recover restored files, and to verify databases. Package libdb does so through the library, package dbutil
// through the db_ programs; both implement Engine.
//
// An engine never runs in the process that wants something of it. Start starts the program once more as a child and returns a
// Client, which is an Engine itself and passes each call on; in the child, Serve receives the calls and hands them to the real
// engine. Two things are won. A crash inside libdb, which recovery of damaged or unlucky logs can bring about, ends the child and
// becomes an error here. And an environment that is joined is left properly, however the parent goes: any process that joins an
// environment shares its mutexes, and one that dies holding a mutex puts the application to sleep for ever.
//
// # What the child does to stay harmless
//
// It leads its own session, ignores SIGINT, SIGTERM, SIGHUP and SIGPIPE, and, if it serves a live environment, asks to be the last
// that the kernel kills for memory. It joins the environment at the first call that needs it, once, and sits idle between calls; a
// process that dies idle harms nothing, except that the hot-backup flag stays set, which costs the application only what bulk
// transactions then log. When the parent's end of the pipe closes, for whatever reason, the child finishes the call that is
// running, resets the flag, closes the environment and exits.
//
// The client never kills a child that serves a live environment. A call on it that is not answered in time is reported, as a
// *HungError, and left alone. The risk that remains is that somebody else kills the child, or that it crashes, in the middle of a
// call: joining, setting or resetting the flag, and the checkpoint. Each of them is short but for the checkpoint.
//
// A child that recovers or verifies works on files that nobody else has open. It can be killed at any time, and is, when the
// context is cancelled; recovery killed half way leaves a home that is good for nothing, which ErrUnusable says.
//
// # Messages
//
// Parent and child exchange frames: the length of a JSON object as four bytes, big endian, then the object, at most 1 MiB. The
// child's standard input carries calls, its standard output everything it has to say; what it writes to standard error goes into
// the errors that tell of its death. The first frame of the parent is the set-up, with the password, so that the password never
// stands in an argument list or in an environment variable.
//
//	parent                          child
//	setup {home, password, ...}  →
//	                             ←  ready {version}
//	call {id, op, ...}           →
//	                             ←  progress, text, note {id}
//	                             ←  ask {id}                      where does the log end?
//	answer {id, LSN}             →
//	                             ←  held {id}                     the flag is set (op "hot-backup")
//	release {id}                 →
//	                             ←  result {id, error}
package engine

import (
	"context"
	"os"
	"time"

	"bdbvault/localenv/bdb"
)

// Engine is what is wanted of Berkeley DB's own code. One made for a live environment (Options.Home) can do HotBackup and
// Checkpoint, one made for none can do Recover and Verify; the other calls fail with ErrNotSupported.
type Engine interface {
	// Version names the code that runs, as "libdb 5.3.28".
	Version() string

	// HotBackup joins the live environment, sets DB_HOTBACKUP_IN_PROGRESS, which makes transactions of the kind DB_TXN_BULK log
	// everything, calls fn, and resets the flag, whether fn fails or ctx is cancelled. Setting the flag runs a checkpoint if a bulk
	// transaction is active. An environment that can't be joined is ErrNotJoinable, and fn is not called.
	HotBackup(ctx context.Context, fn func(context.Context) error) error

	// Checkpoint joins the live environment and takes a checkpoint, even if nothing changed since the last one.
	Checkpoint(ctx context.Context) error

	// Recover runs catastrophic recovery on home: every log record that is present is redone. Home must be closed and is best a
	// scratch directory whose DB_CONFIG names the data and log directories, because recovery removes what looks like region files
	// from home. The pages that it changed are on stable storage when it returns; the entries of directories need not be, and files that
	// it created should be synced by whoever depends on them.
	Recover(ctx context.Context, home string, opt RecoverOptions) error

	// Verify checks the structure of a whole database file, given by an absolute path or by a path relative to one of the data
	// directories of home. Nobody may be writing to it. A database that is bad is ErrDamaged.
	//
	// Callers list metadata-bearing files only. Queue extents (__dbq.*) have no metadata page, can't be verified by themselves and
	// are verified with their queue. Partitions (__dbp.*) are verified with their database, and can be by themselves. An extent that
	// is missing is no damage to the engine, which takes it for consumed; a missing partition is.
	//
	// A database with a comparison or hash function of its own looks disordered to anybody but its application. So what fails is
	// verified again without regard to order, and if it passes then, Options.Note is told instead of an error returned.
	Verify(ctx context.Context, home, file string) error
}

// RecoverOptions are what recovery can be told.
type RecoverOptions struct {
	// Progress is called with 0 to 100, never downward, from another goroutine, and not after Recover has returned.
	Progress func(percent int)

	// CacheBytes is the size of the buffer pool, 0 for one that suits most. A set_cachesize line in home's DB_CONFIG wins over it,
	// and is the only way to size the cache of the db_ programs.
	CacheBytes int64
}

// Options say which engine to start and for what.
type Options struct {
	// Kind is "libdb", "dbutil", or empty for the best one built in.
	Kind string

	// Home is the live environment that HotBackup and Checkpoint join, empty for an engine that recovers and verifies.
	Home string

	// LogDir is the live environment's log directory, as its application sets it where DB_CONFIG does not; empty: as DB_CONFIG says. To join with the wrong
	// one would take the environment down. Only libdb can be told.
	LogDir string

	// Password is the environment's, empty if it isn't encrypted.
	Password string

	// DBBin is the directory of the db_ programs, empty to look along PATH.
	DBBin string

	// LogEnd finds where the log ends by reading it from disk. With it, an environment is not touched whose regions don't agree with
	// the log about its end, because they were left behind by a crash: ErrStaleRegion. Without it there is no such check. It may be
	// called from another goroutine than the engine's caller's, and must look at the log anew each time, at log files that were not there
	// before too.
	LogEnd func(context.Context) (bdb.LSN, error)

	// Note is told what is no error but should be known. Message is told what the engine says as it works. Either may be nil, both
	// are called from another goroutine, and both must return soon.
	Note, Message func(text string)

	// Patience is how long a call on a live environment may take before it is reported as hung, 15 minutes if zero.
	Patience time.Duration

	// Executable and its arguments start the child, the program that is running with the argument "engine" if empty.
	Executable []string

	// Inherit are files that stay open in the child and in whatever it starts, which do nothing with them. A flock held on one ends
	// with the last of these processes: a child that recovers goes on for a moment when its parent is killed.
	Inherit []*os.File
}
