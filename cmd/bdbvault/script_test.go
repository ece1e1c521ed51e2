package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"bdbvault/localenv/envtest"
)

// patience bounds every wait in a script.
const patience = time.Minute

type worldKey struct{}

// world is what one script has running.
type world struct {
	banks  map[string]*bankRun // by home
	hung   net.Listener
	server *s3World
}

type bankRun struct {
	env  *envtest.Environment
	load *envtest.Workload
}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

// positive refuses "!" before a command for which it means nothing.
func positive(ts *testscript.TestScript, neg bool, args []string, least int, usage string) {
	if neg || len(args) < least {
		ts.Fatalf("usage: %s", usage)
	}
}

// exits CODE COMMAND…: the command ends with exactly this exit code. Its output is stdout and stderr afterwards.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg, args, 2, "exits CODE COMMAND...")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := exitCode(ts, ts.Exec(args[1], args[2:]...)); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func exitCode(ts *testscript.TestScript, err error) int {
	if err == nil {
		return 0
	}
	e, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		ts.Fatalf("%v", err)
	}
	return e.ExitCode()
}

// makeenv HOME [PASSWORD]: a small environment of several access methods, with a bank.
func makeEnv(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg, args, 1, "makeenv HOME [PASSWORD]")
	spec := envtest.Spec{
		DataDirs: []string{"data"}, LogFileSize: 1 << 20,
		Databases: []envtest.Database{
			{File: "btree.db", Method: "btree", Records: 2000, Overflow: true},
			{File: "queue.db", Method: "queue", Extent: 4, Records: 500, Consume: 100},
			{File: "sub/deep.db", Method: "hash", PageSize: 8192, Records: 500},
		},
		Bank: &envtest.Bank{Accounts: 20},
	}
	if len(args) > 1 {
		spec.Password = args[1]
	}
	home := ts.MkAbs(args[0])
	env, err := envtest.Make(home, spec)
	ts.Check(err)
	worldOf(ts).banks[home] = &bankRun{env: env}
}

// bank start|more|stop|kill|last HOME …: writers on the environment. "more HOME N" waits for N further commits, "last HOME VARIABLE"
// sets a variable to the number of the last commit.
func bankCommand(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg, args, 2, "bank start|more|stop|kill|last HOME ...")
	b := worldOf(ts).banks[ts.MkAbs(args[1])]
	if b == nil {
		ts.Fatalf("no environment %s", args[1])
	}
	switch args[0] {
	case "start":
		load, err := b.env.RunBank(envtest.BankOptions{Processes: 2, Rate: 400})
		ts.Check(err)
		b.load = load
		ts.Defer(func() { load.Kill() })
	case "more":
		n, err := strconv.ParseUint(args[2], 10, 64)
		ts.Check(err)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ts.Check(b.load.WaitCommit(ctx, b.load.LastCommitted()+n))
	case "last":
		ts.Setenv(args[2], strconv.FormatUint(b.load.LastCommitted(), 10))
	case "stop":
		ts.Check(b.load.Stop())
	case "kill":
		b.load.Kill()
	default:
		ts.Fatalf("bank: no %q", args[0])
	}
}

// checkbank HOME LEAST [PASSWORD]: the restored home holds commits 1 to N for some N that is LEAST or more, and every database verifies.
func checkBank(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg, args, 2, "checkbank HOME LEAST [PASSWORD]")
	least, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	password := strings.Join(args[2:], "")
	r, err := envtest.CheckBank(ts.MkAbs(args[0]), password)
	ts.Check(err)
	if r.LastCommit < least {
		ts.Fatalf("%s reaches commit %d, want %d or more", args[0], r.LastCommit, least)
	}
	ts.Check(envtest.Verify(ts.MkAbs(args[0]), password))
}

// healthy HOME [PASSWORD]: a checkpoint of the live environment finishes at once.
func healthy(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg, args, 1, "healthy HOME [PASSWORD]")
	ts.Check(envtest.Checkpoint(ts.MkAbs(args[0]), strings.Join(args[1:], "")))
}

// json FILE [PATH=VALUE | PATH>VARIABLE | PATH]…: the file (or stdout) is one JSON object and nothing else; the value at each path (keys
// and indexes joined by dots) is VALUE, or goes to the variable, or just exists. With "!", no such path exists.
func jsonCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: json FILE [PATH=VALUE|PATH>VARIABLE|PATH]...")
	}
	var object map[string]any
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	dec.UseNumber()
	if err := dec.Decode(&object); err != nil {
		ts.Fatalf("%s: %v", args[0], err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		ts.Fatalf("%s: there is more than one object", args[0])
	}
	for _, a := range args[1:] {
		i := strings.IndexAny(a, "=>")
		path := a
		if i >= 0 {
			path = a[:i]
		}
		value, found := lookUp(object, strings.Split(path, "."))
		switch {
		case found == neg:
			ts.Fatalf("%s: %s: found is %v", args[0], path, found)
		case i >= 0 && a[i] == '=' && fmt.Sprint(value) != a[i+1:]:
			ts.Fatalf("%s: %s is %v, want %s", args[0], path, value, a[i+1:])
		case i >= 0 && a[i] == '>':
			ts.Setenv(a[i+1:], fmt.Sprint(value))
		}
	}
}

// lookUp walks into decoded JSON. "len" is the length of a list.
func lookUp(v any, path []string) (any, bool) {
	for _, key := range path {
		switch at := v.(type) {
		case map[string]any:
			inner, ok := at[key]
			if !ok {
				return nil, false
			}
			v = inner
		case []any:
			if key == "len" {
				v = len(at)
				continue
			}
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(at) {
				return nil, false
			}
			v = at[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// flip PATTERN: one bit in the middle of the first file that fits is turned round.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg, args, 1, "flip PATTERN")
	files, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(files) == 0 {
		ts.Fatalf("no file fits %s", args[0])
	}
	data, err := os.ReadFile(files[0])
	ts.Check(err)
	data[len(data)/2] ^= 1
	ts.Check(os.Chmod(files[0], 0o600))
	ts.Check(os.WriteFile(files[0], data, 0o600))
}

// same DIRECTORY FILE: the names of all files below the directory are the lines of the file; if there is no such file it is written.
func same(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg, args, 2, "same DIRECTORY FILE")
	root := ts.MkAbs(args[0])
	var names []string
	ts.Check(filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		names = append(names, strings.TrimPrefix(path, root))
		return err
	}))
	slices.Sort(names)
	now := strings.Join(names, "\n") + "\n"
	before, err := os.ReadFile(ts.MkAbs(args[1]))
	switch {
	case errors.Is(err, os.ErrNotExist):
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(now), 0o600))
	case err != nil:
		ts.Check(err)
	case string(before) != now:
		ts.Fatalf("the files in %s have changed:\n%s\nbefore:\n%s", args[0], now, before)
	}
}

// hung VARIABLE: a store that accepts connections and never answers; the variable is its URL.
func hungStore(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg, args, 1, "hung VARIABLE")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	worldOf(ts).hung = l
	ts.Defer(func() { l.Close() })
	ts.Setenv(args[0], "http://"+l.Addr().String())
}

// interrupt SIGNAL WHEN COMMAND…: the command gets the signal when it has reached a moment ("hung": it has connected to the hung
// store; "stalled": it waits for the stalled s3 store), and then has to exit with 130.
func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg, args, 3, "interrupt SIGNAL hung|stalled COMMAND...")
	sig, ok := map[string]os.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM}[args[0]]
	if !ok {
		ts.Fatalf("no signal %s", args[0])
	}
	cmd := exec.Command(args[2], args[3:]...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), scriptEnv(ts)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	ts.Check(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { ts.Logf("%s", out.String()) }()
	select {
	case <-worldOf(ts).reached(ts, args[1]):
	case err := <-ended:
		ts.Fatalf("it ended before: %v", err)
	case <-time.After(patience):
		cmd.Process.Kill()
		ts.Fatalf("it never came to be %s", args[1])
	}
	ts.Check(cmd.Process.Signal(sig))
	cmd.Process.Signal(sig) // somebody impatient; it may have ended by now
	select {
	case err := <-ended:
		if code := exitCode(ts, err); code != exitInterrupted {
			ts.Fatalf("exit code %d, want %d", code, exitInterrupted)
		}
	case <-time.After(patience):
		cmd.Process.Kill()
		ts.Fatalf("it did not end")
	}
	ts.Check(os.WriteFile(ts.MkAbs("interrupted"), out.Bytes(), 0o600))
}

// reached is closed when a command has come to the moment named.
func (w *world) reached(ts *testscript.TestScript, moment string) <-chan struct{} {
	if moment == "stalled" {
		return w.server.stalled
	}
	if moment != "hung" || w.hung == nil {
		ts.Fatalf("no such moment: %s", moment)
	}
	reached := make(chan struct{})
	go func() {
		conn, err := w.hung.Accept()
		if err == nil {
			close(reached)
			io.Copy(io.Discard, conn) // until the command gives up
			conn.Close()
		}
	}()
	return reached
}

// scriptEnv is the environment that exec would give a command.
func scriptEnv(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range []string{"PATH", "TMPDIR", "TZ", "XDG_STATE_HOME", "BDBVAULT_STATE_DIR", "AWS_EC2_METADATA_DISABLED", "AWS_CONFIG_FILE",
		"AWS_SHARED_CREDENTIALS_FILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "GOCOVERDIR"} {
		if v := ts.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}
