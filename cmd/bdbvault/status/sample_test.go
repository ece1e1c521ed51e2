package status

import (
	"fmt"
	"math"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/restore"
)

// noon is when the samples are looked at.
var noon = time.Date(2026, 11, 20, 12, 4, 31, 0, time.UTC)

func hex8(b byte) (t manifest.Timeline) {
	for i := range t {
		t[i] = b + byte(i)*17
	}
	return t
}

// healthySample has been watched for five weeks and lost nothing.
func healthySample() Environment {
	w := archive.WatchStatus{
		Environment: "bank", Home: "/var/lib/bank", State: archive.WatchIdle, Started: noon.Add(-35 * day), Timeline: hex8(0x9e),
		LogEnd: bdb.LSN{File: 1155, Offset: 1976006}, ShippedTo: bdb.LSN{File: 1155, Offset: 1976006},
		NewestCommit: noon.Add(-time.Second), ShippedCommit: noon.Add(-time.Second),
		LastShip: noon.Add(-time.Second), LastFull: noon.Add(-9 * time.Hour), FullID: "20261120T030000Z-5958", NextFull: noon.Add(15 * time.Hour),
		Flag:  archive.FlagStatus{Asked: archive.BulkAuto, Held: true, Since: noon.Add(-35 * day)},
		Store: remote.Stats{Requests: remote.Requests{Put: 88211, Get: 3, Head: 412, List: 35}, Sent: 9 << 30},
		Counters: archive.WatchCounters{Ships: 88001, Segments: 88100, LogBytes: 31 << 30, StoredBytes: 9 << 30, Records: 91e6, Commits: 12e6, Fulls: 35,
			FullBytes: 4 << 30},
		History: hourOfShips(noon),
	}
	h := &restore.History{}
	for i := range 36 {
		at := noon.Add(-time.Duration(35-i)*day - 9*time.Hour)
		h.Backups = append(h.Backups, restore.StoredBackup{ID: manifest.BackupID(at.Format("20060102T150405Z-5958")), Started: at, ConsistentTime: at,
			ConsistentAt: bdb.LSN{File: uint32(100 + 30*i), Offset: 4711}, Bytes: int64(260+7*i+i%5*3) << 20, StoredBytes: int64(76+i) << 20,
			Timeline: w.Timeline, State: "ok"})
	}
	h.Ranges = []restore.Range{{Timeline: w.Timeline, From: h.Backups[0].ConsistentAt, To: w.ShippedTo, FromTime: h.Backups[0].ConsistentTime,
		ToTime: noon.Add(-2 * time.Second)}}
	return Environment{Watch: w, MaxLag: time.Minute, History: h, HistoryAt: noon, Drills: drilledSample(), Events: []Event{
		{Time: noon.Add(-35 * day), Text: "watching /var/lib/bank"},
		{Time: noon.Add(-9 * time.Hour), Text: "full backup 20261120T030000Z-5958 is stored: 505 MiB, 12 MiB of it new"},
		{Time: noon.Add(-2 * time.Hour), Text: "put of a segment failed: connection reset by peer; trying again", Wrong: true},
		{Time: noon.Add(-2*time.Hour + 4*time.Second), Text: "the store answers again"},
	}}
}

// drilledSample has a drill every Sunday, and all of them passed.
func drilledSample() Drills {
	age := 1.4
	last := &restore.DrillSummary{ID: "20261115T040000Z-77ac", Started: noon.Add(-5*day - 8*time.Hour), Finished: noon.Add(-5*day - 8*time.Hour + 94*time.Second), Seconds: 94,
		Scheduled: true, Result: "passed", Backup: "20261115T030000Z-5958", End: bdb.LSN{File: 1004, Offset: 88210}, EndTime: noon.Add(-5*day - 8*time.Hour - time.Second),
		AgeSeconds: &age, Bytes: 508 << 20, Verified: 7}
	return Drills{Scheduled: true, Next: noon.Add(day + 16*time.Hour), Passed: 5, History: &restore.DrillHistory{Count: 5, Last: last, LastPassed: last}}
}

// hourOfShips is a busy hour.
func hourOfShips(now time.Time) (list []archive.Sample) {
	for i := range 60 {
		n := int64((1.3 + math.Sin(float64(i)/7) + math.Cos(float64(i)/2.3)/3) * 3e6)
		list = append(list, archive.Sample{Time: now.Truncate(time.Minute).Add(time.Duration(i-59) * time.Minute), Count: 58, Bytes: n, Stored: n / 4, MaxLag: 0.8})
	}
	return list
}

// retryingSample can't reach its store, and had a gap some days ago.
func retryingSample() Environment {
	e := healthySample()
	w := &e.Watch
	w.Environment, w.Home, w.State, w.Timeline = "directory-server", "/srv/ldap/slapd-main/db", archive.WatchRetrying, hex8(0x41)
	w.ShippedCommit, w.LastShip = noon.Add(-26*time.Hour), noon.Add(-26*time.Hour)
	w.ShippedTo, w.LogEnd = bdb.LSN{File: 310, Offset: 88}, bdb.LSN{File: 330, Offset: 1276}
	w.LagSince, w.LagSeconds = noon.Add(-26*time.Hour), (26 * time.Hour).Seconds()
	w.RetryingSince, w.LastErrorAt = noon.Add(-26*time.Hour), noon.Add(-time.Minute)
	w.LastError = "put directory-server/logs/4152637485960718/0000000310/0000000088-0000204711-20261119T100401Z: s3://backups/db1: connect to s3.eu-central-1.amazonaws.com: connection timed out"
	w.NextFull = time.Time{}
	w.History = w.History[:20]
	w.Flag = archive.FlagStatus{Asked: archive.BulkAuto, Why: "the environment can't be joined: not the owner"}
	h := &restore.History{}
	old := hex8(0x77)
	for i, at := range []time.Duration{12 * day, 10*day + 5*time.Hour, 5 * day, 4 * day, 3 * day} {
		f := restore.StoredBackup{ID: manifest.BackupID(noon.Add(-at).Format("20060102T150405Z-0a0b")), Started: noon.Add(-at), ConsistentTime: noon.Add(-at),
			ConsistentAt: bdb.LSN{File: uint32(10 + 50*i), Offset: 1}, Bytes: int64(1200+130*i) << 20, Timeline: old, State: "ok"}
		if i > 1 {
			f.Timeline = w.Timeline
		}
		if i == 3 {
			f.State = "damaged"
		}
		h.Backups = append(h.Backups, f)
	}
	w.LastFull, w.FullID = noon.Add(-3*day), h.Backups[4].ID
	h.Ranges = []restore.Range{
		{Timeline: old, From: bdb.LSN{File: 10, Offset: 1}, To: bdb.LSN{File: 100}, FromTime: noon.Add(-12 * day), ToTime: noon.Add(-6*day - 3*time.Hour)},
		{Timeline: w.Timeline, From: bdb.LSN{File: 110, Offset: 1}, To: w.ShippedTo, Backups: []manifest.BackupID{h.Backups[2].ID}, ToTime: noon.Add(-26 * time.Hour)},
	}
	e.History = h
	failed := *e.Drills.History.Last
	failed.ID, failed.Started, failed.Result, failed.Phase = "20261118T040000Z-0a11", noon.Add(-2*day-8*time.Hour), "damaged", "data"
	failed.Error = "backup 20261117T120431Z-0a0b is damaged and can't be brought back whole: entries.db, pages 229, 243: its bytes do not have its name: damaged"
	e.Drills.History = &restore.DrillHistory{Count: 6, Last: &failed, LastPassed: e.Drills.History.LastPassed}
	e.Drills.Failed = 1
	e.Events = []Event{
		{Time: noon.Add(-5 * day), Text: "the log does not continue what is stored: log file 101 was removed before it was shipped (DB_LOG_AUTOREMOVE, db_archive -d?)", Wrong: true},
		{Time: noon.Add(-5*day + time.Minute), Text: "full backup " + string(h.Backups[2].ID) + " is stored: 1.4 GiB, 88 MiB of it new"},
		{Time: noon.Add(-26 * time.Hour), Text: w.LastError, Wrong: true},
	}
	return e
}

// newSample has just been started for the first time.
func newSample() Environment {
	return Environment{MaxLag: time.Minute, Watch: archive.WatchStatus{Environment: "mail", Home: "/var/lib/mail", State: archive.WatchBackingUp,
		Started: noon.Add(-40 * time.Second), FullSince: noon.Add(-38 * time.Second), LogEnd: bdb.LSN{File: 3, Offset: 91827},
		LagSince: noon.Add(-38 * time.Second), LagSeconds: 38}, Events: []Event{{Time: noon.Add(-38 * time.Second), Text: "a full backup begins: there is none yet"}}}
}

// failedSample can't go on.
func failedSample() Environment {
	e := healthySample()
	e.Watch.Environment, e.Watch.Home, e.Watch.State = "wiki", "/var/lib/wiki", archive.WatchStopped
	e.Watch.ShippedCommit, e.Watch.LastShip = noon.Add(-3*time.Hour), noon.Add(-3*time.Hour)
	e.Failed, e.NextTry = "open environment /var/lib/wiki: permission denied", noon.Add(40*time.Second)
	return e
}

// laggingSample works, but the store is too slow.
func laggingSample() Environment {
	e := healthySample()
	e.Watch.Environment, e.Watch.State, e.Watch.LagSeconds = "shop", archive.WatchShipping, 192
	e.Watch.LagSince, e.Watch.ShippedCommit = noon.Add(-192*time.Second), noon.Add(-192*time.Second)
	return e
}

func sampleOf(list ...Environment) Snapshot {
	return Snapshot{Now: noon, Version: "0.1.0", Host: "db1", Repository: "s3://backups/db1", Started: noon.Add(-35 * day), Environments: list}
}

func everySample() Snapshot {
	return sampleOf(healthySample(), retryingSample(), newSample(), failedSample(), laggingSample())
}

// hostileSample has names and errors that would be markup if they were not quoted.
func hostileSample() Snapshot {
	e := healthySample()
	e.Watch.Environment, e.Watch.Home = `<script>alert(1)</script>`, `/x"><img src=x onerror=alert(1)>`
	e.Watch.State, e.Watch.LastError = archive.WatchRetrying, `</style><script>alert("e")</script>`
	e.Events = append(e.Events, Event{Time: noon, Text: fmt.Sprint(`<b onclick="x()">`), Wrong: true})
	return sampleOf(e)
}
