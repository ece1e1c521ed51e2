package main

import (
	"context"
	"fmt"
	"io"

	"bdbvault/archive"
	"bdbvault/localenv/dbutil"
	"bdbvault/localenv/engine"
	"bdbvault/localenv/libdb"
)

// engineCommand is the hidden command that makes this program the engine's child.
const engineCommand = "engine"

// serveEngine is that command. It talks to its parent only, which also tells it the password.
func serveEngine(in io.Reader, out, errs io.Writer) int {
	if err := engine.Serve(in, out, buildEngine); err != nil {
		fmt.Fprintf(errs, "bdbvault engine: %v\n", err)
		return exitFailed
	}
	return exitDone
}

// Engines by name.
const (
	engineLibdb  = "libdb"
	engineDBUtil = "dbutil"
)

func buildEngine(o engine.Options) (engine.Engine, error) {
	switch {
	case o.Kind == engineLibdb, o.Kind == "" && libdb.Available:
		return libdb.New(o)
	case o.Kind == engineDBUtil, o.Kind == "":
		return dbutil.New(o)
	}
	return nil, fmt.Errorf("there is no engine %q", o.Kind)
}

// engineOptions are what the flags say about the engine.
func (c *call) engineOptions(password string) (engine.Options, error) {
	kind, err := c.oneOf(flagEngine, "", engineLibdb, engineDBUtil)
	o := engine.Options{Kind: kind, DBBin: c.String(flagDBBin), Password: password, Note: c.progress.Note}
	if c.Bool(flagVerbose) {
		o.Message = func(text string) { c.progress.say("engine: " + text) }
	}
	return o, err
}

// joinEngine starts the engine that may join the live environment, nil if it is not to be joined. Where joining is only wished for,
// an engine that can't be had is no reason to go without a backup.
func (c *call) joinEngine(ctx context.Context, s *source, bulkSafe string) (*engine.Client, error) {
	o, err := c.engineOptions(s.password)
	if err != nil {
		return nil, err
	}
	if bulkSafe == archive.BulkOff && !c.Bool(flagCheckpoint) {
		return nil, nil
	}
	o.Home, o.LogEnd = s.Home, s.logEnd
	client, err := engine.Start(ctx, o)
	if err != nil && bulkSafe == archive.BulkAuto && !c.Bool(flagCheckpoint) && ctx.Err() == nil {
		c.progress.Note(fmt.Sprintf("the environment is not joined, so bulk transactions may be missing from its log: %v", err))
		return nil, nil
	}
	return client, err
}
