package bdb

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestKeyMACVector pins the odd hash down; that libdb computes the same is what TestRealPages shows.
func TestKeyMACVector(t *testing.T) {
	key := NewKey("secret")
	for data, want := range map[string]string{
		"":    "bf9757a77284943287b9df5842a8af2fee6edf9e",
		"abc": "6a4726cc858bd1a8c0813b53d92ebc62df660bd3",
	} {
		if got := fmt.Sprintf("%x", key.MAC([]byte(data))); got != want {
			t.Errorf("MAC of %q = %s, want %s", data, got, want)
		}
	}
}

func TestKeyMACInParts(t *testing.T) {
	key, data := NewKey("secret"), randomBytes(rand.New(rand.NewPCG(2, 2)), 300)
	want := key.MAC(data)
	for at := range data {
		if got := key.MAC(data[:at], nil, data[at:]); got != want {
			t.Fatalf("MAC in parts of %d and %d bytes = %x, want %x", at, len(data)-at, got, want)
		}
	}
}

func TestKeyDecryptInvertsEncrypt(t *testing.T) {
	key, rnd := NewKey("secret"), rand.New(rand.NewPCG(1, 1))
	for n := 0; n <= 64; n += 16 {
		plain, iv := randomBytes(rnd, n), randomBytes(rnd, IVSize)
		buf := append([]byte(nil), plain...)
		if err := key.Encrypt(buf, buf, iv); err != nil {
			t.Fatal(err)
		}
		if n > 0 && bytes.Equal(buf, plain) {
			t.Errorf("%d bytes are unchanged by encryption", n)
		}
		if err := key.Decrypt(buf, buf, iv); err != nil || !bytes.Equal(buf, plain) {
			t.Errorf("%d bytes come back different (%v)", n, err)
		}
	}
}

func TestKeyRefusesPartBlocks(t *testing.T) {
	key := NewKey("secret")
	if err := key.Decrypt(make([]byte, 32), make([]byte, 17), make([]byte, IVSize)); err == nil {
		t.Error("17 bytes were decrypted")
	}
	if err := key.Decrypt(make([]byte, 16), make([]byte, 32), make([]byte, IVSize)); err == nil {
		t.Error("32 bytes were decrypted into 16")
	}
	if err := key.Decrypt(make([]byte, 16), make([]byte, 16), nil); err == nil {
		t.Error("decrypted without an IV")
	}
	if NewKey("") != nil {
		t.Error("an empty password made a key")
	}
}

func TestKeyAllocatesNothing(t *testing.T) {
	key := NewKey("secret")
	page, iv := make([]byte, 4096), make([]byte, IVSize)
	if n := testing.AllocsPerRun(100, func() { key.MAC(page); key.Decrypt(page, page, iv) }); n >= 1 {
		t.Errorf("MAC and Decrypt allocate %v times", n)
	}
}

func BenchmarkKeyMAC(b *testing.B) {
	key, page := NewKey("secret"), make([]byte, 8192)
	b.SetBytes(int64(len(page)))
	for b.Loop() {
		key.MAC(page[:28], page[48:])
	}
}
