package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"bdbvault/localenv/envtest/bdbc"
)

// databaseFile is a database in a home, with the name that the application opens it by.
type databaseFile struct{ name, path string }

// withFiles opens the database files of a closed home in a private environment whose own home is an empty folder, so that nothing
// is written into the one that is read and its DB_CONFIG can't interfere.
func withFiles(p *place, fn func(*bdbc.Env, []databaseFile) error) error {
	files, err := findDatabases(p.home)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "dbworkload-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	o := bdbc.EnvOptions{Private: true, Password: p.password, Cache: 32 << 20}
	return withEnv(scratch, o, func(env *bdbc.Env) error { return fn(env, files) })
}

// findDatabases lists the database files below home and its data directories. Two that have the same name get their folder's
// before it.
func findDatabases(home string) ([]databaseFile, error) {
	home, err := filepath.Abs(home)
	if err != nil {
		return nil, err
	}
	dirs := append([]string{home}, dataDirs(home)...)
	var files []databaseFile
	for i, dir := range dirs {
		if slices.Contains(dirs[:i], dir) {
			continue
		}
		found, err := databasesBelow(dir, dirs)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	return distinct(files), nil
}

func dataDirs(home string) (dirs []string) {
	text, err := os.ReadFile(filepath.Join(home, "DB_CONFIG"))
	if err != nil {
		return nil
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) != 2 || f[0] != "set_data_dir" && f[0] != "add_data_dir" {
			continue
		}
		if filepath.IsAbs(f[1]) {
			dirs = append(dirs, filepath.Clean(f[1]))
		} else {
			dirs = append(dirs, filepath.Join(home, f[1]))
		}
	}
	return dirs
}

func databasesBelow(dir string, dirs []string) (files []databaseFile, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && path != dir && slices.Contains(dirs, path) {
			return fs.SkipDir // listed on its own
		}
		if !e.Type().IsRegular() || !isDatabase(path) {
			return nil
		}
		name, err := filepath.Rel(dir, path)
		files = append(files, databaseFile{name, path})
		return err
	})
	return files, err
}

// regionFile is the engine's own files; beside them partitions are left out, which are read through their parent.
var regionFile = regexp.MustCompile(`^__db\.([0-9]{3}|register|rep.*|freezer.*)$|^__dbp\.`)

func isDatabase(path string) bool {
	if regionFile.MatchString(filepath.Base(path)) {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var head [16]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return false
	}
	return isMagic(binary.LittleEndian.Uint32(head[12:])) || isMagic(binary.BigEndian.Uint32(head[12:]))
}

func isMagic(m uint32) bool {
	return m == 0x053162 || m == 0x061561 || m == 0x042253 || m == 0x074582 // btree and recno, hash, queue, heap
}

func distinct(files []databaseFile) []databaseFile {
	count := map[string]int{}
	for _, f := range files {
		count[f.name]++
	}
	for i, f := range files {
		if count[f.name] > 1 {
			files[i].name = filepath.Join(filepath.Base(strings.TrimSuffix(f.path, f.name)), f.name)
		}
	}
	return files
}
