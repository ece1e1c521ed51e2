package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"bdbvault/remote/remotetest"
)

// store is the MinIO server that all tools store into.
type store struct {
	server *remotetest.Instance
	client *minio.Client
	pid    int
	trash  string // where the server puts what it has still to remove
}

func startStore(ctx context.Context, dir string) (*store, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	// The server inherits this and then tells its metrics to anybody on this machine.
	if err := os.Setenv("MINIO_PROMETHEUS_AUTH_TYPE", "public"); err != nil {
		return nil, err
	}
	server, err := remotetest.StartMinIO(ctx, dir)
	if err != nil {
		return nil, err
	}
	s := &store{server: server, trash: filepath.Join(dir, "data", ".minio.sys", "tmp", ".trash")}
	if err := s.connect(); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *store) connect() (err error) {
	s.client, err = minio.New(strings.TrimPrefix(s.server.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(s.server.AccessKey, s.server.SecretKey, ""), Region: s.server.Region,
	})
	if err == nil {
		s.pid, err = childNamed("minio")
	}
	return err
}

func (s *store) stop() error { return s.server.Kill() }

// env is what every tool needs to find the store, and nothing that belongs to the user who runs the bench.
func (s *store) env(home string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "LC_ALL=C.UTF-8",
		"AWS_ACCESS_KEY_ID=" + s.server.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.server.SecretKey,
		"AWS_REGION=" + s.server.Region, "AWS_DEFAULT_REGION=" + s.server.Region, "AWS_EC2_METADATA_DISABLED=true",
		"RESTIC_PASSWORD=bench", "RCLONE_CONFIG=" + filepath.Join(home, "rclone.conf"),
		"RCLONE_CONFIG_STORE_TYPE=s3", "RCLONE_CONFIG_STORE_PROVIDER=Minio", "RCLONE_CONFIG_STORE_REGION=" + s.server.Region,
		"RCLONE_CONFIG_STORE_ENDPOINT=" + s.server.Endpoint, "RCLONE_CONFIG_STORE_ACCESS_KEY_ID=" + s.server.AccessKey,
		"RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY=" + s.server.SecretKey,
	}
}

// bucket makes an empty one.
func (s *store) bucket(ctx context.Context) (string, error) { return s.server.MakeBucket(ctx) }

// drop removes a bucket with all that is in it. The server only moves aside what is deleted and removes it minutes later, which would fill
// the disk and disturb whatever is measured then, so it is removed here.
func (s *store) drop(ctx context.Context, bucket string) error {
	if err := s.client.RemoveBucketWithOptions(ctx, bucket, minio.RemoveBucketOptions{ForceDelete: true}); err != nil {
		return err
	}
	left, err := os.ReadDir(s.trash)
	for _, entry := range left {
		err = errors.Join(err, os.RemoveAll(filepath.Join(s.trash, entry.Name())))
	}
	return err
}

// object is what tells an object from another one under the same name.
type object struct {
	etag     string
	modified time.Time
	size     int64
}

func (s *store) objects(ctx context.Context, bucket string) (map[string]object, error) {
	all := map[string]object{}
	for o := range s.client.ListObjects(ctx, bucket, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			return nil, o.Err
		}
		all[o.Key] = object{o.ETag, o.LastModified, o.Size}
	}
	return all, nil
}

// newBytes is the size of what is in after and not in before.
func newBytes(before, after map[string]object) (n int64) {
	for key, o := range after {
		if b, ok := before[key]; !ok || b.etag != o.etag || !b.modified.Equal(o.modified) {
			n += o.size
		}
	}
	return n
}

// counters are what the server has done since it was started.
type counters struct {
	requests int64
	sent     int64 // bytes to clients
	cpu      time.Duration
}

// counters waits until the server has finished counting.
func (s *store) counters(ctx context.Context) (counters, error) {
	for last := (counters{requests: -1}); ; {
		now, err := s.count(ctx)
		if err != nil || now.requests == last.requests && now.sent == last.sent {
			return now, err
		}
		last = now
		select {
		case <-ctx.Done():
			return now, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *store) count(ctx context.Context) (c counters, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.server.Endpoint+"/minio/metrics/v3/api/requests", nil)
	if err != nil {
		return c, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return c, fmt.Errorf("ask the store for its counters: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return c, fmt.Errorf("ask the store for its counters: %s", resp.Status)
	}
	if c, err = parseCounters(resp.Body); err != nil {
		return c, err
	}
	stat, err := readStat(s.pid)
	c.cpu = stat.cpu
	return c, err
}

// parseCounters reads the server's metrics in the Prometheus text format.
func parseCounters(r io.Reader) (c counters, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, ok := parseMetric(lines.Text())
		switch {
		case !ok:
		case name == "minio_api_requests_total":
			c.requests += int64(value)
		case name == "minio_api_requests_traffic_sent_bytes":
			c.sent += int64(value)
		}
	}
	return c, lines.Err()
}

func parseMetric(line string) (name string, value float64, ok bool) {
	i := strings.LastIndexByte(line, ' ')
	if i < 0 || strings.HasPrefix(line, "#") {
		return "", 0, false
	}
	value, err := strconv.ParseFloat(line[i+1:], 64)
	name, _, _ = strings.Cut(line[:i], "{")
	return name, value, err == nil
}
