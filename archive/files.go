package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
)

// maxRounds bounds how often the environment is listed again because something new had appeared. Every round copies only what
// is new, so that an environment which outlasts so many makes files faster than they can be listed.
const maxRounds = 100

// copyFiles opens all files, reads them, and lists again until nothing new appears.
func (b *backup) copyFiles(ctx context.Context) error {
	for round := 0; ; round++ {
		if err := b.step("list"); err != nil {
			return err
		}
		listing, err := b.env.List(ctx)
		if err != nil {
			return err
		}
		fresh, err := b.openNew(listing.Files, round)
		if err != nil {
			return err
		}
		b.listing = listing
		if round == 0 {
			if err := b.sameEnvironment(ctx, fresh); err != nil {
				return err
			}
		}
		if len(fresh) == 0 {
			return nil
		}
		if round == maxRounds {
			return fmt.Errorf("new files appear in %s faster than they can be copied, the last one is %s", b.env.Home, fresh[0].name())
		}
		if err := b.readFiles(ctx, fresh, round); err != nil {
			return err
		}
	}
}

// openNew opens the files that are not known yet by device and inode. All stay open to the end, so that no inode is used a second time.
func (b *backup) openNew(files []localenv.File, round int) ([]*fileJob, error) {
	b.round = round
	var fresh []*fileJob
	for _, f := range files {
		if b.isKnown(f, round) {
			b.seen[inodeOf(f)].last = seenAt{round, journalKey{f.Dir, f.Path}}
			continue
		}
		src, err := b.env.OpenFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if src.Placeholder() { // the database itself is there under another name, and the log knows what becomes of it
			if err := src.Close(); err != nil {
				return nil, err
			}
			continue
		}
		if !utf8.ValidString(f.Path) {
			if err := b.skipOddName(f, src); err != nil {
				return nil, err
			}
			continue
		}
		f = src.File()
		j := &fileJob{file: f, src: src, size: f.Stat.Size, entry: newEntry(f, src), round: round}
		j.last = seenAt{round, j.place()}
		b.jobs = append(b.jobs, j)
		if id := inodeOf(f); b.seen[id] == nil {
			b.seen[id] = j
		}
		fresh = append(fresh, j)
	}
	return fresh, nil
}

// isKnown reports whether the file has been opened, under whatever name. But a further name that it has at the same time, by a link, is a file of its own:
// restored as one, for nobody knows which of the names is used.
func (b *backup) isKnown(f localenv.File, round int) bool {
	first := b.seen[inodeOf(f)]
	if first == nil || first.round != round {
		return first != nil
	}
	name := filepath.Join(b.env.Dirs[first.file.Dir].Path, filepath.FromSlash(first.file.Path))
	info, err := os.Stat(name)
	if err != nil {
		return true // renamed between the two looks
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return !ok || uint64(st.Dev) != f.Stat.Device || st.Ino != f.Stat.Inode
}

func inodeOf(f localenv.File) inode { return inode{f.Stat.Device, f.Stat.Inode} }

// skipOddName leaves out a file whose name is not UTF-8, as neither manifests nor all stores can hold it. For a database that would be a loss that
// nobody sees.
func (b *backup) skipOddName(f localenv.File, src *localenv.Source) error {
	kind := src.Kind()
	if err := src.Close(); err != nil {
		return err
	}
	if kind != bdb.KindFile {
		return fmt.Errorf("database %q: its name is not UTF-8 and can't be stored: rename it", f.Path)
	}
	name := strings.ToValidUTF8(f.Path, "\uFFFD")
	if !b.odd[name] {
		b.odd[name] = true
		b.progress.Note(fmt.Sprintf("%q is left out: its name is not UTF-8", f.Path))
	}
	return nil
}

// sameEnvironment refuses to append to the history of another environment: at least one database has to be in both, or the log has to go on
// where the parent's ends, as it does where every database was rebuilt or removed since.
func (b *backup) sameEnvironment(ctx context.Context, jobs []*fileJob) error {
	if len(b.old.byID) == 0 {
		return nil
	}
	for _, j := range jobs {
		if b.old.sameID(&j.entry) != nil {
			return nil
		}
	}
	if !b.m.NoLog && !b.parent.NoLog {
		if same, err := b.continuesParent(ctx); same || err != nil {
			return err
		}
	}
	return &OtherEnvironmentError{Env: b.opt.Env, Last: b.parent}
}

// continuesParent reports whether the log here holds, byte for byte, the log file with which the parent's timeline ends, and more of it than the
// header, which is alike everywhere. A link from the next file alone is too weak a proof. It looks through a log of its own, as the run's is being followed.
func (b *backup) continuesParent(ctx context.Context) (same bool, err error) {
	log, err := b.env.OpenLog(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	s := b.shipper(log)
	if err := s.find(ctx, b.parent); err != nil {
		return false, err
	}
	if s.last == nil || s.last.LastRecord == 0 || !slices.Contains(log.Files(), s.last.File) {
		return false, nil
	}
	err = s.continues(ctx)
	if _, broken := errors.AsType[*ChainError](err); broken {
		return false, nil
	}
	return err == nil, err
}

// readFiles prepares the files against the parent and sends those that have to be read through the pipeline.
func (b *backup) readFiles(ctx context.Context, jobs []*fileJob, round int) error {
	var read []*fileJob
	var total int64
	for _, j := range jobs {
		b.prepare(j)
		if !j.unread {
			read = append(read, j)
			total += j.size
		}
	}
	b.result.FilesRead += len(read)
	b.result.FilesUnread += len(jobs) - len(read)
	if round == 0 {
		b.progress.Phase(PhaseRead, total)
	}
	if err := b.step("read"); err != nil {
		return err
	}
	now := time.Now().UTC()
	for _, j := range read {
		j.started, j.entry.ReadAt = now, now
	}
	return b.pipe.run(ctx, read)
}

// prepare finds the file in the parent backup and decides whether it has to be read.
func (b *backup) prepare(j *fileJob) {
	j.entry.BlockSize = manifest.NextBlockSize(j.size, j.entry.PageSize)
	old := b.old.find(&j.entry)
	if old == nil {
		return
	}
	if keepBlockSize(old, j) {
		j.entry.BlockSize = old.BlockSize
	}
	if !b.opt.ReadAll && b.takeOver(j, old) {
		return
	}
	if old.BlockSize == j.entry.BlockSize && !b.avoid[old.Map] {
		j.old = old
	}
}

// keepBlockSize keeps the parent's block size, so that blocks stay comparable, until the file has outgrown it fourfold.
func keepBlockSize(old *manifest.File, j *fileJob) bool {
	return old.PageSize == j.entry.PageSize && (j.size+int64(old.BlockSize)-1)/int64(old.BlockSize) <= 4*manifest.MaxBlocks
}

// takeOver takes the parent's blocks for a file that its inode shows to be unchanged since, unless some of them have to be stored anew.
func (b *backup) takeOver(j *fileJob, old *manifest.File) bool {
	if old.Dir != j.entry.Dir || old.Path != j.entry.Path || !unchanged(old, j.file.Stat) || b.avoid[old.Map] {
		return false
	}
	for _, u := range old.Uses {
		if b.packOrdinal(b.parent.Packs[u.Pack]) == noPack {
			return false
		}
	}
	j.entry, j.unread, j.old = *old, true, old
	b.progress.File(j.name())
	return true
}

func (b *backup) packOrdinal(p manifest.Pack) int {
	if b.avoid[p.Name] || b.retired[p.Name] {
		return noPack
	}
	return b.packs.known(p.Name, p.Size)
}

// recall opens what is stored of a file that is about to be read, for comparison. It is held until the file has been read and no longer, so that memory
// does not grow with the number of files.
func (b *backup) recall(ctx context.Context, j *fileJob) (err error) {
	if j.journal, err = b.stored.file(journalKey{j.entry.Dir, j.entry.Path}, j.entry.BlockSize); err != nil || j.old == nil {
		return err
	}
	p, err := openParent(ctx, b.repo, b.st, b.opt.Env, j.old)
	if errors.Is(err, manifest.ErrDamaged) || errors.Is(err, remote.ErrNotFound) {
		// A map that is lost makes the file new, no more.
		b.progress.Note(fmt.Sprintf("%s is stored as a whole: %v", j.name(), err))
		j.old = nil
		return nil
	}
	if err != nil {
		return err
	}
	j.parent = p
	for _, name := range p.m.Packs {
		j.oldPacks = append(j.oldPacks, b.packOrdinal(manifest.Pack{Name: name, Size: b.old.packs[name]}))
	}
	return nil
}

// resolveNames decides where files stand in the backup that were found under one name, one after the other: where the newest listing has them. One that
// was gone by then is left out, if its name was used again.
func (b *backup) resolveNames() {
	n := &names{place: map[journalKey]int{}, round: b.round}
	for _, j := range b.jobs {
		n.put(j, j.place())
	}
	b.jobs, b.dropped = n.kept, n.dropped
}

// names gives each file a place of its own.
type names struct {
	kept, dropped []*fileJob
	place         map[journalKey]int // index in kept
	round         int                // of the newest listing
}

func (n *names) put(j *fileJob, at journalKey) {
	i, taken := n.place[at]
	if !taken {
		n.place[at] = len(n.kept)
		n.kept = append(n.kept, j)
		j.entry.Dir, j.entry.Path = at.dir, at.path
		return
	}
	if here := (seenAt{n.round, at}); n.kept[i].last != here {
		j, n.kept[i] = n.kept[i], j
		n.kept[i].entry.Dir, n.kept[i].entry.Path = at.dir, at.path
	}
	if j.last.round == n.round && j.last.at != at {
		n.put(j, j.last.at)
		return
	}
	n.dropped = append(n.dropped, j)
}
