package manifest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// RepositoryKey is the key of the repository file.
const RepositoryKey = "repository.json"

// BackupsPrefix is the prefix of an environment's manifests.
func BackupsPrefix(env string) string { return env + "/backups/" }

// ManifestKey is the key of one backup's manifest.
func ManifestKey(env string, id BackupID) string { return BackupsPrefix(env) + string(id) + ".json" }

// ParseManifestKey takes the id out of a key below BackupsPrefix.
func ParseManifestKey(env, key string) (BackupID, error) {
	return parseID(BackupsPrefix(env), key, "a manifest")
}

// MapsPrefix is the prefix of an environment's maps.
func MapsPrefix(env string) string { return env + "/maps/" }

// MapKey is the key of a map.
func MapKey(env string, h Hash) string { return MapsPrefix(env) + h.String() }

// ParseMapKey takes the name out of a key below MapsPrefix.
func ParseMapKey(env, key string) (Hash, error) {
	return ParseHash(strings.TrimPrefix(key, MapsPrefix(env)))
}

// PacksPrefix is the prefix of an environment's packs.
func PacksPrefix(env string) string { return env + "/packs/" }

// PackKey is the key of a pack.
func PackKey(env string, h Hash) string {
	s := h.String()
	return PacksPrefix(env) + s[:2] + "/" + s
}

// ParsePackKey takes the name out of a key below PacksPrefix.
func ParsePackKey(env, key string) (Hash, error) {
	two, name, _ := strings.Cut(strings.TrimPrefix(key, PacksPrefix(env)), "/")
	if !strings.HasPrefix(name, two) {
		return Hash{}, fmt.Errorf("object %s: not the name of a pack", key)
	}
	return ParseHash(name)
}

// CondemnedPrefix is the prefix of an environment's condemned lists.
func CondemnedPrefix(env string) string { return env + "/condemned/" }

// CondemnedKey is the key of what one prune condemned.
func CondemnedKey(env string, id BackupID) string { return CondemnedPrefix(env) + string(id) + ".json" }

// ParseCondemnedKey takes the id out of a key below CondemnedPrefix.
func ParseCondemnedKey(env, key string) (BackupID, error) {
	return parseID(CondemnedPrefix(env), key, "a condemned list")
}

// HoldsPrefix is the prefix of an environment's holds.
func HoldsPrefix(env string) string { return env + "/holds/" }

// HoldKey is the key of the hold on one backup.
func HoldKey(env string, id BackupID) string { return HoldsPrefix(env) + string(id) + ".json" }

// ParseHoldKey takes the backup's id out of a key below HoldsPrefix.
func ParseHoldKey(env, key string) (BackupID, error) {
	return parseID(HoldsPrefix(env), key, "a hold")
}

// parseID takes the id out of a key of the form PREFIX/ID.json.
func parseID(prefix, key, what string) (BackupID, error) {
	name, ok := strings.CutPrefix(key, prefix)
	id, json := strings.CutSuffix(name, ".json")
	if !ok || !json {
		return "", fmt.Errorf("object %s: not the name of %s", key, what)
	}
	return ParseBackupID(id)
}

// LogsPrefix is the prefix of all timelines of an environment.
func LogsPrefix(env string) string { return env + "/logs/" }

// TimelinePrefix is the prefix of one timeline's segments.
func TimelinePrefix(env string, t Timeline) string { return LogsPrefix(env) + t.String() + "/" }

// SegmentName is everything that the key of a segment says.
type SegmentName struct {
	Timeline   Timeline
	File       uint32 // number of the log file
	Start, End uint32 // byte offsets in the log file: first record, and just after the last one
	LastCommit int64  // Unix seconds of the last commit inside; 0: none, or not readable without the password
	Sealed     bool   // End is the end of the log file: the next record stands in the next file
}

var segmentKey = regexp.MustCompile(`^([0-9a-f]{16})/([0-9]{10})/([0-9]{10})-([0-9]{10})-([0-9]{10})(-sealed)?$`)

// Key is the segment's key in environment env.
func (s SegmentName) Key(env string) string { return LogsPrefix(env) + s.String() }

// String is the part of the key after "logs/".
func (s SegmentName) String() string {
	sealed := ""
	if s.Sealed {
		sealed = "-sealed"
	}
	return fmt.Sprintf("%s/%010d/%010d-%010d-%010d%s", s.Timeline, s.File, s.Start, s.End, s.LastCommit, sealed)
}

// ParseSegmentKey reads what Key writes.
func ParseSegmentKey(env, key string) (SegmentName, error) {
	m := segmentKey.FindStringSubmatch(strings.TrimPrefix(key, LogsPrefix(env)))
	if m == nil {
		return SegmentName{}, fmt.Errorf("object %s: not the name of a log segment", key)
	}
	var s SegmentName
	if err := s.Timeline.UnmarshalText([]byte(m[1])); err != nil {
		return SegmentName{}, err
	}
	var n [4]uint64
	for i := range n {
		v, err := strconv.ParseUint(m[i+2], 10, 34)
		if err != nil || (i < 3 && v > 1<<32-1) {
			return SegmentName{}, fmt.Errorf("object %s: number out of range", key)
		}
		n[i] = v
	}
	s.File, s.Start, s.End, s.LastCommit = uint32(n[0]), uint32(n[1]), uint32(n[2]), int64(n[3])
	s.Sealed = m[6] != ""
	if s.File == 0 || s.Start >= s.End {
		return SegmentName{}, fmt.Errorf("object %s: empty or impossible range", key)
	}
	return s, nil
}

// ObjectKind is a kind of object as administrators tell them apart, by size, number and use.
type ObjectKind string

// The kinds of objects.
const (
	ObjectPack     ObjectKind = "packs"
	ObjectMap      ObjectKind = "maps"
	ObjectLog      ObjectKind = "log"       // segments that reach to the end of their log file
	ObjectTail     ObjectKind = "tails"     // segments that later ones supersede
	ObjectManifest ObjectKind = "manifests" // and every other small object
)

// ObjectKinds are all of them.
var ObjectKinds = []ObjectKind{ObjectPack, ObjectMap, ObjectLog, ObjectTail, ObjectManifest}

// KindOf tells an object's kind by its key.
func KindOf(key string) ObjectKind {
	_, rest, _ := strings.Cut(key, "/")
	switch folder, _, _ := strings.Cut(rest, "/"); {
	case folder == "packs":
		return ObjectPack
	case folder == "maps":
		return ObjectMap
	case folder == "logs" && strings.HasSuffix(rest, "-sealed"):
		return ObjectLog
	case folder == "logs":
		return ObjectTail
	}
	return ObjectManifest
}
