package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Tools, as the tables call them.
const (
	toolVault     = "bdbvault"
	toolReadAll   = "bdbvault --read-all"
	toolRestic    = "restic"
	toolForce     = "restic --force"
	toolTar       = "tar, zstd -1, aws s3 cp"
	toolCopyClone = "db5.3_hotbackup, rclone copy"
	toolCopyTar   = "db5.3_hotbackup, tar, zstd -1, aws s3 cp"
	toolRclone    = "rclone copy"
	toolRecover   = "db5.3_recover -c"
)

// nothingNew follows a tool's name when there is nothing to do for it.
const nothingNew = ", nothing new"

// program is an installed program that bench calls.
type program struct {
	name    string
	debian  string   // the package that has it
	version []string // arguments that make it tell
}

// optional programs: rows that need a missing one are left out.
var optional = []program{
	{"restic", "restic", []string{"version"}},
	{"rclone", "rclone", []string{"version"}},
	{"aws", "awscli", []string{"--version"}},
	{"zstd", "zstd", []string{"--version"}},
	{"tar", "tar", []string{"--version"}},
}

// required programs make the environment.
var required = []program{
	{"db5.3_hotbackup", "db5.3-util", []string{"-V"}},
	{"db5.3_recover", "db5.3-util", []string{"-V"}},
	{"db5.3_checkpoint", "db5.3-util", []string{"-V"}},
}

// needs are the programs behind a tool.
var needs = map[string][]string{
	toolRestic:    {"restic"},
	toolForce:     {"restic"},
	toolTar:       {"tar", "zstd", "aws"},
	toolCopyClone: {"rclone"},
	toolCopyTar:   {"tar", "zstd", "aws"},
	toolRclone:    {"rclone"},
}

// programs are the paths of what was found.
type programs map[string]string

// systemDirs come before PATH: the distribution's programs are what is compared with, not wrappers around another version.
var systemDirs = []string{"/usr/bin", "/bin"}

func findPrograms() (programs, error) {
	found := programs{}
	for _, p := range append(append([]program{}, required...), optional...) {
		if path := findProgram(p.name); path != "" {
			found[p.name] = path
		}
	}
	for _, p := range required {
		if found[p.name] == "" {
			return nil, fmt.Errorf("%s is missing: apt-get install %s", p.name, p.debian)
		}
	}
	return found, nil
}

func findProgram(name string) string {
	for _, dir := range systemDirs {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}

// lacks names the Debian packages that a tool would need.
func (p programs) lacks(tool string) (packages []string) {
	tool = strings.TrimSuffix(tool, nothingNew)
	for _, name := range needs[tool] {
		for _, o := range optional {
			if o.name == name && p[name] == "" {
				packages = append(packages, o.debian)
			}
		}
	}
	return packages
}

// versions lists what each program says about itself.
func (b *bench) versions(ctx context.Context) (lines []string) {
	add := func(name, path string, args ...string) {
		out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
		if err != nil {
			out = []byte("version unknown: " + err.Error())
		}
		lines = append(lines, versionLine(name, string(out)))
	}
	add("bdbvault", b.bin, "version")
	for _, p := range append(append([]program{}, optional...), required[:1]...) {
		if path := b.programs[p.name]; path != "" {
			add(p.name, path, p.version...)
		}
	}
	return append(lines, "MinIO: "+b.store.version(ctx))
}

// versionLine is the first line of what a program says, after the program's name.
func versionLine(name, text string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	words := strings.Fields(strings.Trim(first, "* "))
	if len(words) > 1 && words[0] == name {
		words = words[1:]
	}
	return name + ": " + strings.Join(words, " ")
}

// vault is a bdbvault command on a bucket.
func (b *bench) vault(bucket, state string, args ...string) command {
	all := []string{b.bin, args[0], "-r", "s3://" + bucket, "--endpoint", b.store.server.Endpoint, "--json", "--quiet"}
	if args[0] == "backup" || args[0] == "ship" {
		all = append(all, "-h", b.env.home, "--env", "bench", "--state-dir", state)
	}
	return command{args: append(all, args[1:]...), env: b.childEnv}
}

// restic is a restic command on a bucket. Paths are given relative to the home, so that snapshots hold nothing else.
func (b *bench) restic(bucket, cache string, args ...string) command {
	all := []string{b.programs["restic"], "-r", "s3:" + b.store.server.Endpoint + "/" + bucket, "--cache-dir", cache, "--quiet"}
	return command{args: append(all, args...), dir: b.env.home, env: b.childEnv}
}

func (b *bench) resticBackup(bucket, cache string, args ...string) command {
	return b.restic(bucket, cache, append([]string{"backup", "--exclude", regions, "."}, args...)...)
}

// tarUpload packs a directory and stores it as one object.
func (b *bench) tarUpload(dir, bucket string) pipeline {
	return pipeline{
		{args: []string{b.programs["tar"], "--exclude", "./" + regions, "-cf", "-", "."}, dir: dir, env: b.childEnv},
		{args: []string{b.programs["zstd"], "-q", "-1", "-T2", "-c"}, env: b.childEnv},
		{args: []string{b.programs["aws"], "--endpoint-url", b.store.server.Endpoint, "s3", "cp", "--no-progress", "-",
			"s3://" + bucket + "/home.tar.zst"}, env: b.childEnv},
	}
}

// rclone copies a directory into a bucket.
func (b *bench) rclone(dir, bucket string, args ...string) command {
	return command{args: append([]string{b.programs["rclone"], "copy", dir, "store:" + bucket}, args...), env: b.childEnv}
}

// hotCopy is the engine's own way to a safe copy, recovery included, with the directories as DB_CONFIG has them.
func (b *bench) hotCopy(to string) pipeline {
	return pipeline{{args: []string{b.programs["db5.3_hotbackup"], "-D", "-h", b.env.home, "-b", to}, env: b.childEnv}}
}

// findVault is the program to measure: the one given, or the one that was built last, or one built now.
func findVault(ctx context.Context, given, dir string) (string, error) {
	if given == "" {
		given = filepath.Join("bin", "bdbvault")
		if _, err := os.Stat(given); err != nil {
			return buildVault(ctx, dir)
		}
	}
	path, err := filepath.Abs(given)
	if err != nil {
		return "", err
	}
	_, err = os.Stat(path)
	return path, err
}

func buildVault(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "bdbvault")
	build := command{args: []string{"go", "build", "-trimpath", "-o", path, "bdbvault/cmd/bdbvault"}, env: append(os.Environ(), "CGO_ENABLED=1")}
	_, err := runAll(ctx, pipeline{build})
	return path, err
}
