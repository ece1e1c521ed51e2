package restore

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// The files were written past the page cache, and recovery reads them page by page, one after the other, as the log names them. Asked for all at once
// and in the order in which they lie on the disk, these pages take a small part of that time.

const (
	// prefetchStep is how much is asked for at a time: kernels take no more into one request.
	prefetchStep = 1 << 20
	// prefetchGap is what is read between two pages rather than asking twice.
	prefetchGap = 32 << 10
)

// prefetch begins to read ahead the pages that the log changes, unless they are more than memory has room for. The function returned ends
// it.
func (r *restorer) prefetch(ctx context.Context) (stop func()) {
	type file struct {
		path  string
		reads []stretch
	}
	var list []file
	var size int64
	for i := range r.m.Files {
		f := file{path: r.lay.file(&r.m.Files[i]), reads: r.story.touched.reads(&r.m.Files[i], prefetchGap)}
		for _, e := range f.reads {
			size += e.length
		}
		if len(f.reads) > 0 {
			list = append(list, f)
		}
	}
	if size > availableMemory()/2 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		for _, f := range list {
			r.t.readAhead(ctx, f.path, f.reads)
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

// readAhead only makes things faster, so nothing that goes wrong in it matters.
func (t *target) readAhead(ctx context.Context, name string, reads []stretch) {
	f, err := t.root.Open(name)
	if err != nil {
		return
	}
	defer f.Close() // only read
	for _, e := range reads {
		for end := e.off + e.length; e.off < end && ctx.Err() == nil; e.off += prefetchStep {
			if err := unix.Fadvise(int(f.Fd()), e.off, min(prefetchStep, end-e.off), unix.FADV_WILLNEED); err != nil {
				return
			}
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
