package bdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Kind says what a file is.
type Kind string

const (
	KindFile        Kind = "file"  // not a database: an application's own file
	KindBtree       Kind = "btree" // btree and recno, and files of subdatabases
	KindHash        Kind = "hash"
	KindQueue       Kind = "queue"
	KindQueueExtent Kind = "queue-extent"
	KindHeap        Kind = "heap"
)

// MetaSize is how much of a metadata page means something.
const MetaSize = 512

// Page sizes that libdb allows.
const (
	MinPageSize = 512
	MaxPageSize = 65536
)

// Where things stand in a metadata page.
const (
	metaMagic        = 12
	metaVersion      = 16
	metaPageSize     = 20
	metaEncryption   = 24
	metaFlags        = 26
	metaLastPage     = 32
	metaPartitions   = 36
	metaFileID       = 52
	metaRecordLength = 80 // queue
	metaExtent       = 92 // queue
	metaCryptoMagic  = 460
	metaIV           = 476
	metaSum          = 492
)

const (
	flagChecksum = 1 // DBMETA_CHKSUM
	cipherAES    = 1 // CIPHER_AES, the only one there is
	plainHeader  = 64
)

// Meta is what a metadata page tells about its file.
type Meta struct {
	Kind          Kind
	Version       uint32
	PageSize      int
	ByteOrder     binary.ByteOrder
	LSN           LSN
	Encrypted     bool
	Checksummed   bool // always, when encrypted
	LastPage      uint32
	FileID        FileID
	FileIDPartial bool   // read without the password: twelve bytes of FileID, then zeros
	Partitions    uint32 // 0: not partitioned
	// PagesPerExtent and RecordLength are those of a queue; 0 if it has no extents, and when read without the password.
	PagesPerExtent uint32
	RecordLength   uint32
	// FirstPage is the number of the file's first page: 0 but in queue extents, where 0 means that it is not known.
	FirstPage uint32
}

// ErrNotDatabase means that no metadata page of a database stands there.
var ErrNotDatabase = errors.New("not a database")

// MetaError is a metadata page that has the magic number of a database and makes no sense otherwise.
type MetaError struct{ Problem string }

func (e *MetaError) Error() string { return "damaged metadata page: " + e.Problem }

// method is one access method's signature.
type method struct {
	kind     Kind
	magic    uint32
	pageType byte
	oldest   uint32 // version of release 3.0, when pages and metadata got their present shape
}

var methods = []method{
	{KindBtree, 0x053162, typeBtreeMeta, 7},
	{KindHash, 0x061561, typeHashMeta, 6},
	{KindQueue, 0x042253, typeQueueMeta, 1},
	{KindHeap, 0x074582, typeHeapMeta, 1},
}

// ParseMeta reads the first 512 bytes of a file. Without a key, an encrypted file's geometry is readable, but neither all of its file id nor a
// queue's own fields. It does not check the page's checksum, as CheckPage does. Errors are ErrNotDatabase, ErrPassword and *MetaError.
func ParseMeta(first []byte, key *Key) (Meta, error) {
	if len(first) < MetaSize {
		return Meta{}, ErrNotDatabase
	}
	var page [MetaSize]byte
	copy(page[:], first)
	how, order := identify(page[:])
	if order == nil {
		return Meta{}, ErrNotDatabase
	}
	m := readHeader(page[:], order)
	m.Kind = how.kind
	if err := m.checkHeader(page[:], how); err != nil {
		return Meta{}, err
	}
	if m.Encrypted && key == nil {
		m.FileIDPartial = true
		copy(m.FileID[:], page[metaFileID:plainHeader])
		return m, nil
	}
	if m.Encrypted {
		if err := decryptMeta(page[:], how.magic, order, key); err != nil {
			return Meta{}, err
		}
	}
	m.readRest(page[:])
	return m, nil
}

// identify finds the access method and byte order by the magic number, or nil.
func identify(page []byte) (method, binary.ByteOrder) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		magic, version := order.Uint32(page[metaMagic:]), order.Uint32(page[metaVersion:])
		for _, how := range methods {
			if magic == how.magic && version >= how.oldest {
				return how, order
			}
		}
	}
	return method{}, nil
}

// readHeader reads what is never encrypted.
func readHeader(page []byte, order binary.ByteOrder) Meta {
	encrypted := page[metaEncryption] != 0
	return Meta{
		Version:     order.Uint32(page[metaVersion:]),
		PageSize:    int(order.Uint32(page[metaPageSize:])),
		ByteOrder:   order,
		LSN:         pageLSN(page, order),
		Encrypted:   encrypted,
		Checksummed: encrypted || page[metaFlags]&flagChecksum != 0,
		LastPage:    order.Uint32(page[metaLastPage:]),
		Partitions:  order.Uint32(page[metaPartitions:]),
	}
}

// checkHeader refuses what no database can have.
func (m *Meta) checkHeader(page []byte, how method) error {
	problem := ""
	switch {
	case m.PageSize < MinPageSize || m.PageSize > MaxPageSize || m.PageSize&(m.PageSize-1) != 0:
		problem = fmt.Sprintf("page size %d", m.PageSize)
	case page[pageType] != how.pageType:
		problem = fmt.Sprintf("page type %d in a %s database", page[pageType], how.kind)
	case page[metaEncryption] > cipherAES:
		problem = fmt.Sprintf("unknown encryption algorithm %d", page[metaEncryption])
	default:
		return nil
	}
	return &MetaError{problem}
}

// decryptMeta deciphers the page in place. The magic number that stands a second time among the encrypted bytes proves the password.
func decryptMeta(page []byte, magic uint32, order binary.ByteOrder, key *Key) error {
	var iv [IVSize]byte
	copy(iv[:], page[metaIV:])
	if err := key.Decrypt(page[plainHeader:], page[plainHeader:], iv[:]); err != nil {
		return err
	}
	if order.Uint32(page[metaCryptoMagic:]) != magic {
		return ErrPassword
	}
	return nil
}

func (m *Meta) readRest(page []byte) {
	copy(m.FileID[:], page[metaFileID:])
	if m.Kind == KindQueue {
		m.RecordLength = m.ByteOrder.Uint32(page[metaRecordLength:])
		m.PagesPerExtent = m.ByteOrder.Uint32(page[metaExtent:])
	}
}

// Extent returns the geometry of extent n of the queue m. It carries no file id: libdb makes one up from the queue's and writes it nowhere.
// FirstPage stays 0, unknown, when m was read without its password; ok is false if m can't have such an extent.
func (m *Meta) Extent(n uint32) (extent Meta, ok bool) {
	first := uint64(n)*uint64(m.PagesPerExtent) + 1
	if m.Kind != KindQueue || first > math.MaxUint32 {
		return Meta{}, false
	}
	known := m.PagesPerExtent != 0 || m.FileIDPartial && n == 0
	if !known && !m.FileIDPartial {
		return Meta{}, false
	}
	extent = *m
	extent.Kind, extent.FileID, extent.LSN, extent.LastPage = KindQueueExtent, FileID{}, LSN{}, 0
	if known {
		extent.FirstPage = uint32(first)
	}
	return extent, true
}
