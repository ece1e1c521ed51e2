package awsconf

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
)

// dial connects as net/http's default does, but with connections that let the store have the last word.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		limitUnsent(tcp)
	}
	return &conn{Conn: c}, nil
}

// conn hides that the peer has reset the connection from whoever writes, so that it shows to whoever reads, after what the peer
// sent before. A store that refuses an upload without reading it answers and resets; net/http would
// report the failed write and drop the answer, and a lack of permission would look like a bad network.
type conn struct {
	net.Conn
	reset atomic.Bool
}

func (c *conn) Write(p []byte) (int, error) {
	if c.reset.Load() {
		return len(p), nil
	}
	n, err := c.Conn.Write(p)
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		c.reset.Store(true)
		return len(p), nil
	}
	return n, err
}
