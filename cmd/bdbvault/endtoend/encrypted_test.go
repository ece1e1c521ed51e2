package endtoend

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"bdbvault/archive"
	"bdbvault/localenv/envtest"
	"bdbvault/restore"
)

// TestPasswordComesAndGoes backs up one encrypted environment with the password and without, in turn. Each backup takes over what it can from the one
// before; each restores, with the password and only so.
func TestPasswordComesAndGoes(t *testing.T) {
	spec := envtest.Spec{Password: password, DataDirs: []string{"data1"}, LogDir: "logs", LogFileSize: 200 << 10, Databases: append(envtest.AllShapes(4096, true),
		envtest.Database{File: "plain.db", Method: "btree", Records: 300, Plain: true},
		envtest.Database{File: "name0", Method: "btree", Records: 300})}
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), spec)
	v := newVault(t, env.Home)
	h := envtest.StartHold(t, env)
	for i, known := range []bool{true, false, false, true} {
		opt := archive.BackupOptions{BulkSafe: archive.BulkOff}
		if v.password = ""; known {
			v.password, opt.BulkSafe = password, archive.BulkRequire
		}
		name := fmt.Sprint("name", i)
		h.Put("", name, 300*i, 300)
		res := v.mustBackup(opt)
		if i > 0 && res.NewPackBytes > res.Manifest.Bytes()/4 {
			t.Errorf("backup %d: %d of %d bytes are stored anew", i, res.NewPackBytes, res.Manifest.Bytes())
		}
		// Without the password nobody knows where recovery has to start. So the first of these backups needs log that was never shipped.
		if i > 1 && res.Manifest.NewTimeline != "" {
			t.Errorf("backup %d: a new timeline: %s", i, res.Manifest.NewTimeline)
		}
		h.Rename("", name, fmt.Sprint("name", i+1))
		h.FlushLog()
		v.password = ""
		v.mustShip()
		h.Checkpoint()
		truth := contents(t, env.Home, password)
		v.opensWith(restore.Target{Backup: res.Manifest.ID}, truth)
	}
}

// opensWith restores with the password, and tries without.
func (v *vault) opensWith(target restore.Target, truth envtest.Contents) {
	v.t.Helper()
	for _, wrong := range []string{"", "wrong"} {
		if _, err := v.restoreBeside(target, wrong); !errors.Is(err, restore.ErrPassword) {
			v.t.Errorf("restore %s with password %q: %v", dump(target), wrong, err)
		}
	}
	r, err := v.restoreBeside(target, password)
	if err != nil {
		v.t.Fatalf("restore %s: %v", dump(target), err)
	}
	if diff := envtest.Diff(truth, contents(v.t, r.home, password)); len(diff) > 0 {
		v.t.Errorf("the truth and the restore %s:\n%s", dump(target), strings.Join(diff, "\n"))
	}
	r.remove()
}
