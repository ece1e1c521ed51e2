//go:build !linux

package awsconf

import "net"

// limitUnsent is a matter of Linux's large buffers.
func limitUnsent(*net.TCPConn) {}
