package envtest

import (
	"errors"
	"path/filepath"
	"testing"

	"bdbvault/localenv/bdb"
)

// A database created and renamed is lost by the engine's own recovery from the log, and found by Replay.
func TestReplayKeepsRenamed(t *testing.T) {
	env := Create(t, t.TempDir(), Spec{DataDirs: []string{"data"}, LogDir: "logs"})
	h := StartHold(t, env)
	h.Create("", Database{File: "new.db", Method: "btree", Records: 1000})
	h.Create("", Database{File: "parts.db", Method: "btree", Partitions: 3, Records: 300})
	before := h.LogEnd()
	h.Rename("", "new.db", "renamed.db")
	h.Rename("", "parts.db", "other.db")
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	truth := dump(t, env.Home, "")
	stock, replayed, earlier := t.TempDir(), t.TempDir(), t.TempDir()
	if err := errors.Join(copyFolders(env.Home, stock), CopyHome(filepath.Join(env.Home, "logs"), filepath.Join(stock, "logs")),
		RecoverCatastrophic(stock, ""), Replay(env.Home, "", replayed, bdb.LSN{}), Replay(env.Home, "", earlier, before)); err != nil {
		t.Fatal(err)
	}
	if lines := Diff(truth, dump(t, stock, "")); len(lines) == 0 {
		t.Error("stock recovery lost nothing: the stages of Replay are for nothing")
	}
	wantEqual(t, truth, dump(t, replayed, ""))
	if c := dump(t, earlier, ""); c["new.db"] != truth["renamed.db"] {
		t.Errorf("before the rename there is %v", c)
	}
}

// A removal in flight is undone, with all rows, by recovery from a home apart. In place it destroys the database.
func TestRecoverApartSparesRemoval(t *testing.T) {
	env := Create(t, t.TempDir(), Spec{Databases: []Database{{File: "a.db", Method: "hash", Records: 500}}})
	truth := dump(t, env.Home, "")
	h := StartHold(t, env)
	h.Checkpoint()
	h.Begin("t")
	h.Remove("t", "a.db")
	h.FlushLog()
	h.Kill()
	in, apart := filepath.Join(t.TempDir(), "in"), filepath.Join(t.TempDir(), "apart")
	if err := errors.Join(CopyHome(env.Home, in), CopyHome(env.Home, apart), RecoverCatastrophic(in, ""), RecoverApartCatastrophic(apart, "")); err != nil {
		t.Fatal(err)
	}
	wantEqual(t, truth, dump(t, apart, ""))
	if c := dump(t, in, ""); c["a.db"].Records == 500 {
		t.Error("recovery in place spared the database: the home apart is for nothing")
	}
}

// Transactions end as told, several are open at a time, and a refused step says why.
func TestHoldSteps(t *testing.T) {
	env := Create(t, t.TempDir(), Spec{Password: "secret"})
	h := StartHold(t, env)
	h.Begin("kept")
	h.BeginBulk("undone")
	h.Create("kept", Database{File: "q.db", Method: "queue", Extent: 1, PageSize: 512, Records: 30})
	h.Create("undone", Database{File: "gone.db", Method: "heap", Records: 30})
	if lsn := h.Commit("kept"); lsn.IsZero() || !lsn.Before(h.LogEnd()) {
		t.Errorf("committed at %v, the log ends at %v", lsn, h.LogEnd())
	}
	h.Abort("undone")
	h.Consume("", "q.db", 10)
	h.Create("", Database{File: "b.db", Name: "sub", Method: "btree", Records: 50})
	h.Create("", Database{File: "c.db", Method: "btree", Records: 50})
	h.Delete("", "c.db", 0, 20)
	h.Compact("", "c.db")
	h.Begin("prepared")
	h.Put("prepared", "c.db", 100, 5)
	h.Prepare("prepared")
	h.Commit("prepared")
	var refused *StepError
	if _, err := h.Do(Step{Do: DoRemove, File: "nothing.db"}); !errors.As(err, &refused) || refused.Answer.Code == 0 {
		t.Errorf("removal of what does not exist: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	records := map[string]uint64{}
	for name, c := range dump(t, env.Home, env.Password) {
		records[name] = c.Records
	}
	if len(records) != 3 || records["q.db"] != 20 || records["b.db:sub"] != 50 || records["c.db"] != 35 {
		t.Errorf("found %v", records)
	}
}
