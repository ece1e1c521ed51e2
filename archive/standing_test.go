package archive_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"bdbvault/archive"
	"bdbvault/localenv/envtest"
)

func (b *bench) stand(home string) (*archive.Standing, error) {
	b.t.Helper()
	saved := b.home
	b.home = home
	defer func() { b.home = saved }()
	env := b.env()
	survey, err := env.Survey(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return archive.Stand(b.t.Context(), b.repo, env, survey, archive.ShipOptions{Env: "test", StateDir: b.state})
}

// TestStand compares what ship would find with what it then finds, and leaves store and state alone.
func TestStand(t *testing.T) {
	t.Parallel()
	env, b := bank(t)
	if _, err := b.stand(b.home); !errors.Is(err, archive.ErrNoBackup) {
		t.Fatalf("before a backup: %v", err)
	}
	full := b.backup(archive.BackupOptions{})
	commit(t, env, 1000, envtest.BankOptions{})
	before := snapshot(t, b.state)
	b.rec.Ops()
	behind, err := b.stand(b.home)
	if err != nil || behind.Backup.ID != full.Manifest.ID || !behind.Related || behind.Shipped != full.Manifest.ConsistentAt || !behind.Shipped.Before(behind.End) {
		t.Errorf("behind: %s %v", dump(behind), err)
	}
	for _, op := range b.rec.Ops() {
		if op.Name == "put" || op.Name == "delete" {
			t.Errorf("it does %+v", op)
		}
	}
	if after := snapshot(t, b.state); after != before {
		t.Errorf("the state is now\n%s\nbefore:\n%s", after, before)
	}
	shipped, err := b.ship()
	if err != nil {
		t.Fatal(err)
	}
	b.state = filepath.Join(t.TempDir(), "none")
	if now, err := b.stand(b.home); err != nil || now.Shipped != shipped.To || now.Shipped != now.End || now.LastCommit.Unix() != shipped.LastCommit.Unix() {
		t.Errorf("shipped to %s: %s %v", shipped.To, dump(now), err)
	}
	if _, err := os.Stat(b.state); err == nil {
		t.Error("it made a state directory")
	}

	other := filepath.Join(t.TempDir(), "other")
	envtest.Create(t, other, envtest.Spec{Bank: &envtest.Bank{}})
	var broken *archive.ChainError
	if st, err := b.stand(other); !errors.As(err, &broken) || st.Related {
		t.Errorf("another environment: %s %v", dump(st), err)
	}
}

// snapshot is the content of all files below a directory.
func snapshot(t *testing.T, dir string) (text string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			text += path + "\n"
			return err
		}
		data, err := os.ReadFile(path)
		text += path + string(data) + "\n"
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}
