package bdb

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"errors"
	"hash"
	"sync"
)

// MACSize and IVSize are the sizes of the fields that encryption adds to pages and log records.
const (
	MACSize = sha1.Size
	IVSize  = aes.BlockSize
)

// libdb's derivation strings (DB_MAC_MAGIC, DB_ENC_MAGIC in dbinc/hmac.h): part of the format.
const (
	macDerivation    = "mac derivation key magic value"
	cipherDerivation = "encryption and decryption key value magic"
)

// ErrPassword means that something encrypted was read with a password other than its own.
var ErrPassword = errors.New("wrong password")

// Key holds what libdb derives from an environment's password: one key for HMAC-SHA1, one for AES-128-CBC. A nil *Key stands for
// "no password". A Key may be used from many goroutines.
type Key struct {
	block cipher.Block
	macs  sync.Pool // *macState
	cbc   sync.Pool // *cbcState
}

// macState is one reusable HMAC. Its sum stands beside it because a hash behind an interface makes every output buffer escape.
type macState struct {
	hash.Hash
	sum [MACSize]byte
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
	k := &Key{}
	k.block, _ = aes.NewCipher(cipherKey[:16]) // fails for wrong key lengths only
	k.macs.New = func() any { return &macState{Hash: hmac.New(sha1.New, macKey[:])} }
	k.cbc.New = func() any { return &cbcState{cipher.NewCBCDecrypter(k.block, make([]byte, IVSize))} }
	return k
}

// derive hashes the password, its terminating NUL included, on both sides of the purpose (__db_derive_mac, __aes_derivekeys).
func derive(password, purpose string) [sha1.Size]byte {
	return sha1.Sum([]byte(password + "\x00" + purpose + password + "\x00"))
}

// MAC is HMAC-SHA1 of the parts in order. Log records xor two header words into it afterwards; pages store it as it is.
func (k *Key) MAC(parts ...[]byte) [MACSize]byte {
	m := k.macs.Get().(*macState)
	defer k.macs.Put(m)
	m.Reset()
	for _, p := range parts {
		m.Write(p)
	}
	m.Sum(m.sum[:0])
	return m.sum
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
