package restore

import (
	"errors"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
)

// maxDrillText bounds an error in a record.
const maxDrillText = 4096

// rehearsal makes the record of a drill while it goes on. It is the Progress of the restore, which it passes on.
type rehearsal struct {
	Progress
	record *manifest.Drill
	bucket *remote.Bucket
	began  time.Time    // the drill, for spans that no change of the clock touches
	first  remote.Stats // then

	phaseBegan time.Time
	before     remote.Stats // when the phase began
	bytes      atomic.Int64
	percent    atomic.Bool // what Add is told are no bytes
	failedIn   string

	mu sync.Mutex // of the record's notes
}

func newRehearsal(repo *repository.Repository, env string, opt *DrillOptions) *rehearsal {
	now := time.Now()
	r := manifest.NewDrill(env, manifest.NewBackupID(now))
	r.Repository, r.Location, r.Started, r.Tool, r.Scheduled = repo.Info.ID, opt.Location, now.UTC(), opt.Tool, opt.Scheduled
	r.Target = opt.Target.String()
	r.Host, _ = os.Hostname() // what can't be found out is not said
	r.User = userName()
	return &rehearsal{Progress: opt.Progress, record: r, bucket: repo.Bucket, began: now, first: repo.Bucket.Stats()}
}

// userName is who runs this, by name if that is known here.
func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return strconv.Itoa(os.Geteuid())
}

// phase ends the phase before and begins another, unless that is the one that is going on.
func (s *rehearsal) phase(name string) {
	if s.current() == name {
		return
	}
	s.endPhase()
	s.phaseBegan, s.before = time.Now(), s.bucket.Stats()
	s.bytes.Store(0)
	s.percent.Store(false)
	s.record.Phases = append(s.record.Phases, manifest.DrillPhase{Name: name})
}

func (s *rehearsal) current() string {
	if n := len(s.record.Phases); n > 0 {
		return s.record.Phases[n-1].Name
	}
	return ""
}

func (s *rehearsal) endPhase() {
	n := len(s.record.Phases)
	if n == 0 {
		return
	}
	now, p := s.bucket.Stats(), &s.record.Phases[n-1]
	p.Seconds, p.Bytes = time.Since(s.phaseBegan).Seconds(), s.bytes.Load()
	p.Received, p.Requests = now.BytesDown-s.before.BytesDown, now.Requests.Total()-s.before.Requests.Total()
}

// Phase implements Progress.
func (s *rehearsal) Phase(name string, total int64) {
	s.percent.Store(name == PhaseRecover)
	s.Progress.Phase(name, total)
}

// Add implements Progress.
func (s *rehearsal) Add(n int64) {
	if !s.percent.Load() {
		s.bytes.Add(n)
	}
	s.Progress.Add(n)
}

// Note implements Progress.
func (s *rehearsal) Note(text string) {
	s.note(text)
	s.Progress.Note(text)
}

func (s *rehearsal) note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record.Notes = addLine(s.record.Notes, text)
}

func addLine(list []string, text string) []string {
	if len(list) < manifest.MaxDrillLines {
		list = append(list, shortened(text))
	}
	return list
}

func shortened(text string) string {
	if len(text) > maxDrillText {
		return strings.ToValidUTF8(text[:maxDrillText], "") + " …"
	}
	return text
}

// verified notes a database that the engine has looked at.
func (s *rehearsal) verified(f *homeFile, name string, err error) {
	d := manifest.DrillDatabase{Path: name, Kind: f.kind}
	if f.pageSize > 0 {
		d.Pages = f.size / f.pageSize
	}
	s.record.DatabaseCount++
	if err == nil {
		s.record.Verified++
		s.record.Pages += d.Pages
	} else {
		d.Problem = shortened(err.Error())
	}
	// One that is not right is worth more than one that is.
	if list := s.record.Databases; len(list) < manifest.MaxDrillDatabases {
		s.record.Databases = append(list, d)
	} else if err != nil {
		list[len(list)-1] = d
	}
}

// finish says what the drill came to.
func (s *rehearsal) finish(err error) {
	s.endPhase()
	r, now := s.record, s.bucket.Stats()
	r.Finished = r.Started.Add(time.Since(s.began))
	q, first := now.Requests, s.first.Requests
	r.Requests = manifest.DrillRequests{Put: q.Put - first.Put, Open: q.Get - first.Get, Stat: q.Head - first.Head, List: q.List - first.List,
		Delete: q.Delete - first.Delete}
	r.Received = now.BytesDown - s.first.BytesDown
	if err == nil {
		r.Result = manifest.DrillPassed
		return
	}
	r.Phase, r.Error = s.failedIn, shortened(err.Error())
	var gap *manifest.GapError
	if r.Result = manifest.DrillFailed; IsDamage(err) || errors.As(err, &gap) {
		r.Result = manifest.DrillDamaged
		for _, line := range damageLines(err) {
			r.Damage = addLine(r.Damage, line)
		}
	}
}

// damageLines name one by one what an error says is damaged.
func damageLines(err error) (lines []string) {
	var (
		damage     *DamageError
		missing    *MissingError
		verify     *VerifyError
		incomplete *IncompleteError
	)
	if errors.As(err, &damage) {
		for _, o := range damage.Objects {
			lines = append(lines, o.Err.Error())
		}
		for _, l := range damage.Logs {
			lines = append(lines, l.String())
		}
		for _, f := range damage.Files {
			lines = append(lines, f.String())
		}
	}
	if errors.As(err, &missing) {
		lines = append(lines, each("missing: ", missing.Missing)...)
		lines = append(lines, each("removed by the log, but there: ", missing.Returned)...)
		lines = append(lines, each("not as it must be: ", missing.Wrong)...)
	}
	if errors.As(err, &verify) {
		lines = append(lines, each("does not verify: ", verify.Files)...)
	}
	if errors.As(err, &incomplete) {
		for _, e := range incomplete.Unwrap() {
			lines = append(lines, e.Error())
		}
	}
	return lines
}

func each(what string, names []string) (lines []string) {
	for _, name := range names {
		lines = append(lines, what+name)
	}
	return lines
}
