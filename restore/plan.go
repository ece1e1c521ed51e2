package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
)

// Target says what to restore to. The zero value is the newest usable backup and the log behind it, as far as that is unbroken. Of LSN, At and BeforeTxn at
// most one is given.
type Target struct {
	Backup    manifest.BackupID // start from this full backup, or fail; empty: from the newest that fits
	LSN       bdb.LSN           // end just before the record at this LSN
	At        time.Time         // end behind the last commit of that second or earlier
	BeforeTxn TxnID             // end just before the commit of this transaction
	Key       *bdb.Key          `json:"-"` // to read the log of an encrypted environment, which At and BeforeTxn need
}

// String names the target in messages.
func (t Target) String() string {
	what := "the newest state"
	switch {
	case !t.LSN.IsZero():
		what = "LSN " + t.LSN.String()
	case !t.At.IsZero():
		what = "the state of " + t.At.Format(time.RFC3339)
	case t.BeforeTxn != 0:
		what = "the commit of transaction " + t.BeforeTxn.String()
	}
	if t.Backup != "" {
		what += ", from backup " + string(t.Backup)
	}
	return what
}

func (t Target) check() error {
	given := 0
	for _, set := range []bool{!t.LSN.IsZero(), !t.At.IsZero(), t.BeforeTxn != 0} {
		if set {
			given++
		}
	}
	if given > 1 {
		return errors.New("a restore ends at an LSN, at a time or before a transaction, not at several of them")
	}
	return nil
}

// Plan says what a restore will read and where it will end.
type Plan struct {
	Environment  string             `json:"environment"`
	Backup       manifest.BackupID  `json:"backup"`
	Timeline     manifest.Timeline  `json:"timeline"`
	Started      time.Time          `json:"started"` // when the backup did, by the source's clock
	ConsistentAt bdb.LSN            `json:"consistentAt"`
	End          bdb.LSN            `json:"end"`                 // the restored history ends just before this LSN
	EndTime      time.Time          `json:"endTime,omitzero"`    // of the last commit that is known to lie before End
	EndCommit    *CommitPoint       `json:"endCommit,omitempty"` // that commit, if the log had to be read to find it
	Files        int                `json:"files"`
	Bytes        int64              `json:"bytes"`    // of the files, holes included
	LogBytes     int64              `json:"logBytes"` // of the log that is laid down
	Segments     int                `json:"segments"`
	Objects      int                `json:"objects"`           // maps, packs and segments that will be read
	FetchBytes   int64              `json:"fetchBytes"`        // about
	Requests     int                `json:"requests"`          // about
	Encrypted    bool               `json:"encrypted"`         // the environment needs its password
	NoLog        bool               `json:"noLog,omitempty"`   // the environment had none: what was copied is what comes back
	Gaps         []Gap              `json:"gaps,omitempty"`    // in the log of that timeline from the backup on; see FindGaps
	GapsTo       bdb.LSN            `json:"gapsTo,omitzero"`   // as far as they were looked for
	PartedAt     bdb.LSN            `json:"partedAt,omitzero"` // the log behind it is that of two environments: the restore will fail
	Notes        []string           `json:"notes,omitempty"`
	PassedOver   []*UnusableError   `json:"-"` // newer backups that can't be used
	Target       Target             `json:"-"`
	Manifest     *manifest.Manifest `json:"-"`
	Cover        manifest.Cover     `json:"-"`

	behind *manifest.SegmentName // log of which a piece before it is missing
}

// MakePlan picks the backup and the log segments for a target. An empty env is the only environment in the repository. With no
// backup asked for, one that can't be used is passed over for the next older one, and Plan.Notes says so. The requests are few however much is stored, except
// for a transaction, for which the log has to be searched. *UnreachableError: the target is not in the store.
func MakePlan(ctx context.Context, repo *repository.Repository, env string, target Target) (*Plan, error) {
	if err := target.check(); err != nil {
		return nil, err
	}
	env, err := resolveEnvironment(ctx, repo, env)
	if err != nil {
		return nil, err
	}
	backups, err := repo.Backups(ctx, env, "")
	if err != nil {
		return nil, err
	}
	p := &planner{repo: repo, env: env, target: target}
	p.target.At = target.At.Truncate(time.Second)
	asked := slices.IndexFunc(backups, func(s repository.Stored) bool { return s.ID == target.Backup })
	switch {
	case target.Backup != "" && asked < 0:
		return nil, &NotFoundError{Environment: env, Backup: target.Backup}
	case len(backups) == 0:
		return nil, fmt.Errorf("%w: environment %s has none", ErrNoBackup, env)
	case target.BeforeTxn != 0:
		return p.beforeTxn(ctx, backups)
	case asked >= 0:
		return p.asked(ctx, backups, asked)
	}
	return p.newest(ctx, backups)
}

func resolveEnvironment(ctx context.Context, repo *repository.Repository, env string) (string, error) {
	if env != "" {
		return env, manifest.CheckEnv(env)
	}
	names, err := repo.Environments(ctx)
	switch {
	case err != nil:
		return "", err
	case len(names) == 0:
		return "", fmt.Errorf("%w: the repository is empty", ErrNoBackup)
	case len(names) > 1:
		return "", fmt.Errorf("%w the repository holds %s", ErrEnvironment, strings.Join(names, ", "))
	}
	return names[0], nil
}

type planner struct {
	repo   *repository.Repository
	env    string
	target Target
	notes  []string
	passed []*UnusableError // the backups that were passed over
}

func (p *planner) asked(ctx context.Context, backups []repository.Stored, i int) (*Plan, error) {
	m, err := p.repo.Manifest(ctx, p.env, backups[i])
	if err != nil {
		return nil, p.unusable(p.target.Backup, err)
	}
	plan, err := p.plan(ctx, m, backups[i+1:])
	var far *UnreachableError
	var early *LogEndError
	switch {
	case err == nil:
		return plan, nil
	case errors.As(err, &far), errors.Is(err, errTooEarly), errors.As(err, &early) && early.End == p.target.LSN:
		return nil, p.outside(ctx, m, err)
	}
	return nil, p.unusable(p.target.Backup, err)
}

// outside says what can be reached from the backup that was asked for.
func (p *planner) outside(ctx context.Context, m *manifest.Manifest, err error) error {
	u := &UnreachableError{Environment: p.env, Target: p.target, Err: err}
	var far *UnreachableError
	if errors.As(err, &far) {
		u.Err, u.Newest = far.Err, far.Newest
	}
	if piece, err := p.repo.FollowBackup(ctx, m, nil); err == nil {
		x := p.cutter(m, piece).latest()
		u.Ranges = []Range{{Timeline: m.Timeline, From: m.ConsistentAt, FromTime: m.ConsistentTime, To: x.end, ToTime: x.time, Backups: []manifest.BackupID{m.ID}}}
	}
	return u
}

// unreachable says what can be reached of the environment. That takes more requests than planning does.
func (p *planner) unreachable(ctx context.Context, far *UnreachableError) error {
	u := &UnreachableError{Environment: p.env, Target: p.target, Newest: far.Newest, Err: far.Err}
	if h, err := ReadHistory(ctx, p.repo, p.env); err == nil {
		u.Ranges = h.Ranges
	}
	return u
}

// newest tries the backups from the newest on that may hold the target.
func (p *planner) newest(ctx context.Context, backups []repository.Stored) (*Plan, error) {
	from, line, err := p.start(ctx, backups)
	if err != nil {
		return nil, err
	}
	for i := from; i >= 0; i-- {
		m, err := p.repo.Manifest(ctx, p.env, backups[i])
		if err == nil && !line.IsZero() && m.Timeline != line {
			break
		}
		var plan *Plan
		if err == nil {
			plan, err = p.plan(ctx, m, backups[i+1:])
		}
		var far *UnreachableError
		switch {
		case err == nil:
			return plan, nil
		case errors.As(err, &far):
			return nil, p.unreachable(ctx, far)
		case errors.Is(err, errTooEarly):
		case !p.passedOver(backups[i].ID, err):
			return nil, p.unusable(backups[i].ID, err)
		}
	}
	if n := len(p.passed); n > 0 {
		return nil, p.passed[n-1]
	}
	return nil, p.unreachable(ctx, &UnreachableError{})
}

// start is the newest backup that may hold the target. Ids carry the time. LSNs mean something only within a timeline, so a target LSN is looked for in that
// of the newest readable backup.
func (p *planner) start(ctx context.Context, backups []repository.Stored) (int, manifest.Timeline, error) {
	newest := len(backups) - 1
	if !p.target.At.IsZero() {
		// The oldest, if all are later: the clock may have been set back since.
		return max(0, countUntil(backups, p.target.At)-1), manifest.Timeline{}, nil
	}
	if p.target.LSN.IsZero() {
		return newest, manifest.Timeline{}, nil
	}
	for ; newest >= 0; newest-- {
		m, err := p.repo.Manifest(ctx, p.env, backups[newest])
		if err == nil {
			i, err := p.startLSN(ctx, backups[:newest+1], m)
			return i, m.Timeline, err
		}
		if !p.passedOver(backups[newest].ID, err) {
			return 0, manifest.Timeline{}, p.unusable(backups[newest].ID, err)
		}
	}
	return newest, manifest.Timeline{}, nil
}

func countUntil(backups []repository.Stored, t time.Time) int {
	return sort.Search(len(backups), func(i int) bool { return backups[i].ID.Time().After(t) })
}

// startLSN is the newest backup of a timeline that is consistent before the target. It reads the manifests of few.
func (p *planner) startLSN(ctx context.Context, backups []repository.Stored, newest *manifest.Manifest) (int, error) {
	if !p.target.LSN.Before(newest.ConsistentAt) {
		return len(backups) - 1, nil
	}
	low, high := 0, len(backups)-1 // too late from high on
	for low < high {
		mid := (low + high) / 2
		i, m, err := p.readable(ctx, backups[:high], mid)
		switch {
		case err != nil:
			return 0, err
		case m == nil || m.Timeline == newest.Timeline && p.target.LSN.Before(m.ConsistentAt):
			high = mid
		default:
			low = i + 1
		}
	}
	return high - 1, nil
}

// readable is the first backup from one on whose manifest can be read; nil: there is none.
func (p *planner) readable(ctx context.Context, backups []repository.Stored, i int) (int, *manifest.Manifest, error) {
	for ; i < len(backups); i++ {
		m, err := p.repo.Manifest(ctx, p.env, backups[i])
		if err == nil || !passOver(err) {
			return i, m, err
		}
	}
	return i, nil, nil
}

// passedOver notes that a backup can't be used, if that is the backup's own fault.
func (p *planner) passedOver(id manifest.BackupID, err error) bool {
	if !passOver(err) {
		return false
	}
	u := &UnusableError{Backup: id, Err: err}
	if !slices.ContainsFunc(p.passed, func(o *UnusableError) bool { return o.Backup == id }) {
		p.notes = append(p.notes, fmt.Sprintf("passed over %v", u))
	}
	p.passed = append(p.passed, u)
	return true
}

// passOver reports whether an error is the backup's own, so that an older one may do better. A newer format is not: it would hide
// everything that was stored since.
func passOver(err error) bool {
	var void *repository.VoidError
	var gap *manifest.GapError
	var end *LogEndError
	return errors.As(err, &void) || errors.As(err, &gap) || errors.As(err, &end) ||
		errors.Is(err, manifest.ErrDamaged) || errors.Is(err, remote.ErrNotFound)
}

// unusable names the backup in errors that are its own.
func (p *planner) unusable(id manifest.BackupID, err error) error {
	var end *LogEndError
	if passOver(err) || errors.As(err, &end) {
		return &UnusableError{Backup: id, Err: err}
	}
	return err
}

// plan makes the plan that begins with a backup; newer are those that follow it.
func (p *planner) plan(ctx context.Context, m *manifest.Manifest, newer []repository.Stored) (*Plan, error) {
	if m.NoLog {
		return p.planPlain(m)
	}
	if lsn := p.target.LSN; !lsn.IsZero() && lsn.Before(m.ConsistentAt) {
		return nil, &LogEndError{End: lsn, ConsistentAt: m.ConsistentAt, MaxPageLSN: m.MaxPageLSN}
	}
	piece, err := p.repo.FollowBackup(ctx, m, p.enough)
	if err != nil {
		return nil, err
	}
	c := p.cutter(m, piece)
	var x *cut
	switch {
	case !p.target.LSN.IsZero():
		x, err = c.lsn(ctx, p.target.LSN)
	case !p.target.At.IsZero():
		x, err = c.until(ctx, p.target.At, func() (bool, error) { return p.proved(ctx, m, piece, newer) })
	default:
		x = c.latest()
	}
	if err != nil {
		return nil, err
	}
	return p.finish(ctx, c, x)
}

// enough reports whether no log behind a segment matters to the target.
func (p *planner) enough(s repository.Segment) bool {
	switch {
	case !p.target.LSN.IsZero():
		return !s.EndLSN().Before(p.target.LSN)
	case !p.target.At.IsZero():
		return commitTime(s.LastCommit).After(p.target.At.Add(clockSlack))
	}
	return false
}

func (p *planner) cutter(m *manifest.Manifest, piece *repository.LogPiece) *cutter {
	return &cutter{m: m, piece: piece, scan: &logScan{repo: p.repo, env: p.env, key: p.target.Key, segments: piece.Segments}}
}

// gapLists bounds the requests of FindGaps.
const gapLists = 24

// FindGaps looks for gaps in the timeline's log from the backup on, in as much of it as few requests show.
func (p *Plan) FindGaps(ctx context.Context, repo *repository.Repository) error {
	pieces, _, err := repo.LogPieces(ctx, p.Environment, p.Timeline, p.Manifest.NeededFrom.File, gapLists)
	if err != nil || len(pieces) == 0 {
		return err
	}
	log := newTimelineLog(p.Timeline, pieces)
	p.Gaps, p.GapsTo = log.Gaps(), log.To
	return nil
}

// proved reports whether a backup shows that all commits up to the target time are in the log that is stored: one that was begun later, on the
// same log.
func (p *planner) proved(ctx context.Context, m *manifest.Manifest, piece *repository.LogPiece, newer []repository.Stored) (bool, error) {
	newer = newer[countUntil(newer, p.target.At):]
	if len(newer) == 0 {
		return false, nil
	}
	next, err := p.repo.Manifest(ctx, p.env, newer[0])
	if err != nil {
		if passOver(err) {
			err = nil
		}
		return false, err
	}
	return next.Timeline == m.Timeline && !piece.End().Before(next.ConsistentAt), nil
}

// finish describes a restore that ends at a cut.
func (p *planner) finish(ctx context.Context, c *cutter, x *cut) (*Plan, error) {
	m := c.m
	cover, sizes := trim(c.piece, x.end)
	plan := &Plan{
		Environment: p.env, Backup: m.ID, Timeline: m.Timeline, Started: m.Started, ConsistentAt: m.ConsistentAt,
		End: x.end, EndTime: x.time, EndCommit: x.commit, Files: len(m.Files), Bytes: m.Bytes(), Segments: len(cover.Segments),
		Encrypted: m.Encrypted, Notes: slices.Concat(p.notes, x.notes), PassedOver: p.passed, Target: p.target, Manifest: m, Cover: cover,
	}
	if (p.target == Target{Backup: p.target.Backup, Key: p.target.Key}) && c.piece.Next != nil {
		if err := plan.noteGap(ctx, p.repo, *c.piece.Next); err != nil {
			return nil, err
		}
	}
	if err := plan.notePartedLog(ctx, p.repo); err != nil {
		return nil, err
	}
	plan.addLog(sizes)
	plan.addData()
	return plan, plan.checkEnd()
}

// trim leaves out the segments behind an LSN.
func trim(piece *repository.LogPiece, end bdb.LSN) (cover manifest.Cover, stored int64) {
	for _, s := range piece.Segments {
		cover.Segments = append(cover.Segments, s.SegmentName)
		cover.End, cover.LastCommit = s.EndLSN(), max(cover.LastCommit, s.LastCommit)
		stored += s.Size
		if !s.EndLSN().Before(end) {
			break
		}
	}
	return cover, stored
}

// noteGap says what is lost when stored log lies beyond a gap.
func (p *Plan) noteGap(ctx context.Context, repo *repository.Repository, next manifest.SegmentName) error {
	p.Gaps = []Gap{{Timeline: p.Timeline, After: p.End, Before: bdb.LSN{File: next.File, Offset: next.Start}}}
	last, err := repo.NewestLog(ctx, p.Environment, p.Timeline, next)
	if err == nil && p.End.Before(last) {
		p.behind = &next
		p.Notes = append(p.Notes, fmt.Sprintf("log is stored up to LSN %s, but a piece behind %s is missing, so the restore ends at %s", last, p.End, p.End))
	}
	return err
}

// notePartedLog says where a restore would end if the log is that of two environments.
func (p *Plan) notePartedLog(ctx context.Context, repo *repository.Repository) (err error) {
	p.PartedAt, err = partedAt(ctx, repo, p.Environment, p.Cover.Segments)
	if !p.PartedAt.IsZero() {
		p.Notes = append(p.Notes, fmt.Sprintf("the log behind LSN %s is that of two environments that shipped under one name, mixed: a restore can end at LSN %s or before, not behind it",
			p.PartedAt, p.PartedAt))
	}
	return err
}

// checkEnd refuses a cut that recovery would accept, and the application then fail at: below what the pages already hold.
func (p *Plan) checkEnd() error {
	m := p.Manifest
	if p.End.Before(m.ConsistentAt) || (!m.MaxPageLSN.IsZero() && !m.MaxPageLSN.Before(p.End)) {
		return &LogEndError{End: p.End, ConsistentAt: m.ConsistentAt, MaxPageLSN: m.MaxPageLSN}
	}
	return nil
}

func (p *Plan) addLog(stored int64) {
	for _, s := range p.Cover.Segments {
		p.LogBytes += int64(s.End - s.Start)
	}
	p.FetchBytes += stored
	p.Objects += len(p.Cover.Segments)
	p.Requests += len(p.Cover.Segments)
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func (p *Plan) addData() {
	m := p.Manifest
	for i := range m.Packs {
		pack := &m.Packs[i]
		p.FetchBytes += pack.Size
		if !mostly(pack.Live, pack.Size) {
			p.FetchBytes += pack.Live - pack.Size
		}
	}
	for i := range m.Files {
		p.FetchBytes += m.Files[i].MapSize
	}
	p.Objects += len(m.Packs) + len(m.Files)
	p.Requests += len(m.Packs) + len(m.Files)
}

// Keys are those of all objects that the restore will read: packs, maps and segments.
func (p *Plan) Keys() []string {
	m := p.Manifest
	var keys []string
	for i := range m.Packs {
		keys = append(keys, manifest.PackKey(p.Environment, m.Packs[i].Name))
	}
	for i := range m.Files {
		keys = append(keys, manifest.MapKey(p.Environment, m.Files[i].Map))
	}
	slices.Sort(keys)
	keys = slices.Compact(keys) // files of the same content share a map
	for _, s := range p.Cover.Segments {
		keys = append(keys, s.Key(p.Environment))
	}
	return keys
}
