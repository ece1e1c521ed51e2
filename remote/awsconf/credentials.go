package awsconf

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"bdbvault/remote"
)

// chain is the AWS chain as it was found. What it found in files lasts as long as the process, to the SDK; here it is looked for again once the store has
// refused it. It marks the chain's errors, which would else be taken for the store's.
type chain struct {
	again func(context.Context) (aws.CredentialsProvider, error)

	mu       sync.Mutex
	provider aws.CredentialsProvider
	refused  bool
	found    time.Time // last looked for again
}

// findEvery bounds how often files are read for a store that refuses whatever stands there.
const findEvery = time.Second

// Retrieve implements aws.CredentialsProvider.
func (c *chain) Retrieve(ctx context.Context) (aws.Credentials, error) {
	p := c.current(ctx)
	if p == nil {
		return aws.Credentials{}, &CredentialsError{errors.New("none configured")}
	}
	v, err := p.Retrieve(ctx)
	if err != nil && ctx.Err() == nil {
		c.refuse()
		err = &CredentialsError{err}
	}
	return v, err
}

func (c *chain) current(ctx context.Context) aws.CredentialsProvider {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.refused || time.Since(c.found) < findEvery {
		return c.provider
	}
	c.found = time.Now()
	if p, err := c.again(ctx); err == nil { // a file that is being written is read next time
		c.provider, c.refused = p, false
	}
	return c.provider
}

func (c *chain) refuse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused = true
}

// Refused is told each error of the store. It reports whether the credentials were at fault, so that others are looked for.
func (r *Resolved) Refused(err error) bool {
	switch Classify(err) {
	case remote.Auth, remote.Expired:
		r.keys.refuse()
		return true
	}
	return false
}
