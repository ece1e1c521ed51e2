// Package hotcopy copies a live environment into another directory of this host, with its log, as db_hotbackup does: into one directory, or with
// the directories that it has; whole, or only the log that is new since the last copy. What it leaves has to be recovered, which is package restore's work.
//
// It reads files only, like package localenv, whose double reads and page checks it uses. So it may be killed at any moment, and its source goes on. What it
// removes from the source is what the caller asked for: log files that recovery of the source no longer needs ([RemoveUnneeded], [Update.Move]).
//
//	Copier: Clean → Files → Log          a whole copy
//	Update: Stage → Move → Replace       the log alone
//
// A whole copy opens the log first and holds it, reads every file, lists again until nothing new appears, and then takes the log up to its end
// as it is by then. Files are written under names of this package's own and get theirs at the end, when it is known what each is called.
//
// An update lays the new log down beside the copy, in a directory of its own, and looks whether the copy can follow it, before anything is taken from
// the source or changed in the copy. Log files that are not needed any more at the source are linked there, if both are on one file system, so that moving
// them is to remove a name.
package hotcopy
