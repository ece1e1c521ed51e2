package bdb

import "encoding/binary"

// Powers of 33, the factor of __ham_func4, modulo 2^32.
const (
	pow33x1 = 33
	pow33x2 = 33 * 33
	pow33x4 = pow33x2 * pow33x2
	pow33x8 = pow33x4 * pow33x4 & 0xffffffff
)

// Checksum is __ham_func4, libdb's checksum of pages and log records without encryption: h = h*33 + byte, from zero.
func Checksum(data []byte) uint32 { return UpdateChecksum(0, data) }

// UpdateChecksum continues a checksum over more bytes.
//
// Eight bytes go at once: the sum is a polynomial in 33, so neighbours are folded pairwise inside one word, from eight lanes of a byte
// to two of 32 bits, where nothing overflows before the last step, which is modulo 2^32 anyway.
func UpdateChecksum(h uint32, data []byte) uint32 {
	for len(data) >= 16 {
		h = h*pow33x8 + fold8(binary.LittleEndian.Uint64(data))
		h = h*pow33x8 + fold8(binary.LittleEndian.Uint64(data[8:]))
		data = data[16:]
	}
	for _, b := range data {
		h = h*pow33x1 + uint32(b)
	}
	return h
}

// fold8 is the checksum of the eight bytes of w, lowest first.
func fold8(w uint64) uint32 {
	const even8, even16 = 0x00ff00ff00ff00ff, 0x0000ffff0000ffff
	w = (w&even8)*pow33x1 + w>>8&even8
	w = (w&even16)*pow33x2 + w>>16&even16
	return uint32(w)*pow33x4 + uint32(w>>32)
}

// SkipChecksum continues a checksum over n zero bytes. Checksum fields count as zeros in their own checksum.
func SkipChecksum(h uint32, n int) uint32 {
	for ; n >= 4; n -= 4 {
		h *= pow33x4
	}
	for ; n > 0; n-- {
		h *= pow33x1
	}
	return h
}
