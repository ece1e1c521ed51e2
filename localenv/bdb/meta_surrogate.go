package bdb

import "crypto/rand"

// Surrogate makes a metadata page for page number pgno of an encrypted file of several databases, from the first MetaSize bytes of the file. Recovery learns from a subdatabase's own
// metadata page that the subdatabase is encrypted (__crypto_decrypt_meta): over a page of zeros, or any other, it takes its pages to be plain ones, with items elsewhere, and gives
// up or crashes. Otherwise the page is one of zeros: its LSN is zero, so that recovery leaves it as it is until it is freed.
func Surrogate(first []byte, pgno uint32, key *Key) ([]byte, error) {
	if len(first) < MetaSize {
		return nil, ErrNotDatabase
	}
	page := append([]byte(nil), first[:MetaSize]...)
	how, order := identify(page)
	if order == nil || page[metaEncryption] == 0 {
		return nil, ErrNotDatabase
	}
	if key == nil {
		return nil, ErrPassword
	}
	if err := decryptMeta(page, how.magic, order, key); err != nil {
		return nil, err
	}
	copy(page, zeros[:pageNumber])
	order.PutUint32(page[pageNumber:], pgno)
	return page, encryptMeta(page, key)
}

// PageHead is as much of a page as IsMetaPage looks at.
const PageHead = pageType + 1

// IsMetaPage reports whether a page that begins so is the metadata page of a database.
func IsMetaPage(head [PageHead]byte) bool { return metaTypes.has(head[pageType]) }

// encryptMeta is the inverse of decryptMeta, with a new IV and MAC.
func encryptMeta(page []byte, key *Key) error {
	var iv [IVSize]byte
	rand.Read(iv[:]) // can't fail
	if err := key.Encrypt(page[plainHeader:], page[plainHeader:], iv[:]); err != nil {
		return err
	}
	copy(page[metaIV:], iv[:])
	mac := key.MAC(page[:metaSum], zeros[:MACSize], page[metaSum+MACSize:])
	copy(page[metaSum:], mac[:])
	return nil
}

// pageIV is where pages of encrypted files have their IV.
const pageIV = 48

// Seal enciphers a page, if the file is encrypted, and gives it its checksum. The page is no metadata page, and in the byte order of the file.
func (m *Meta) Seal(page []byte, key *Key) error {
	switch {
	case m.Encrypted && key == nil:
		return ErrPassword
	case m.Encrypted:
		var iv [IVSize]byte
		rand.Read(iv[:]) // can't fail
		if err := key.Encrypt(page[plainHeader:], page[plainHeader:], iv[:]); err != nil {
			return err
		}
		copy(page[pageIV:], iv[:])
		mac := key.MAC(page[:pageSum], zeros[:MACSize], page[pageSum+MACSize:])
		copy(page[pageSum:], mac[:])
	case m.Checksummed:
		copy(page[pageSum:], zeros[:4])
		m.ByteOrder.PutUint32(page[pageSum:], Checksum(page))
	}
	return nil
}
