package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"bdbvault/manifest"
)

const flagStorageClass = "storage-class"

// storageClasses are the store's classes by kind of object; a kind without one gets the bucket's own.
type storageClasses map[manifest.ObjectKind]string

// of is the class of the object with that key.
func (s storageClasses) of(key string) string { return s[manifest.KindOf(key)] }

// classWord is what stores call their classes.
var classWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// slowClasses are those from which an object can't be read before somebody has asked for it to be brought back, hours earlier.
var slowClasses = []string{"GLACIER", "DEEP_ARCHIVE"}

// whyReadable says what objects of a kind are read for, so that they may not be in a slow class.
var whyReadable = map[manifest.ObjectKind]string{
	manifest.ObjectMap:      "a backup reads them to find what has changed",
	manifest.ObjectLog:      "ship reads the newest to go on from there",
	manifest.ObjectTail:     "ship reads the newest to go on from there",
	manifest.ObjectManifest: "every command reads them",
}

// storageClasses reads the flag.
func (c *call) storageClasses(loc location) (storageClasses, error) {
	text := c.String(flagStorageClass)
	if text == "" {
		return nil, nil
	}
	if loc.dir != "" {
		return nil, usagef("--%s %s: a directory has no storage classes", flagStorageClass, text)
	}
	classes, err := parseStorageClasses(text)
	if err != nil {
		return nil, usagef("--%s %s: %w", flagStorageClass, text, err)
	}
	return classes, nil
}

func parseStorageClasses(text string) (storageClasses, error) {
	classes := storageClasses{}
	for part := range strings.SplitSeq(text, ",") {
		kind, class, several := strings.Cut(strings.TrimSpace(part), "=")
		kinds := []manifest.ObjectKind{manifest.ObjectKind(kind)}
		if !several {
			class, kinds = kind, []manifest.ObjectKind{manifest.ObjectPack, manifest.ObjectLog}
		}
		for _, k := range kinds {
			if err := classes.set(k, class); err != nil {
				return nil, err
			}
		}
	}
	return classes, nil
}

func (s storageClasses) set(kind manifest.ObjectKind, class string) error {
	switch {
	case !slices.Contains(manifest.ObjectKinds, kind):
		return fmt.Errorf("there is no kind of object %q; there are %s", kind, kindWords())
	case !classWord.MatchString(class):
		return fmt.Errorf("%q is no storage class", class)
	case s[kind] != "":
		return fmt.Errorf("two classes for %s", kind)
	case kind != manifest.ObjectPack && isSlow(class):
		return fmt.Errorf("%s can't be in %s, from which nothing can be read at once: %s; only packs can", kind, class, whyReadable[kind])
	}
	s[kind] = class
	return nil
}

func kindWords() string {
	var words []string
	for _, k := range manifest.ObjectKinds {
		words = append(words, string(k))
	}
	return strings.Join(words, ", ")
}

func isSlow(class string) bool { return slices.Contains(slowClasses, strings.ToUpper(class)) }

// warnSlow says what a slow class of packs means, once.
func (c *call) warnSlow() {
	classes, err := parseStorageClasses(c.String(flagStorageClass))
	if class := classes[manifest.ObjectPack]; err == nil && isSlow(class) {
		c.progress.Note(fmt.Sprintf("packs go to %s: before a restore they have to be brought back, which takes hours; see plan --objects", class))
	}
}
