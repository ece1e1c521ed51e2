package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"bdbvault/remote"
)

// meter counts what a command asks of its store, over all buckets that it opens. A nil meter counts nothing.
type meter struct {
	mu      sync.Mutex
	buckets []*remote.Bucket
	others  remote.Stats
}

// count adds what was asked of the store beside the buckets.
func (m *meter) count(s remote.Stats) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.others.Add(s)
}

func (m *meter) add(b *remote.Bucket) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.buckets = append(m.buckets, b)
}

// stats is the sum so far; nil: there was no store.
func (m *meter) stats() *remote.Stats {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var sum *remote.Stats
	for _, b := range m.buckets {
		if sum == nil {
			sum = new(remote.Stats)
			sum.Add(m.others)
		}
		sum.Add(b.Stats())
	}
	return sum
}

// line says it to a person; "": there was no store.
func (m *meter) line() string {
	s := m.stats()
	if s == nil {
		return ""
	}
	var kinds []string
	for _, k := range s.Requests.ByKind() {
		if k.N > 0 {
			kinds = append(kinds, fmt.Sprintf("%d %s", k.N, k.Kind))
		}
	}
	line := "store: " + count(int(s.Requests.Total()), "request")
	if len(kinds) > 0 {
		line += " (" + strings.Join(kinds, ", ") + ")"
	}
	line += fmt.Sprintf(", %s sent, %s received", size(s.Sent), size(s.Received))
	if s.Retries > 0 {
		line += fmt.Sprintf(", %d tried again", s.Retries)
	}
	return line
}

// encode is the JSON of an object of a command, with what the command asked of the store under "store".
func (m *meter) encode(object any) ([]byte, error) {
	data, err := encodeJSON(object)
	s := m.stats()
	if err != nil || s == nil || len(data) < 2 || data[len(data)-1] != '}' {
		return data, err
	}
	store, err := encodeJSON(s)
	if err != nil {
		return nil, err
	}
	comma := ","
	if len(data) == 2 {
		comma = ""
	}
	return fmt.Appendf(data[:len(data)-1], `%s"store":%s}`, comma, store), nil
}

// encodeJSON is json.Marshal that leaves < and > alone.
func encodeJSON(object any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(object)
	return bytes.TrimSpace(b.Bytes()), err
}
