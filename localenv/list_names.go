package localenv

import (
	"strconv"
	"strings"
)

// MarkerName is the file that bdbvault leaves in a home while a restore into it is unfinished.
const MarkerName = ".bdbvault-restore"

// digits reports whether s is n decimal digits, or any number of them but zero if n is 0.
func digits(s string, n int) bool {
	return s != "" && (n == 0 || len(s) == n) && strings.Trim(s, "0123456789") == ""
}

// ParseLogName reads the number out of a log file's name.
func ParseLogName(name string) (number uint32, ok bool) {
	rest, ok := strings.CutPrefix(name, "log.")
	if !ok || !digits(rest, 10) {
		return 0, false
	}
	n, err := strconv.ParseUint(rest, 10, 32)
	return uint32(n), err == nil && n > 0
}

// engineFile says what a file is that libdb keeps for the running environment and that must not travel, by its name; "" for all others. Only exact
// names count: __dbq. and __dbp. are queue extents and partitions, and __db.<hex>.<hex> is a database whose transactional removal or
// renaming is in flight.
func engineFile(name string) (reason string) {
	rest, ok := strings.CutPrefix(name, "__db.")
	switch {
	case !ok:
		return ownFile(name)
	case digits(rest, 3):
		return "shared region"
	case rest == "register":
		return "process registry"
	case strings.HasPrefix(rest, "rep."), rest == "reppg.db":
		return "replication state"
	case strings.HasPrefix(rest, "freezer"):
		return "frozen page versions"
	}
	return ""
}

// isTempName reports whether libdb would call a temporary file so (__db_tmp_open): BDB, then the process id in five digits, of which any number from
// the left are replaced by letters.
func isTempName(name string) bool {
	rest, ok := strings.CutPrefix(name, "BDB")
	return ok && len(rest) == 5 && (strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyz") == "" ||
		digits(strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyz"), 0))
}

// extentName splits the name of a queue extent into the queue's and the extent's number.
func extentName(name string) (queue string, number uint32, ok bool) {
	rest, ok := strings.CutPrefix(name, "__dbq.")
	at := strings.LastIndexByte(rest, '.')
	if !ok || at <= 0 {
		return "", 0, false
	}
	n, err := strconv.ParseUint(rest[at+1:], 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != rest[at+1:] {
		return "", 0, false
	}
	return rest[:at], uint32(n), true
}
