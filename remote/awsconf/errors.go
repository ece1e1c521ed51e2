package awsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"

	"bdbvault/remote"
)

// ServerError is an error answer of the store.
type ServerError struct {
	Status  int    // HTTP status, 0 if the SDK refused by itself
	Code    string // S3's error code
	Message string
	Key     string // in the answer to a request for several keys
	Request string // the store's name for the request, for its administrator
	Region  string // where the bucket is, if the store said so

	retryAfter time.Duration
	err        error
}

func (e *ServerError) Error() string {
	var s strings.Builder
	if e.Key != "" {
		s.WriteString(e.Key + ": ")
	}
	s.WriteString(e.Code)
	if e.Message != "" {
		s.WriteString(": " + strings.TrimSuffix(e.Message, "."))
	}
	if e.Region != "" && e.kind() == remote.WrongRegion {
		s.WriteString(", the bucket is in " + e.Region)
	}
	if e.Status != 0 {
		fmt.Fprintf(&s, " (HTTP %d", e.Status)
		if e.Request != "" {
			s.WriteString(", request " + e.Request)
		}
		s.WriteString(")")
	}
	return s.String()
}

func (e *ServerError) Unwrap() error { return e.err }

// RetryAfter is how long the store asked to wait, 0 if it didn't.
func (e *ServerError) RetryAfter() time.Duration { return e.retryAfter }

// Fail makes a ServerError of what an SDK reports as the store's answer.
func (x *Exchange) Fail(code, message string, err error) *ServerError {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := &ServerError{Status: x.status, Code: code, Message: message, err: err}
	if x.header == nil {
		return e
	}
	e.Request = x.header.Get("X-Amz-Request-Id")
	e.Region = x.header.Get("X-Amz-Bucket-Region")
	if s, err := strconv.Atoi(x.header.Get("Retry-After")); err == nil && s > 0 {
		e.retryAfter = time.Duration(s) * time.Second
	}
	// Answers to HEAD have no body; MinIO puts into the header what would be there.
	if c := x.header.Get("X-Minio-Error-Code"); c != "" {
		e.Code, e.Message = c, strings.Trim(x.header.Get("X-Minio-Error-Desc"), `"`)
	}
	return e
}

// Explain improves on the error of a HEAD, whose answer has no body that would tell a missing bucket from a missing object or wrong
// keys from a lack of permission: get does the same as a GET of one byte, and its error is the better one. Known
// is set once the bucket is known to be there, which makes that unnecessary where the object is just missing.
func Explain(err error, known *atomic.Bool, get func() error) error {
	var e *ServerError
	if !errors.As(err, &e) || e.Status/100 != 4 && e.Status/100 != 3 || e.Status == http.StatusNotFound && known.Load() {
		return err
	}
	better := get()
	if better == nil || Classify(better) == remote.OutOfRange {
		return err
	}
	if Classify(better) == remote.NotFound {
		known.Store(true)
	}
	return better
}

// MayWantChecksum reports whether an upload was refused as AWS refuses one without a checksum header to a bucket whose objects are locked. S3
// has no code for that alone, so it may be something else as well.
func MayWantChecksum(err error) bool {
	e, ok := errors.AsType[*ServerError](err)
	return ok && e.Status == http.StatusBadRequest && e.Code == "InvalidRequest"
}

// kinds of S3's error codes, and of the dialects of MinIO and versitygw. Where a code is missing the HTTP status decides.
var kinds = map[string]remote.Kind{
	"NoSuchKey": remote.NotFound, "NotFound": remote.NotFound, "NoSuchVersion": remote.NotFound,
	"PreconditionFailed": remote.Exists,
	"NoSuchBucket":       remote.NoBucket, "InvalidBucketName": remote.NoBucket,

	"InvalidAccessKeyId": remote.Auth, "SignatureDoesNotMatch": remote.Auth, "InvalidSecurity": remote.Auth,
	"InvalidToken": remote.Auth, "InvalidTokenId": remote.Auth, "InvalidClientTokenId": remote.Auth, "AuthFailure": remote.Auth,
	"MissingSecurityHeader": remote.Auth, "CredentialsNotSupported": remote.Auth, "UnrecognizedClientException": remote.Auth,

	"ExpiredToken": remote.Expired, "ExpiredTokenException": remote.Expired, "TokenRefreshRequired": remote.Expired,
	"RequestExpired": remote.Expired,

	"AccessDenied": remote.Denied, "AllAccessDisabled": remote.Denied, "AccountProblem": remote.Denied, "NotSignedUp": remote.Denied,
	"ObjectLocked": remote.Denied, "InvalidObjectState": remote.Archived,

	"AuthorizationHeaderMalformed": remote.WrongRegion, "PermanentRedirect": remote.WrongRegion, "TemporaryRedirect": remote.WrongRegion,
	"Redirect": remote.WrongRegion, "InvalidRegion": remote.WrongRegion, "IllegalLocationConstraintException": remote.WrongRegion,

	"RequestTimeTooSkewed": remote.ClockSkew,

	"SlowDown": remote.Transient, "SlowDownRead": remote.Transient, "SlowDownWrite": remote.Transient, "ServiceUnavailable": remote.Transient,
	"InternalError": remote.Transient, "RequestTimeout": remote.Transient, "Throttling": remote.Transient, "ThrottlingException": remote.Transient,
	"RequestThrottled": remote.Transient, "RequestLimitExceeded": remote.Transient, "TooManyRequests": remote.Transient, "Busy": remote.Transient,
	"OperationAborted": remote.Transient, "ConditionalRequestConflict": remote.Transient, "IncompleteBody": remote.Transient,

	"BadDigest": remote.Damaged, "XAmzContentSHA256Mismatch": remote.Damaged,
	"XAmzContentChecksumMismatch": remote.Damaged,

	"XMinioStorageFull": remote.Full, "InsufficientStorage": remote.Full, "InsufficientCapacity": remote.Full, "QuotaExceeded": remote.Full,
	"XMinioAdminBucketQuotaExceeded": remote.Full,

	"MethodNotAllowed": remote.ReadOnly,
	"InvalidRange":     remote.OutOfRange,
	"NotImplemented":   remote.Unsupported,

	"EntityTooLarge": remote.Invalid, "KeyTooLongError": remote.Invalid, "InvalidArgument": remote.Invalid, "InvalidRequest": remote.Invalid,
	"InvalidURI": remote.Invalid, "InvalidDigest": remote.Invalid, "InvalidStorageClass": remote.NoClass, "XMinioInvalidObjectName": remote.Invalid,
}

func (e *ServerError) kind() remote.Kind {
	if e.Code == "InvalidRequest" && strings.Contains(e.Message, "WORM protected") {
		return remote.Denied // what MinIO says where others say AccessDenied
	}
	if k, ok := kinds[e.Code]; ok {
		return k
	}
	switch e.Status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return remote.WrongRegion
	case http.StatusUnauthorized, http.StatusProxyAuthRequired:
		return remote.Auth
	case http.StatusForbidden:
		return remote.Denied
	case http.StatusNotFound:
		return remote.NotFound
	case http.StatusMethodNotAllowed:
		return remote.ReadOnly
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return remote.Transient
	case http.StatusPreconditionFailed:
		return remote.Exists
	case http.StatusRequestedRangeNotSatisfiable:
		return remote.OutOfRange
	case http.StatusNotImplemented:
		return remote.Unsupported
	case http.StatusInsufficientStorage:
		return remote.Full
	}
	if e.Status >= 500 {
		return remote.Transient
	}
	return remote.Unknown
}

// Classify says what an error of an S3 driver means.
func Classify(err error) remote.Kind {
	var server *ServerError
	var source *remote.SourceError
	var creds *CredentialsError
	var conn *TransportError
	var syntax *xml.SyntaxError
	switch {
	case errors.As(err, &source):
		return remote.Unknown
	case errors.As(err, &creds):
		return creds.kind()
	case errors.As(err, &conn):
		return conn.kind()
	case errors.As(err, &server):
		return server.kind()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return remote.Canceled
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &syntax):
		return remote.Transient // an answer that was cut short
	}
	return remote.KindOf(err)
}

func (e *CredentialsError) kind() remote.Kind {
	var token *ssocreds.InvalidTokenError
	if errors.As(e.Err, &token) {
		return remote.Expired
	}
	return remote.Auth
}

func (e *TransportError) kind() remote.Kind {
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case untrusted(e.Err):
		return remote.Untrusted
	case errors.As(e.Err, &dns):
		return remote.Unreachable
	case errors.As(e.Err, &op) && (op.Op == "dial" || op.Op == "proxyconnect"):
		return remote.Unreachable
	}
	return remote.Transient
}

func untrusted(err error) bool {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &host) ||
		errors.As(err, &record) || errors.As(err, &alert) || errors.Is(err, http.ErrSchemeMismatch)
}

// Range is the header for length bytes from offset, negative meaning to the end; "" for a whole object.
func Range(offset, length int64) string {
	switch {
	case length >= 0:
		return fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)
	case offset > 0:
		return fmt.Sprintf("bytes=%d-", offset)
	}
	return ""
}

// CheckRange refuses an answer that is not the range asked for: some proxies ignore the request's header and answer with everything.
func CheckRange(got string, offset, length int64) error {
	if Range(offset, length) == "" {
		return nil
	}
	if want := fmt.Sprintf("bytes %d-", offset); !strings.HasPrefix(got, want) {
		return &remote.Error{Kind: remote.Unsupported, Err: fmt.Errorf("asked for a range from byte %d, answered with %q", offset, got)}
	}
	return nil
}

// MayRead tells from the answer to a read of a bucket's setting whether these keys may read it: that there is none is an answer too.
func MayRead(err error) (bool, error) {
	e, ok := errors.AsType[*ServerError](err)
	switch {
	case err == nil, ok && e.Status == http.StatusNotFound:
		return true, nil
	case ok && (e.Status == http.StatusForbidden || e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusNotImplemented):
		return false, nil
	}
	return false, err
}
