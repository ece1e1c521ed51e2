package bdb

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Where things stand in every page.
const (
	pageNumber = 8
	pageType   = 25
	pageSum    = 28
)

// Page types (db_page.h).
const (
	typeInvalid      = 0 // free, or never used
	typeHashUnsorted = 2 // hash, before release 4.6
	typeBtreeInner   = 3
	typeRecnoInner   = 4
	typeBtreeLeaf    = 5
	typeRecnoLeaf    = 6
	typeOverflow     = 7
	typeHashMeta     = 8
	typeBtreeMeta    = 9
	typeQueueMeta    = 10
	typeQueueData    = 11
	typeDupLeaf      = 12
	typeHash         = 13
	typeHeapMeta     = 14
	typeHeap         = 15
	typeHeapInner    = 16
)

// types is a set of page types.
type types uint32

func setOf(list ...byte) (s types) {
	for _, t := range list {
		s |= 1 << t
	}
	return s
}

func (s types) has(t byte) bool { return t < 32 && s>>t&1 != 0 }

var (
	metaTypes = setOf(typeHashMeta, typeBtreeMeta, typeQueueMeta, typeHeapMeta)
	// treeTypes are those of btree and hash files alike: each may hold subdatabases of both, and hash keeps duplicates in trees.
	treeTypes = setOf(typeInvalid, typeHashUnsorted, typeBtreeInner, typeRecnoInner, typeBtreeLeaf, typeRecnoLeaf,
		typeOverflow, typeHashMeta, typeBtreeMeta, typeDupLeaf, typeHash)
	queueTypes = setOf(typeInvalid, typeQueueData)
	heapTypes  = setOf(typeInvalid, typeHeap, typeHeapInner)
	// unnumberedTypes may stand under page number 0: pages on which no number was ever put. Hash initialises such pages on reading them
	// (__ham_pgin), and its recovery writes them (__ham_groupalloc).
	unnumberedTypes = setOf(typeInvalid, typeHashUnsorted, typeHash)
)

// allowedTypes is what may stand on the pages of a kind of file besides page 0.
func allowedTypes(k Kind) types {
	switch k {
	case KindBtree, KindHash:
		return treeTypes
	case KindQueue, KindQueueExtent:
		return queueTypes
	case KindHeap:
		return heapTypes
	}
	return 0
}

var zeros [MaxPageSize]byte

// IsZero reports whether b, of at most 64 KiB, is all zeros.
func IsZero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }

// PageError is a page that is not what it should be.
type PageError struct {
	Page    uint32 // its number, counted through all extents of a queue
	Problem string
}

func (e *PageError) Error() string { return fmt.Sprintf("page %d: %s", e.Page, e.Problem) }

// CheckPage checks one page of the file: that it has the number pgno and a type and an LSN that it can have, and its checksum if the file
// has checksums; HMACs only if there is a key. It returns the page's LSN: {0,0} for a page of zeros, NotLogged for one written without logging.
// The error is a *PageError. The page is left alone, and nothing is allocated unless it is bad.
func (m *Meta) CheckPage(pgno uint32, page []byte, key *Key) (LSN, error) {
	if len(page) != m.PageSize {
		return LSN{}, &PageError{pgno, fmt.Sprintf("has %d bytes of %d", len(page), m.PageSize)}
	}
	metadata := pgno == 0 && m.Kind != KindQueueExtent
	if page[pageType] == typeInvalid && IsZero(page) {
		if metadata {
			return LSN{}, &PageError{pgno, "metadata page is empty"}
		}
		return LSN{}, nil
	}
	lsn := pageLSN(page, m.ByteOrder)
	problem := m.checkSum(page, key)
	if problem == "" && metadata {
		problem = m.checkMetaPage(page)
	} else if problem == "" {
		problem = m.checkHeaderOf(pgno, page)
	}
	if problem == "" && lsn.File == 0 && lsn.Offset > NotLogged.Offset {
		problem = "impossible LSN " + lsn.String()
	}
	if problem != "" {
		return LSN{}, &PageError{pgno, problem}
	}
	return lsn, nil
}

func pageLSN(page []byte, order binary.ByteOrder) LSN {
	return LSN{File: order.Uint32(page), Offset: order.Uint32(page[4:])}
}

// checkSum verifies the checksum or HMAC, if it can.
func (m *Meta) checkSum(page []byte, key *Key) (problem string) {
	if !m.Checksummed || m.Encrypted && key == nil {
		return ""
	}
	at := pageSum
	if metaTypes.has(page[pageType]) {
		at, page = metaSum, page[:MetaSize]
	}
	if m.Encrypted {
		if mac := key.MAC(page[:at], zeros[:MACSize], page[at+MACSize:]); !bytes.Equal(mac[:], page[at:at+MACSize]) {
			return "HMAC does not match"
		}
		return ""
	}
	sum := UpdateChecksum(SkipChecksum(Checksum(page[:at]), 4), page[at+4:])
	if stored := m.ByteOrder.Uint32(page[at:]); stored != sum {
		return fmt.Sprintf("checksum is %#08x, should be %#08x", stored, sum)
	}
	return ""
}

// checkMetaPage makes sure that page 0 is still that of the same kind of file: all other pages are judged by its geometry.
func (m *Meta) checkMetaPage(page []byte) (problem string) {
	how, order := identify(page)
	switch {
	case order == nil || how.kind != m.Kind || order != m.ByteOrder || page[pageType] != how.pageType:
		return "not the metadata page of a " + string(m.Kind) + " database"
	case order.Uint32(page[metaPageSize:]) != uint32(m.PageSize):
		return fmt.Sprintf("page size changed from %d to %d", m.PageSize, order.Uint32(page[metaPageSize:]))
	case order.Uint32(page[pageNumber:]) != 0:
		return fmt.Sprintf("has number %d", order.Uint32(page[pageNumber:]))
	}
	return ""
}

// checkHeaderOf checks number and type of any page but page 0.
func (m *Meta) checkHeaderOf(pgno uint32, page []byte) (problem string) {
	t := page[pageType]
	if !allowedTypes(m.Kind).has(t) {
		return fmt.Sprintf("page type %d in a %s file", t, m.Kind)
	}
	number := m.ByteOrder.Uint32(page[pageNumber:])
	unplaced := m.Kind == KindQueueExtent && m.FirstPage == 0
	if number == pgno || unplaced || number == 0 && unnumberedTypes.has(t) {
		return ""
	}
	return fmt.Sprintf("has number %d", number)
}
