package remotetest

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// program is a server that "go install" can build.
type program struct{ name, pkg, module, version string }

var (
	minioProgram = program{
		name: "minio", pkg: "github.com/minio/minio", module: "github.com/minio/minio",
		version: "v0.0.0-20260212201848-7aac2a2c5b7c",
	}
	versityProgram = program{
		name: "versitygw", pkg: "github.com/versity/versitygw/cmd/versitygw", module: "github.com/versity/versitygw",
		version: "v1.8.0",
	}
)

// ServerDir is where the servers' programs are kept.
func ServerDir() (string, error) {
	if dir := os.Getenv("BDBVAULT_TEST_SERVERS"); dir != "" {
		return filepath.Abs(dir)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "bdbvault-test-servers"), nil
}

// EnsureServers builds the servers that are not there yet, which takes some minutes and needs the Go module proxy.
func EnsureServers(ctx context.Context) error {
	for _, p := range []program{minioProgram, versityProgram} {
		if _, err := p.path(ctx); err != nil {
			return err
		}
	}
	return nil
}

// path of the program, which is built if it is missing or of another version. Test processes take turns.
func (p program) path(ctx context.Context) (_ string, err error) {
	dir, err := ServerDir()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, p.name)
	if p.present(bin) {
		return bin, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close() // unlocks
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if p.present(bin) {
		return bin, nil
	}
	return bin, p.install(ctx, dir)
}

func (p program) present(bin string) bool {
	info, err := buildinfo.ReadFile(bin)
	return err == nil && info.Main.Path == p.module && info.Main.Version == p.version
}

func (p program) install(ctx context.Context, dir string) error {
	cmd := exec.CommandContext(ctx, "go", "install", p.pkg+"@"+p.version)
	cmd.Dir = dir // outside any module
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=-mod=mod", "GOWORK=off", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go install %s@%s: %w\n%s", p.pkg, p.version, err, out)
	}
	return nil
}
