package localenv

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tornBytes is the size of the file under stress: small, so that reads and writes meet often.
const tornBytes = 1 << 20

// torture is how many times as long tests of chance run.
func torture() int {
	n, err := strconv.Atoi(os.Getenv("BDBVAULT_TORTURE"))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// fillPage makes version v of a page: a header that passes all checks, and v everywhere else.
func fillPage(page []byte, pgno uint32, v uint64) {
	for at := 0; at < len(page); at += 8 {
		binary.LittleEndian.PutUint64(page[at:], v)
	}
	if pgno > 0 {
		forgePage(page, pgno)
		return
	}
	forgePage(page[:512], 0)
	binary.LittleEndian.PutUint32(page[20:], uint32(len(page)))
}

// isTorn reports whether a page is a mixture of versions.
func isTorn(page []byte, pgno uint32) bool {
	from := 32
	if pgno == 0 {
		from = 512
	}
	body := page[from:]
	return len(body) > 8 && !bytes.Equal(body[8:], body[:len(body)-8])
}

// TestWriterProcess is no test but the program that TestNoTornPages stresses the file with: it rewrites whole pages at random, as fast as it
// can, until its standard input ends.
func TestWriterProcess(t *testing.T) {
	path, pageSize := os.Getenv("BDBVAULT_WRITER_FILE"), 0
	if path == "" {
		return
	}
	fmt.Sscan(os.Getenv("BDBVAULT_WRITER_PAGE"), &pageSize)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	rnd := rand.New(rand.NewPCG(uint64(os.Getpid()), 0))
	versions := make([][]byte, 64) // made beforehand, so that all time goes into writing
	for v := range versions {
		versions[v] = make([]byte, pageSize)
		fillPage(versions[v], 1, rnd.Uint64())
	}
	for round := 0; ; round++ {
		pgno, page := uint32(rnd.IntN(tornBytes/pageSize)), versions[round%len(versions)]
		if pgno == 0 {
			page = make([]byte, pageSize)
			fillPage(page, 0, rnd.Uint64())
		} else {
			forgePage(page, pgno)
		}
		if _, err := f.WriteAt(page, int64(pgno)*int64(pageSize)); err != nil {
			t.Fatal(err)
		}
	}
}

func startWriter(t *testing.T, path string, pageSize int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestWriterProcess$")
	cmd.Env = append(os.Environ(), "BDBVAULT_WRITER_FILE="+path, fmt.Sprintf("BDBVAULT_WRITER_PAGE=%d", pageSize))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("writer: %v", err)
		}
	})
}

// testDirs are directories on the file systems to try: those of BDBVAULT_TEST_DIRS, or the default one for temporary files, and tmpfs.
func testDirs(t *testing.T) []string {
	t.Helper()
	parents := filepath.SplitList(os.Getenv("BDBVAULT_TEST_DIRS"))
	if len(parents) == 0 {
		parents = []string{os.TempDir()}
	}
	var dirs []string
	for _, parent := range append(parents, "/dev/shm") {
		dir, err := os.MkdirTemp(parent, "bdbvault-torn-")
		if os.IsNotExist(err) && parent == "/dev/shm" {
			t.Log("no tmpfs tried: there is no /dev/shm")
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		dirs = append(dirs, dir)
	}
	return dirs
}

// TestNoTornPages reads a file that other processes rewrite all the time. No page may be accepted that is a mixture of two versions; a
// plain read of the same file has to see some, or the test proves nothing.
func TestNoTornPages(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("needs two processors: a reader and a writer at the same time")
	}
	for _, dir := range testDirs(t) {
		for _, pageSize := range []int{4096, 8192, 16384, 65536} {
			t.Run(fmt.Sprintf("%s/%d", strings.TrimLeft(filepath.Dir(dir), "/"), pageSize), func(t *testing.T) {
				stressFile(t, dir, pageSize)
			})
		}
	}
}

// tally is what one way of reading saw.
type tally struct{ pages, torn int64 }

func (c *tally) count(data []byte, off int64, pageSize int) {
	for at := 0; at+pageSize <= len(data); at += pageSize {
		c.pages++
		if isTorn(data[at:at+pageSize], uint32((off+int64(at))/int64(pageSize))) {
			c.torn++
		}
	}
}

func stressFile(t *testing.T, dir string, pageSize int) {
	s := stressSource(t, dir, pageSize)
	startWriter(t, filepath.Join(dir, "stress.db"), pageSize)
	startWriter(t, filepath.Join(dir, "stress.db"), pageSize)
	var plain, ours tally
	var st ReadStats
	buf := make([]byte, 1<<20)
	started := time.Now()
	enough, limit := time.Duration(torture())*700*time.Millisecond, time.Duration(torture())*time.Minute
	for time.Since(started) < enough || plain.torn == 0 && time.Since(started) < limit {
		for off := int64(0); off < tornBytes; off += int64(len(buf)) {
			if _, err := s.f.ReadAt(buf, off); err != nil {
				t.Fatal(err)
			}
			plain.count(buf, off, pageSize)
			n, seen, err := s.ReadAt(context.Background(), buf, off)
			if err != nil || n < len(buf) {
				t.Fatalf("read %d bytes: %v", n, err)
			}
			ours.count(buf, off, pageSize)
			st.Add(seen)
		}
	}
	t.Logf("plain read: %d of %d pages torn; ours: %d of %d, %d read again", plain.torn, plain.pages, ours.torn, ours.pages, st.Reread)
	if ours.torn > 0 || st.Damaged > 0 {
		t.Errorf("%d torn pages accepted, %d damaged", ours.torn, st.Damaged)
	}
	if plain.torn == 0 {
		t.Error("a plain read saw no torn page, so this proves nothing")
	}
}

func stressSource(t *testing.T, dir string, pageSize int) *Source {
	t.Helper()
	data := make([]byte, tornBytes)
	for at := 0; at < len(data); at += pageSize {
		fillPage(data[at:at+pageSize], uint32(at/pageSize), 0)
	}
	if err := os.WriteFile(filepath.Join(dir, "stress.db"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := (&Env{Dirs: []Dir{{".", dir}}}).OpenFile(File{Path: "stress.db"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if s.PageSize() != pageSize {
		t.Fatalf("opened as %s with pages of %d", s.Kind(), s.PageSize())
	}
	return s
}
