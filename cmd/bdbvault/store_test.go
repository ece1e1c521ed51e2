package main

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"bdbvault/remote/remotetest"
)

// s3World is the real store of the scripts in testdata/store, and a proxy before it that can stall.
type s3World struct {
	server  *remotetest.Server
	proxy   *remotetest.Proxy
	stalled <-chan struct{} // closed when the first transfer stalls
}

// TestStoreScripts runs scripts against MinIO.
func TestStoreScripts(t *testing.T) {
	server := remotetest.MinIO(t)
	params := scriptParams("testdata/store")
	params.Setup = func(env *testscript.Env) error {
		if err := setupScript(env); err != nil {
			return err
		}
		w := env.Values[worldKey{}].(*world)
		w.server = &s3World{server: server, proxy: remotetest.NewProxy(t, server)}
		bucket, err := server.MakeBucket(context.Background())
		env.Vars = append(env.Vars, "BUCKET="+bucket, "ENDPOINT="+server.Endpoint, "PROXY="+w.server.proxy.Endpoint,
			"AWS_ACCESS_KEY_ID="+server.AccessKey, "AWS_SECRET_ACCESS_KEY="+server.SecretKey, "AWS_REGION="+server.Region)
		return err
	}
	testscript.Run(t, params)
}

// s3 stall METHOD|pass|fail: the proxy lets packs stall on their way up (PUT) or down (GET), passes everything, or answers every
// request with 503.
func s3Command(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg, args, 1, "s3 stall METHOD|pass|fail")
	w := worldOf(ts).server
	switch args[0] {
	case "stall":
		w.stall(args[1])
	case "pass":
		w.proxy.Inject(nil)
	case "fail":
		w.proxy.Inject(func(*http.Request) remotetest.Fault {
			return remotetest.Fault{Status: http.StatusServiceUnavailable, Code: "SlowDown", Message: "Please reduce your request rate."}
		})
	default:
		ts.Fatalf("s3: no %q", args[0])
	}
}

func (w *s3World) stall(method string) {
	stalled := make(chan struct{})
	w.stalled = stalled
	var once sync.Once
	w.proxy.Inject(func(r *http.Request) (f remotetest.Fault) {
		if r.Method == method && strings.Contains(r.URL.Path, "/packs/") {
			f.StallUpload, f.StallAnswer = 1, 1
			once.Do(func() { close(stalled) })
		}
		return f
	})
}
