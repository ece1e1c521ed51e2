package restore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/minio"
	"bdbvault/remote/remotetest"
)

const (
	monthDays  = 30
	headLength = 28
	commitSize = 64
)

// month is what a watch leaves that ships so many times a day for a month: a log file for each day, of which all but the last are sealed, and a full backup at 3 in the
// morning. On even days it did not merge tails. Every ship is one commit.
type month struct {
	ships int
	line  manifest.Timeline
	began time.Time
}

// time is when a commit was made.
func (m month) time(day, n int) time.Time {
	return m.began.AddDate(0, 0, day).Add(24 * time.Hour * time.Duration(n) / time.Duration(m.ships)).Truncate(time.Second)
}

// at is the place of a commit.
func (m month) at(day, n int) bdb.LSN {
	return bdb.LSN{File: uint32(day + 1), Offset: uint32(headLength + n*commitSize)}
}

// last is the last commit of a moment or earlier.
func (m month) last(at time.Time) bdb.LSN {
	day := int(at.Sub(m.began) / (24 * time.Hour))
	n := 0
	for n < m.ships && !m.time(day, n).After(at) {
		n++
	}
	return m.at(day, n)
}

// log is the log file of a day.
func (m month) log(day int) []byte {
	commits := make([]CommitPoint, m.ships)
	for n := range commits {
		commits[n] = CommitPoint{Time: m.time(day, n), Txn: TxnID(0x80000000 + n)}
	}
	prev := uint32(0)
	if day > 0 {
		prev = m.at(day, m.ships-1).Offset
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

// names are the segments of a day.
func (m month) names(day int) (list []manifest.SegmentName) {
	const r = 32
	for k := 1; k <= m.ships; k++ {
		back := 1
		for day%2 == 1 && k%(back*r) == 0 {
			back *= r
		}
		s := manifest.SegmentName{Timeline: m.line, File: uint32(day + 1), Start: m.at(day, k-back).Offset, End: m.at(day, k).Offset, LastCommit: m.time(day, k-1).Unix()}
		if k == back {
			s.Start = 0
		}
		list = append(list, s)
	}
	if day < monthDays-1 {
		list = append(list, manifest.SegmentName{Timeline: m.line, File: uint32(day + 1), End: m.at(day, m.ships).Offset, LastCommit: m.time(day, m.ships-1).Unix(), Sealed: true})
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
	for day := range monthDays {
		names, log := m.names(day), m.log(day)
		needed := manifest.NewChain(m.line, names).Follow(uint32(day+1), bdb.LSN{}).Segments
		for _, n := range names {
			var data []byte
			if slices.Contains(needed, n) && (n.Sealed || len(needed) < 1000) {
				data = segmentOf(s.t, log, n)
			}
			put(n.Key("test"), data)
			objects++
		}
		at := m.at(day, m.ships/8)
		s.full(m.line, m.time(day, m.ships/8), at, m.time(day, m.ships/8-1))
	}
	return objects
}

func monthOf(ships int) month {
	return month{ships: ships, line: manifest.Timeline{7}, began: time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)}
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

// plans makes plans for all kinds of targets: each is exact, takes few requests and little time.
func (m month) plans(t *testing.T, s *stock) {
	end := m.at(monthDays-1, m.ships)
	noon := m.began.Add(10*24*time.Hour + 12*time.Hour)
	early := m.began.Add(10*24*time.Hour + time.Hour) // before that day's backup
	late := m.time(monthDays-1, m.ships-m.ships/50)
	between := m.at(17, m.ships/2)
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
		{"LSN", Target{LSN: m.at(20, m.ships/2)}, m.at(20, m.ships/2), 20},
		{"LSN before that day's backup", Target{LSN: m.at(4, 3)}, m.at(4, 3), 3},
		{"LSN in a record", Target{LSN: between}, m.at(17, m.ships/2), 17},
		{"LSN at the end", Target{LSN: end}, end, 29},
	} {
		before, began := s.bucket.Stats().Requests, time.Now()
		plan, err := MakePlan(t.Context(), s.repo, "", c.target)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if err := plan.FindGaps(t.Context(), s.repo); err != nil || len(plan.Gaps) > 0 {
			t.Errorf("%s: gaps %v, %v", c.name, plan.Gaps, err)
		}
		took, after := time.Since(began), s.bucket.Stats().Requests
		lists, gets := after.List-before.List, after.Open-before.Open
		t.Logf("%s: %d lists and %d gets in %v; %d segments", c.name, lists, gets, took, plan.Segments)
		if want := m.time(c.day, m.ships/8); plan.End != c.end || !plan.Started.Equal(want) {
			t.Errorf("%s: ends at %s, want %s; backup of %s, want %s", c.name, plan.End, c.end, plan.Started, want)
		}
		if lists+gets > 3*gapLists+10 || took > 2*time.Second {
			t.Errorf("%s: %d lists, %d gets, %v", c.name, lists, gets, took)
		}
	}
	var far *UnreachableError
	if _, err := MakePlan(t.Context(), s.repo, "", Target{At: m.began.AddDate(0, 2, 0)}); !errors.As(err, &far) || len(far.Ranges) != 1 || far.Ranges[0].To != end {
		t.Errorf("beyond the end: %v", err)
	}
	if _, err := MakePlan(t.Context(), s.repo, "", Target{At: m.began.AddDate(0, -1, 0)}); !errors.As(err, &far) || far.Ranges[0].From != m.at(0, m.ships/8) {
		t.Errorf("before the beginning: %v", err)
	}
}
