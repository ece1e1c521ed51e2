package envtest

import (
	"context"
	"os/exec"
	"testing"
	"time"
)

func TestShapes(t *testing.T) {
	env := Create(t, t.TempDir(), Spec{DataDirs: []string{"data"}, Databases: AllShapes(4096, false), Bank: &Bank{}})
	w := StartBank(t, env, BankOptions{Processes: 3, Checkpoint: 200 * time.Millisecond})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := w.WaitCommit(ctx, 2000); err != nil {
		t.Fatal(err)
	}
	w.Kill()
	out, err := exec.Command("db5.3_recover", "-h", env.Home).CombinedOutput()
	t.Logf("%s %v", out, err)
	if err := Verify(env.Home, ""); err != nil {
		t.Fatal(err)
	}
	c, err := Dump(env.Home, "")
	t.Log(c, err)
	r, err := CheckBank(env.Home, "")
	t.Log(r, err, w.LastCommitted())
}
