package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"bdbvault/remote"
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

// s3 stall METHOD|pass|fail|archived: the proxy lets packs stall on their way up (PUT) or down (GET), passes everything, answers every
// request with 503, or packs as if they were in an archive.
//
// s3 seen|agrees FILE|class FOLDER=CLASS…: it forgets what it has seen; what the JSON in the file says of the store is what it has seen since; what was put since then
// into each folder came with that storage class.
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
	case "archived":
		w.proxy.Inject(func(r *http.Request) (f remotetest.Fault) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/packs/") {
				f = remotetest.Fault{Status: http.StatusForbidden, Code: "InvalidObjectState", Message: "The operation is not valid for the object's storage class"}
			}
			return f
		})
	case "seen":
		w.proxy.Seen()
	case "agrees":
		w.agrees(ts, args[1])
	case "class":
		w.classes(ts, args[1:])
	default:
		ts.Fatalf("s3: no %q", args[0])
	}
}

func (w *s3World) agrees(ts *testscript.TestScript, file string) {
	var said struct {
		Store *remote.Stats `json:"store"`
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(file)), &said))
	seen := w.proxy.Tally()
	if said.Store == nil || said.Store.Requests != seen.Requests || seen.Requests.Total() == 0 {
		ts.Fatalf("said: %+v, seen: %+v", said.Store, seen)
	}
	// Of an upload that is tried again and of an answer that is not read to its end, less may have come through than was on its way.
	if said.Store.Retries == 0 && said.Store.Sent != seen.Sent || said.Store.Received > seen.Received || said.Store.Received < seen.Received/2 {
		ts.Fatalf("said: %+v, seen: %+v", said.Store, seen)
	}
}

func (w *s3World) classes(ts *testscript.TestScript, want []string) {
	seen := w.proxy.Seen()
	for _, pair := range want {
		folder, class, _ := strings.Cut(pair, "=")
		n := 0
		for _, s := range seen {
			if s.Method != http.MethodPut || !strings.Contains(s.Path, "/"+folder+"/") {
				continue
			}
			if got := s.Header.Get("X-Amz-Storage-Class"); got != class {
				ts.Fatalf("%s came with class %q", s.Path, got)
			}
			n++
		}
		if n == 0 {
			ts.Fatalf("nothing came to %s", folder)
		}
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
