package manifest

import (
	"bytes"
	"reflect"
	"testing"
)

// Each fuzz test holds that what decodes encodes to something that decodes to the same.

func FuzzManifest(f *testing.F) {
	for _, s := range samples(f)[:5] {
		f.Add(s.data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := DecodeManifest(data); err == nil {
			again, err := m.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if n, err := DecodeManifest(again); err != nil || !reflect.DeepEqual(m, n) {
				t.Fatalf("%v\n%+v\n%+v", err, m, n)
			}
		}
		if c, err := DecodeCondemned(data); err == nil {
			again, err := c.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if d, err := DecodeCondemned(again); err != nil || !reflect.DeepEqual(c, d) {
				t.Fatalf("%v\n%+v\n%+v", err, c, d)
			}
		}
		if r, err := DecodeDrill(data); err == nil {
			again, err := r.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if d, err := DecodeDrill(again); err != nil || !reflect.DeepEqual(r, d) {
				t.Fatalf("%v\n%+v\n%+v", err, r, d)
			}
		}
		if h, err := DecodeHold(data); err == nil {
			if _, err := h.Encode(); err != nil {
				t.Fatal(err)
			}
		}
		if r, err := DecodeRepository(data); err == nil {
			if _, err := r.Encode(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzMap(f *testing.F) {
	f.Add(sampleMap(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, at, err := ReadMap(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		head, err := m.Head()
		if err != nil {
			t.Fatal(err)
		}
		again := append(head, data[at:]...)
		n, _, err := ReadMap(bytes.NewReader(again), int64(len(again)))
		if err != nil || !reflect.DeepEqual(m, n) {
			t.Fatalf("%v\n%+v\n%+v", err, m, n)
		}
	})
}

// FuzzMapTable skips the compression, which a fuzzer hardly gets through.
func FuzzMapTable(f *testing.F) {
	m, _, err := ReadMap(bytes.NewReader(sampleMap(f)), int64(len(sampleMap(f))))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.table())
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseTable(data)
		if err != nil {
			return
		}
		if n, err := parseTable(m.table()); err != nil || !reflect.DeepEqual(m, n) {
			t.Fatalf("%v\n%+v\n%+v", err, m, n)
		}
	})
}

func FuzzSegment(f *testing.F) {
	f.Add(sampleSegment(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := decodeSegment(data); err == nil {
			if _, err := ReadSegmentHeader(bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzSegmentKey(f *testing.F) {
	f.Add(SegmentName{Timeline: Timeline{1}, File: 1, End: 5, Sealed: true}.Key("mail"))
	f.Fuzz(func(t *testing.T, key string) {
		if n, err := ParseSegmentKey("mail", key); err == nil && n.String() != key && n.Key("mail") != key {
			t.Fatalf("%q → %q", key, n.Key("mail"))
		}
	})
}

func FuzzSpan(f *testing.F) {
	f.Add("1y5m7d2h")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ParseSpan(text); err == nil {
			if again, err := ParseSpan(s.String()); err != nil || again != s {
				t.Fatalf("%q → %+v → %q → %+v, %v", text, s, s, again, err)
			}
		}
	})
}
