package bdb

import "fmt"

const (
	debugFlag = 0x80000000 // DB_debug_FLAG: recovery passes over records whose type has it
	noTxn     = 0x80000000 // TXN_MINIMUM: the first transaction has the id after it
)

// Amend changes the record, whole and with its header, in place and renews its sum. See Replay.
func (d *LogDecoder) Amend(a Amendment, record []byte) error {
	var r Record
	if err := d.Decode(&r, a.LSN, record); err != nil {
		return err
	}
	if r.Body == nil {
		return ErrPassword
	}
	if err := r.amend(a); err != nil {
		return err
	}
	return d.seal(record[:r.Len])
}

func (r *Record) amend(a Amendment) error {
	switch a.Kind {
	case AmendSkip:
		r.order.PutUint32(r.Body, r.Type|debugFlag)
		return nil
	case AmendRedo:
		f, ok := r.fields(typeFileRemove)
		if ok {
			f.fileID()
			f.fileID()
			f.dbt()
			f.u32()
			if at := f.take(4); at != nil {
				r.order.PutUint32(at, noTxn)
				return nil
			}
		}
	}
	return &BadRecord{a.LSN, fmt.Sprintf("type %d can't be amended so", r.Type)}
}

// seal puts the decrypted body back and renews the sum.
func (d *LogDecoder) seal(record []byte) error {
	if d.Encrypted {
		text := record[cryptRecordHeader:]
		if err := d.key.Encrypt(text, d.plain[:len(text)], record[recordIV:recordPlainSize]); err != nil {
			return err
		}
		mac := d.mac(record)
		copy(record[8:], mac[:])
		return nil
	}
	d.Order.PutUint32(record[8:], d.sum(record))
	return nil
}
