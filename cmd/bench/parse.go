package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// minSize leaves room for enough pages that 2 % of them are some.
const minSize = 16 * mib

// parseSizes reads "2GiB,512MiB".
func parseSizes(text string) ([]int64, error) {
	var sizes []int64
	for part := range strings.SplitSeq(text, ",") {
		n, err := parseSize(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		sizes = append(sizes, n)
	}
	return sizes, nil
}

func parseSize(text string) (int64, error) {
	units := []struct {
		suffix string
		bytes  float64
	}{{"KiB", kib}, {"MiB", mib}, {"GiB", gib}}
	for _, u := range units {
		digits, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(digits, 64)
		if err != nil || !(n > 0 && n < 1<<20) {
			break
		}
		if size := int64(n * u.bytes); size >= minSize {
			return size, nil
		}
		return 0, fmt.Errorf("size %q: want at least %d MiB", text, minSize/mib)
	}
	return 0, fmt.Errorf("size %q: want a number and MiB or GiB, as in 2GiB", text)
}

// parseRows reads the list of -only.
func parseRows(text string) (map[string]bool, error) {
	if text == "" {
		return nil, nil
	}
	only := map[string]bool{}
	for part := range strings.SplitSeq(text, ",") {
		if !slices.Contains(rows, part) {
			return nil, fmt.Errorf("no part %q: want some of %s", part, strings.Join(rows, ","))
		}
		only[part] = true
	}
	return only, nil
}

// sizeText is the shortest way to write a size that was parsed.
func sizeText(n int64) string {
	switch {
	case n%gib == 0:
		return fmt.Sprintf("%d GiB", n/gib)
	case n >= gib:
		return fmt.Sprintf("%.1f GiB", float64(n)/gib)
	}
	return fmt.Sprintf("%d MiB", n/mib)
}
