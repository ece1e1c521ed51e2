package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"bdbvault/remote"
	"bdbvault/remote/awsconf"
	"bdbvault/remote/file"
	"bdbvault/remote/minio"
	"bdbvault/remote/repository"
	"bdbvault/remote/s3"
)

// location is where a repository lies.
type location struct {
	dir            string // file://
	bucket, prefix string // s3://
}

// parseLocation reads file:///dir or s3://bucket/prefix. Nothing in it is percent-encoded.
func parseLocation(text string) (location, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	switch {
	case ok && scheme == "file":
		if !filepath.IsAbs(rest) {
			return location{}, usagef("repository %q: want three slashes and an absolute path, as in file:///srv/backups", text)
		}
		return location{dir: filepath.Clean(rest)}, nil
	case ok && scheme == "s3":
		bucket, prefix, _ := strings.Cut(rest, "/")
		if bucket == "" {
			return location{}, usagef("repository %q: want s3://bucket/prefix", text)
		}
		return location{bucket: bucket, prefix: strings.Trim(prefix, "/")}, checkPrefix(text, prefix)
	case filepath.IsAbs(text):
		return location{}, usagef("repository %q: did you mean file://%s?", text, text)
	}
	return location{}, usagef("repository %q: want file:///dir or s3://bucket/prefix", text)
}

func checkPrefix(text, prefix string) error {
	prefix = strings.Trim(prefix, "/")
	if prefix != "" && path.Clean("/"+prefix) != "/"+prefix {
		return usagef("repository %q: the prefix must not contain empty, '.' or '..' parts", text)
	}
	return nil
}

// String is what parseLocation made it of.
func (l location) String() string {
	switch {
	case l.dir != "":
		return "file://" + l.dir
	case l.prefix == "":
		return "s3://" + l.bucket
	}
	return "s3://" + l.bucket + "/" + l.prefix
}

// location parses -r.
func (c *call) location() (location, error) {
	text, err := c.need(flagRepository, "-r REPOSITORY (or BDBVAULT_REPOSITORY)")
	if err != nil {
		return location{}, err
	}
	return parseLocation(text)
}

// openBucket connects to the store at loc. No request is sent.
func (c *call) openBucket(ctx context.Context, loc location) (*remote.Bucket, error) {
	d, err := c.driver(ctx, loc)
	if err != nil {
		return nil, err
	}
	retry := c.Duration(flagRetryFor)
	if retry == 0 {
		retry = -1 // none at all; 0 would be the default
	}
	up, down, err := c.storeRates()
	if err != nil {
		return nil, err
	}
	classes, err := c.storageClasses(loc)
	if err != nil {
		return nil, err
	}
	b := remote.New(d, remote.Options{Prefix: loc.prefix, RetryFor: retry, OnRetry: c.onRetry, Up: up, Down: down, StorageClass: classes.of})
	c.meter.add(b)
	return b, nil
}

func (c *call) driver(ctx context.Context, loc location) (remote.Driver, error) {
	if loc.dir != "" {
		return file.New(loc.dir)
	}
	cfg := c.storeConfig(loc)
	switch client := c.String(flagS3Client); client {
	case "aws":
		return s3.New(ctx, cfg)
	case "minio":
		return minio.New(ctx, cfg)
	case "":
		return defaultDriver(ctx, cfg)
	default:
		return nil, usagef("--%s %q: want aws or minio", flagS3Client, client)
	}
}

// storeConfig is what the flags say about the bucket at loc.
func (c *call) storeConfig(loc location) awsconf.Config {
	return awsconf.Config{
		Bucket: loc.bucket, Region: c.String(flagRegion), Endpoint: c.String(flagEndpoint), PathStyle: c.Bool(flagPathStyle),
		CAFile: c.String(flagCAFile), Profile: c.String(flagProfile),
	}
}

// defaultDriver is the AWS SDK for AWS and minio-go, whose compatibility is proven most widely, for every other store.
func defaultDriver(ctx context.Context, cfg awsconf.Config) (remote.Driver, error) {
	other, err := awsconf.HasEndpoint(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if other {
		return minio.New(ctx, cfg)
	}
	return s3.New(ctx, cfg)
}

// openRepository opens the repository named by -r, which has to exist.
func (c *call) openRepository(ctx context.Context) (*repository.Repository, error) {
	loc, err := c.location()
	if err != nil {
		return nil, err
	}
	b, err := c.openBucket(ctx, loc)
	if err == nil {
		b, err = c.asOf(ctx, b)
	}
	if err != nil {
		return nil, err
	}
	return repository.Open(ctx, b)
}

// initReport is the result of init.
type initReport struct {
	Repository string    `json:"repository"`
	ID         string    `json:"id"`
	Created    time.Time `json:"created"`
}

func (r *initReport) text(w io.Writer) {
	fmt.Fprintf(w, "made repository %s\n", r.Repository)
}

// initRepository is the command init. Of a repository in a directory it makes the directory as well.
func initRepository(ctx context.Context, c *call) (result, error) {
	loc, err := c.location()
	if err != nil {
		return nil, err
	}
	if loc.dir != "" {
		if err := os.MkdirAll(loc.dir, 0o700); err != nil {
			return nil, fmt.Errorf("make repository %s: %w", c.String(flagRepository), err)
		}
	}
	b, err := c.openBucket(ctx, loc)
	if err != nil {
		return nil, err
	}
	repo, err := repository.Init(ctx, b, tool)
	if err != nil {
		return nil, fmt.Errorf("make repository %s: %w", b, err)
	}
	return &initReport{Repository: b.String(), ID: repo.Info.ID.String(), Created: repo.Info.Created}, nil
}

// openEnvironments opens the repository, and tells which of its environments are meant: the one that was named, or all.
func (c *call) openEnvironments(ctx context.Context, env string) (*repository.Repository, []string, error) {
	repo, err := c.openRepository(ctx)
	if err != nil {
		return nil, nil, err
	}
	names, err := environments(ctx, repo, env)
	return repo, names, err
}

// environments are the one that was named, or all.
func environments(ctx context.Context, repo *repository.Repository, env string) ([]string, error) {
	if env != "" {
		return []string{env}, nil
	}
	return repo.Environments(ctx)
}
