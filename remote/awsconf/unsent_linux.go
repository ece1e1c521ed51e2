package awsconf

import (
	"net"

	"golang.org/x/sys/unix"
)

// unsentLimit is how many bytes the kernel may hold that it has not sent yet.
const unsentLimit = 256 << 10

// limitUnsent makes writing keep pace with sending. By default some megabytes vanish into the kernel's buffer at once, and
// nothing moves any more until a third of them has gone out: on a slow line that looks like a stall.
func limitUnsent(c *net.TCPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentLimit) // works without, too
	})
}
