package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the test binary serve as bdbvault: the scripts run it, and it runs itself as the engine's child.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"bdbvault": main})
}

// TestScripts runs the command line as a person or a cron job would, on real environments. What the scripts can do beside the commands
// of testscript stands in script_test.go.
func TestScripts(t *testing.T) {
	testscript.Run(t, scriptParams("testdata/script"))
}

func scriptParams(dir string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setupScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     exits,
			"makeenv":   makeEnv,
			"bank":      bankCommand,
			"checkbank": checkBank,
			"healthy":   healthy,
			"json":      jsonCommand,
			"flip":      flip,
			"hung":      hungStore,
			"interrupt": interrupt,
			"s3":        s3Command,
			"same":      same,
		},
	}
}

// setupScript gives every script an environment of its own, so that nobody's settings change what a script sees.
func setupScript(env *testscript.Env) error {
	kept := env.Vars[:0]
	for _, v := range env.Vars {
		if !strings.HasPrefix(v, "BDBVAULT_") && !strings.HasPrefix(v, "AWS_") {
			kept = append(kept, v)
		}
	}
	env.Vars = append(kept,
		"TZ=UTC",
		"XDG_STATE_HOME="+filepath.Join(env.WorkDir, "xdg"),
		"BDBVAULT_STATE_DIR="+filepath.Join(env.WorkDir, "state"), // also for root, whose default is the system's
		"AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE="+filepath.Join(env.WorkDir, "no-aws-config"),
		"AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(env.WorkDir, "no-aws-credentials"),
		"REPO=file://"+filepath.Join(env.WorkDir, "repo"),
		"GOCOVERDIR="+os.Getenv("GOCOVERDIR"),
	)
	env.Values[worldKey{}] = &world{banks: map[string]*bankRun{}}
	return nil
}
