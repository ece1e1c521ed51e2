package localenv

import (
	"encoding/binary"
)

// forgePage makes buf a page of a plain little-endian btree file, or its metadata page, without touching what a page has besides the header.
func forgePage(buf []byte, pgno uint32) {
	le := binary.LittleEndian
	clear(buf[:12])
	le.PutUint32(buf[0:], 1)
	le.PutUint32(buf[4:], 28+pgno)
	le.PutUint32(buf[8:], pgno)
	buf[25] = 5 // leaf
	if pgno == 0 {
		clear(buf)
		le.PutUint32(buf[0:], 1)
		le.PutUint32(buf[4:], 28)
		le.PutUint32(buf[12:], 0x053162)
		le.PutUint32(buf[16:], 9)
		le.PutUint32(buf[20:], uint32(len(buf)))
		buf[25] = 9
	}
}
