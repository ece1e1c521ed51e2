package localenv

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// configName is the file in an environment's home that configures it.
const configName = "DB_CONFIG"

// maxConfig bounds how much of a DB_CONFIG is read.
const maxConfig = 1 << 20

// Config is what an environment's DB_CONFIG says, as libdb reads it. Directories are as spelled there.
type Config struct {
	Present  bool
	Text     string    // the whole file
	Settings []Setting // every line that is neither empty nor a comment, in order, known or not

	DataDirs    []string // set_data_dir, add_data_dir and set_metadata_dir, in order
	CreateDir   string   // where new databases go; "": home
	MetadataDir string
	LogDir      string // "": home
	TempDir     string // "": not said

	LogAutoRemove bool // the engine removes log files that it no longer needs
	LogInMemory   bool // there are no log files at all
	Private       bool // regions are in one process's memory, nobody can join
	Register      bool
	Replicated    bool // member of a replication group

	// Problems are the lines at which libdb would refuse to open the environment. It stops at the first; we read on.
	Problems []string
}

// Setting is one line of a DB_CONFIG.
type Setting struct {
	Line int // libdb's count: one for each piece of at most 255 bytes
	Name string
	Args []string
}

// readConfig reads home's DB_CONFIG. There may be none.
func readConfig(home string) (Config, error) {
	path := filepath.Join(home, configName)
	info, err := os.Stat(path)
	if os.IsNotExist(err) {
		return Config{}, nil
	}
	if err != nil {
		return Config{}, err
	}
	if info.Size() > maxConfig {
		return Config{}, fmt.Errorf("%s: %d bytes is too long", path, info.Size())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, err
	}
	c := ParseConfig(string(text))
	c.Present = true
	return c, nil
}

// ParseConfig reads the text of a DB_CONFIG by the rules of libdb's env_config.c, odd ones included. Lines are read in pieces of 255 bytes, each a
// line of its own. Names that take one string take all the rest of the line, trailing blanks included; anything else is split at
// blanks and tabs. A # begins a comment only where a name could stand. There is no quoting and no continuation.
func ParseConfig(text string) Config {
	c := Config{Text: text}
	for n, line := range configLines(text) {
		s := scanSetting(line)
		if s.Name == "" {
			continue
		}
		s.Line = n + 1
		c.Settings = append(c.Settings, s)
		if problem := c.apply(s); problem != "" {
			c.Problems = append(c.Problems, fmt.Sprintf("line %d: %s: %s", s.Line, s.Name, problem))
		}
	}
	return c
}

// maxConfigLine is how much libdb reads as one line.
const maxConfigLine = 255

// pieceLen is how much of the text libdb reads first.
func pieceLen(text string) int {
	n := min(len(text), maxConfigLine)
	if at := strings.IndexByte(text[:n], '\n'); at >= 0 {
		return at + 1
	}
	return n
}

// configLines cuts the text as fgets does with libdb's buffer of 256 bytes, and takes off line ends. What follows a NUL is lost.
func configLines(text string) (lines []string) {
	for text != "" {
		piece := text[:pieceLen(text)]
		text = text[len(piece):]
		line, _, _ := strings.Cut(piece, "\x00")
		line = strings.TrimSuffix(line, "\n")
		lines = append(lines, strings.TrimSuffix(line, "\r"))
	}
	return lines
}

// ConfigLineError is a line that would be too long for libdb to read as one.
type ConfigLineError struct {
	Line int
	Text string
}

func (e *ConfigLineError) Error() string {
	return fmt.Sprintf("DB_CONFIG line %d would be %q: libdb reads no more than %d bytes of a line", e.Line, e.Text, maxConfigLine)
}

// RespellConfig gives the text of a DB_CONFIG with other values for settings that take one string; spell gets the setting's name and its value.
// Every other byte stays as it is.
func RespellConfig(text string, spell func(name, value string) string) (string, error) {
	var b strings.Builder
	for n, line := range configLines(text) {
		piece := text[:pieceLen(text)]
		text = text[len(piece):]
		s := scanSetting(line)
		if !slices.Contains(takesString, s.Name) || len(s.Args) == 0 {
			b.WriteString(piece)
			continue
		}
		value := s.Args[0]
		changed := line[:len(line)-len(value)] + spell(s.Name, value) + piece[len(line):]
		if len(changed) > len(piece) && len(changed) > maxConfigLine {
			return "", &ConfigLineError{Line: n + 1, Text: changed}
		}
		b.WriteString(changed)
	}
	return b.String(), nil
}

// isSpace is C's isspace.
func isSpace(r rune) bool { return r == ' ' || r >= '\t' && r <= '\r' }

// takesString holds the names whose argument is the rest of the line. They are matched by case, unlike most others.
var takesString = []string{
	"add_data_dir", "db_data_dir", "db_log_dir", "db_tmp_dir", "set_create_dir", "set_data_dir",
	"set_intermediate_dir_mode", "set_lg_dir", "set_metadata_dir", "set_tmp_dir",
}

// scanSetting splits a line into a name and at most nine arguments. Empty lines and comments have no name.
func scanSetting(line string) (s Setting) {
	line = strings.TrimLeftFunc(line, isSpace)
	if line == "" || line[0] == '#' {
		return s
	}
	name, rest, more := cutBlank(line)
	s.Name = name
	if slices.Contains(takesString, name) {
		if more {
			s.Args = []string{strings.TrimLeftFunc(rest, isSpace)}
		}
		return s
	}
	for word := ""; more && len(s.Args) < 9; {
		if word, rest, more = cutBlank(rest); word != "" {
			s.Args = append(s.Args, word)
		}
	}
	return s
}

// cutBlank cuts at the first blank or tab.
func cutBlank(s string) (word, rest string, more bool) {
	if at := strings.IndexAny(s, " \t\n"); at >= 0 {
		return s[:at], s[at+1:], true
	}
	return s, "", false
}

// apply puts one setting into effect, as far as it says something about files. It returns why libdb would refuse it, if we can tell.
func (c *Config) apply(s Setting) (problem string) {
	if len(s.Args) == 0 {
		return "has no value"
	}
	switch s.Name { // as libdb: case matters
	case "set_data_dir", "db_data_dir":
		c.addDataDir(s.Args[0])
		if len(c.DataDirs) == 1 {
			c.CreateDir = s.Args[0]
		}
	case "add_data_dir":
		c.addDataDir(s.Args[0])
	case "set_create_dir":
		if !slices.Contains(c.DataDirs, s.Args[0]) {
			return "directory " + s.Args[0] + " is not a data directory"
		}
		c.CreateDir = s.Args[0]
	case "set_metadata_dir":
		if !slices.Contains(c.DataDirs, s.Args[0]) {
			c.addDataDir(s.Args[0])
		}
		c.MetadataDir = s.Args[0]
	case "set_lg_dir", "db_log_dir":
		c.LogDir = s.Args[0]
	case "set_tmp_dir", "db_tmp_dir":
		c.TempDir = s.Args[0]
	default:
		return c.applyFlag(s)
	}
	return ""
}

func (c *Config) addDataDir(dir string) { c.DataDirs = append(c.DataDirs, dir) }

// applyFlag handles flags, and replication, which any of its settings betrays. Their names are matched without regard to case.
func (c *Config) applyFlag(s Setting) (problem string) {
	name, flag := strings.ToLower(s.Name), strings.ToLower(s.Args[0])
	if strings.HasPrefix(name, "rep_") || strings.HasPrefix(name, "repmgr_") {
		c.Replicated = true
	}
	var target *bool
	switch name + " " + flag {
	case "set_flags db_log_autoremove", "log_set_config db_log_auto_remove":
		target = &c.LogAutoRemove
	case "set_flags db_log_inmemory", "log_set_config db_log_in_memory":
		target = &c.LogInMemory
	case "set_open_flags db_private":
		target = &c.Private
	case "set_open_flags db_register":
		target = &c.Register
	case "set_open_flags db_init_rep":
		target = &c.Replicated
	default:
		return ""
	}
	on, problem := onOff(s.Args[1:])
	if problem == "" {
		*target = on
	}
	return problem
}

// onOff reads what may follow the name of a flag.
func onOff(args []string) (on bool, problem string) {
	switch {
	case len(args) == 0 || len(args) == 1 && strings.EqualFold(args[0], "on"):
		return true, ""
	case len(args) == 1 && strings.EqualFold(args[0], "off"):
		return false, ""
	}
	return false, "want on or off, not " + strings.Join(args, " ")
}
