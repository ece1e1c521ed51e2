package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
)

// Target says what to restore to. The zero value is the newest usable backup and the log behind it, as far as that is unbroken.
type Target struct {
	Backup manifest.BackupID // start from this full backup, or fail; empty: from the newest that fits
	LSN    bdb.LSN           // end just before the record at this LSN; zero: as late as possible
}

// Plan says what a restore will read and where it will end.
type Plan struct {
	Environment  string             `json:"environment"`
	Backup       manifest.BackupID  `json:"backup"`
	Timeline     manifest.Timeline  `json:"timeline"`
	Started      time.Time          `json:"started"` // when the backup did, by the source's clock
	ConsistentAt bdb.LSN            `json:"consistentAt"`
	End          bdb.LSN            `json:"end"`              // the restored history ends just before this LSN
	EndTime      time.Time          `json:"endTime,omitzero"` // of the last commit that is known to lie before End without reading the log
	Files        int                `json:"files"`
	Bytes        int64              `json:"bytes"`    // of the files, holes included
	LogBytes     int64              `json:"logBytes"` // of the log that is laid down
	Segments     int                `json:"segments"`
	Objects      int                `json:"objects"`    // maps, packs and segments that will be read
	FetchBytes   int64              `json:"fetchBytes"` // about
	Requests     int                `json:"requests"`   // about
	Encrypted    bool               `json:"encrypted"`  // the environment needs its password
	Notes        []string           `json:"notes,omitempty"`
	Target       Target             `json:"-"`
	Manifest     *manifest.Manifest `json:"-"`
	Cover        manifest.Cover     `json:"-"`
}

// MakePlan picks the backup and the log segments for a target. An empty env is the only environment in the repository. With no
// backup asked for, one that can't be used is passed over for the next older one, and Plan.Notes says so.
func MakePlan(ctx context.Context, repo *repository.Repository, env string, target Target) (*Plan, error) {
	env, err := resolveEnvironment(ctx, repo, env)
	if err != nil {
		return nil, err
	}
	backups, err := repo.Backups(ctx, env, "")
	if err != nil {
		return nil, err
	}
	p := &planner{repo: repo, env: env, target: target, logs: map[manifest.Timeline]*storedLog{}}
	if target.Backup != "" {
		return p.asked(ctx, backups)
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
	logs   map[manifest.Timeline]*storedLog
	notes  []string
}

// storedLog is what is stored of one timeline's log.
type storedLog struct {
	chain *manifest.Chain
	sizes map[manifest.SegmentName]int64
}

func (p *planner) log(ctx context.Context, t manifest.Timeline) (*storedLog, error) {
	if l := p.logs[t]; l != nil {
		return l, nil
	}
	sizes := map[manifest.SegmentName]int64{}
	var names []manifest.SegmentName
	err := p.repo.EachSegment(ctx, p.env, t, nil, func(s manifest.SegmentName, size int64) {
		sizes[s] = size
		names = append(names, s)
	})
	if err != nil {
		return nil, err
	}
	l := &storedLog{chain: manifest.NewChain(t, names), sizes: sizes}
	p.logs[t] = l
	return l, nil
}

func (p *planner) asked(ctx context.Context, backups []repository.Stored) (*Plan, error) {
	at := slices.IndexFunc(backups, func(s repository.Stored) bool { return s.ID == p.target.Backup })
	if at < 0 {
		return nil, &NotFoundError{Environment: p.env, Backup: p.target.Backup}
	}
	m, err := p.repo.Manifest(ctx, p.env, backups[at])
	if err != nil {
		return nil, p.unusable(p.target.Backup, err)
	}
	plan, err := p.plan(ctx, m)
	if err != nil {
		return nil, p.unusable(p.target.Backup, err)
	}
	return plan, nil
}

// newest tries the backups from the newest on. LSNs mean something only within a timeline, so a target LSN is looked for in that of
// the newest readable backup.
func (p *planner) newest(ctx context.Context, backups []repository.Stored) (*Plan, error) {
	var last error
	var timeline manifest.Timeline
	for _, s := range slices.Backward(backups) {
		m, err := p.repo.Manifest(ctx, p.env, s)
		if err == nil && !p.target.LSN.IsZero() {
			if timeline.IsZero() {
				timeline = m.Timeline
			}
			if m.Timeline != timeline || p.target.LSN.Before(m.ConsistentAt) {
				continue
			}
		}
		var plan *Plan
		if err == nil {
			plan, err = p.plan(ctx, m)
		}
		if err == nil {
			return plan, nil
		}
		if !passOver(err) {
			return nil, p.unusable(s.ID, err)
		}
		last = &UnusableError{Backup: s.ID, Err: err}
		p.notes = append(p.notes, fmt.Sprintf("passed over %v", last))
	}
	switch {
	case last != nil:
		return nil, last
	case len(backups) > 0:
		return nil, fmt.Errorf("%w: no backup of %s is consistent before LSN %s", ErrNoBackup, p.env, p.target.LSN)
	}
	return nil, fmt.Errorf("%w: environment %s has none", ErrNoBackup, p.env)
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

func (p *planner) plan(ctx context.Context, m *manifest.Manifest) (*Plan, error) {
	stored, err := p.log(ctx, m.Timeline)
	if err != nil {
		return nil, err
	}
	target := p.target.LSN
	if !target.IsZero() && target.Before(m.ConsistentAt) {
		return nil, &LogEndError{End: target, ConsistentAt: m.ConsistentAt, MaxPageLSN: m.MaxPageLSN}
	}
	cover, err := stored.chain.CoverBackup(m, target)
	if err != nil {
		return nil, err
	}
	plan := &Plan{
		Environment: p.env, Backup: m.ID, Timeline: m.Timeline, Started: m.Started, ConsistentAt: m.ConsistentAt,
		End: cover.End, EndTime: m.ConsistentTime, Files: len(m.Files), Bytes: m.Bytes(), Segments: len(cover.Segments),
		Encrypted: m.Encrypted, Notes: p.notes, Target: p.target, Manifest: m, Cover: cover,
	}
	if !target.IsZero() {
		plan.End = target
	} else if newest, ok := stored.chain.Newest(); ok {
		plan.noteGap(newest)
	}
	plan.addLog(stored.sizes)
	plan.addData()
	return plan, plan.checkEnd()
}

// noteGap says what is lost when stored log lies beyond a gap.
func (p *Plan) noteGap(newest manifest.SegmentName) {
	if last := (bdb.LSN{File: newest.File, Offset: newest.End}); p.End.Before(last) {
		p.Notes = append(p.Notes, fmt.Sprintf("log is stored up to LSN %s, but a piece behind %s is missing, so the restore ends at %s", last, p.End, p.End))
	}
}

// checkEnd refuses a cut that recovery would accept, and the application then fail at: below what the pages already hold.
func (p *Plan) checkEnd() error {
	m := p.Manifest
	if p.End.Before(m.ConsistentAt) || (!m.MaxPageLSN.IsZero() && !m.MaxPageLSN.Before(p.End)) {
		return &LogEndError{End: p.End, ConsistentAt: m.ConsistentAt, MaxPageLSN: m.MaxPageLSN}
	}
	return nil
}

func (p *Plan) addLog(sizes map[manifest.SegmentName]int64) {
	for _, s := range p.Cover.Segments {
		end := bdb.LSN{File: s.File, Offset: s.End}
		if !p.End.Before(end) && s.LastCommit > 0 {
			p.EndTime = later(p.EndTime, time.Unix(s.LastCommit, 0).UTC())
		}
		p.LogBytes += int64(s.End - s.Start)
		p.FetchBytes += sizes[s]
	}
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
