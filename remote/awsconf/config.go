// Package awsconf is what the two S3 drivers share: where the store is and who asks, resolved the way all AWS tools
// do it; one HTTP transport that notices dead peers; and the meaning of the store's errors.
//
// Credentials come from the AWS SDK's whole chain: environment, shared config and credentials files with profiles, SSO, web
// identity, process, container and instance metadata. They are fetched when first needed and renewed before they expire. When the store
// refuses them, files and all are read again for the next request: somebody may have put new ones there.
//
// TLS trusts the system's authorities, those of AWS_CA_BUNDLE instead if that is set, and Config.CAFile in addition.
package awsconf

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"bdbvault/remote"
)

// Config says which bucket, and how to get there. Only Bucket is required.
type Config struct {
	Bucket   string
	Region   string // default: AWS_REGION, the profile's, else us-east-1
	Endpoint string // http:// or https:// URL; default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile's, else AWS

	// PathStyle puts the bucket into the path rather than the host name. Endpoints other than those that are known to want
	// host names (AWS, Google, Aliyun) get it anyway.
	PathStyle bool

	CAFile  string // PEM file of certificate authorities to trust besides the system's
	Profile string // in the shared AWS files; default: AWS_PROFILE, else "default"

	Credentials  aws.CredentialsProvider // instead of the AWS chain
	StallTimeout time.Duration           // a transfer without progress for so long counts as broken, and an answer that takes three times as long; default a minute
}

// Resolved is a Config with all that environment and files add.
type Resolved struct {
	AWS       aws.Config // for the SDK's clients; its credentials report a *CredentialsError
	Bucket    string
	Endpoint  *url.URL // nil: AWS
	PathStyle bool
	HTTP      *http.Client

	keys *chain
}

// Store names the bucket as users write it.
func (r *Resolved) Store() string { return "s3://" + r.Bucket }

// Resolve completes a Config. It reads files and environment and asks nobody over the network.
func Resolve(ctx context.Context, c Config) (*Resolved, error) {
	r, err := resolve(ctx, c)
	if err != nil {
		return nil, &remote.Error{Op: "open", Store: "s3://" + c.Bucket, Kind: configKind(err), Err: err}
	}
	return r, nil
}

func configKind(err error) remote.Kind {
	var profile config.SharedConfigProfileNotExistError
	if errors.As(err, &profile) {
		return remote.Auth
	}
	return remote.Invalid
}

func resolve(ctx context.Context, c Config) (*Resolved, error) {
	if c.Bucket == "" {
		return nil, errors.New("no bucket given")
	}
	cfg, err := load(ctx, c)
	if err != nil {
		return nil, err
	}
	keys := &chain{provider: cfg.Credentials, again: func(ctx context.Context) (aws.CredentialsProvider, error) {
		cfg, err := load(ctx, c)
		return cfg.Credentials, err
	}}
	cfg.Credentials = keys
	r := &Resolved{AWS: cfg, keys: keys, Bucket: c.Bucket, PathStyle: c.PathStyle}
	if r.Endpoint, err = endpoint(c, cfg); err != nil {
		return nil, err
	}
	if r.Endpoint != nil && !s3utils.IsVirtualHostSupported(*r.Endpoint, c.Bucket) {
		r.PathStyle = true
	}
	roots, err := authorities(c, cfg)
	if err != nil {
		return nil, err
	}
	r.HTTP = newHTTPClient(roots, c.StallTimeout)
	return r, nil
}

func load(ctx context.Context, c Config) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{
		config.WithDefaultRegion("us-east-1"),
		config.WithLogger(logging.Nop{}), // it would write to standard error
	}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	if c.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(c.Profile))
	}
	if c.Credentials != nil {
		options = append(options, config.WithCredentialsProvider(c.Credentials))
	}
	return config.LoadDefaultConfig(ctx, options...)
}

// endpoint is the one given or else the one that the SDK finds in environment and files.
func endpoint(c Config, cfg aws.Config) (*url.URL, error) {
	text := c.Endpoint
	if text == "" {
		text = aws.ToString(s3.NewFromConfig(cfg).Options().BaseEndpoint)
	}
	if text == "" {
		return nil, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", text, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("endpoint %q must be a URL like https://host:port", text)
	}
	return u, nil
}

// HasEndpoint reports whether c, environment or files name an endpoint, so that the store is probably not AWS itself.
func HasEndpoint(ctx context.Context, c Config) (bool, error) {
	cfg, err := load(ctx, c)
	if err != nil {
		return false, &remote.Error{Op: "open", Store: "s3://" + c.Bucket, Kind: configKind(err), Err: err}
	}
	u, err := endpoint(c, cfg)
	return u != nil, err
}

// authorities are those that may vouch for the store; nil stands for the system's.
func authorities(c Config, cfg aws.Config) (*x509.CertPool, error) {
	var roots *x509.CertPool
	// LoadDefaultConfig leaves the authorities of AWS_CA_BUNDLE here.
	if client, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		if t := client.GetTransport().TLSClientConfig; t != nil {
			roots = t.RootCAs
		}
	}
	if c.CAFile == "" {
		return roots, nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate authorities: %w", err)
	}
	if roots == nil {
		if roots, err = x509.SystemCertPool(); err != nil {
			roots = x509.NewCertPool() // a host without its own is no obstacle: the file has what is needed
		}
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read certificate authorities: no PEM certificate in %s", c.CAFile)
	}
	return roots, nil
}

// CredentialsError says that no credentials could be had.
type CredentialsError struct{ Err error }

func (e *CredentialsError) Error() string { return "get credentials: " + e.Err.Error() }
func (e *CredentialsError) Unwrap() error { return e.Err }
