package archive_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/manifest"
)

// committed is a history of so many backups, one a day, the first of them.
func (p *past) committed(n int) manifest.BackupID {
	p.t.Helper()
	for range n {
		p.now = p.now.Add(24 * time.Hour)
		p.begin()
		r := p.running[len(p.running)-1]
		if !p.look(r) {
			p.fail("%s finds not what it has stored", r.m.ID)
		}
		p.commit(r)
		p.running = nil
	}
	var ids []manifest.BackupID
	for id := range p.backups() {
		ids = append(ids, id)
	}
	return slices.Min(ids)
}

// keepLast prunes, calling between at each step.
func (p *past) keepLast(n int, between func(step string) error) error {
	_, err := archive.Prune(p.t.Context(), p.repo, archive.PruneOptions{Env: "test", Policy: manifest.Policy{Last: n}, Location: time.UTC, Step: between})
	return err
}

var pruneSteps = []string{"listed", "delete", "deleted", "condemn", "condemned", "expire", "expired"}

// atStep does something at one step of a prune, and kills it there or at a later one.
func atStep(at, kill string, do func()) func(string) error {
	return func(step string) error {
		if step == at {
			do()
		}
		if step == kill {
			return errKilled
		}
		return nil
	}
}

// TestHoldInsidePrune: a hold that comes between any two steps of a prune, which is killed at any later one, keeps the backup, or says that it may not.
// In either case the next prune keeps what there is, and puts back what is gone.
func TestHoldInsidePrune(t *testing.T) {
	for i, at := range pruneSteps {
		for _, kill := range append(slices.Clone(pruneSteps[i:]), "never") {
			t.Run(at+", killed "+kill, func(t *testing.T) {
				p := newPast(t, 1)
				id := p.committed(3)
				held := errors.New("not asked")
				if err := p.keepLast(1, atStep(at, kill, func() {
					p.now = p.now.Add(time.Second)
					held = archive.Hold(t.Context(), p.repo, "test", id, "test")
				})); err != nil && !errors.Is(err, errKilled) {
					t.Fatal(err)
				}
				there := p.backups()[id] != nil
				if kill == "never" && at != "expired" && !there {
					t.Error("the prune saw the hold, and took the backup")
				}
				if held == nil && !there {
					t.Fatal("it was said to be held, and is gone")
				}
				p.now = p.now.Add(grace - time.Hour)
				if err := p.keepLast(1, nil); err != nil {
					t.Fatal(err)
				}
				if there = p.backups()[id] != nil; held == nil && !there {
					t.Error("held, and taken by the next prune")
				} else if _, pruned := errors.AsType[*archive.PrunedError](held); pruned && !there {
					t.Error("asked to be held, and not put back by the next prune")
				}
			})
		}
	}
}

// TestUndoInsidePrune: who takes back a prune that goes on, or that was killed, has all backups back when it is over.
func TestUndoInsidePrune(t *testing.T) {
	for _, at := range []string{"condemned", "expire", "expired"} {
		for _, kill := range []string{at, "expired", "never"} {
			t.Run(at+", killed "+kill, func(t *testing.T) {
				p := newPast(t, 1)
				id := p.committed(4)
				undo := func() (*archive.UndoResult, error) {
					for key := range p.objects() {
						if id, err := manifest.ParseCondemnedKey("test", key); err == nil {
							return archive.Undo(t.Context(), p.repo, "test", id)
						}
					}
					return nil, fmt.Errorf("no list is left")
				}
				var res *archive.UndoResult
				err := p.keepLast(1, atStep(at, kill, func() {
					p.now = p.now.Add(time.Minute)
					var err error
					if res, err = undo(); err != nil {
						t.Fatal(err)
					}
					archive.Hold(t.Context(), p.repo, "test", id, "test") // the prune sees it, and may find its list gone
				}))
				if err != nil && !errors.Is(err, errKilled) {
					t.Fatal(err)
				}
				if whole := at == "expired"; res.Unfinished == whole {
					t.Errorf("unfinished: %v", res.Unfinished)
				}
				if p.now = p.now.Add(time.Minute); res.Unfinished {
					if _, err := undo(); err != nil {
						t.Fatal(err)
					}
				}
				if n := len(p.backups()); n != 4 {
					t.Errorf("%d of 4 backups are left", n)
				}
			})
		}
	}
}
