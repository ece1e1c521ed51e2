package remotetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"bdbvault/remote"
)

// Memory is a store in memory whose clock is the caller's.
type Memory struct {
	now func() time.Time

	mu      sync.Mutex
	objects map[string]stored
}

type stored struct {
	data     []byte
	modified time.Time
}

// NewMemory makes an empty store. Now is its clock, told in whole seconds as stores do.
func NewMemory(now func() time.Time) *Memory {
	return &Memory{now: func() time.Time { return now().Truncate(time.Second) }, objects: map[string]stored{}}
}

func (m *Memory) String() string { return "memory" }

// Classify implements remote.Driver.
func (m *Memory) Classify(err error) remote.Kind {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return remote.Canceled
	}
	return remote.KindOf(err)
}

// Put implements remote.Driver.
func (m *Memory) Put(ctx context.Context, key string, body io.ReaderAt, size int64, opt remote.PutOptions) error {
	if !opt.Retain.Until.IsZero() {
		return &remote.Error{Kind: remote.Unsupported, Err: remote.ErrNoLock}
	}
	data := make([]byte, size)
	if n, err := body.ReadAt(data, 0); int64(n) < size {
		return &remote.SourceError{Err: err}
	}
	if opt.HasSHA256 && sha256.Sum256(data) != opt.SHA256 {
		return &remote.Error{Kind: remote.Damaged, Err: errors.New("SHA-256 differs")}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, taken := m.objects[key]; taken && opt.IfAbsent {
		return &remote.Error{Kind: remote.Exists, Err: errors.New("exists")}
	}
	m.objects[key] = stored{data, m.now()}
	return nil
}

func (m *Memory) get(ctx context.Context, key string) (stored, error) {
	if err := ctx.Err(); err != nil {
		return stored{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[key]
	if !ok {
		return o, &remote.Error{Kind: remote.NotFound, Err: errors.New("not found")}
	}
	return o, nil
}

// Open implements remote.Driver.
func (m *Memory) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	o, err := m.get(ctx, key)
	if err != nil {
		return nil, err
	}
	end := int64(len(o.data))
	if offset >= end && !(offset == 0 && length < 0) {
		return nil, &remote.Error{Kind: remote.OutOfRange, Err: errors.New("behind the end")}
	}
	if length >= 0 {
		end = min(end, offset+length)
	}
	return io.NopCloser(bytes.NewReader(o.data[offset:end])), nil
}

// Stat implements remote.Driver.
func (m *Memory) Stat(ctx context.Context, key string) (remote.Info, error) {
	o, err := m.get(ctx, key)
	return remote.Info{Key: key, Size: int64(len(o.data)), Modified: o.modified}, err
}

// List implements remote.Driver. It is no snapshot: what is stored or deleted while fn runs is seen or not, as in other stores.
func (m *Memory) List(ctx context.Context, prefix, after string, fn func(remote.Info) error) (time.Time, error) {
	m.mu.Lock()
	date := m.now()
	keys := slices.Sorted(maps.Keys(m.objects))
	m.mu.Unlock()
	for _, key := range keys {
		if !strings.HasPrefix(key, prefix) || key <= after {
			continue
		}
		info, err := m.Stat(ctx, key)
		if m.Classify(err) == remote.NotFound {
			continue
		}
		if err == nil {
			err = fn(info)
		}
		if err != nil {
			return date, err
		}
	}
	return date, nil
}

// Delete implements remote.Driver.
func (m *Memory) Delete(ctx context.Context, keys []string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range keys {
		delete(m.objects, key)
	}
	return nil
}
