package main

import (
	"strings"
	"sync"

	"github.com/dustin/go-humanize"

	"bdbvault/localenv"
	"bdbvault/remote"
)

const (
	flagUploadRate   = "upload-rate"
	flagDownloadRate = "download-rate"
	flagReadRate     = "read-rate"
)

// throttle holds the rates of all transfers of a process, which its environments share.
type throttle struct {
	once     sync.Once
	up, down *remote.Rate
	err      error
}

// storeRates are the limits of what is sent and received; nil: none.
func (c *call) storeRates() (up, down *remote.Rate, err error) {
	t := c.throttle
	t.once.Do(func() {
		if t.up, t.err = c.rate(flagUploadRate); t.err == nil {
			t.down, t.err = c.rate(flagDownloadRate)
		}
	})
	return t.up, t.down, t.err
}

// readPace is the limit of reading the live environment; nil: none.
func (c *call) readPace() (localenv.Pace, error) {
	r, err := c.rate(flagReadRate)
	if r == nil {
		return nil, err
	}
	return r.Wait, nil
}

// rate reads a flag of that kind; nil: no limit.
func (c *call) rate(flag string) (*remote.Rate, error) {
	n, err := parseRate(c.String(flag))
	switch {
	case err != nil:
		return nil, usagef("--%s %q: want bytes a second with their unit, as 500K, 10M or 10MiB (MB is a million); 0 or off is no limit", flag, c.String(flag))
	case n == 0:
		return nil, nil
	case n < remote.MinRate:
		return nil, usagef("--%s %s: want at least %s a second: with less, stores take a transfer for dead", flag, c.String(flag), size(remote.MinRate))
	}
	return remote.NewRate(int64(n)), nil
}

// parseRate reads 10M as restic and rclone do, which is 10 MiB. A bare number would mean bytes to one and KiB to others, so it is refused.
func parseRate(text string) (uint64, error) {
	text = strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(text)), "/S")
	switch {
	case text == "", text == "0", text == "OFF":
		return 0, nil
	case !strings.ContainsAny(text, "KMGT"):
		return 0, usagef("no unit")
	case strings.ContainsAny(text[len(text)-1:], "KMGT"):
		text += "IB"
	}
	return humanize.ParseBytes(text)
}
