package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bdbvault/localenv/envtest"
)

// checked runs config check in this process and returns its exit code, what it reports and what it says of errors.
func checked(t *testing.T, args ...string) (code int, r configReport, errs string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(append([]string{"bdbvault", "config", "check", "--json"}, args...), &out, &err)
	data := out.Bytes()
	if code != exitDone {
		var f struct{ Result json.RawMessage }
		json.Unmarshal(data, &f)
		data = f.Result
	}
	if len(data) > 0 {
		if e := json.Unmarshal(data, &r); e != nil {
			t.Fatalf("%v: %s", e, out.Bytes())
		}
	}
	return code, r, err.String()
}

// setting is a value with its origin, or empty.
func setting(list []settingReport, name string) string {
	for _, s := range list {
		if s.Name == name {
			return s.Value + " " + s.Origin
		}
	}
	return ""
}

// cleanSettings hides this host's settings.
func cleanSettings(t *testing.T) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "BDBVAULT_") || name == "DB_HOME" {
			t.Setenv(name, "")
		}
	}
}

func writeConfig(t *testing.T, format string, args ...any) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bdbvault.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPrecedence: the command line wins over the environment, that over the environment's entry in the file, that over the top of the file.
func TestPrecedence(t *testing.T) {
	cleanSettings(t)
	home := filepath.Join(t.TempDir(), "bank")
	envtest.Create(t, home, envtest.Spec{})
	for _, c := range []struct {
		name               string
		flag, variable     string
		entry, top         string
		want, setting      string
		otherFlag, otherIs string
	}{
		{name: "default", setting: "ship-every", want: "1s default"},
		{name: "top", setting: "ship-every", top: "ship-every: 2s", want: "2s FILE:2"},
		{name: "entry", setting: "ship-every", top: "ship-every: 2s", entry: "ship-every: 3s", want: "3s FILE:5"},
		{name: "variable", setting: "ship-every", top: "ship-every: 2s", entry: "ship-every: 3s", variable: "4s", want: "4s $BDBVAULT_SHIP_EVERY"},
		{name: "flag", setting: "ship-every", top: "ship-every: 2s", entry: "ship-every: 3s", variable: "4s", flag: "5s", want: "5s --ship-every"},
		{name: "flag alone", setting: "ship-every", flag: "5s", want: "5s --ship-every"},
		{name: "flag that says the default", setting: "ship-every", entry: "ship-every: 3s", flag: "1s", want: "1s --ship-every"},
		{name: "boolean", setting: "remove-shipped-logs", top: "remove-shipped-logs: true", entry: "remove-shipped-logs: false", want: "false FILE:5"},
		{name: "rivals in the file", setting: "full-cron", top: "full-every: 2h", entry: `full-cron: "0 3 * * 0"`, want: "0 3 * * 0 FILE:5"},
		{name: "rival of a flag", setting: "full-every", entry: `full-cron: "0 3 * * 0"`, flag: "1h", want: "1h0m0s --full-every"},
		{name: "rival of a variable", setting: "full-every", top: `full-cron: "0 3 * * 0"`, variable: "2h", want: "2h0m0s $BDBVAULT_FULL_EVERY"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := writeConfig(t, "repository: file:///nowhere\n%s\nenvironments:\n  - home: %s\n    %s\n", c.top, home, c.entry)
			args := []string{"--config", path}
			if c.flag != "" {
				args = append(args, "--"+c.setting, c.flag)
			}
			if c.variable != "" {
				t.Setenv("BDBVAULT_"+strings.ToUpper(strings.ReplaceAll(c.setting, "-", "_")), c.variable)
			}
			code, r, errs := checked(t, args...)
			if code != exitDone {
				t.Fatalf("exit code %d: %s", code, errs)
			}
			got := setting(r.Environments[0].Settings, c.setting)
			if got = strings.ReplaceAll(got, path, "FILE"); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestConfigProblems: what can't be is refused with the place where it stands, as much as possible at once.
func TestConfigProblems(t *testing.T) {
	cleanSettings(t)
	home := filepath.Join(t.TempDir(), "bank")
	envtest.Create(t, home, envtest.Spec{})
	repo := "repository: file:///nowhere\n"
	for text, want := range map[string]struct {
		code int
		says string
	}{
		repo + "ship-every: soon\n": {exitUsage, "FILE:2: ship-every: parse error"},
		repo + "shipevery: 1s\n":    {exitUsage, "FILE:2: there is no setting \"shipevery\"; did you mean ship-every?"},
		repo + "password: x\n":      {exitUsage, "there is no setting \"password\""},
		repo + "full-cron: '61 3 * * *'\nenvironments:\n - home: " + home:                {exitUsage, "environment bank: --full-cron"},
		repo + "full-cron: '0 3 * * *'\nfull-every: 1h\nenvironments:\n - home: " + home: {exitUsage, "not both"},
		repo + "ship-every: 0s\nenvironments:\n - home: " + home:                         {exitUsage, "want more than 0"},
		repo + "bulk-safe: maybe\nenvironments:\n - home: " + home:                       {exitUsage, "want auto, require, off"},
		repo + "listen: 127.0.0.1:http:x\nenvironments:\n - home: " + home:               {exitUsage, "--listen"},
		repo + "environments:\n - env: a b\n   home: " + home:                            {exitUsage, "a b"},
		repo + "environments:\n - home: " + home + "\n - home: /other/bank":              {exitUsage, "two environments are called \"bank\""},
		repo + "environments:\n - home: " + home + "\n - home: " + home + "\n   env: x":  {exitUsage, "have the same home"},
		repo:                              {exitUsage, "config needs -h HOME"},
		"environments:\n - home: " + home: {exitUsage, "needs -r REPOSITORY"},
		repo + "environments:\n - home: /nowhere/at/all\n - home: " + home: {exitFailed, "environment all: "},
	} {
		path := writeConfig(t, "%s", text)
		code, _, errs := checked(t, "--config", path)
		errs = strings.ReplaceAll(errs, path, "FILE")
		if code != want.code || !strings.Contains(errs, want.says) {
			t.Errorf("%s\nexit code %d, want %d; %s\nwant %q", text, code, want.code, errs, want.says)
		}
	}
}

func TestListenAddress(t *testing.T) {
	for text, want := range map[string]string{"": "", "9321": "127.0.0.1:9321", ":9321": "127.0.0.1:9321", "0.0.0.0:9321": "0.0.0.0:9321", "[::1]:0": "[::1]:0"} {
		if got, err := listenAddress(text); err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"host:", "a:b:c", ":port", "1.2.3.4:99999"} {
		if got, err := listenAddress(text); !is[usageError](err) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for host, want := range map[string]bool{"127.0.0.1": true, "::1": true, "localhost": true, "0.0.0.0": false, "::": false, "10.0.0.1": false, "example.com": false} {
		if isLoopback(host) != want {
			t.Errorf("isLoopback(%q) is %v", host, !want)
		}
	}
}
