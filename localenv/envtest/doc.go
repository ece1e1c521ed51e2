// Package envtest makes real Berkeley DB environments of any shape and runs live workloads on them: for the tests of other
// packages, for the demonstration and for the benchmarks.
//
// Nothing of the engine runs in the calling process. Every engine call is made by a child, the program dbworkload (its source is
// below this folder; it is built when first needed), so writers are separate processes as they are in life, they can be killed
// like them, and a crash of libdb on a damaged home is an error and not the end of the test. The children end when their standard
// input does, so nothing is left running when a test dies.
//
// A test usually goes like this:
//
//	env := envtest.Create(t, t.TempDir(), envtest.Spec{
//		DataDirs:  []string{"data"},
//		Databases: envtest.AllShapes(4096, false),
//		Bank:      &envtest.Bank{PageSize: 4096},
//	})
//	load := envtest.StartBank(t, env, envtest.BankOptions{Processes: 3})
//	… take a backup, restore it to copy …
//	last := load.LastCommitted()
//	report, err := envtest.CheckBank(copy, "")   // err: not an exact prefix of the history
//	err = envtest.Verify(copy, "")               // db_verify of every database
//
// The bank is the workload with an invariant. Transfers between accounts that lie in several databases of different access methods
// each write one numbered row of history, in the same transaction. A copy that holds exactly the commits 1 to N, for any N, passes
// CheckBank, and nothing else does: a lost or half-applied commit, or a byte of a page from another moment, fails it.
//
// Churn creates, renames, removes, truncates and compacts databases. What it leaves behind is compared by Dump and Diff with the truth,
// of which there are three kinds: Workload.Quiesce lets all workers pause with everything on disk, so that home itself is the truth
// and no recovery had a hand in it; Replay rebuilds an environment from the log alone, up to any LSN; Workload.Freeze with CopyHome
// makes the image of a crash. Hold does single steps on command, for tests that need one exact state. Functions that take a testing.TB fail the test; each has a sibling that returns an error and serves programs.
package envtest
