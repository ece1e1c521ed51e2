package main

import (
	"bytes"
	"errors"
	"io/fs"
	"net/url"
	"strings"
	"testing"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
)

// judged is a check's judgement of facts that a test can't well bring about, or of the border between two verdicts.
type judged struct {
	name  string
	judge func(*check)
	want  grade
	found string
}

func testJudged(t *testing.T, list []judged) {
	t.Helper()
	for _, j := range list {
		t.Run(j.name, func(t *testing.T) {
			c := &check{Verdict: fine}
			j.judge(c)
			if c.Verdict != j.want || !strings.Contains(c.Found, j.found) {
				t.Errorf("%s: %s, want %s: …%s…", c.Verdict, c.Found, j.want, j.found)
			}
			if (c.Verdict == warning || c.Verdict == problem) && c.Advice == "" {
				t.Errorf("%q says not what to do", c.Found)
			}
			if (c.Verdict == problem) != (c.code != 0) {
				t.Errorf("%s with exit code %d", c.Verdict, c.code)
			}
		})
	}
}

func TestDoctorJudgesTheHost(t *testing.T) {
	disk := func(free, size int64) []localenv.Disk {
		return []localenv.Disk{{Path: "/x", Type: "ext4", Free: free, Size: size}}
	}
	now := time.Now()
	ahead := &localenv.LogSurvey{LastCommit: now.Add(3 * time.Hour)}
	testJudged(t, []judged{
		{"ext4", func(c *check) { checkFileSystems(c, disk(1, 1)) }, fine, "ext4"},
		{"NFS", func(c *check) { checkFileSystems(c, []localenv.Disk{{Path: "/x", Type: "nfs4"}}) }, warning, "nfs4 (/x)"},
		{"no disk", func(c *check) { checkFileSystems(c, nil) }, unknown, ""},
		{"space", func(c *check) { judgeSpace(c, disk(50<<30, 100<<30), 1<<10, 10<<20) }, fine, "50 GiB of 100 GiB"},
		{"no space for a log file", func(c *check) { judgeSpace(c, disk(15<<20, 100<<20), 0, 10<<20) }, problem, "hardly room"},
		{"full today", func(c *check) { judgeSpace(c, disk(36<<30, 100<<30), 1<<20, 10<<20) }, warning, "full of log in 10h"},
		{"nearly full", func(c *check) { judgeSpace(c, disk(4<<30, 100<<30), 0, 10<<20) }, warning, "4.0 GiB"},
		{"another disk nearly full", func(c *check) {
			judgeSpace(c, append(disk(50<<30, 100<<30), localenv.Disk{Path: "/y", Free: 1, Size: 1 << 30}, localenv.Disk{Path: "/z", Free: 1 << 30, Size: 1 << 30}), 0, 0)
		}, warning, "/y"},
		{"control group", func(c *check) { checkMemory(c, localenv.Limits{Memory: 100 << 20, Available: 1 << 30}) }, warning, "100 MiB by the control group"},
		{"little memory", func(c *check) { checkMemory(c, localenv.Limits{Available: 100 << 20}) }, warning, "100 MiB available"},
		{"memory", func(c *check) { checkMemory(c, localenv.Limits{Memory: 1 << 30, Available: 1 << 30}) }, fine, "limited to 1.0 GiB"},
		{"few files", func(c *check) { checkOpenFiles(c, localenv.Limits{OpenFiles: 1024}, 1000) }, problem, "1000 log files"},
		{"files", func(c *check) { checkOpenFiles(c, localenv.Limits{OpenFiles: 1024}, 100) }, fine, "1024"},
		{"clock set back", func(c *check) { checkClock(c, ahead, now, true) }, warning, "3h0m0s ahead"},
		{"clock", func(c *check) { checkClock(c, nil, now, true) }, fine, ""},
		{"clock without NTP", func(c *check) { checkClock(c, nil, now, false) }, fine, "no NTP"},
	})
}

func TestDoctorJudgesTheEnvironment(t *testing.T) {
	now := time.Now()
	log := func(change func(l *localenv.LogSurvey)) *localenv.LogSurvey {
		l := &localenv.LogSurvey{Files: 3, First: 4, Newest: 6, Version: 19, Needed: 1 << 20, LastCommit: now,
			Checkpoint: &bdb.Checkpoint{LSN: bdb.LSN{File: 6, Offset: 100}, CkpLSN: bdb.LSN{File: 6, Offset: 50}, Time: now.Add(-time.Minute)}}
		change(l)
		return l
	}
	same := func(*localenv.LogSurvey) {}
	denied := &localenv.Survey{Faults: []localenv.FileFault{{Path: "/x", Err: fs.ErrPermission}}}
	testJudged(t, []judged{
		{"unreadable", func(c *check) { checkHome(c, denied) }, problem, "1 file: /x can't be read"},
		{"unreadable is no damage", func(c *check) { checkDatabases(c, denied) }, fine, ""},
		{"version", func(c *check) { checkVersion(c, log(same)) }, fine, "19, of Berkeley DB 5.3"},
		{"older", func(c *check) { checkVersion(c, log(func(l *localenv.LogSurvey) { l.Version = 15 })) }, warning, "4.8"},
		{"newer", func(c *check) { checkVersion(c, log(func(l *localenv.LogSurvey) { l.Version = 22 })) }, warning, "22"},
		{"removed as soon as may be", func(c *check) { checkRemoval(c, log(same), false) }, fine, "before 4 are gone, as soon"},
		{"removed now and then", func(c *check) { checkRemoval(c, log(func(l *localenv.LogSurvey) { l.Removable = 2 }), false) }, fine, "before 4 are gone"},
		{"checkpoint", func(c *check) { checkCheckpoint(c, log(same), now) }, fine, "1 minute ago"},
		{"none for hours", func(c *check) {
			checkCheckpoint(c, log(func(l *localenv.LogSurvey) { l.Checkpoint.Time = now.Add(-3 * time.Hour) }), now)
		}, warning, "3 hours ago"},
		{"much log since", func(c *check) { checkCheckpoint(c, log(func(l *localenv.LogSurvey) { l.Needed = 1 << 30 }), now) }, warning, "1.0 GiB"},
		{"never", func(c *check) { checkCheckpoint(c, log(func(l *localenv.LogSurvey) { l.Checkpoint = nil }), now) }, warning, "none"},
		{"growth", func(c *check) {
			checkLog(c, log(func(l *localenv.LogSurvey) { l.Rate, l.Span = 1<<20, time.Hour }), false, nil)
		}, fine, "3.5 GiB an hour"},
		{"damaged log", func(c *check) { checkLog(c, log(same), false, &localenv.LogDamage{Problem: "wrong checksum"}) }, problem, "wrong checksum"},
		{"unseen", func(c *check) {
			checkOpen(c, &localenv.Survey{Holders: []localenv.Holder{{PID: 7, Command: "slapd"}}}, false)
		}, warning, "slapd (7)"},
		{"old backup", func(c *check) {
			checkBackup(c, &archive.Standing{Related: true, Backup: &manifest.Manifest{ID: "x", Started: now.Add(-40 * 24 * time.Hour)}}, now)
		}, warning, "1 month ago"},
		{"shipped long ago", func(c *check) {
			checkChain(c, &archive.Standing{LastCommit: now.Add(-5 * time.Hour), End: bdb.LSN{File: 2}}, now, nil)
		}, warning, "5h0m0s behind"},
	})
	long := log(func(l *localenv.LogSurvey) {
		l.Needed, l.Checkpoint.CkpLSN = 1<<30, bdb.LSN{File: 2, Offset: 28}
	})
	c := &check{}
	if checkCheckpoint(c, long, now); !strings.Contains(c.Advice, "open at that checkpoint since LSN 2/28") {
		t.Errorf("an old transaction is not blamed: %s", c.Advice)
	}
}

func TestDoctorJudgesTheStore(t *testing.T) {
	at := func(text string) *url.URL {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	tried := func(kind remote.Kind) remote.Trial {
		return remote.Trial{Tried: true, Err: &remote.Error{Op: "put", Kind: kind, Err: errors.New("so it said")}}
	}
	works := remote.Trial{Tried: true}
	slow := map[string]remote.Latency{"put": {Requests: 20, P50: 2 * time.Second, P95: 3 * time.Second}}
	big := &localenv.Survey{Bytes: 1 << 40}
	testJudged(t, []judged{
		{"AWS", func(c *check) { checkEndpoint(c, nil) }, fine, "https"},
		{"TLS", func(c *check) { checkEndpoint(c, at("https://store:9000")) }, fine, "store:9000"},
		{"loopback", func(c *check) { checkEndpoint(c, at("http://127.0.0.1:9000")) }, fine, "this host"},
		{"plain", func(c *check) { checkEndpoint(c, at("http://store:9000")) }, warning, "store:9000"},
		{"no directory", func(c *check) { checkDirectory(c, "/nowhere/at/all") }, problem, "no such file"},
		{"no conditions", func(c *check) { checkAbsent(c, tried(remote.Unsupported)) }, warning, "several writers"},
		{"race failed", func(c *check) { checkAbsent(c, tried(remote.Full)) }, problem, "so it said"},
		{"damage accepted", func(c *check) { checkUpload(c, works) }, warning, "accepted"},
		{"damage not told", func(c *check) { checkUpload(c, tried(remote.Denied)) }, unknown, ""},
		{"overwrite refused", func(c *check) { checkOverwrite(c, tried(remote.Denied), false, false) }, fine, "refused"},
		{"overwrite fails", func(c *check) { checkOverwrite(c, tried(remote.Full), false, false) }, problem, "no space"},
		{"overwrite, versions", func(c *check) { checkOverwrite(c, works, true, false) }, fine, "stays"},
		{"delete fails", func(c *check) { checkDelete(c, tried(remote.Unknown)) }, problem, ""},
		{"slow store", func(c *check) { checkLatency(c, slow) }, warning, "2000 ms (95 %: 3000 ms)"},
		{"slow line", func(c *check) { checkThroughput(c, &remote.Examination{Up: 1 << 20, Down: 1 << 20}, big) }, warning, "291h"},
		{"skew", func(c *check) { checkSkew(c, &remote.Examination{HasClock: true, Skew: -10 * time.Minute}) }, warning, "10m0s behind"},
		{"much skew", func(c *check) { checkSkew(c, &remote.Examination{HasClock: true, Skew: 16 * time.Minute}) }, problem, "16m0s ahead of"},
		{"refused for skew", func(c *check) { checkSkew(c, &remote.Examination{Put: tried(remote.ClockSkew)}) }, problem, "refuses every request"},
		{"no clock", func(c *check) { checkSkew(c, &remote.Examination{}) }, unknown, ""},
		{"left after all", func(c *check) { checkLeft(c, &remote.Examination{Left: 2, LeftBytes: 10, Delete: tried(remote.Full)}) }, warning, "2 objects"},
	})
	r := &doctorReport{}
	checkSpeed(r, &remote.Examination{Stats: remote.Stats{Retries: 3}, Throughput: tried(remote.Transient)}, nil, false)
	checkFacts(r, &remote.Examination{Settings: tried(remote.Denied)})
	for id, want := range map[string]grade{"retries": warning, "latency": unknown, "throughput": problem, "versioning": unknown, "object-lock": unknown} {
		if got := r.find(id).Verdict; got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
}

func (r *doctorReport) find(id string) *check {
	for _, c := range r.Checks {
		if c.ID == id {
			return c
		}
	}
	return &check{Found: "there is no check " + id}
}

// TestDoctorText has the report as a person sees it, and the exit code that it comes to.
func TestDoctorText(t *testing.T) {
	r := &doctorReport{Home: "/home", Environment: "bank", Repository: "file:///repo", subject: aboutEnvironment}
	r.add("a", "first").note("all well")
	r.add("b", "second one").warn("not so well", "Do this.\nAnd that.")
	r.subject = aboutStore
	r.add("c", "third").unsure("who knows", "")
	r.subject = aboutArchive
	r.add("d", "fourth").fail("broken", "Mend it.")
	r.Checks[3].code = exitChain
	err := r.count()
	if v := judge(t.Context(), err); v.code != exitChain || v.text != "1 problem and 1 warning found" {
		t.Errorf("%+v", v)
	}
	r.Checks[2].fail("worse", "Mend it.")
	if v := judge(t.Context(), r.count()); v.code != exitFailed {
		t.Errorf("exit code %d", v.code)
	}
	r.Checks[2].unsure("who knows", "")
	r.Fine, r.Warnings, r.Problems, r.Unknown = 1, 1, 1, 1
	const want = `environment /home
  fine     first       all well
  warning  second one  not so well
           Do this.
           And that.

store file:///repo
  unknown  third       who knows

environment bank in file:///repo
  problem  fourth      broken
           Mend it.

1 problem, 1 warning, 1 fine, 1 unknown
`
	var out bytes.Buffer
	if r.text(&out); out.String() != want {
		t.Errorf("printed\n%s", out.String())
	}
	out.Reset()
	r.quiet = true
	if r.text(&out); strings.Contains(out.String(), "fine") {
		t.Errorf("printed quietly\n%s", out.String())
	}
}
