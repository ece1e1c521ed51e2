package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// machine is where the bench ran.
type machine struct {
	model, system, kernel, fileSystem string
	cores                             int
	memory, free                      int64
	load                              string // before it began
}

func describeMachine(dir string) (m machine, err error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return m, fmt.Errorf("file system of %s: %w", dir, err)
	}
	m.cores, m.free = runtime.NumCPU(), int64(fs.Bavail)*fs.Bsize
	m.model = field(readText("/proc/cpuinfo"), "model name", ":")
	m.system = strings.Trim(field(readText("/etc/os-release"), "PRETTY_NAME", "="), `"`)
	m.kernel = strings.TrimSpace(readText("/proc/sys/kernel/osrelease"))
	m.load, _, _ = strings.Cut(readText("/proc/loadavg"), " ")
	fmt.Sscanf(field(readText("/proc/meminfo"), "MemTotal", ":"), "%d", &m.memory)
	m.memory *= kib
	m.fileSystem, err = fileSystemOf(dir, readText("/proc/self/mounts"))
	return m, err
}

func (m machine) String() string {
	return fmt.Sprintf("%s, %d cores, %.0f GiB of memory, Linux %s (%s), %s; load before: %s",
		m.model, m.cores, float64(m.memory)/gib, m.kernel, m.system, m.fileSystem, m.load)
}

// readText is for descriptions: what can't be read is left out.
func readText(path string) string {
	text, _ := os.ReadFile(path)
	return string(text)
}

// field is the value of the first line with that name.
func field(text, name, separator string) string {
	for line := range strings.Lines(text) {
		if n, v, ok := strings.Cut(line, separator); ok && strings.TrimSpace(n) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// fileSystemOf finds the type of the innermost mount that a directory is in.
func fileSystemOf(dir, mounts string) (string, error) {
	best, kind := "", ""
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		if rel, err := filepath.Rel(f[1], dir); err == nil && filepath.IsLocal(rel) && len(f[1]) >= len(best) {
			best, kind = f[1], f[2]
		}
	}
	if kind == "" {
		return "", fmt.Errorf("no mount has %s", dir)
	}
	return kind, nil
}

// version of the server, as its program says.
func (s *store) version(ctx context.Context) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.pid))
	if err != nil {
		return err.Error()
	}
	out, err := exec.CommandContext(ctx, "go", "version", "-m", path).Output()
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "mod" {
			return f[2]
		}
	}
	return "unknown"
}
