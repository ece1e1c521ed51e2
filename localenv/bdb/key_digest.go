package bdb

import (
	"encoding/binary"
	"math/bits"
)

// digest is the hash that libdb believes to be SHA-1. Its source has SHA-1's rounds, but the macro that loads a word of input in rounds 0 to 15
// (blk0 in src/hmac/sha1.c) is a conditional expression without parentheses around it. So the round's condition swallows the function of b, c and d;
// if that is not zero, as nearly always, the round only adds the word as it lies in memory, without the constant and without a. Later
// rounds then work on words in the host's byte order. All that libdb ever wrote with a password depends on it. Here, the host is little-endian.
type digest struct {
	state  [5]uint32
	length uint64
	rest   [64]byte // input of an unfinished block, length%64 bytes
}

var initialState = [5]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}

func newDigest() digest { return digest{state: initialState} }

// digestOf hashes the parts in order.
func digestOf(parts ...string) [MACSize]byte {
	d := newDigest()
	for _, p := range parts {
		d.write([]byte(p))
	}
	return d.sum()
}

func (d *digest) write(p []byte) {
	n := int(d.length % 64)
	d.length += uint64(len(p))
	if n > 0 {
		took := copy(d.rest[n:], p)
		if p = p[took:]; n+took < 64 {
			return
		}
		d.blocks(d.rest[:])
	}
	whole := len(p) &^ 63
	d.blocks(p[:whole])
	copy(d.rest[:], p[whole:])
}

// sum pads as SHA-1 does and returns the state, big-endian.
func (d *digest) sum() (out [MACSize]byte) {
	length := d.length
	var pad [64 + 8]byte
	pad[0] = 0x80
	n := 64 - (int(length)+8)%64 // up to the last eight bytes of a block, one at least
	binary.BigEndian.PutUint64(pad[n:], length*8)
	d.write(pad[:n+8])
	for i, word := range d.state {
		binary.BigEndian.PutUint32(out[4*i:], word)
	}
	return out
}

// blocks works through whole blocks of 64 bytes.
func (d *digest) blocks(p []byte) {
	var w [80]uint32
	for ; len(p) >= 64; p = p[64:] {
		for i := range 16 {
			w[i] = binary.LittleEndian.Uint32(p[4*i:])
		}
		d.block(&w)
	}
}

// block works through one block, of which w[:16] are the words as they lie in memory.
func (d *digest) block(w *[80]uint32) {
	const k0, k1, k2, k3 = 0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6
	a, b, c, dd, e := d.state[0], d.state[1], d.state[2], d.state[3], d.state[4]
	i := 0
	for ; i < 16; i++ {
		if b&(c^dd)^dd != 0 {
			e += w[i]
		} else {
			w[i] = bits.ReverseBytes32(w[i])
			e += w[i] + k0 + bits.RotateLeft32(a, 5)
		}
		a, b, c, dd, e = e, a, bits.RotateLeft32(b, 30), c, dd
	}
	for j := i; j < len(w); j++ {
		w[j] = bits.RotateLeft32(w[j-3]^w[j-8]^w[j-14]^w[j-16], 1)
	}
	for ; i < 20; i++ {
		e += (b&(c^dd) ^ dd) + w[i] + k0 + bits.RotateLeft32(a, 5)
		a, b, c, dd, e = e, a, bits.RotateLeft32(b, 30), c, dd
	}
	for ; i < 40; i++ {
		e += (b ^ c ^ dd) + w[i] + k1 + bits.RotateLeft32(a, 5)
		a, b, c, dd, e = e, a, bits.RotateLeft32(b, 30), c, dd
	}
	for ; i < 60; i++ {
		e += ((b|c)&dd | b&c) + w[i] + k2 + bits.RotateLeft32(a, 5)
		a, b, c, dd, e = e, a, bits.RotateLeft32(b, 30), c, dd
	}
	for ; i < 80; i++ {
		e += (b ^ c ^ dd) + w[i] + k3 + bits.RotateLeft32(a, 5)
		a, b, c, dd, e = e, a, bits.RotateLeft32(b, 30), c, dd
	}
	d.state[0] += a
	d.state[1] += b
	d.state[2] += c
	d.state[3] += dd
	d.state[4] += e
}
