package endtoend

import (
	"os"
	"path/filepath"
	"testing"

	"bdbvault/localenv/envtest"
)

// bound makes commands obey permissions, which root's don't by nature.
func (c *cli) bound() *cli {
	o := *c
	if os.Geteuid() == 0 {
		o.wrap = append([]string{"setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"}, c.wrap...)
	}
	return &o
}

// TestPermissions takes away the right to read a file of the source, or to write where something has to be written. Each command names the place and
// who can do it, and the same command succeeds when that is put right.
func TestPermissions(t *testing.T) {
	dir := t.TempDir()
	env := envtest.Create(t, filepath.Join(dir, "home"), storeSpec())
	repo, state, target := filepath.Join(dir, "repository"), filepath.Join(dir, "state"), filepath.Join(dir, "target")
	c := newCLI(t).bound().with("BDBVAULT_REPOSITORY=file://"+repo, "DB_HOME="+env.Home, "BDBVAULT_STATE_DIR="+state)
	c.must("init")
	c.must("backup")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	restore := []string{"restore", "--to", filepath.Join(target, "new")}
	for _, d := range []struct {
		place string
		words []string
		args  []string
	}{
		{filepath.Join(env.Home, "data/btree.db"), []string{"btree.db", "permission denied", "user who owns"}, []string{"backup"}},
		{filepath.Join(env.Home, "data/sub"), []string{"sub", "permission denied", "user who owns"}, []string{"backup"}},
		{filepath.Join(env.Home, "data"), []string{"data", "permission denied", "user who owns"}, []string{"backup"}},
		{filepath.Join(env.Home, "log.0000000001"), []string{"log.0000000001", "permission denied", "user who owns"}, []string{"backup"}},
		{env.Home, []string{env.Home, "permission denied", "user who owns"}, []string{"backup"}},
		{env.Home, []string{env.Home, "permission denied", "user who owns"}, []string{"ship"}},
		{state, []string{"state directory", "permission denied", "user who owns"}, []string{"backup"}},
		{state, []string{"state directory", "permission denied", "user who owns"}, []string{"ship"}},
		{target, []string{"restore into " + target, "permission denied", "may write there"}, restore},
		{repo, []string{"file://" + repo, "permission denied", "get, put and list"}, []string{"backup"}},
		{repo, []string{"file://" + repo, "permission denied", "get, put and list"}, []string{"list"}},
		{filepath.Join(repo, "home"), []string{"file://" + repo, "permission denied", "get, put and list"}, []string{"backup"}},
		{filepath.Join(repo, "home"), []string{"file://" + repo, "permission denied", "get, put and list"}, restore},
	} {
		info, err := os.Stat(d.place)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(d.place, 0); err != nil {
			t.Fatal(err)
		}
		c.fails(failed, append(d.words, "bdbvault "+d.args[0]+": "), d.args...)
		if err := os.Chmod(d.place, info.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	c.must("backup")
	c.must("ship")
	c.must(restore...)
}
