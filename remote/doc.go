// Package remote is the one place where bdbvault talks to a store of objects: retries, limits, counters and
// kinds of errors live here, whatever the store is.
//
// A Driver does one attempt at one operation against one kind of store; there is one for the AWS SDK (remote/s3),
// one for minio-go (remote/minio) and one for a directory (remote/file). A Bucket wraps a Driver and is what the
// rest of the program uses:
//
//   - Retries. Faults that may pass (no connection, a connection that breaks or stalls, 408, 429, most 5xx, a body
//     that ends early) are tried again with growing, jittered pauses until they have lasted for Options.RetryFor.
//     Anything else fails at once. No driver retries by itself, so there is exactly one such layer. An interrupted
//     download goes on where it stopped; an upload is read again from its start, which is why it is an io.ReaderAt
//     of known size.
//
//   - Put if absent. A marker must never replace another one. When the answer to an upload is lost, the second try
//     finds an object in its way; Put then looks whether it is its own and reports success if so.
//
//   - Kinds. Every error is an *Error whose Kind says what is wrong in terms a person can act upon, the same for
//     all stores. Branch with errors.Is(err, ErrNotFound) and the like, or on Kind.
//
//   - Cancelling. Once the context is cancelled no further request is sent, and a half-sent object is not stored.
//     (An upload whose last byte was already accepted when the context went is the store's to finish.)
//
//   - What only some stores can do. Drivers may be a Locker, an Inspector or Versioned besides; Bucket has the methods for that, which are Unsupported where
//     the driver is not.
//
// Memory is bounded by the callers: a Bucket holds no object, only a list page or a batch of keys at a time.
package remote
