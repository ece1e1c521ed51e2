package bdb

import (
	"errors"
	"fmt"
	"math"
)

// What LogDecoder finds instead of a record.
var (
	// ErrShortRecord: the bytes end inside the record. Record.Len says how many it needs, or is 0 when not even its header is there.
	ErrShortRecord = errors.New("record goes on beyond the bytes given")
	// ErrLogEnd: zeros. libdb extends log files with zeros before it writes them.
	ErrLogEnd = errors.New("end of the log")
)

// BadRecord says that what stands at LSN is no record: one not yet written at the moving end of the log, damage anywhere else.
type BadRecord struct {
	LSN     LSN
	Problem string
}

func (e *BadRecord) Error() string { return fmt.Sprintf("log record %s: %s", e.LSN, e.Problem) }

// LogDecoder decodes the records of one log file. It reuses its buffer: one goroutine at a time.
type LogDecoder struct {
	framing
	plain []byte // the decrypted body of the last record
}

// NewLogDecoder makes the decoder for a log file that begins with these bytes; see ParseLogHeader.
func NewLogDecoder(first []byte, key *Key) (*LogDecoder, error) {
	h, err := ParseLogHeader(first, key)
	if err != nil {
		return nil, err
	}
	if !h.Encrypted {
		key = nil
	}
	return &LogDecoder{framing: framing{LogHeader: h, key: key}}, nil
}

// Header is the header of the decoder's log file.
func (d *LogDecoder) Header() LogHeader { return d.LogHeader }

// Proves reports whether the decoder can tell a whole record from a broken one by its checksum. Without the password of an encrypted
// log it can't: then only the next record's Prev shows that a record was finished.
func (d *LogDecoder) Proves() bool { return d.canSum() }

// Decode reads the record at lsn, where b begins. The body is valid until the next Decode, or while b is unchanged.
func (d *LogDecoder) Decode(r *Record, lsn LSN, b []byte) error {
	if err := d.decodeFrame(r, lsn, b); err != nil {
		return err
	}
	record := b[:r.Len]
	if d.canSum() && !d.sumFits(record) {
		return &BadRecord{lsn, "wrong checksum"}
	}
	return d.decodeBody(r, record)
}

// Check is Decode without the body, which for encrypted logs is cheaper.
func (d *LogDecoder) Check(r *Record, lsn LSN, b []byte) error {
	if err := d.decodeFrame(r, lsn, b); err != nil {
		return err
	}
	if d.canSum() && !d.sumFits(b[:r.Len]) {
		return &BadRecord{lsn, "wrong checksum"}
	}
	return nil
}

// decodeFrame reads the record header and sees to it that the whole record is in b.
func (d *LogDecoder) decodeFrame(r *Record, lsn LSN, b []byte) error {
	*r = Record{LSN: lsn, order: d.Order, version: d.Version}
	size := d.headerSize()
	if len(b) < size {
		return ErrShortRecord
	}
	r.Prev = d.Order.Uint32(b)
	length := d.Order.Uint32(b[4:])
	if r.Prev == 0 && length == 0 {
		return ErrLogEnd
	}
	if err := d.checkLength(r, length, b); err != nil {
		return err
	}
	r.Len = length
	if len(b) < int(length) {
		return ErrShortRecord
	}
	return nil
}

// checkLength refuses lengths that no record at this place can have, before anybody makes room for them.
func (d *LogDecoder) checkLength(r *Record, length uint32, b []byte) error {
	size := uint32(d.headerSize())
	switch {
	case length <= size:
		return &BadRecord{r.LSN, fmt.Sprintf("length %d", length)}
	case uint64(r.LSN.Offset)+uint64(length) > math.MaxUint32:
		return &BadRecord{r.LSN, fmt.Sprintf("length %d reaches beyond any log file", length)}
	case r.LSN.Offset != 0 && r.Prev >= r.LSN.Offset:
		return &BadRecord{r.LSN, fmt.Sprintf("previous record at %d, which is not before it", r.Prev)}
	case d.Encrypted && (length-size)%IVSize != 0:
		return &BadRecord{r.LSN, fmt.Sprintf("length %d is not whole cipher blocks", length)}
	case d.Encrypted && d.Order.Uint32(b[recordPlainSize:]) > length-size:
		return &BadRecord{r.LSN, "plain text longer than its cipher text"}
	}
	return nil
}

// decodeBody finds or deciphers the body and reads what all bodies begin with.
func (d *LogDecoder) decodeBody(r *Record, record []byte) error {
	r.Raw = record
	switch {
	case !d.Encrypted:
		r.Body = record[plainRecordHeader:]
	case d.key == nil:
		return nil
	default:
		if err := d.decrypt(r, record); err != nil {
			return err
		}
	}
	if len(r.Body) < recordHead {
		return nil // an application's own record, put by DB_ENV->log_put
	}
	r.Type, r.Txn = d.Order.Uint32(r.Body), d.Order.Uint32(r.Body[4:])
	r.PrevLSN = LSN{d.Order.Uint32(r.Body[8:]), d.Order.Uint32(r.Body[12:])}
	return nil
}

func (d *LogDecoder) decrypt(r *Record, record []byte) error {
	text := record[cryptRecordHeader:]
	if cap(d.plain) < len(text) {
		d.plain = make([]byte, len(text), 2*len(text))
	}
	d.plain = d.plain[:len(text)]
	if err := d.key.Decrypt(d.plain, text, record[recordIV:recordPlainSize]); err != nil {
		return &BadRecord{r.LSN, err.Error()}
	}
	r.Body = d.plain[:d.Order.Uint32(record[recordPlainSize:])]
	return nil
}

// Finished reports, for a log whose sums can't be checked, whether the last record before the zeros was written to its end. libdb
// writes the log in ascending order and never a cipher block of zeros (the chance is one in 2^128), so the last block tells.
func Finished(record []byte) bool {
	return len(record) >= IVSize && !IsZero(record[len(record)-IVSize:])
}
