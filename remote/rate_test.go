package remote_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"bdbvault/remote"
	"bdbvault/remote/file"
)

// paced are two buckets that share one rate.
func paced(t *testing.T, perSecond int64) (up, down *remote.Bucket) {
	t.Helper()
	d, err := file.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := remote.NewRate(perSecond)
	return remote.New(d, remote.Options{Up: r}), remote.New(d, remote.Options{Down: r})
}

// TestRateIsShared moves several objects at once, both ways: all of them together get the rate, and what they move is counted.
func TestRateIsShared(t *testing.T) {
	const objects, size, perSecond = 4, 512 << 10, 256 << 10
	for _, way := range []string{"up", "down"} {
		synctest.Test(t, func(t *testing.T) {
			up, down := paced(t, perSecond)
			data := bytes.Repeat([]byte("x"), size)
			send := func(b *remote.Bucket, key string) error {
				return b.Put(t.Context(), key, bytes.NewReader(data), size, remote.PutOptions{})
			}
			receive := func(key string) error {
				got, err := down.Get(t.Context(), key, size)
				if err == nil && !bytes.Equal(got, data) {
					err = errors.New("other bytes")
				}
				return err
			}
			began := time.Now()
			var g errgroup.Group
			for i := range objects {
				key := string(rune('a' + i))
				g.Go(func() error {
					if way == "up" {
						return send(up, key)
					}
					return errors.Join(send(down, key), receive(key))
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			want := time.Duration(objects) * size * time.Second / perSecond
			if took := time.Since(began); took < want-time.Second || took > want+time.Second {
				t.Errorf("%s took %v, want %v", way, took, want)
			}
			if s := up.Stats(); way == "up" && (s.Sent != objects*size || s.Requests.Put != objects) {
				t.Errorf("%+v", s)
			}
			if s := down.Stats(); way == "down" && (s.Received != objects*size || s.Requests.Get != objects) {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestRateYields cancels transfers that would last for hours. A deadline that comes before their turn is no reason to fail early.
func TestRateYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up, down := paced(t, remote.MinRate)
		const size = 64 << 20
		data := make([]byte, size)
		if err := down.Put(t.Context(), "key", bytes.NewReader(data), size, remote.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		for name, move := range map[string]func(context.Context) error{
			"put": func(ctx context.Context) error {
				return up.Put(ctx, "other", bytes.NewReader(data), size, remote.PutOptions{})
			},
			"open": func(ctx context.Context) error {
				r, err := down.Open(ctx, "key", 0, -1)
				if err != nil {
					return err
				}
				_, err = io.Copy(io.Discard, r)
				return errors.Join(err, r.Close())
			},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			began := time.Now()
			err := move(ctx)
			cancel()
			if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != time.Minute {
				t.Errorf("%s ended after %v: %v", name, took, err)
			}
		}
		if s := up.Stats(); s.Sent > 60*remote.MinRate+1<<20 || s.BytesUp != 0 {
			t.Errorf("%+v", s)
		}
	})
}
