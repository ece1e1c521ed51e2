package endtoend

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"bdbvault/remote/remotetest"
)

// TestStoreFaultsPass does everything, through both clients in turn, on a store with which most requests fail in some way before they succeed:
// answered 503, body cut on its way up or down, answer lost, slow. Nobody has to do anything about it.
func TestStoreFaultsPass(t *testing.T) {
	server := remotetest.MinIO(t)
	proxy := remotetest.NewProxy(t, server)
	env, bank := startBank(t)
	for i, seed := range seeds(t, torture()) {
		t.Logf("seed %d", seed)
		trouble := newTrouble(seed)
		proxy.Inject(trouble.next)
		base := newCLI(t).at(server, proxy.Endpoint, server.NewBucket()).with("DB_HOME=" + env.Home)
		one, other := base.with("BDBVAULT_S3_CLIENT="+clients[i%2]), base.with("BDBVAULT_S3_CLIENT="+clients[(i+1)%2])
		one.must("init")
		if s := one.must("backup"); !strings.Contains(s.err, "trying again") {
			t.Errorf("nothing is said of faults: %s", s)
		}
		work(t, bank)
		reached := bank.LastCommitted()
		other.must("ship")
		other.must("backup", "--read-all")
		one.restored(reached)
		for kind, n := range trouble.count {
			if n == 0 {
				t.Errorf("%s: never", kind)
			}
		}
		t.Logf("%v", trouble.count)
	}
}

// trouble is a fault for most requests when they are made the first time.
type trouble struct {
	mu    sync.Mutex
	rnd   *rand.Rand
	times map[string]int
	turn  map[string]int // by method
	count map[string]int
}

const (
	tooBusy    = "503"
	cutUpload  = "upload cut"
	cutAnswer  = "answer cut"
	lostAnswer = "answer lost"
	slowly     = "slow"
)

func newTrouble(seed uint64) *trouble {
	return &trouble{rnd: rand.New(rand.NewPCG(seed, 0)), times: map[string]int{}, turn: map[string]int{},
		count: map[string]int{tooBusy: 0, cutUpload: 0, cutAnswer: 0, lostAnswer: 0, slowly: 0}}
}

func (tr *trouble) next(r *http.Request) (f remotetest.Fault) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	key := r.Method + r.URL.Path + r.URL.RawQuery
	if tr.times[key]++; tr.times[key] > 1 || tr.rnd.IntN(3) == 0 {
		return f
	}
	kinds := []string{tooBusy, cutAnswer, lostAnswer, slowly}
	if r.Method == http.MethodPut {
		kinds[1] = cutUpload
	}
	kind := kinds[tr.turn[r.Method]%len(kinds)]
	tr.turn[r.Method]++
	switch kind {
	case tooBusy:
		f = remotetest.Fault{Status: http.StatusServiceUnavailable, Code: "SlowDown", Message: "Please reduce your request rate."}
	case cutUpload:
		f.CutUpload = 1 + tr.rnd.Int64N(max(1, r.ContentLength-1))
	case cutAnswer:
		f.CutAnswer = 1 + tr.rnd.Int64N(500_000)
	case lostAnswer:
		f.LoseAnswer = true
	case slowly:
		f.Rate = 4 << 20
	}
	tr.count[kind]++
	return f
}

// TestStoreUnreachable finds nobody at the store's address: for so long that it gives up, which it explains; and for a while.
func TestStoreUnreachable(t *testing.T) {
	server := remotetest.MinIO(t)
	proxy := remotetest.NewProxy(t, server)
	env, bank := startBank(t)
	to := t.TempDir()
	for _, client := range clients {
		c := newCLI(t).at(server, proxy.Endpoint, server.NewBucket()).with("BDBVAULT_S3_CLIENT="+client, "DB_HOME="+env.Home)
		c.must("init")
		var reached uint64
		for _, args := range [][]string{{"backup"}, {"ship"}, {"restore", "--to", to + "/" + client}} {
			if args[0] == "ship" {
				work(t, bank)
				reached = bank.LastCommitted()
			}
			proxy.Down()
			words := []string{"bdbvault " + args[0] + ": ", "can't be reached", "--endpoint", "--retry-for"}
			c.fails(failed, words, append(args, "--retry-for", "200ms")...)
			r := c.start(args...)
			r.says("trying again")
			if err := proxy.Up(); err != nil {
				t.Fatal(err)
			}
			if s := r.wait(); s.code != 0 {
				t.Errorf("the store is back, but %s", s)
			}
		}
		check(t, &vault{}, to+"/"+client, reached)
	}
}

// TestStoreRefuses asks both servers through both clients for what they don't give. The answer says what is wrong, with what, and what to do.
func TestStoreRefuses(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			server := start(t)
			bucket := server.NewBucket()
			env, bank := startBank(t)
			base := newCLI(t).at(server, server.Endpoint, bucket).with("DB_HOME="+env.Home, "BDBVAULT_RETRY_FOR=0")
			base.must("init")
			base.must("backup")
			work(t, bank)
			reader := readerKeys(t, server, bucket)
			for _, client := range clients {
				c := base.with("BDBVAULT_S3_CLIENT=" + client)
				c.refuses([]string{"AWS_SECRET_ACCESS_KEY=wrong"}, "credentials missing or not accepted", "AWS_SECRET_ACCESS_KEY")
				c.refuses([]string{"AWS_ACCESS_KEY_ID=nobody"}, "credentials missing or not accepted", "AWS_ACCESS_KEY_ID")
				c.refuses([]string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY="}, "credentials missing or not accepted", "AWS_ACCESS_KEY_ID")
				c.refuses([]string{"AWS_REGION=eu-central-1"}, "bucket is in another region", "--region")
				c.refuses([]string{"BDBVAULT_REPOSITORY=s3://no-such-bucket-anywhere/vault"}, "no such bucket", "Make the bucket first")
				r := c.with(reader...)
				for _, args := range [][]string{{"backup"}, {"ship"}} {
					r.fails(failed, []string{"bdbvault " + args[0] + ": ", "permission denied", bucket, "may not do this"}, args...)
				}
				r.fails(failed, []string{"permission denied", bucket}, "init", "-r", "s3://"+bucket+"/other")
				r.must("list")
				r.restored(1)
			}
			// Nothing of all this has been in the way of what is right.
			base.must("ship")
		})
	}
}

// refuses wants that everything fails with certain variables, and why.
func (c *cli) refuses(vars []string, words ...string) {
	c.t.Helper()
	wrong := c.with(vars...)
	for _, args := range [][]string{{"list"}, {"backup"}, {"ship"}, {"restore", "--to", c.t.TempDir() + "/never"}} {
		s := wrong.fails(failed, append(words, "bdbvault "+args[0]+": "), args...)
		if strings.Contains(s.err, "wrong\n") || strings.Contains(s.err, "trying again") {
			c.t.Errorf("it hoped in vain, or told a secret: %s", s)
		}
	}
}

func readerKeys(t *testing.T, server *remotetest.Server, bucket string) []string {
	t.Helper()
	cfg, err := server.ReadOnly(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	v, err := cfg.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return []string{"AWS_ACCESS_KEY_ID=" + v.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + v.SecretAccessKey, "AWS_SESSION_TOKEN=" + v.SessionToken}
}
