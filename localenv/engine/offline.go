package engine

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
)

// What follows is said once for all engines: what is refused before the engine is bothered, and what its texts mean. A number in a text
// is Berkeley DB's own for that message, in all languages and since release 5.3.

func readConfig(home string) (localenv.Config, error) {
	text, err := os.ReadFile(filepath.Join(home, "DB_CONFIG"))
	if errors.Is(err, fs.ErrNotExist) {
		return localenv.Config{}, nil
	}
	return localenv.ParseConfig(string(text)), err
}

// within resolves a directory that DB_CONFIG names.
func within(home, dir string) string {
	if filepath.IsAbs(dir) {
		return dir
	}
	return filepath.Join(home, dir)
}

// CheckRecoverable refuses to recover a home that has region files, because somebody may have it open, and to use a password that is not
// the log's, which the engine would report as damage.
func CheckRecoverable(home, password string) error {
	op := "recover " + home
	if _, err := os.Stat(home); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if RegionsOf(home) != (Regions{}) {
		return &EngineError{Op: op, Text: []string{"it has region files (" + regionName + "): somebody may have it open"}}
	}
	c, err := readConfig(home)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	logs, err := filepath.Glob(filepath.Join(escapeGlob(within(home, c.LogDir)), "log.??????????"))
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return checkLogPassword(op, logs, bdb.NewKey(password))
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// checkLogPassword lets pass what at least one log file says is right, so that one damaged file is left to the engine.
func checkLogPassword(op string, logs []string, key *bdb.Key) error {
	var wrong error
	for _, path := range logs {
		encrypted, err := logHeader(path, key)
		switch {
		case errors.Is(err, bdb.ErrPassword):
			wrong = passwordError(op, "it doesn't open "+filepath.Base(path))
		case err != nil:
		case encrypted && key == nil:
			return passwordError(op, "the environment is encrypted and no password was given")
		case !encrypted && key != nil:
			return passwordError(op, "the environment isn't encrypted, but a password was given")
		default:
			return nil
		}
	}
	return wrong
}

func logHeader(path string, key *bdb.Key) (encrypted bool, err error) {
	first, err := readStart(path, 512)
	if err != nil {
		return false, err
	}
	h, err := bdb.ParseLogHeader(first, key)
	return h.Encrypted, err
}

func passwordError(op, why string) error {
	return &EngineError{Op: op, Kind: ErrPassword, Text: []string{why}}
}

// readStart reads up to n bytes from the beginning of a file.
func readStart(path string, n int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, n))
}

// VerifyTwice is Engine's Verify for engines that can verify with and without regard to order: it refuses a password that is not the
// file's, and settles what is only ordered in another way. The password that verify is given is empty for a file that isn't encrypted:
// with one, libdb can't even read such a file if it has checksums.
func VerifyTwice(home, file string, opt Options, verify func(password string, order bool) error) error {
	path, err := findDatabase(home, file)
	if err != nil {
		return err
	}
	encrypted, err := checkFilePassword("verify "+file, path, bdb.NewKey(opt.Password))
	if err != nil {
		return err
	}
	password := opt.Password
	if !encrypted {
		password = ""
	}
	if err := verify(password, true); !errors.Is(err, ErrDamaged) {
		return err
	}
	if err := verify(password, false); err != nil {
		return err
	}
	say(opt.Note, file+": verified without its order, which looks wrong; right if it has a comparison or hash function of its own")
	return nil
}

// findDatabase looks for the file where the engine will.
func findDatabase(home, file string) (string, error) {
	c, err := readConfig(home)
	if err != nil {
		return "", fmt.Errorf("verify %s: %w", file, err)
	}
	for _, dir := range append(slices.Clone(c.DataDirs), ".") {
		path := within(within(home, dir), file)
		if _, err = os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("verify %s: %w", file, err)
}

// checkFilePassword tells a password that is not the file's from a damaged metadata page: with the right one, other pages are good.
func checkFilePassword(op, path string, key *bdb.Key) (encrypted bool, err error) {
	first, err := readStart(path, 16<<16)
	if err != nil {
		return false, fmt.Errorf("%s: %w", op, err)
	}
	m, err := bdb.ParseMeta(first, nil)
	switch {
	case err != nil:
		return key != nil, nil // the engine's to judge
	case !m.Encrypted:
		return false, nil
	case key == nil:
		return true, passwordError(op, "the database is encrypted and no password was given")
	case !anyPageGood(&m, first, key):
		return true, passwordError(op, "no page of the database can be read with it")
	}
	return true, nil
}

func anyPageGood(m *bdb.Meta, pages []byte, key *bdb.Key) bool {
	for n := 0; (n+1)*m.PageSize <= len(pages); n++ {
		page := pages[n*m.PageSize : (n+1)*m.PageSize]
		if lsn, err := m.CheckPage(uint32(n), page, key); err == nil && !lsn.IsZero() {
			return true
		}
	}
	return false
}

// SaysDamaged tells whether a verification that the engine calls a success found a bad partition after all (BDB0090, DB_VERIFY_BAD): of a
// database partitioned by ranges, only the results of the last two partitions survive (__part_verify in src/db/partition.c).
func SaysDamaged(said []string) bool { return mentions(said, "BDB0090", "DB_VERIFY_BAD") }

// RecoveryGaveUp tells whether a recovery that the engine calls a success could not write its checkpoint (BDB1515): the disk is full, and
// pages are missing.
func RecoveryGaveUp(said []string) bool {
	return mentions(said, "BDB1515", "non-fatal checkpoint error")
}

// HostTrouble finds in what an engine said a fault of this host rather than of the files, 0 if there is none. The engine's own result often
// is only that the environment is broken.
func HostTrouble(said []string) syscall.Errno {
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EACCES, syscall.EPERM, syscall.EIO,
		syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.EFBIG} {
		for _, line := range said {
			if strings.Contains(strings.ToLower(line), errno.Error()) {
				return errno
			}
		}
	}
	return 0
}

func mentions(said []string, texts ...string) bool {
	return slices.ContainsFunc(said, func(line string) bool {
		return slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(line, s) })
	})
}
