package main

import (
	"context"
	"errors"
	"os"
)

// memoryTool names a measurement of memory.
func memoryTool(action string, size int64) string { return action + ", " + sizeText(size) }

const (
	actionBackup  = "backup"
	actionRestore = "restore"
)

// memory takes a first full backup of an environment of a size, ships as much log as the other rows do, and restores both. At the first
// size the other rows may have done that.
func (b *bench) memory(ctx context.Context, size int64, first bool) (err error) {
	if first && b.memoryFromOthers(size) {
		return nil
	}
	if err := b.makeEnvironment(ctx, size); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.env.home)) }()
	s, err := b.newStory(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.end()) }()
	if err := b.measure(ctx, s.vault(rowMemory, memoryTool(actionBackup, size), "backup")); err != nil {
		return err
	}
	if _, err := b.env.makeLog(ctx, logToShip); err != nil {
		return err
	}
	ship := s.vault(rowMemory, toolVault, "ship")
	ship.hidden = true
	if err := b.measure(ctx, ship); err != nil {
		return err
	}
	return s.restoreVault(ctx, rowMemory, memoryTool(actionRestore, size))
}

// memoryFromOthers takes the figures over from full backups and restores that were measured.
func (b *bench) memoryFromOthers(size int64) bool {
	backups, restores := b.results[rowFirst][toolVault], b.results[rowRestore][toolVault]
	if len(backups) == 0 || len(restores) == 0 {
		return false
	}
	for _, s := range backups {
		b.results.add(rowMemory, memoryTool(actionBackup, size), s)
	}
	for _, s := range restores {
		b.results.add(rowMemory, memoryTool(actionRestore, size), s)
	}
	return true
}
