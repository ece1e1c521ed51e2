package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"bdbvault/manifest"
	"bdbvault/remote/repository"
)

// state is the local cache of one environment's backups: DIR/<repository id>/<env>/.
type state struct {
	dir    string
	frozen bool // read only: writing and forgetting do nothing
}

// frozenState is the state as it is, if there is any.
func frozenState(dir string, repo *repository.Repository, env string) *state {
	return &state{dir: stateDir(dir, repo, env), frozen: true}
}

func stateDir(dir string, repo *repository.Repository, env string) string {
	return filepath.Join(dir, repo.Info.ID.String(), env)
}

func openState(dir string, repo *repository.Repository, env string) (*state, error) {
	s := &state{dir: stateDir(dir, repo, env)}
	if err := os.MkdirAll(filepath.Join(s.dir, "maps"), 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	s.sweep()
	return s, nil
}

// abandoned is how long after its last change an unfinished file is taken for what a killed process left. Such files are written in one go and
// renamed when they are stored, for which Bucket tries minutes.
const abandoned = 24 * time.Hour

// sweep removes what killed processes left: each may have been storing several maps. Errors don't matter, it costs space only.
func (s *state) sweep() {
	entries, _ := os.ReadDir(s.dir)
	for _, e := range entries {
		unfinished := strings.HasPrefix(e.Name(), ".") || strings.HasPrefix(e.Name(), spoolPrefix)
		if info, err := e.Info(); unfinished && err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > abandoned {
			os.Remove(s.path(e.Name()))
		}
	}
}

func (s *state) path(name string) string { return filepath.Join(s.dir, name) }

func (s *state) mapPath(h manifest.Hash) string { return filepath.Join(s.dir, "maps", h.String()) }

const spoolPrefix = "spool-"

// spool returns a temporary file that vanishes with its descriptor.
func (s *state) spool() (*os.File, error) {
	f, err := os.CreateTemp(s.dir, spoolPrefix+"*")
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// write replaces a file of the state as one step, so that a reader and a crash see the old or the new one.
func (s *state) write(name string, data []byte) error {
	if s.frozen {
		return nil
	}
	if err := renameio.WriteFile(s.path(name), data, 0o600, renameio.WithTempDir(s.dir)); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return nil
}

// load decodes a JSON file of the state; whatever is wrong with it, it then counts as absent.
func (s *state) load(name string, v any) bool {
	data, err := os.ReadFile(s.path(name))
	return err == nil && json.Unmarshal(data, v) == nil
}

func (s *state) save(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.write(name, data)
}

// forget removes a file of the state.
func (s *state) forget(name string) error {
	if s.frozen {
		return nil
	}
	if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("state directory: %w", err)
	}
	return nil
}

const (
	stateManifest = "manifest.json"
	stateShipped  = "shipped.json"
	stateMixed    = "mixed.json" // a timeline that must not be continued
	stateJournal  = "journal"
)

// keepMaps removes cached maps that m does not name.
func (s *state) keepMaps(m *manifest.Manifest) error {
	keep := make(map[string]bool, len(m.Files))
	for i := range m.Files {
		keep[m.Files[i].Map.String()] = true
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, "maps"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !keep[e.Name()] {
			if err := os.Remove(filepath.Join(s.dir, "maps", e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// adopt moves a finished temporary file to the cached maps.
func (s *state) adopt(t *renameio.PendingFile, h manifest.Hash) error {
	if err := t.Close(); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if err := os.Rename(t.Name(), s.mapPath(h)); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return nil
}
