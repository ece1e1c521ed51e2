// Package enginetest is the conformance suite of engines. Every engine passes it through a real child process, on real environments,
// with live writers where that matters.
//
// A package that has an engine gives its test binary a second life as the child:
//
//	func TestMain(m *testing.M) { os.Exit(enginetest.Main(m, New)) }
//	func TestEngine(t *testing.T) { enginetest.Run(t, enginetest.Subject{Kind: "libdb", HoldsFlag: true, TakesPassword: true}) }
package enginetest

import (
	"context"
	"fmt"
	"os"
	"testing"

	"bdbvault/localenv/engine"
)

// Subject is an engine and what it can do.
type Subject struct {
	Kind          string // what its Version begins with
	HoldsFlag     bool   // HotBackup works
	TakesPassword bool
}

// Roles of the test binary when it is started again, by its first argument.
const (
	roleEngine = "engine" // the child of a client
	roleHolder = "holder" // a program that holds the hot-backup flag of the home in its second argument until it is killed
)

// Main stands in for m.Run: it runs the tests, or what a child is to do. It returns the exit code.
func Main(m *testing.M, build func(engine.Options) (engine.Engine, error)) int {
	role := ""
	if len(os.Args) > 1 {
		role = os.Args[1]
	}
	var err error
	switch role {
	case roleEngine:
		err = engine.Serve(os.Stdin, os.Stdout, build)
	case roleHolder:
		err = hold(os.Args[2])
	default:
		defer RemoveProbe()
		return m.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// hold says "held" when the flag is set.
func hold(home string) error {
	c, err := engine.Start(context.Background(), engine.Options{Home: home})
	if err != nil {
		return err
	}
	return c.HotBackup(context.Background(), func(context.Context) error {
		fmt.Println("held")
		select {}
	})
}

// Run runs the suite.
func Run(t *testing.T, s Subject) {
	t.Run("version", s.testVersion)
	t.Run("recover", s.testRecover)
	t.Run("recover cancelled", s.testRecoverCancelled)
	t.Run("recover refused", s.testRecoverRefused)
	t.Run("recover crashes", s.testRecoverCrashes)
	t.Run("verify", s.testVerify)
	t.Run("verify own order", s.testVerifyOwnOrder)
	t.Run("verify damage", s.testVerifyDamage)
	t.Run("password", s.testPassword)
	t.Run("checkpoint", s.testCheckpoint)
	t.Run("not joinable", s.testNotJoinable)
	t.Run("stale regions", s.testStaleRegions)
	t.Run("wrong purpose", s.testWrongPurpose)
	t.Run("child", s.testChild)
	t.Run("child killed", s.testChildKilled)
	t.Run("child hangs", s.testChildHangs)
	t.Run("hot backup", s.testHotBackup)
	t.Run("parent killed", s.testParentKilled)
	t.Run("parent killed at any time", s.testParentKilledAnytime)
	t.Run("parent gone during recovery", s.testParentGone)
	t.Run("pipe broken", s.testPipeBroken)
}

// start starts a client for the test.
func (s Subject) start(t *testing.T, opt engine.Options) *engine.Client {
	t.Helper()
	opt.Kind = s.Kind
	c, err := engine.Start(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() }) // a test that cares closes it itself
	return c
}

func (s Subject) testVersion(t *testing.T) {
	c := s.start(t, engine.Options{})
	var major, minor, patch int
	if n, err := fmt.Sscanf(c.Version(), s.Kind+" %d.%d.%d", &major, &minor, &patch); n != 3 {
		t.Errorf("version %q: %v", c.Version(), err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error("closed twice:", err)
	}
}
