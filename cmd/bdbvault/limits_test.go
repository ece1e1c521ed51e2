package main

import (
	"testing"

	"bdbvault/manifest"
)

func TestParseRate(t *testing.T) {
	for text, want := range map[string]uint64{
		"": 0, "0": 0, "off": 0, "10M": 10 << 20, "10MiB": 10 << 20, "10mib/s": 10 << 20, "10MB": 10e6, "1.5G": 3 << 29, "500k": 500 << 10, "64 KiB": 64 << 10,
	} {
		if got, err := parseRate(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"10", "fast", "M", "-1M", "10X", "1 B"} {
		if got, err := parseRate(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func TestParseStorageClasses(t *testing.T) {
	const pack, segment, tail = "bank/packs/4f/4f3a", "bank/logs/0123456789abcdef/0000000007/0-9-0-sealed", "bank/logs/0123456789abcdef/0000000008/0-9-0"
	for text, want := range map[string]map[string]string{
		"STANDARD_IA":                        {pack: "STANDARD_IA", segment: "STANDARD_IA", tail: "", "bank/maps/4f": "", "repository.json": ""},
		"STANDARD_IA,maps=GLACIER_IR":        {pack: "STANDARD_IA", "bank/maps/4f": "GLACIER_IR"},
		"packs=DEEP_ARCHIVE, tails=nearline": {pack: "DEEP_ARCHIVE", tail: "nearline", segment: ""},
		"manifests=STANDARD":                 {"repository.json": "STANDARD", "bank/backups/a.json": "STANDARD", "bank/holds/a.json": "STANDARD", pack: ""},
	} {
		classes, err := parseStorageClasses(text)
		for key, class := range want {
			if got := classes.of(key); err != nil || got != class {
				t.Errorf("%s: %s goes to %q, %v; want %q", text, key, got, err, class)
			}
		}
	}
	for _, text := range []string{"GLACIER", "log=GLACIER", "tails=glacier", "maps=DEEP_ARCHIVE", "manifests=GLACIER", "packs=", "=X", "packs=A,packs=B", "packs=a b", "STANDARD,log=GLACIER_IR", ","} {
		if classes, err := parseStorageClasses(text); err == nil {
			t.Errorf("%q: %v", text, classes)
		}
	}
	if got := (storageClasses)(nil).of(pack); got != "" || manifest.KindOf(pack) != manifest.ObjectPack {
		t.Error(got)
	}
}
