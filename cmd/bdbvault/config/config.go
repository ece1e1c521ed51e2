// Package config reads the configuration file: settings by the names of their flags, for all environments and for each.
//
//	repository: s3://backups/db1
//	ship-every: 5s                 # for every environment that says nothing else
//	environments:
//	  - home: /var/lib/bank
//	  - home: /srv/ldap/db
//	    env: ldap
//	    full-cron: "0 3 * * 0"
//
// It knows neither flags nor what values mean. What it can't understand it refuses, and says in which line.
package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// File is a configuration file.
type File struct {
	Path string
	Section
	Environments []Section
}

// Section are settings that belong together, in the order of the file.
type Section struct {
	Line     int
	Settings []Setting
}

// Setting is a value as it stands in the file.
type Setting struct {
	Name, Value string
	Line        int
}

// Get finds a setting by name.
func (s *Section) Get(name string) (Setting, bool) {
	i := slices.IndexFunc(s.Settings, func(t Setting) bool { return t.Name == name })
	if i < 0 {
		return Setting{}, false
	}
	return s.Settings[i], true
}

// Error is what is wrong with a line.
type Error struct {
	Path string
	Line int
	Text string
}

func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s", e.Path, e.Line, e.Text) }

// keyEnvironments is the one name that is no setting.
const keyEnvironments = "environments"

// Parse reads a file. Of all and each are the names of settings that may stand at its top, and in an environment. What it returns
// joins one *Error for each line that is wrong.
func Parse(path string, data []byte, all, each []string) (*File, error) {
	r := &reader{path: path}
	file := &File{Path: path}
	doc, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, r.syntax(err)
	}
	if len(doc.Docs) > 1 {
		return nil, r.failf(doc.Docs[1].Start, "a second document begins here; there may be one only")
	}
	if len(doc.Docs) == 0 || doc.Docs[0].Body == nil || doc.Docs[0].Body.Type() == ast.NullType {
		return file, nil
	}
	file.Section = r.section(doc.Docs[0].Body, append([]string{keyEnvironments}, all...), each, func(list ast.Node) {
		file.Environments = r.environments(list, each)
	})
	return file, errors.Join(r.errs...)
}

type reader struct {
	path string
	errs []error
}

func (r *reader) failf(at *token.Token, format string, args ...any) error {
	e := &Error{Path: r.path, Text: fmt.Sprintf(format, args...)}
	if at != nil && at.Position != nil {
		e.Line = at.Position.Line
	}
	r.errs = append(r.errs, e)
	return e
}

// syntax turns the parser's error, which quotes the source, into one line.
func (r *reader) syntax(err error) error {
	var bad yaml.Error
	if errors.As(err, &bad) {
		return r.failf(bad.GetToken(), "%s", bad.GetMessage())
	}
	return fmt.Errorf("%s: %w", r.path, err)
}

// section reads a mapping of names to values. Elsewhere are names that are right in the other kind of section.
func (r *reader) section(n ast.Node, known, elsewhere []string, environments func(ast.Node)) (s Section) {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		r.failf(n.GetToken(), "want lines of the form «name: value»")
		return s
	}
	s.Line = m.GetToken().Position.Line
	if len(m.Values) > 0 {
		s.Line = m.Values[0].Key.GetToken().Position.Line
	}
	for _, v := range m.Values {
		at := v.Key.GetToken()
		name := at.Value
		switch {
		case !slices.Contains(known, name):
			r.failf(at, "%s", unknown(name, known, elsewhere))
		case name == keyEnvironments:
			environments(v.Value)
		default:
			if value, ok := r.scalar(name, v.Value); ok {
				s.Settings = append(s.Settings, Setting{Name: name, Value: value, Line: at.Position.Line})
			}
		}
	}
	return s
}

func (r *reader) environments(n ast.Node, known []string) (list []Section) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		r.failf(n.GetToken(), "%s: want a list, each entry of which begins with «- home: DIRECTORY»", keyEnvironments)
		return nil
	}
	for _, v := range seq.Values {
		list = append(list, r.section(v, known, nil, nil))
	}
	return list
}

// scalar is a value as it was written, without quotes.
func (r *reader) scalar(name string, n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	case *ast.NullNode:
		r.failf(n.GetToken(), "%s has no value", name)
	default:
		r.failf(n.GetToken(), "%s: want one value, written on the same line", name)
	}
	return "", false
}

// unknown says that there is no such setting, and which one may be meant.
func unknown(name string, known, elsewhere []string) string {
	near := closest(name, known)
	switch {
	case slices.Contains(elsewhere, name):
		return fmt.Sprintf("%s belongs to an environment: put it below «%s:»", name, keyEnvironments)
	case near != "":
		return fmt.Sprintf("there is no setting %q; did you mean %s?", name, near)
	}
	return fmt.Sprintf("there is no setting %q here", name)
}

// closest is the name that differs least, if it differs little.
func closest(name string, known []string) (best string) {
	least := len(name)/3 + 1
	for _, k := range known {
		if d := distance(strings.ReplaceAll(strings.ToLower(name), "_", "-"), k); d <= least {
			best, least = k, d-1
		}
	}
	return best
}

// distance is the number of letters to insert, remove or replace (Levenshtein's).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal, row[j+1] = row[j+1], min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
