package config

import (
	"reflect"
	"strings"
	"testing"
)

var (
	all  = []string{"repository", "listen", "ship-every", "max-lag"}
	each = []string{"home", "env", "ship-every", "full-cron", "remove-shipped-logs"}
)

func TestParse(t *testing.T) {
	f, err := Parse("x.yaml", []byte(`# the vault
repository: s3://backups/db1
ship-every: 5s   # slow
environments:
  - home: /var/lib/bank
    remove-shipped-logs: true
  - home: "/srv/ldap db"
    env: 0815
    full-cron: '0 3 * * 0'
`), all, each)
	if err != nil {
		t.Fatal(err)
	}
	want := &File{Path: "x.yaml",
		Section: Section{Line: 2, Settings: []Setting{{"repository", "s3://backups/db1", 2}, {"ship-every", "5s", 3}}},
		Environments: []Section{
			{Line: 5, Settings: []Setting{{"home", "/var/lib/bank", 5}, {"remove-shipped-logs", "true", 6}}},
			{Line: 7, Settings: []Setting{{"home", "/srv/ldap db", 7}, {"env", "0815", 8}, {"full-cron", "0 3 * * 0", 9}}},
		}}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("got  %+v\nwant %+v", f, want)
	}
	for _, empty := range []string{"", "# nothing\n", "---\n"} {
		if f, err := Parse("x", []byte(empty), all, each); err != nil || len(f.Settings) > 0 {
			t.Errorf("%q: %+v, %v", empty, f, err)
		}
	}
}

// TestParseErrors: each mistake is told with its line, several in one go, and nothing is taken for something else.
func TestParseErrors(t *testing.T) {
	for text, want := range map[string][]string{
		"repositry: x":                               {`x.yaml:1: there is no setting "repositry"; did you mean repository?`},
		"a: 1\nship_every: 1s\nlisten: x":            {`x.yaml:1: there is no setting "a" here`, `x.yaml:2: there is no setting "ship_every"; did you mean ship-every?`},
		"home: /x":                                   {"x.yaml:1: home belongs to an environment"},
		"environments:\n  - hom: /x":                 {`x.yaml:2: there is no setting "hom"; did you mean home?`},
		"environments:\n  - home: /x\n    listen: y": {`x.yaml:3: there is no setting "listen" here`},
		"environments: /x":                           {"x.yaml:1: environments: want a list"},
		"environments:\n  - /x":                      {"x.yaml:2: want lines of the form"},
		"listen:":                                    {"x.yaml:1: listen has no value"},
		"listen: [a, b]":                             {"x.yaml:1: listen: want one value"},
		"listen: &a x\nrepository: *a":               {"x.yaml:1: listen: want one value", "x.yaml:2: repository: want one value"},
		"listen: a\nlisten: b":                       {"x.yaml:2: "},
		"listen: \"a":                                {"x.yaml:1: "},
		"- a":                                        {"x.yaml:1: want lines"},
		"listen: a\n---\nlisten: b":                  {"x.yaml:"},
		"listen: a\n\tmax-lag: b":                    {"x.yaml:2: "},
	} {
		_, err := Parse("x.yaml", []byte(text), all, each)
		if err == nil {
			t.Errorf("%q is accepted", text)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: got %q, want %q", text, err, w)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("repository: x\nenvironments:\n  - home: y\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("x", data, all, each)
		if err == nil && file == nil {
			t.Error("neither a file nor an error")
		}
	})
}
