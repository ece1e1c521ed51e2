package restore

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"bdbvault/manifest"
)

// The files were written past the page cache, and recovery and verification read them page by page, here and there. Reading a file ahead from
// its beginning to its end takes a small part of the time that all its pages take at random.

// prefetchStep is how much is asked for at a time: kernels take no more into one request.
const prefetchStep = 1 << 20

// prefetchRatio is how many times smaller than the data a log has to be for recovery to touch so few pages that it is not worth reading
// everything.
const prefetchRatio = 400

// prefetch begins to read ahead the databases that the log names, unless that is more than memory has room for. The function returned ends
// it.
func (r *restorer) prefetch(ctx context.Context) (stop func()) {
	var list []*manifest.File
	var size int64
	for i := range r.m.Files {
		f := &r.m.Files[i]
		if len(r.story.names[f.FileID]) > 0 || f.PartialID {
			list = append(list, f)
			size += f.Size
		}
	}
	if size > availableMemory()/2 || r.plan.LogBytes < size/prefetchRatio {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		for _, f := range list {
			r.t.readAhead(ctx, r.lay.file(f), f.Size)
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

// readAhead only makes things faster, so nothing that goes wrong in it matters.
func (t *target) readAhead(ctx context.Context, name string, size int64) {
	f, err := t.root.Open(name)
	if err != nil {
		return
	}
	defer f.Close()
	for off := int64(0); off < size && ctx.Err() == nil; off += prefetchStep {
		if err := unix.Fadvise(int(f.Fd()), off, prefetchStep, unix.FADV_WILLNEED); err != nil {
			return
		}
	}
}

// availableMemory is what the kernel could give to somebody now, in bytes; 0 where it does not tell.
func availableMemory() int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	var kib int64
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if n, err := fmt.Sscanf(lines.Text(), "MemAvailable: %d kB", &kib); err == nil && n == 1 {
			return kib << 10
		}
	}
	return 0
}
