package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"bdbvault/localenv/engine"
	"bdbvault/remote"
	"bdbvault/remote/awsconf"
	"bdbvault/remote/minio"
	"bdbvault/remote/repository"
	"bdbvault/restore"
)

// layDownCommand makes this program restore a home up to the moment before its recovery. It is a process of its own because it needs
// much memory, which the kernel would then count as that of every program started afterwards.
const layDownCommand = "lay-down"

// stepPass is the stage of a restore at which everything lies there and recovery is about to begin.
const stepPass = "pass"

var errLaidDown = errors.New("all is laid down")

// layDown wants bucket, endpoint, bdbvault's path and the target. Keys come from the environment.
func layDown(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("%s: want 4 arguments", layDownCommand)
	}
	if !slices.Contains(restore.Stages, stepPass) {
		return fmt.Errorf("restore has no stage %q", stepPass)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	driver, err := minio.New(ctx, awsconf.Config{Bucket: args[0], Endpoint: args[1]})
	if err != nil {
		return err
	}
	repo, err := repository.Open(ctx, remote.New(driver, remote.Options{}))
	if err != nil {
		return err
	}
	plan, err := restore.MakePlan(ctx, repo, "", restore.Target{})
	if err != nil {
		return err
	}
	opt := restore.Options{To: args[3], Engine: engine.Options{Executable: []string{args[2], "engine"}}, Step: stopBeforeRecovery}
	if _, err := restore.Restore(ctx, repo, plan, opt); !errors.Is(err, errLaidDown) {
		return fmt.Errorf("the restore did not stop before recovery: %w", err)
	}
	return nil
}

func stopBeforeRecovery(stage string) error {
	if stage == stepPass {
		return errLaidDown
	}
	return nil
}
