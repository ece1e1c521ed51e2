// Command testservers builds the S3 servers that the tests need, unless they are there already, and prints where they are.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"bdbvault/remote/remotetest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "testservers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	dir, err := remotetest.ServerDir()
	if err != nil {
		return err
	}
	fmt.Println("S3 servers for tests in", dir)
	return remotetest.EnsureServers(ctx)
}
