package bdb

import (
	"bytes"
	"errors"
	"fmt"
)

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

// SkipPages has recovery pass over all records in b that change pages, as AmendSkip does with one, but for those that keep wants (nil: none). b begins with the record at lsn; n is the length of the
// whole records in it. The error is ErrShortRecord if there is none.
func (d *LogDecoder) SkipPages(b []byte, lsn LSN, keep func(*Record) bool) (n int, err error) {
	for n < len(b) {
		var r Record
		err := d.Decode(&r, lsn, b[n:])
		switch {
		case errors.Is(err, ErrShortRecord) && n > 0:
			return n, nil
		case err != nil:
			return n, err
		case r.Body == nil:
			return n, ErrPassword
		}
		record := b[n:][:r.Len]
		n += int(r.Len)
		lsn = r.Next()
		if !r.ChangesPages() || keep != nil && keep(&r) {
			continue
		}
		r.order.PutUint32(r.Body, r.Type|debugFlag)
		if err := d.seal(record); err != nil {
			return n, err
		}
	}
	return n, nil
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
	case AmendMerge:
		if page, to, ok := r.emptyPageMoved(); ok {
			r.order.PutUint32(page[pageNumberAt:], to)
			return nil
		}
	}
	return &BadRecord{a.LSN, fmt.Sprintf("type %d can't be amended so", r.Type)}
}

// names are the parts of the record's body that hold names of files and directories, in place and without what ends them.
func (r *Record) names() (list [][]byte) {
	name := func(f *fieldReader) {
		b := f.dbt()
		if at := bytes.IndexByte(b, 0); at >= 0 {
			b = b[:at]
		}
		if f.ok() && len(b) > 0 {
			list = append(list, b)
		}
	}
	dir := func(f *fieldReader) {
		if r.logVersion() >= versionDirname {
			name(f)
		}
	}
	if f, ok := r.fields(typeRegister); ok {
		f.u32()
		name(&f)
	}
	for _, t := range []uint32{typeCreate, typeWrite} {
		if f, ok := r.fields(t); ok {
			name(&f)
			dir(&f)
		}
	}
	for _, t := range []uint32{typeRename, typeRenameNoUndo} {
		if f, ok := r.fields(t); ok {
			name(&f)
			name(&f)
			dir(&f)
		}
	}
	if f, ok := r.fields(typeRemove); ok {
		name(&f)
	}
	if f, ok := r.fields(typeFileRemove); ok {
		f.fileID()
		f.fileID()
		name(&f)
	}
	return list
}

// Respell changes names of files and directories in the record, whole and with its header, in place and renews its sum. What spell returns must be as
// long as what it got, because places in the log are addresses.
func (d *LogDecoder) Respell(lsn LSN, record []byte, spell func(string) (string, error)) error {
	var r Record
	if err := d.Decode(&r, lsn, record); err != nil {
		return err
	}
	if r.Body == nil {
		return ErrPassword
	}
	for _, b := range r.names() {
		name, err := spell(string(b))
		if err != nil {
			return err
		}
		if len(name) != len(b) {
			return &BadRecord{lsn, fmt.Sprintf("%q can't be spelled %q, which has another length", b, name)}
		}
		copy(b, name)
	}
	return d.seal(record[:r.Len])
}

// pageNumberAt is where a page says which it is.
const pageNumberAt = 8

// emptyPageMoved finds the image of the page in a __db_merge record that moves an empty page of 64 KiB to another place. Where the items of a page begin is a 16-bit
// number, zero on such a page, so that all of it counts as items, header and page number too.
func (r *Record) emptyPageMoved() (page []byte, to uint32, ok bool) {
	f, ok := r.fields(typeMerge)
	if !ok {
		return nil, 0, false
	}
	f.u32() // file
	to = f.u32()
	f.lsn()
	f.u32() // from
	f.lsn()
	f.dbt() // header
	page = f.dbt()
	whole := f.u32() != 0
	return page, to, f.ok() && whole && len(page) == 1<<16
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
