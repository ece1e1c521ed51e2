package endtoend

import (
	"path/filepath"
	"testing"

	"bdbvault/localenv/envtest"
	"bdbvault/remote/remotetest"
)

// servers are the real stores that everything about stores is shown on.
var servers = map[string]func(testing.TB) *remotetest.Server{"MinIO": remotetest.MinIO, "versitygw": remotetest.VersityGW}

// clients are the two ways to talk to them.
var clients = []string{"aws", "minio"}

// storeSpec is a small environment of several files and kinds, with log files that fill fast.
func storeSpec() envtest.Spec {
	return envtest.Spec{
		DataDirs: []string{"data"}, LogFileSize: 256 << 10,
		Databases: []envtest.Database{
			{File: "btree.db", Method: "btree", Bytes: 512 << 10, Overflow: true},
			{File: "queue.db", Method: "queue", Extent: 4, Records: 300, Consume: 50},
			{File: "sub/deep.db", Method: "hash", PageSize: 512, Records: 300},
		},
		Bank: &envtest.Bank{Accounts: 20},
	}
}

// startBank makes such an environment and lets it work.
func startBank(t *testing.T) (*envtest.Environment, *envtest.Workload) {
	t.Helper()
	env := envtest.Create(t, filepath.Join(t.TempDir(), "home"), storeSpec())
	return env, envtest.StartBank(t, env, envtest.BankOptions{Processes: 2, Rate: 400})
}

// work waits until the bank has made more commits.
func work(t *testing.T, w *envtest.Workload) {
	t.Helper()
	waitCommits(t, w, w.LastCommitted()+40)
}

// restored restores to a fresh directory and wants an exact prefix of the commits, at least so many.
func (c *cli) restored(atLeast uint64, args ...string) {
	c.t.Helper()
	to := filepath.Join(c.t.TempDir(), "restored")
	c.must(append([]string{"restore", "--to", to, "--quiet"}, args...)...)
	check(c.t, &vault{}, to, atLeast)
}

// TestBothClients fills one repository through both clients in turn, each with a state directory of its own, as two hosts would have. Each
// restores what the other stored last.
func TestBothClients(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			server := start(t)
			env, bank := startBank(t)
			by := map[string]*cli{}
			base := newCLI(t).at(server, server.Endpoint, server.NewBucket())
			for _, client := range clients {
				by[client] = base.with("BDBVAULT_S3_CLIENT="+client, "DB_HOME="+env.Home, "BDBVAULT_STATE_DIR="+t.TempDir())
			}
			by["aws"].must("init")
			var ids []string
			for i, steps := range [][2]string{{"aws", "backup"}, {"minio", "ship"}, {"aws", "ship"}, {"minio", "backup"}, {"aws", "ship"}, {"minio", "ship"}} {
				work(t, bank)
				s := by[steps[0]].must(steps[1], "--json")
				if steps[1] == "backup" {
					ids = append(ids, decode[struct{ ID string }](t, s).ID)
				} else if n := decode[struct{ Segments int }](t, s).Segments; n == 0 {
					t.Errorf("step %d: nothing was shipped: %s", i, s)
				}
			}
			if err := bank.Stop(); err != nil {
				t.Fatal(err)
			}
			by["aws"].must("ship")
			lists := [2]string{by["aws"].must("list", "--json").out, by["minio"].must("list", "--json").out}
			if lists[0] != lists[1] {
				t.Errorf("the clients list:\n%s\n%s", lists[0], lists[1])
			}
			for _, b := range by["minio"].backups() {
				if b.State != "ok" || len(ids) != 2 {
					t.Errorf("listed: %+v of %v", b, ids)
				}
			}
			by["minio"].restored(bank.LastCommitted(), "--backup", ids[0])
			by["aws"].restored(bank.LastCommitted(), "--backup", ids[1])
			if err := envtest.Checkpoint(env.Home, ""); err != nil {
				t.Errorf("the source: %v", err)
			}
		})
	}
}
