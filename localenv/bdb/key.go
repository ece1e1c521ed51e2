package bdb

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"sync"
)

// MACSize and IVSize are the sizes of the fields that encryption adds to pages and log records.
const (
	MACSize = 20
	IVSize  = aes.BlockSize
)

// libdb's derivation strings (DB_MAC_MAGIC, DB_ENC_MAGIC in dbinc/hmac.h): part of the format.
const (
	macDerivation    = "mac derivation key magic value"
	cipherDerivation = "encryption and decryption key value magic"
)

// ErrPassword means that something encrypted was read with a password other than its own.
var ErrPassword = errors.New("wrong password")

// Key holds what libdb derives from an environment's password: one key for MACs, one for AES-128-CBC. A nil *Key stands for
// "no password". A Key may be used from many goroutines.
type Key struct {
	block        cipher.Block
	inner, outer digest    // HMAC's two hashes, with the padded key in them
	cbc          sync.Pool // *cbcState
}

// cbcState is one reusable CBC decrypter; the standard library's takes a new IV by SetIV.
type cbcState struct {
	cipher.BlockMode
}

type ivSetter interface{ SetIV([]byte) }

// NewKey derives the keys from a password. The empty password, which libdb refuses, gives nil.
func NewKey(password string) *Key {
	if password == "" {
		return nil
	}
	macKey := derive(password, macDerivation)
	cipherKey := derive(password, cipherDerivation)
	k := &Key{inner: paddedKey(macKey, 0x36), outer: paddedKey(macKey, 0x5c)}
	k.block, _ = aes.NewCipher(cipherKey[:16]) // fails for wrong key lengths only
	k.cbc.New = func() any { return &cbcState{cipher.NewCBCDecrypter(k.block, make([]byte, IVSize))} }
	return k
}

// derive hashes the password, its terminating NUL included, on both sides of the purpose (__db_derive_mac, __aes_derivekeys).
func derive(password, purpose string) [MACSize]byte {
	return digestOf(password, "\x00", purpose, password, "\x00")
}

// paddedKey begins one of the two hashes of an HMAC.
func paddedKey(key [MACSize]byte, pad byte) digest {
	var block [64]byte
	copy(block[:], key[:])
	for i := range block {
		block[i] ^= pad
	}
	d := newDigest()
	d.write(block[:])
	return d
}

// MAC is the HMAC of the parts in order, by libdb's own hash. Log records xor two header words into it afterwards; pages store it as it is.
func (k *Key) MAC(parts ...[]byte) [MACSize]byte {
	inner, outer := k.inner, k.outer
	for _, p := range parts {
		inner.write(p)
	}
	sum := inner.sum()
	outer.write(sum[:])
	return outer.sum()
}

// Decrypt deciphers src into dst, which may be src itself. len(src) must be a multiple of 16 and at most len(dst).
func (k *Key) Decrypt(dst, src, iv []byte) error {
	if err := checkLengths(dst, src, iv); err != nil {
		return err
	}
	c := k.cbc.Get().(*cbcState)
	defer k.cbc.Put(c)
	if s, ok := c.BlockMode.(ivSetter); ok {
		s.SetIV(iv)
	} else {
		c.BlockMode = cipher.NewCBCDecrypter(k.block, iv)
	}
	c.CryptBlocks(dst, src)
	return nil
}

// Encrypt is the inverse of Decrypt.
func (k *Key) Encrypt(dst, src, iv []byte) error {
	if err := checkLengths(dst, src, iv); err != nil {
		return err
	}
	cipher.NewCBCEncrypter(k.block, iv).CryptBlocks(dst, src)
	return nil
}

func checkLengths(dst, src, iv []byte) error {
	if len(src)%aes.BlockSize != 0 || len(dst) < len(src) || len(iv) != IVSize {
		return errors.New("cipher text is not a whole number of blocks")
	}
	return nil
}
