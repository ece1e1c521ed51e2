package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"bdbvault/localenv/bdb"
)

func TestParseSizes(t *testing.T) {
	got, err := parseSizes("2GiB, 64MiB,1.5GiB")
	if want := []int64{2 * gib, 64 * mib, 3 * gib / 2}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{"", "2", "2GB", "-1GiB", "NaNGiB", "1MiB", "2GiB,", "InfGiB", "99999999GiB"} {
		if got, err := parseSizes(bad); err == nil {
			t.Errorf("%q: got %v", bad, got)
		}
	}
	for n, want := range map[int64]string{2 * gib: "2 GiB", 64 * mib: "64 MiB", 3 * gib / 2: "1.5 GiB"} {
		if got := sizeText(n); got != want {
			t.Errorf("sizeText(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestParseRows(t *testing.T) {
	got, err := parseRows("ship,live")
	if want := map[string]bool{rowShip: true, rowLive: true}; err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := parseRows("ship,boat"); err == nil {
		t.Error("a part that does not exist was accepted")
	}
	if got, err := parseRows(""); got != nil || err != nil {
		t.Errorf("nothing asked for: got %v, %v, want all", got, err)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}} {
		before := slices.Clone(c.values)
		if got := median(c.values); got != c.want || !slices.Equal(before, c.values) {
			t.Errorf("median(%v) = %v, want %v; it left %v", before, got, c.want, c.values)
		}
	}
}

func TestJudge(t *testing.T) {
	r := results{}
	r.add("row", "ours", sample{wall: 3})
	r.add("row", "theirs", sample{wall: 4})
	ours, theirs := figure{"row", "ours", wall}, figure{"row", "theirs", wall}
	for _, c := range []struct {
		target target
		want   string
	}{
		{target{of: ours, beside: theirs, limit: 0.75}, "met"},
		{target{of: ours, beside: theirs, limit: 0.5}, "missed by 50 %"},
		{target{of: ours, limit: 2.999}, "missed by 1 %"},
		{target{of: ours, limit: 3, atLeast: true}, "met"},
		{target{of: ours, limit: 4, atLeast: true}, "missed by 25 %"},
	} {
		if v, ok := r.judge(c.target); !ok || v.String() != c.want {
			t.Errorf("%+v: got %v, %v, want %s", c.target, v, ok, c.want)
		}
	}
	for _, missing := range []target{{of: figure{"row", "nobody", wall}}, {of: ours, beside: figure{"row", "theirs", cpu}}} {
		if v, ok := r.judge(missing); ok {
			t.Errorf("%+v: got %v though nobody measured it", missing, v)
		}
	}
}

// Every target is about something that a section shows, and every row has a section.
func TestTargetsAreShown(t *testing.T) {
	sizes := []int64{2 * gib, 8 * gib}
	shown, titles := map[[2]string]bool{}, map[string]bool{}
	for _, s := range sections(sizes) {
		titles[s.row] = true
		for _, tool := range s.tools {
			shown[[2]string{s.row, tool}] = true
		}
	}
	for _, goal := range targets(sizes) {
		for _, f := range []figure{goal.of, goal.beside} {
			if f != (figure{}) && !shown[[2]string{f.row, f.tool}] {
				t.Errorf("%s: no section shows %v", goal.what, f)
			}
		}
	}
	for _, row := range rows {
		if !titles[row] {
			t.Errorf("row %s has no section", row)
		}
	}
}

func TestTable(t *testing.T) {
	b := &bench{results: results{}, notes: map[string][]string{}}
	b.results.add(rowFirst, toolVault, sample{wall: 2, stored: 50 * mib})
	b.results.add(rowFirst, toolRestic, sample{wall: 8})
	got := b.table(section{row: rowFirst, tools: []string{toolVault, toolRestic, toolTar}, against: wall,
		columns: []column{{wall, "wall s", inSeconds}, {cpu, "CPU s", inSeconds}, {stored, "stored MiB", inMiB}}}).String()
	want := `
|          | wall s | stored MiB | bdbvault's wall time to it |
| -------- | -----: | ---------: | -------------------------: |
| bdbvault |   2.00 |       50.0 |                       1.00 |
| restic   |   8.00 |            |                       0.25 |
`
	if got != want[1:] {
		t.Errorf("got\n%swant%s", got, want)
	}
}

func TestParseStat(t *testing.T) {
	text := "42 (a) b (c) S 7 42 42 0 -1 4194560 100 0 0 0 250 31 5 6 20 0 1 0 12345"
	got, err := parseStat([]byte(text))
	if want := (procStat{"a) b (c", 7, 2810 * time.Millisecond}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for n := range len("42 (a) b (c) S 7 42 42 0 -1 4194560 100 0 0 0 250 3") - 1 {
		if got, err := parseStat([]byte(text[:n])); err == nil {
			t.Errorf("%q: got %+v", text[:n], got)
		}
	}
	if got := parsePeak("VmPeak:\t  99 kB\nVmHWM:\t    2168 kB\n"); got != 2168*kib {
		t.Errorf("peak memory %d", got)
	}
}

func TestParseCounters(t *testing.T) {
	text := `# HELP minio_api_requests_total Total number of requests
minio_api_requests_total{name="PutObject",server="127.0.0.1:1",type="s3"} 5
minio_api_requests_total{name="GetObject",server="127.0.0.1:1",type="s3"} 1e+01
minio_api_requests_errors_total{name="GetObject",type="s3"} 3
minio_api_requests_traffic_sent_bytes{type="s3"} 2048
`
	got, err := parseCounters(strings.NewReader(text))
	if want := (counters{requests: 15, sent: 2048}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestNewBytes(t *testing.T) {
	now := time.Now()
	before := map[string]object{"kept": {"e1", now, 1}, "replaced": {"e2", now, 2}, "again": {"e3", now, 4}, "gone": {"e4", now, 8}}
	after := map[string]object{"kept": {"e1", now, 1}, "replaced": {"e5", now, 16}, "again": {"e3", now.Add(time.Second), 4}, "new": {"e6", now, 32}}
	if got := newBytes(before, after); got != 16+4+32 {
		t.Errorf("got %d", got)
	}
}

func TestFileSystemOf(t *testing.T) {
	mounts := "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/a xfs rw 0 0\n"
	for dir, want := range map[string]string{"/tmp/a/b": "xfs", "/tmp/ab": "tmpfs", "/home": "ext4"} {
		if got, err := fileSystemOf(dir, mounts); got != want || err != nil {
			t.Errorf("%s: got %s, %v, want %s", dir, got, err, want)
		}
	}
}

func TestPrograms(t *testing.T) {
	found := programs{"restic": "/usr/bin/restic", "tar": "/usr/bin/tar", "zstd": "/usr/bin/zstd"}
	for tool, want := range map[string]string{toolVault: "", toolForce: "", toolTar: "awscli", toolRclone + nothingNew: "rclone"} {
		if got := strings.Join(found.lacks(tool), " "); got != want {
			t.Errorf("%s lacks %q, want %q", tool, got, want)
		}
	}
	if got := versionLine("bdbvault", "bdbvault  0.1.0\nlibdb 5.3.28\n"); got != "bdbvault: 0.1.0" {
		t.Errorf("got %q", got)
	}
}

func TestPages(t *testing.T) {
	if got := changed([][]uint64{{1, 2, 3}, {4}}, [][]uint64{{1, 9, 3}, {4, 5}}); got != 0.4 {
		t.Errorf("share of changed pages %v", got)
	}
	if got := distance(bdb.LSN{File: 3, Offset: 100}, bdb.LSN{File: 5, Offset: 50}); got != 2*logFileSize-50 {
		t.Errorf("distance %d", got)
	}
}

// A pipeline charges what each of its commands cost, what their children cost included, and fails with one that fails.
func TestPipeline(t *testing.T) {
	sh := func(script string) command { return command{args: []string{"/bin/sh", "-c", script}} }
	burn := "i=0; while [ $i -lt 40000 ]; do i=$((i+1)); done; echo $i"
	c, err := runAll(context.Background(), pipeline{sh("(" + burn + ")"), sh("cat; (" + burn + ")")}, pipeline{sh("echo last")})
	if err != nil || string(c.output) != "last\n" || c.cpu <= 0 || c.wall <= 0 || c.peak <= 0 {
		t.Errorf("got %+v, %v", c, err)
	}
	_, err = runAll(context.Background(), pipeline{sh("echo reason >&2; exit 3"), sh("cat")})
	if err == nil || !strings.Contains(err.Error(), "reason") {
		t.Errorf("a failing command: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := runAll(ctx, pipeline{sh("sleep 60")}); err == nil {
		t.Error("an interrupted pipeline succeeded")
	}
}
