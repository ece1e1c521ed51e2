package engine

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// stuck is an engine that hangs where a process died that nobody sees to.
type stuck struct{ Engine }

func (stuck) Checkpoint(context.Context) error { select {} }

// TestLeavesRemovedRegions: a child that hangs on a live environment stays as long as the regions are there, and goes once the
// application has made them anew.
func TestLeavesRemovedRegions(t *testing.T) {
	home := t.TempDir()
	for _, name := range []string{"__db.001", "__db.002", "orders.db"} {
		f, err := os.Create(filepath.Join(home, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	s := &server{eng: stuck{}, ctx: t.Context(), live: true}
	s.calls.Go(func() { s.eng.Checkpoint(s.ctx) })
	left := make(chan error, 1)
	go func() { left <- s.leave() }()
	remove := func(name string) {
		if err := os.Remove(filepath.Join(home, name)); err != nil {
			t.Fatal(err)
		}
	}
	remove("__db.002")
	if regionsRemoved() {
		t.Error("one of two regions is still there")
	}
	select {
	case err := <-left:
		t.Fatalf("left a live environment: %v", err)
	case <-time.After(regionsEvery + regionsEvery/2):
	}
	remove("__db.001")
	select {
	case err := <-left:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("hangs in regions that nobody uses")
	}
}
