// Package remotetest proves drivers against real stores, and lends the stores to other packages' tests.
//
//   - Run is the conformance suite every driver passes; RunS3 adds what only a store behind a network can do wrong.
//   - MinIO and VersityGW start real servers on loopback ports of their own, with their data in a temporary directory,
//     and can stop, kill and start them again. StartMinIO and StartVersityGW do without a *testing.T.
//   - Proxy stands in front of a server and breaks things: refuses, cuts, stalls, slows, loses answers.
//   - Memory is a store whose clock the test sets.
//   - Immutable and Record wrap a driver: one lets nothing be replaced or deleted, the other counts operations and fails a chosen one.
//
// The servers' programs come from the directory in BDBVAULT_TEST_SERVERS, by default bdbvault-test-servers in the user's
// cache directory. What is missing there is built with "go install" at the versions below, once; EnsureServers does it ahead.
package remotetest
