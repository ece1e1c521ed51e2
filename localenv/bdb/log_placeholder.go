package bdb

import "encoding/binary"

const renameMagic = 0x030800 // DB_RENAMEMAGIC

// IsPlaceholder reports whether a file that begins with these bytes is the placeholder that libdb leaves under a name as long as the transaction that
// renames or removes the file is not committed. first holds 72 bytes at least, or the whole file.
func IsPlaceholder(first []byte) bool {
	if len(first) < metaFileID+len(FileID{}) {
		return false
	}
	magic := first[metaMagic:]
	return binary.LittleEndian.Uint32(magic) == renameMagic || binary.BigEndian.Uint32(magic) == renameMagic
}
