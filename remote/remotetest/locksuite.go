package remotetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"bdbvault/remote"
)

// MakeLockBucket makes a bucket with a new name, versions and object lock, in which nothing is locked unless that is asked for.
func (s *Instance) MakeLockBucket(ctx context.Context) (string, error) {
	client, err := s.client()
	if err != nil {
		return "", err
	}
	name := "locking-" + strings.ToLower(rand.Text())
	return name, client.MakeBucket(ctx, name, minio.MakeBucketOptions{Region: s.Region, ObjectLocking: true})
}

// lockBucket is one with object lock, behind a proxy.
func (s *s3suite) lockBucket(t *testing.T) (*remote.Bucket, *Proxy) {
	t.Helper()
	name, err := s.server.MakeLockBucket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(t, s.server)
	c := s.server.Config(name)
	c.Endpoint = p.Endpoint
	return remote.New(s.driver(t, c), remote.Options{Prefix: "some/prefix", RetryFor: -1}), p
}

func until(mode remote.LockMode, d time.Duration) remote.Retention {
	return remote.Retention{Mode: mode, Until: time.Now().Add(d).UTC().Truncate(time.Second)}
}

// retention locks objects, and extends locks.
func (s *s3suite) retention(t *testing.T) {
	ctx := t.Context()
	b, p := s.lockBucket(t)
	if f, err := b.Facts(ctx); err != nil || f != (remote.Facts{Versioning: "Enabled", ObjectLock: true}) {
		t.Errorf("the bucket: %+v, %v", f, err)
	}
	day := 24 * time.Hour
	first := until(remote.Governance, day)
	data := random(100_000)
	body := &countingBody{ReaderAt: bytes.NewReader(data)}
	opt := remote.PutOptions{IfAbsent: true, Retain: first, HasSHA256: true, SHA256: sha256.Sum256(data)}
	p.Seen()
	if err := b.Put(ctx, "key", body, int64(len(data)), opt); err != nil {
		t.Fatal(err)
	}
	if seen := p.Seen(); body.n > int64(len(data)) || len(seen) != 1 || seen[0].Header.Get("X-Amz-Checksum-Sha256") == "" {
		t.Errorf("%d bytes were read to send %d, by %d requests", body.n, len(data), len(seen))
	}
	put(t, b, "free", data, remote.PutOptions{})
	longer, longest, most := until(remote.Governance, 2*day), until(remote.Governance, 3*day), until(remote.Governance, 4*day)
	for _, step := range []struct{ ask, want remote.Retention }{
		{first, first},
		{longer, longer},
		{first, longer},
		{until(remote.Compliance, day), longer},
		{until(remote.Compliance, 3*day), longest},
		{until(remote.Compliance, 4*day), most},
	} {
		said, err := b.ExtendRetention(ctx, "key", step.ask)
		if err != nil {
			t.Errorf("extend to %v: %v", step.ask, err)
		}
		got, err := b.Retention(ctx, "key")
		if d := got.Until.Sub(step.want.Until).Abs(); err != nil || got.Mode != step.want.Mode || d > time.Minute || !got.Until.Equal(said.Until) || got.Mode != said.Mode {
			t.Errorf("after extending to %v: %v, %v, said to be %v", step.ask, got, err, said)
		}
	}
	if got, err := b.Retention(ctx, "free"); err != nil || got != (remote.Retention{}) {
		t.Errorf("an object that is not locked: %v, %v", got, err)
	}
	_, err := b.Retention(ctx, "none")
	wantKind(t, err, remote.NotFound, "none", b)
	_, err = b.ExtendRetention(ctx, "none", first)
	wantKind(t, err, remote.NotFound, "none", b)
}

// noLock asks a bucket that has none for locks: each says so.
func (s *s3suite) noLock(t *testing.T) {
	b, _ := s.behind(t, 0, remote.Options{})
	if f, err := b.Facts(t.Context()); err != nil || f != (remote.Facts{}) {
		t.Errorf("the bucket: %+v, %v", f, err)
	}
	put(t, b, "key", []byte("x"), remote.PutOptions{})
	r := until(remote.Governance, time.Hour)
	wantKind(t, b.Put(t.Context(), "locked", strings.NewReader("x"), 1, remote.PutOptions{Retain: r}), remote.Unsupported, "locked", b)
	_, err := b.ExtendRetention(t.Context(), "key", r)
	wantKind(t, err, remote.Unsupported, "key", b)
	_, err = b.Retention(t.Context(), "key")
	wantKind(t, err, remote.Unsupported, "key", b)
}

// pastVersions looks at a bucket as it was before objects were replaced and deleted. Versitygw dates a version by when it was replaced,
// so there is no such view of it.
func (s *s3suite) pastVersions(t *testing.T) {
	if s.server.Kind == "versitygw" {
		return
	}
	ctx := t.Context()
	b, _ := s.lockBucket(t)
	for _, key := range []string{"a", "b", "d/e", "d/f"} {
		put(t, b, key, []byte("first "+key), remote.PutOptions{})
	}
	if err := b.Delete(ctx, []string{"d/f"}); err != nil {
		t.Fatal(err)
	}
	at := s.newest(t, b)
	s.later(t, at)
	put(t, b, "a", []byte("forged"), remote.PutOptions{})
	put(t, b, "c", []byte("new"), remote.PutOptions{})
	put(t, b, "d/f", []byte("again"), remote.PutOptions{})
	if err := b.Delete(ctx, []string{"b", "d/e"}); err != nil {
		t.Fatal(err)
	}
	past, err := b.AsOf(ctx, at)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // with and without having listed
		for _, key := range []string{"a", "b", "d/e"} {
			if got := read(t, past, key, 0, -1); string(got) != "first "+key {
				t.Errorf("%s was %q", key, got)
			}
			if got := read(t, past, key, 2, 3); string(got) != "rst" {
				t.Errorf("a range of %s was %q", key, got)
			}
			if i, err := past.Stat(ctx, key); err != nil || i.Size != int64(len("first "+key)) || i.Modified.After(at) {
				t.Errorf("%s: %+v, %v", key, i, err)
			}
		}
		for _, key := range []string{"c", "d", "d/f", "nothing"} {
			_, err := past.Open(ctx, key, 0, -1)
			wantKind(t, err, remote.NotFound, key, past)
			_, err = past.Stat(ctx, key)
			wantKind(t, err, remote.NotFound, key, past)
		}
		if got := keys(t, past, "", ""); !slices.Equal(got, []string{"a", "b", "d/e"}) {
			t.Errorf("listed %q", got)
		}
	}
	if got := keys(t, past, "", "a"); !slices.Equal(got, []string{"b", "d/e"}) {
		t.Errorf("listed after a: %q", got)
	}
	if got := keys(t, past, "d/", ""); !slices.Equal(got, []string{"d/e"}) {
		t.Errorf("listed below d: %q", got)
	}
	date, err := past.List(ctx, "", "", func(remote.Info) error { return nil })
	if err != nil || !date.Equal(at) {
		t.Errorf("the clock said %s, %v", date, err)
	}
	wantKind(t, past.Put(ctx, "a", strings.NewReader("x"), 1, remote.PutOptions{}), remote.ReadOnly, "a", past)
	wantKind(t, past.Delete(ctx, []string{"a"}), remote.ReadOnly, "a", past)
	if got := keys(t, b, "", ""); !slices.Equal(got, []string{"a", "c", "d/f"}) {
		t.Errorf("there is now %q", got)
	}
}

// versionPages is a server that lists one key's versions in two pages.
func (s *s3suite) versionPages(t *testing.T) {
	pages := []string{`<IsTruncated>true</IsTruncated><NextKeyMarker>p/b</NextKeyMarker><NextVersionIdMarker>v3</NextVersionIdMarker>` +
		version("p/b", "v4", 9, true) + version("p/b", "v3", 7, false),
		`<IsTruncated>false</IsTruncated>` + version("p/b", "v2", 5, false) + version("p/c d", "v1", 3, false)}
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		asked = append(asked, q.Get("key-marker")+" "+q.Get("version-id-marker"))
		page := pages[0]
		if q.Get("version-id-marker") != "" {
			page = pages[1]
		}
		fmt.Fprint(w, `<ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name><EncodingType>url</EncodingType>`+page+`</ListVersionsResult>`)
	}))
	defer server.Close()
	c := s.server.Config("bucket")
	c.Endpoint = server.URL
	b := remote.New(s.driver(t, c), remote.Options{Prefix: "p", RetryFor: -1})
	var got []string
	err := b.Versions(t.Context(), "", func(v remote.Version) error {
		got = append(got, fmt.Sprintf("%s %s %d %t", v.Key, v.ID, v.Modified.Second(), v.Deleted))
		return nil
	})
	if want := []string{"b v4 9 true", "b v3 7 false", "b v2 5 false", "c d v1 3 false"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	past, err := b.AsOf(t.Context(), time.Date(2026, 11, 20, 12, 0, 6, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	if i, err := past.Stat(t.Context(), "b"); err != nil || i.Modified.Second() != 5 {
		t.Errorf("%+v, %v", i, err)
	}
	if got := keys(t, past, "", ""); !slices.Equal(got, []string{"b", "c d"}) {
		t.Errorf("listed %q", got)
	}
	if asked[0] != " " || asked[1] != "p/b v3" {
		t.Errorf("asked for %q", asked)
	}
}

func version(key, id string, second int, deleted bool) string {
	kind := map[bool]string{false: "Version", true: "DeleteMarker"}[deleted]
	return fmt.Sprintf("<%s><Key>%s</Key><VersionId>%s</VersionId><IsLatest>false</IsLatest><LastModified>2026-11-20T12:00:%02d.000Z</LastModified><Size>1</Size></%s>",
		kind, url.QueryEscape(key), id, second, kind)
}

// newest is when the store took the newest version.
func (s *s3suite) newest(t *testing.T, b *remote.Bucket) (at time.Time) {
	t.Helper()
	err := b.Versions(t.Context(), "", func(v remote.Version) error {
		if v.Modified.After(at) {
			at = v.Modified
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// later returns when whatever is stored from now on is younger, by clocks that tell seconds.
func (s *s3suite) later(t *testing.T, at time.Time) {
	t.Helper()
	select {
	case <-t.Context().Done():
	case <-time.After(time.Until(at.Truncate(time.Second).Add(time.Second))):
	}
}
