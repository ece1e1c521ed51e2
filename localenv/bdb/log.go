// # Log files
//
// A log file is records end to end, the first of which is the file's header. A record's LSN is its file's number and its own offset.
// Each record begins with a record header:
//
//	0 prev, offset of the record before     4 length, this header included
//	8 checksum                             12 body
//
// or, in an encrypted environment:
//
//	0 prev      4 length      8 HMAC, 20 bytes     28 IV, 16 bytes     44 size of the body before padding     48 body, AES-CBC
//
// prev of a file's first record is the offset of the last record in the file before. The checksum is [Checksum] over the body (as it
// stands there, so over the encrypted one), xor prev, xor length; of the HMAC, the first word is xor-ed with prev and the second with
// length. Log versions before 12 (release 4.5) don't mix the two in.
//
// The body of the file's header is four words:
//
//	0 magic    4 log version    8 size of the file    12 -
//
// Numbers are little-endian, whatever the host; old releases used the host's order, which the length tells.
//
// libdb extends a log file with zeros to its full size at once, so the file's size says nothing: the log ends where zeros, or half a
// record, begin.
package bdb

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	logMagic            = 0x040988
	logHeaderBody       = 16
	plainRecordHeader   = 12
	cryptRecordHeader   = plainRecordHeader + MACSize + IVSize
	versionHeaderSummed = 12 // DB_LOGCHKSUM
	recordIV            = 8 + MACSize
	recordPlainSize     = recordIV + IVSize
)

// Errors of reading log files. ErrPassword is the third: an encrypted log and a password that is not its own.
var (
	ErrNotLog   = errors.New("not a log file of Berkeley DB")
	ErrNoHeader = errors.New("log file has no header yet") // libdb made the file but wrote nothing so far: zeros, or no bytes at all
)

// LogHeader is what the header of a log file tells.
type LogHeader struct {
	Version   uint32 // log version: 19 is release 5.3. 0: encrypted, and there is no password
	Size      uint32 // what libdb extends the file to. 0 as above
	Encrypted bool
	Order     binary.ByteOrder
	Prev      uint32 // offset of the last record of the file before; 0 in a log's very first file
	Length    uint32 // of the header itself: the first record after it stands there
}

// LogHeaderSize is how many bytes ParseLogHeader needs at most.
const LogHeaderSize = cryptRecordHeader + logHeaderBody

// ParseLogHeader reads the header at the beginning of a log file. first holds LogHeaderSize bytes, or the whole file if it is shorter.
// Without a key an encrypted header is recognised by its length alone.
func ParseLogHeader(first []byte, key *Key) (LogHeader, error) {
	if IsZero(first[:min(len(first), LogHeaderSize)]) {
		return LogHeader{}, ErrNoHeader
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if len(first) < plainRecordHeader {
			break
		}
		h := LogHeader{Order: order, Prev: order.Uint32(first), Length: order.Uint32(first[4:])}
		switch h.Length {
		case plainRecordHeader + logHeaderBody:
			return h, h.readPlain(first)
		case cryptRecordHeader + logHeaderBody:
			h.Encrypted = true
			return h, h.readEncrypted(first, key)
		}
	}
	return LogHeader{}, ErrNotLog
}

func (h *LogHeader) readPlain(first []byte) error {
	if len(first) < int(h.Length) {
		return ErrNoHeader
	}
	body := first[plainRecordHeader:h.Length]
	if err := h.readBody(body); err != nil {
		return err
	}
	f := framing{LogHeader: *h}
	if !f.sumFits(first[:h.Length]) {
		return fmt.Errorf("%w: wrong checksum in its header", ErrNotLog)
	}
	return nil
}

func (h *LogHeader) readEncrypted(first []byte, key *Key) error {
	if len(first) < int(h.Length) {
		return ErrNoHeader
	}
	if key == nil {
		return nil
	}
	var body [logHeaderBody]byte
	if err := key.Decrypt(body[:], first[cryptRecordHeader:h.Length], first[recordIV:recordPlainSize]); err != nil {
		return fmt.Errorf("%w: %v", ErrNotLog, err)
	}
	f := framing{LogHeader: *h, key: key}
	if h.readBody(body[:]) != nil {
		return ErrPassword
	}
	f.Version = h.Version
	if !f.sumFits(first[:h.Length]) {
		return ErrPassword
	}
	return nil
}

func (h *LogHeader) readBody(body []byte) error {
	if magic := h.Order.Uint32(body); magic != logMagic {
		return fmt.Errorf("%w: magic number %#x", ErrNotLog, magic)
	}
	h.Version, h.Size = h.Order.Uint32(body[4:]), h.Order.Uint32(body[8:])
	return nil
}

// framing knows how one log file's records are framed and summed.
type framing struct {
	LogHeader
	key *Key
}

func (f *framing) headerSize() int {
	if f.Encrypted {
		return cryptRecordHeader
	}
	return plainRecordHeader
}

// canSum tells whether records can be proved whole: plain ones, and encrypted ones with the password.
func (f *framing) canSum() bool { return !f.Encrypted || f.key != nil }

// sumFits checks one whole record against the sum in its header.
func (f *framing) sumFits(record []byte) bool {
	if !f.Encrypted {
		return f.Order.Uint32(record[8:]) == f.sum(record)
	}
	return [MACSize]byte(record[8:]) == f.mac(record)
}

// mixed are the two header words that go into a record's sum.
func (f *framing) mixed(record []byte) (prev, length uint32) {
	if f.Version < versionHeaderSummed {
		return 0, 0
	}
	return f.Order.Uint32(record), f.Order.Uint32(record[4:])
}

func (f *framing) sum(record []byte) uint32 {
	prev, length := f.mixed(record)
	return Checksum(record[plainRecordHeader:]) ^ prev ^ length
}

func (f *framing) mac(record []byte) [MACSize]byte {
	prev, length := f.mixed(record)
	mac := f.key.MAC(record[cryptRecordHeader:])
	for i := range 4 {
		mac[i] ^= byte(prev >> f.shift(i))
		mac[4+i] ^= byte(length >> f.shift(i))
	}
	return mac
}

// shift is where byte i of a word in the file stands in a number.
func (f *framing) shift(i int) int {
	if f.Order == binary.BigEndian {
		i = 3 - i
	}
	return 8 * i
}
