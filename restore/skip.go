package restore

import (
	"errors"
	"fmt"
	"io"
	"os"

	"bdbvault/localenv/bdb"
)

// skipBuffer is how much of a log file is changed at once.
const skipBuffer = 1 << 20

// skipPages has recovery pass over what was done to pages in a log file before an offset, but for what keep wants (nil: nothing). Catastrophic recovery redoes the log from the
// beginning of a file, and so more than the copies lack, over pages that have become something else since. libdb then takes the metadata page of a
// subdatabase that is gone for granted, and with it whether pages are encrypted or checksummed: it crashes, or spoils pages. The records of files and
// transactions stay: of them recovery has to know.
func skipPages(f *os.File, decoder *bdb.LogDecoder, until bdb.LSN, keep func(*bdb.Record) bool) error {
	buf := make([]byte, min(skipBuffer, until.Offset))
	for at := (bdb.LSN{File: until.File}); at.Before(until); {
		b := buf[:min(len(buf), int(until.Offset-at.Offset))]
		if _, err := io.ReadFull(io.NewSectionReader(f, int64(at.Offset), int64(len(b))), b); err != nil {
			return err
		}
		n, err := decoder.SkipPages(b, at, keep)
		if errors.Is(err, bdb.ErrShortRecord) && len(b) < int(until.Offset-at.Offset) {
			buf = make([]byte, 2*len(buf))
			continue
		}
		if err != nil && !errors.Is(err, bdb.ErrLogEnd) {
			return fmt.Errorf("log record %s: %w", at, err)
		}
		if _, err := f.WriteAt(b[:n], int64(at.Offset)); err != nil {
			return err
		}
		if err != nil {
			return fmt.Errorf("log record %s: %w", at, err)
		}
		at.Offset += uint32(n)
	}
	return nil
}
