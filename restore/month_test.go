package restore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"sort"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/minio"
	"bdbvault/remote/remotetest"
)

const (
	monthDays  = 30
	headLength = 28
	commitSize = 512 // about what a small transaction takes
)

// month is what a watch leaves that ships so many times a day for a month, one commit each, and a full backup at 3 in the morning. Shipped every second, a log
// file holds 20,480 commits, which is libdb's default of 10 MiB. All but the last are sealed. In every other one the watch did not merge tails.
type month struct {
	ships   int // a day
	perFile int
	line    manifest.Timeline
	began   time.Time
}

func (m month) count() int { return monthDays * m.ships }
func (m month) files() int { return (m.count() + m.perFile - 1) / m.perFile }

// number is that of the n-th commit of a day.
func (m month) number(day, n int) int { return day*m.ships + n }

// time is when a commit was made.
func (m month) time(n int) time.Time {
	day := n / m.ships
	return m.began.AddDate(0, 0, day).Add(24 * time.Hour * time.Duration(n%m.ships) / time.Duration(m.ships)).Truncate(time.Second)
}

// at is the place of a commit, and behind where the next record goes.
func (m month) at(n int) bdb.LSN {
	return bdb.LSN{File: uint32(n/m.perFile + 1), Offset: uint32(headLength + n%m.perFile*commitSize)}
}

func (m month) behind(n int) bdb.LSN {
	at := m.at(n)
	at.Offset += commitSize
	return at
}

// last is just behind the last commit of a moment or earlier.
func (m month) last(at time.Time) bdb.LSN {
	later := sort.Search(m.count(), func(n int) bool { return m.time(n).After(at) })
	return m.behind(later - 1)
}

// commits are the numbers of the first commit in a log file and of the first behind it.
func (m month) commits(file int) (first, next int) {
	return file * m.perFile, min((file+1)*m.perFile, m.count())
}

func (m month) log(file int) []byte {
	var commits []CommitPoint
	first, next := m.commits(file)
	for n := first; n < next; n++ {
		commits = append(commits, CommitPoint{Time: m.time(n), Txn: TxnID(0x80000000 + n)})
	}
	prev := uint32(0)
	if first > 0 {
		prev = m.at(first - 1).Offset
	}
	return logOf(prev, commits)
}

// logOf is a log file with nothing but commits, each commitSize long.
func logOf(prev uint32, commits []CommitPoint) (log []byte) {
	add := func(prev uint32, body []byte) {
		length := uint32(12 + len(body))
		log = binary.LittleEndian.AppendUint32(log, prev)
		log = binary.LittleEndian.AppendUint32(log, length)
		log = binary.LittleEndian.AppendUint32(log, bdb.Checksum(body)^prev^length)
		log = append(log, body...)
	}
	head := make([]byte, headLength-12)
	binary.LittleEndian.PutUint32(head, 0x040988)
	binary.LittleEndian.PutUint32(head[4:], 19)
	add(prev, head)
	prev = 0
	for _, c := range commits {
		at := uint32(len(log))
		body := make([]byte, commitSize-12)
		binary.LittleEndian.PutUint32(body, 10) // __txn_regop
		binary.LittleEndian.PutUint32(body[4:], uint32(c.Txn))
		binary.LittleEndian.PutUint32(body[16:], 1) // TXN_COMMIT
		binary.LittleEndian.PutUint32(body[20:], uint32(c.Time.Unix()))
		add(prev, body)
		prev = at
	}
	return log
}

// names are the segments of a log file.
func (m month) names(file int) (list []manifest.SegmentName) {
	const r = 32
	first, next := m.commits(file)
	last := file == m.files()-1
	for n := first; n < next; n++ {
		k, back := n-first+1, 1
		for (last || file%2 == 1) && k%(back*r) == 0 {
			back *= r
		}
		s := manifest.SegmentName{Timeline: m.line, File: uint32(file + 1), Start: m.at(n + 1 - back).Offset, End: m.behind(n).Offset, LastCommit: m.time(n).Unix()}
		if k == back {
			s.Start = 0
		}
		list = append(list, s)
	}
	if !last {
		list = append(list, manifest.SegmentName{Timeline: m.line, File: uint32(file + 1), End: m.behind(next - 1).Offset, LastCommit: m.time(next - 1).Unix(), Sealed: true})
	}
	return list
}

// segmentOf is a stored segment of a log file.
func segmentOf(t testing.TB, log []byte, n manifest.SegmentName) []byte {
	h := &manifest.SegmentHeader{Environment: "test", Timeline: n.Timeline, File: n.File, Start: n.Start, End: n.End, LastCommit: n.LastCommit, Sealed: n.Sealed}
	var b bytes.Buffer
	if err := manifest.WriteSegment(&b, h, bytes.NewReader(log[n.Start:n.End])); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// store puts the month. Only segments that a restore could need have any content.
func (m month) store(s *stock, put func(key string, data []byte)) (objects int) {
	for file := range m.files() {
		names, log := m.names(file), m.log(file)
		needed := manifest.NewChain(m.line, names).Follow(uint32(file+1), bdb.LSN{}).Segments
		for _, n := range names {
			var data []byte
			if slices.Contains(needed, n) {
				data = segmentOf(s.t, log, n)
			}
			put(n.Key("test"), data)
			objects++
		}
	}
	for day := range monthDays {
		n := m.number(day, m.ships/8)
		s.full(m.line, m.time(n), m.behind(n-1), m.time(n-1))
	}
	return objects
}

func monthOf(ships int) month {
	return month{ships: ships, perFile: max(1, ships*20480/86400), line: manifest.Timeline{7}, began: time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)}
}

func shipsPerDay(usual int) int {
	if n, err := strconv.Atoi(os.Getenv("BDBVAULT_TORTURE")); err == nil && n > 1 {
		return min(86400, usual*n)
	}
	return usual
}

// TestPlanOverAMonth plans over a month of shipping, in a directory. BDBVAULT_TORTURE=170 is every second.
func TestPlanOverAMonth(t *testing.T) {
	m := monthOf(shipsPerDay(512))
	s := newStock(t)
	n := m.store(s, s.put)
	t.Logf("%d segments", n)
	m.plans(t, s)
}

// TestPlanOverAMonthS3 does so in a real store, into which objects take longer to put: fewer of them.
func TestPlanOverAMonthS3(t *testing.T) {
	server := remotetest.MinIO(t)
	drv, err := minio.New(t.Context(), server.Config(server.NewBucket()))
	if err != nil {
		t.Fatal(err)
	}
	s := initStock(t, remote.New(drv, remote.Options{}))
	m := monthOf(shipsPerDay(100))
	var group errgroup.Group
	group.SetLimit(16)
	n := m.store(s, func(key string, data []byte) {
		group.Go(func() error {
			return s.bucket.Put(t.Context(), key, bytes.NewReader(data), int64(len(data)), remote.PutOptions{})
		})
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d segments", n)
	m.plans(t, s)
}

// cpuTime is what this process has used of it.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// plans makes plans for all kinds of targets: each is exact, takes few requests and little time.
func (m month) plans(t *testing.T, s *stock) {
	end := m.behind(m.count() - 1)
	noon := m.began.Add(10*24*time.Hour + 12*time.Hour)
	early := m.began.Add(10*24*time.Hour + time.Hour) // before that day's backup
	late := m.time(m.number(monthDays-1, m.ships-m.ships/50))
	between := m.at(m.number(17, m.ships/2))
	between.Offset += 5
	for _, c := range []struct {
		name   string
		target Target
		end    bdb.LSN
		day    int // of the backup
	}{
		{"latest", Target{}, end, 29},
		{"time", Target{At: noon}, m.last(noon), 10},
		{"time before that day's backup", Target{At: early}, m.last(early), 9},
		{"time in the open log file", Target{At: late}, m.last(late), 29},
		{"LSN", Target{LSN: m.at(m.number(20, m.ships/2))}, m.at(m.number(20, m.ships/2)), 20},
		{"LSN before that day's backup", Target{LSN: m.at(m.number(4, 3))}, m.at(m.number(4, 3)), 3},
		{"LSN in a record", Target{LSN: between}, m.at(m.number(17, m.ships/2)), 17},
		{"LSN at the end", Target{LSN: end}, end, 29},
	} {
		before, began, busy := s.bucket.Stats().Requests, time.Now(), cpuTime(t)
		plan, err := MakePlan(t.Context(), s.repo, "", c.target)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if err := plan.FindGaps(t.Context(), s.repo); err != nil || len(plan.Gaps) > 0 {
			t.Errorf("%s: gaps %v, %v", c.name, plan.Gaps, err)
		}
		took, after := time.Since(began), s.bucket.Stats().Requests
		busy = cpuTime(t) - busy
		lists, gets := after.List-before.List, after.Get-before.Get
		t.Logf("%s: %d lists and %d gets in %v, CPU %v; %d segments", c.name, lists, gets, took, busy, plan.Segments)
		if want := m.time(m.number(c.day, m.ships/8)); plan.End != c.end || !plan.Started.Equal(want) {
			t.Errorf("%s: ends at %s, want %s; backup of %s, want %s", c.name, plan.End, c.end, plan.Started, want)
		}
		if lists+gets > 3*gapLists+10 || busy > 2*time.Second { // how long it takes is up to what else the machine does
			t.Errorf("%s: %d lists, %d gets, CPU %v", c.name, lists, gets, busy)
		}
	}
	var far *UnreachableError
	if _, err := MakePlan(t.Context(), s.repo, "", Target{At: m.began.AddDate(0, 2, 0)}); !errors.As(err, &far) || len(far.Ranges) != 1 || far.Ranges[0].To != end {
		t.Errorf("beyond the end: %v", err)
	}
	if _, err := MakePlan(t.Context(), s.repo, "", Target{At: m.began.AddDate(0, -1, 0)}); !errors.As(err, &far) || far.Ranges[0].From != m.behind(m.ships/8-1) {
		t.Errorf("before the beginning: %v", err)
	}
}
