package bdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// logWriter writes a log file as libdb does.
type logWriter struct {
	framing
	buf  []byte
	last uint32 // the last record's offset
}

func newLogWriter(order binary.ByteOrder, version uint32, key *Key) *logWriter {
	w := &logWriter{framing: framing{LogHeader: LogHeader{Order: order, Version: version, Encrypted: key != nil}, key: key}}
	w.put(w.words(logMagic, version, 1<<20, 0))
	w.Length = uint32(len(w.buf))
	return w
}

func (w *logWriter) words(values ...uint32) (b []byte) {
	for _, v := range values {
		b = append(b, 0, 0, 0, 0)
		w.Order.PutUint32(b[len(b)-4:], v)
	}
	return b
}

// put appends a record and returns where it stands.
func (w *logWriter) put(body []byte) LSN {
	at := uint32(len(w.buf))
	text := bytes.Clone(body)
	if w.Encrypted {
		text = append(text, make([]byte, (IVSize-len(body)%IVSize)%IVSize)...)
	}
	record := make([]byte, w.headerSize(), w.headerSize()+len(text))
	record = append(record, text...)
	w.Order.PutUint32(record, w.last)
	w.Order.PutUint32(record[4:], uint32(len(record)))
	if w.Encrypted {
		w.Order.PutUint32(record[recordPlainSize:], uint32(len(body)))
	}
	d := LogDecoder{framing: w.framing, plain: text}
	if err := d.seal(record); err != nil {
		panic(err)
	}
	w.buf = append(w.buf, record...)
	w.last = at
	return LSN{1, at}
}

// record appends one of libdb's own records. Fields are uint32, string (a name), FileID, LSN or []byte.
func (w *logWriter) record(kind, txn uint32, prev LSN, fields ...any) LSN {
	body := w.words(kind, txn, prev.File, prev.Offset)
	for _, f := range fields {
		switch f := f.(type) {
		case uint32:
			body = append(body, w.words(f)...)
		case string:
			body = append(append(append(body, w.words(uint32(len(f)+1))...), f...), 0)
		case FileID:
			body = append(append(body, w.words(uint32(len(f)))...), f[:]...)
		case LSN:
			body = append(body, w.words(f.File, f.Offset)...)
		case []byte:
			body = append(append(body, w.words(uint32(len(f)))...), f...)
		}
	}
	return w.put(body)
}

// walkLog decodes records until none is left, as far as the bytes go.
func walkLog(log []byte, key *Key, fn func(d *LogDecoder, r *Record)) error {
	d, err := NewLogDecoder(log, key)
	if err != nil {
		return err
	}
	var r Record
	for at := d.Header().Length; ; {
		if int64(at) > int64(len(log)) {
			return ErrShortRecord
		}
		if err := d.Decode(&r, LSN{1, at}, log[at:]); err != nil {
			return err
		}
		fn(d, &r)
		at += r.Len
	}
}

// smallLog is a log of a few records of all kinds.
func smallLog(order binary.ByteOrder, version uint32, key *Key) *logWriter {
	w := newLogWriter(order, version, key)
	commit := w.record(typeRegop, 0x80000001, LSN{}, uint32(regopCommit), uint32(1700000000), uint32(7), []byte{})
	w.record(typeCheckpoint, 0, LSN{}, commit, LSN{}, uint32(1700000001), uint32(7), uint32(0))
	w.record(typeRegister, 0x80000002, commit, uint32(RegisterOpen)|registerChecksum, "sub/a.db", FileID{1, 2, 3}, uint32(5), uint32(1), uint32(9), uint32(0x80000003))
	w.put([]byte("own"))
	return w
}

type logShape struct {
	name    string
	order   binary.ByteOrder
	version uint32
	key     *Key
}

var logShapes = []logShape{
	{"plain", binary.LittleEndian, 19, nil},
	{"big-endian", binary.BigEndian, 11, nil},
	{"encrypted", binary.LittleEndian, 19, NewKey("secret")},
	{"encrypted big-endian", binary.BigEndian, 12, NewKey("secret")},
}

func TestLogFile(t *testing.T) {
	for _, s := range logShapes {
		t.Run(s.name, func(t *testing.T) {
			w := smallLog(s.order, s.version, s.key)
			h, err := ParseLogHeader(w.buf, s.key)
			if want := (LogHeader{s.version, 1 << 20, s.key != nil, s.order, 0, w.Length}); err != nil || h != want {
				t.Fatalf("header %+v, %v; want %+v", h, err, want)
			}
			var c Commit
			var k Checkpoint
			var g Register
			var last []byte
			n := 0
			err = walkLog(append(w.buf, make([]byte, 100)...), s.key, func(_ *LogDecoder, r *Record) {
				n++
				if r.Type == typeRegop {
					c, _ = r.Commit()
				}
				if r.Type == typeCheckpoint {
					k, _ = r.Checkpoint()
				}
				if r.Type == typeRegister {
					g, _ = r.Register()
				}
				last = bytes.Clone(r.Body)
			})
			if !errors.Is(err, ErrLogEnd) || n != 4 || string(last) != "own" {
				t.Errorf("%d records, the last %q, then %v", n, last, err)
			}
			if c.LSN != (LSN{1, w.Length}) || c.Txn != 0x80000001 || c.Time.Unix() != 1700000000 || c.Abort {
				t.Errorf("commit %+v", c)
			}
			if k.CkpLSN != c.LSN || k.Time.Unix() != 1700000001 {
				t.Errorf("checkpoint %+v", k)
			}
			want := Register{RegisterOpen, "sub/a.db", FileID{1, 2, 3}, 5, 1, 9, 0x80000003, false, true, false}
			if g != want || g.InMemory() {
				t.Errorf("register %+v, want %+v", g, want)
			}
		})
	}
}

func TestLogWithoutPassword(t *testing.T) {
	w := smallLog(binary.LittleEndian, 19, NewKey("secret"))
	n := 0
	err := walkLog(append(w.buf, make([]byte, 100)...), nil, func(_ *LogDecoder, r *Record) {
		if n++; r.Body != nil || r.Type != 0 {
			t.Error("a body out of nothing")
		}
	})
	if !errors.Is(err, ErrLogEnd) || n != 4 {
		t.Errorf("%d records, then %v", n, err)
	}
	if _, err := ParseLogHeader(w.buf, NewKey("Secret")); !errors.Is(err, ErrPassword) {
		t.Errorf("another password: %v", err)
	}
}

func TestNoLogFile(t *testing.T) {
	for _, b := range [][]byte{nil, make([]byte, 10), make([]byte, 1000), smallLog(binary.LittleEndian, 19, nil).buf[:20]} {
		if _, err := ParseLogHeader(b, nil); !errors.Is(err, ErrNoHeader) {
			t.Errorf("%d bytes of a file not begun: %v", len(b), err)
		}
	}
	if _, err := ParseLogHeader([]byte("#!/bin/sh\necho this is no log file at all, and long enough to be one\n"), nil); !errors.Is(err, ErrNotLog) {
		t.Errorf("a script: %v", err)
	}
}

// TestLogDamage cuts a log everywhere and flips every bit of it: what is still decoded is what was written. Bits that the format leaves
// unsummed, IV and plain size of encrypted records, may change bodies.
func TestLogDamage(t *testing.T) {
	for _, s := range logShapes {
		t.Run(s.name, func(t *testing.T) {
			w := smallLog(s.order, s.version, s.key)
			whole := map[LSN]string{}
			unsummed := map[int]bool{}
			_ = walkLog(w.buf, s.key, func(_ *LogDecoder, r *Record) { whole[r.LSN] = string(r.Body) })
			for lsn := range whole {
				for i := recordIV; s.key != nil && i < cryptRecordHeader; i++ {
					unsummed[int(lsn.Offset)+i] = true
				}
			}
			check := func(log []byte, what string, at int) {
				err := walkLog(log, s.key, func(_ *LogDecoder, r *Record) {
					if body, ok := whole[r.LSN]; !ok || body != string(r.Body) {
						t.Errorf("%s %d: record %s is not what was written", what, at, r.LSN)
					}
				})
				if err == nil {
					t.Errorf("%s %d: no error", what, at)
				}
			}
			for n := range w.buf {
				check(w.buf[:n], "cut at", n)
			}
			for bit := range len(w.buf) * 8 {
				if s.key != nil && bit/8 < int(w.Length) && bit/8 >= recordIV || s.version < versionHeaderSummed && inHeaderWords(w, whole, bit/8) {
					continue
				}
				flipped := bytes.Clone(w.buf)
				flipped[bit/8] ^= 1 << (bit % 8)
				if unsummed[bit/8] {
					_ = walkLog(flipped, s.key, func(*LogDecoder, *Record) {})
					continue
				}
				check(flipped, "flipped bit", bit)
			}
		})
	}
}

// inHeaderWords tells the two words that old log versions don't sum.
func inHeaderWords(w *logWriter, whole map[LSN]string, at int) bool {
	for lsn := range whole {
		if i := at - int(lsn.Offset); i >= 0 && i < 8 {
			return true
		}
	}
	return at < 8
}

// FuzzLogFile: no bytes make a decoder panic, and what it accepts it seals as it was.
func FuzzLogFile(f *testing.F) {
	for _, s := range logShapes {
		f.Add(smallLog(s.order, s.version, s.key).buf, s.key != nil)
	}
	f.Fuzz(func(t *testing.T, log []byte, encrypted bool) {
		var key *Key
		if encrypted {
			key = NewKey("secret")
		}
		_ = walkLog(log, key, func(d *LogDecoder, r *Record) {
			record := log[r.LSN.Offset:][:r.Len]
			again := bytes.Clone(record)
			if r.Body == nil {
				return
			}
			if err := d.seal(again); err != nil || !bytes.Equal(again, record) {
				t.Errorf("record %s is sealed to %x, %v; was %x", r.LSN, again, err, record)
			}
		})
		_ = walkLog(log, nil, func(*LogDecoder, *Record) {})
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, s := range logShapes {
		if s.order == binary.BigEndian {
			continue
		}
		b.Run(s.name, func(b *testing.B) {
			w := newLogWriter(s.order, s.version, s.key)
			for len(w.buf) < 1<<20 {
				w.put(make([]byte, 180))
			}
			b.SetBytes(int64(len(w.buf)))
			b.ReportAllocs()
			for b.Loop() {
				_ = walkLog(w.buf, s.key, func(*LogDecoder, *Record) {})
			}
		})
	}
}
