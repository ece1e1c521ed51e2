package localenv_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/envtest"
)

func surveyOf(t *testing.T, home, password string) (*localenv.Env, *localenv.Survey) {
	t.Helper()
	e := openEnv(t, home, password)
	s, err := e.Survey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return e, s
}

func logSurveyOf(t *testing.T, home, password string) *localenv.LogSurvey {
	t.Helper()
	e, s := surveyOf(t, home, password)
	l, err := e.LogSurvey(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestSurvey puts into a home what a survey has to tell apart.
func TestSurvey(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	env := envtest.Create(t, home, envtest.Spec{Databases: []envtest.Database{
		{File: "plain.db", Method: "btree", Records: 10}, {File: "sub/summed.db", Method: "hash", Checksum: true, Records: 10},
		{File: "broken.db", Method: "btree", Checksum: true, Records: 10},
	}})
	hold := envtest.StartHold(t, env)
	breakPage(t, filepath.Join(home, "broken.db"))
	link(t, "nowhere", filepath.Join(home, "link"))
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(home, "socket"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for _, name := range []string{"__db.register", "__db.rep.gen", localenv.MarkerName, "notes.txt"} {
		if err := os.WriteFile(filepath.Join(home, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := fingerprint(t, home)
	_, s := surveyOf(t, home, "")
	if now := fingerprint(t, home); now != before {
		t.Errorf("the home is not as it was:\n%s\nbefore:\n%s", now, before)
	}
	if s.Regions == nil || !slices.ContainsFunc(s.Holders, func(h localenv.Holder) bool { return h.PID == hold.PID() }) {
		t.Errorf("regions %v are held by %v, want process %d", s.Regions, s.Holders, hold.PID())
	}
	if !s.Registry || !s.Replication || !s.Unfinished || s.Standby {
		t.Errorf("signs: %+v", s)
	}
	if len(s.Left) != 2 || !strings.Contains(s.Left[0].Reason, "nowhere") || s.Left[1].Reason != "socket" {
		t.Errorf("left out: %v", s.Left)
	}
	var page *bdb.PageError
	if len(s.Faults) != 1 || !errors.As(s.Faults[0].Err, &page) || filepath.Base(s.Faults[0].Path) != "broken.db" {
		t.Errorf("faults: %v", s.Faults)
	}
	summed := 0
	for _, d := range s.Databases {
		if d.Checksummed {
			summed++
		}
	}
	if len(s.Databases) != 3 || summed != 2 || s.Files != 5 {
		t.Errorf("%d files, databases %+v", s.Files, s.Databases)
	}
}

// breakPage turns a bit of the metadata page that its checksum covers.
func breakPage(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{0xff}, 300); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, at string) {
	t.Helper()
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
}

// fingerprint is everything about the files below a directory but when they were read.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		b.WriteString(strings.Join([]string{path, info.Mode().String(), info.ModTime().Format(time.RFC3339Nano), time.Unix(st.Ctim.Unix()).Format(time.RFC3339Nano)}, " ") + "\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestLogSurvey has a log tell of checkpoints, of transactions that nobody ends and of databases that are not where they should be.
func TestLogSurvey(t *testing.T) {
	t.Parallel()
	home, elsewhere := t.TempDir(), t.TempDir()
	env := envtest.Create(t, home, envtest.Spec{LogFileSize: 1 << 20, Databases: []envtest.Database{
		{File: "stays.db", Method: "btree", Records: 10}, {File: "goes.db", Method: "btree", Records: 10},
	}})
	hold := envtest.StartHold(t, env)
	hold.Put("", "goes.db", 10, 1)
	hold.Checkpoint()
	if l := logSurveyOf(t, home, ""); len(l.Absent) > 0 || len(l.Strays) > 0 || len(l.Prepared) > 0 || l.Checkpoint == nil || l.First != 1 || l.Removable != 0 {
		t.Errorf("to begin with: %+v", l)
	}

	hold.Create("", envtest.Database{File: filepath.Join(elsewhere, "far.db"), Method: "btree", Records: 1})
	hold.Begin("two-phase")
	hold.Put("two-phase", "stays.db", 100, 1)
	hold.Prepare("two-phase")
	end := hold.FlushLog()
	if err := os.Remove(filepath.Join(home, "goes.db")); err != nil {
		t.Fatal(err)
	}
	l := logSurveyOf(t, home, "")
	if !slices.Equal(l.Absent, []string{"goes.db"}) {
		t.Errorf("absent: %q", l.Absent)
	}
	if len(l.Strays) == 0 || !slices.Contains(l.Strays, filepath.Join(elsewhere, "far.db")) {
		t.Errorf("strays: %q", l.Strays)
	}
	if len(l.Prepared) != 1 || l.LastCommit.IsZero() || l.End != end || l.Version != 19 || l.FileSize != 1<<20 {
		t.Errorf("%+v, want its end at %s", l, end)
	}
	if want := int64(end.Offset - l.Checkpoint.CkpLSN.Offset); l.Needed != want {
		t.Errorf("recovery needs %d bytes, want %d", l.Needed, want)
	}
}

// TestLogSurveyOfMany looks at a log of several files, of which some can go.
func TestLogSurveyOfMany(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	env := envtest.Create(t, home, envtest.Spec{LogFileSize: 128 << 10})
	if err := env.GrowLog(1<<20, 1); err != nil {
		t.Fatal(err)
	}
	if err := envtest.Checkpoint(home, ""); err != nil {
		t.Fatal(err)
	}
	start := time.Now().Add(-time.Hour)
	files := openEnv(t, home, "")
	list, err := files.LogFiles()
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range list {
		at := start.Add(time.Duration(i) * time.Second)
		if err := os.Chtimes(f.Path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	l := logSurveyOf(t, home, "")
	if l.Rate > 128<<10 || l.Rate < 127<<10 || l.Removable == 0 || l.Needed > l.Bytes || l.Files != len(list) {
		t.Errorf("%+v", l)
	}
	if err := os.Remove(list[1].Path); err != nil {
		t.Fatal(err)
	}
	e, s := surveyOf(t, home, "")
	var gap *localenv.LogGap
	if _, err := e.LogSurvey(t.Context(), s); !errors.As(err, &gap) {
		t.Errorf("a file is missing: %v", err)
	}
}

func TestSurveyEncrypted(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	envtest.Create(t, home, envtest.Spec{Password: password, Databases: []envtest.Database{{File: "secret.db", Method: "btree", Records: 10}}})
	if l := logSurveyOf(t, home, ""); !l.Unreadable || !l.Encrypted || l.Version != 0 || l.End.IsZero() {
		t.Errorf("without the password: %+v", l)
	}
	if l := logSurveyOf(t, home, password); l.Unreadable || l.Checkpoint == nil || l.Version != 19 {
		t.Errorf("with it: %+v", l)
	}
	_, s := surveyOf(t, home, "wrong")
	if len(s.Faults) != 1 || !errors.Is(s.Faults[0].Err, bdb.ErrPassword) {
		t.Errorf("with a wrong one: %v", s.Faults)
	}
	if _, s = surveyOf(t, home, ""); s.Encrypted() != 1 || len(s.Faults) > 0 {
		t.Errorf("without: %d encrypted, %v", s.Encrypted(), s.Faults)
	}
}

func TestConfigCheckup(t *testing.T) {
	c := localenv.ParseConfig("set_data_dir /srv/data\nset_data_dir here\nset_cachesize 0 1 1\nSET_FLAGS DB_TXN_NOSYNC\nset_lgg_max 5\nSET_LG_MAX 7\nset_tx_max 9\n")
	if got := c.AbsoluteDirs(); !slices.Equal(got, []string{"line 1: set_data_dir /srv/data"}) {
		t.Errorf("absolute: %q", got)
	}
	if got := c.Unknown(); !slices.Equal(got, []string{"line 5: set_lgg_max", "line 6: SET_LG_MAX"}) {
		t.Errorf("unknown: %q", got)
	}
}

func TestDiskOf(t *testing.T) {
	dir := t.TempDir()
	d, err := localenv.DiskOf(filepath.Join(dir, "not", "yet"))
	if err != nil || d.Path != dir || d.Size == 0 || d.Free == 0 || d.Device == 0 {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err := localenv.DiskOf("/proc"); err != nil || d.Type != "proc" || d.Calm() {
		t.Errorf("%+v, %v", d, err)
	}
	if err := localenv.MayWrite(filepath.Join(dir, "new")); err != nil {
		t.Error(err)
	}
	if err := localenv.MayWrite("/proc/sys"); err == nil {
		t.Error("/proc/sys can be written to")
	}
	if l := localenv.HostLimits(); l.OpenFiles == 0 || l.Available == 0 {
		t.Errorf("%+v", l)
	}
	if _, err := localenv.ClockSynchronised(); err != nil {
		t.Error(err)
	}
}
