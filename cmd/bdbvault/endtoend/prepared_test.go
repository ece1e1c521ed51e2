package endtoend

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bdbvault/archive"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
	"bdbvault/localenv/envtest"
	"bdbvault/restore"
)

// TestPreparedSurvives: transactions that are prepared when the log is shipped are prepared in what is restored, are listed, and can be
// committed or aborted there; one that was resolved since is not. A standby keeps them too, over cycles in which checkpoints come and go, and when it is promoted.
func TestPreparedSurvives(t *testing.T) {
	for _, word := range []string{"", password} {
		t.Run(fmt.Sprintf("encrypted=%t", word != ""), func(t *testing.T) { preparedSurvives(t, word) })
	}
}

func preparedSurvives(t *testing.T, word string) {
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), envtest.Spec{Password: word, LogFileSize: 200 << 10, Databases: []envtest.Database{
		{File: "a.db", Method: "btree", Records: 500}, {File: "b.db", Method: "hash", Records: 500}, {File: "c.db", Method: "btree", Records: 500}, {File: "d.db", Method: "btree", Records: 1}}})
	v := newVault(t, env.Home)
	v.password = word
	h := envtest.StartHold(t, env)
	h.Begin("early")
	h.Put("early", "a.db", 1000, 50)
	h.Prepare("early")
	h.Checkpoint()
	v.mustBackup(archive.BackupOptions{})
	h.Begin("late")
	h.Put("late", "b.db", 1000, 50)
	h.Prepare("late")
	h.Begin("gone")
	h.Put("gone", "c.db", 1000, 50)
	h.Prepare("gone")
	h.Commit("gone")
	h.Checkpoint()
	h.Put("", "d.db", 0, 1)
	h.FlushLog()
	v.mustShip()
	for _, commit := range [][]string{{"early"}, {"late"}, {"early", "late"}, nil} {
		to, res := v.mustRestore(restore.Target{})
		v.resolves(to, res.Prepared, commit...)
	}
	standby := filepath.Join(t.TempDir(), "standby")
	s, err := restore.OpenStandby(restore.StandbyOptions{To: standby, Engine: engine.Options{Password: word}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 3 {
		h.Put("", "d.db", 0, 500)
		h.Checkpoint()
		v.mustShip()
		if res, err := s.Cycle(t.Context(), v.repo); err != nil || len(res.Prepared) != 2 {
			t.Fatalf("a standby with the prepared transactions %v: %v", res.Prepared, err)
		}
	}
	res, err := s.Promote(t.Context(), v.repo)
	if err != nil {
		t.Fatal(err)
	}
	v.resolves(standby, res.Prepared, "early")
	h.Commit("early")
	h.Abort("late")
}

// resolves has the coordinator commit some of what is prepared in a home, and abort the others.
func (v *vault) resolves(home string, prepared []bdb.Prepared, commit ...string) {
	v.t.Helper()
	var listed []string
	for _, p := range prepared {
		listed = append(listed, string(p.GlobalID))
	}
	names, err := envtest.Resolve(home, v.password, commit...)
	if err != nil {
		v.t.Fatal(err)
	}
	slices.Sort(names)
	if strings.Join(names, " ") != "early late" || strings.Join(listed, " ") != "early late" {
		v.t.Errorf("prepared are %q, listed %q", names, listed)
	}
	if err := envtest.Verify(home, v.password); err != nil {
		v.t.Error(err)
	}
	holds := contents(v.t, home, v.password)
	for file, txn := range map[string]string{"a.db": "early", "b.db": "late", "c.db": "gone"} {
		want := uint64(500)
		if slices.Contains(commit, txn) || txn == "gone" {
			want = 550
		}
		if got := holds[file].Records; got != want {
			v.t.Errorf("%s has %d records after the commit of %q, and should have %d", file, got, commit, want)
		}
	}
}
