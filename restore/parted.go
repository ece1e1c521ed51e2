package restore

import (
	"bytes"
	"context"
	"errors"
	"hash"

	"github.com/zeebo/blake3"

	"bdbvault/localenv/bdb"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/repository"
)

// Two copies of an environment that ship under one name store two logs on one timeline. Their names fit together; only where a segment overlaps the one before
// it, as those of two that ship do, is it worth while to look whether both hold the same. One run beside another leaves such places too, few and in the
// log file that is still open: what is sealed stands for all that was sent of it before.

// partedLooks bounds how many places are looked at, the first ones.
const partedLooks = 8

// partedAt is up to where segments that follow each other are one log; zero: to their end, for all that was looked at. Two that part exactly where both sent a
// segment show only when their log is laid down.
func partedAt(ctx context.Context, repo *repository.Repository, env string, list []manifest.SegmentName) (bdb.LSN, error) {
	looks := 0
	for i := 1; i < len(list) && looks < partedLooks; i++ {
		before, next := list[i-1], list[i]
		if before.File != next.File || next.Start >= before.End {
			continue
		}
		looks++
		same, err := sameRecords(ctx, repo, env, before, next)
		if err != nil {
			return bdb.LSN{}, err
		}
		if !same {
			return bdb.LSN{File: before.File, Offset: before.End}, nil
		}
	}
	return bdb.LSN{}, nil
}

// sameRecords reports whether a segment holds the same as the one before it where both hold something. What can't be read has nothing to say here.
func sameRecords(ctx context.Context, repo *repository.Repository, env string, before, next manifest.SegmentName) (bool, error) {
	var sums [2][]byte
	for i, s := range []manifest.SegmentName{before, next} {
		part := &partHash{from: int64(next.Start - min(next.Start, s.Start)), left: int64(before.End - next.Start), sum: blake3.New()}
		_, err := repo.CopySegment(ctx, env, s, part)
		if errors.Is(err, manifest.ErrDamaged) || errors.Is(err, remote.ErrNotFound) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		sums[i] = part.sum.Sum(nil)
	}
	return bytes.Equal(sums[0], sums[1]), nil
}

// partHash hashes a part of what is written.
type partHash struct {
	from, left int64 // bytes to be passed over, then to be hashed
	sum        hash.Hash
}

func (h *partHash) Write(p []byte) (int, error) {
	n := len(p)
	skip := min(h.from, int64(len(p)))
	h.from, p = h.from-skip, p[skip:]
	p = p[:min(h.left, int64(len(p)))]
	h.left -= int64(len(p))
	h.sum.Write(p)
	return n, nil
}
