package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// ErrDamaged is in the chain of every error about bytes that are not what was stored.
var ErrDamaged = errors.New("damaged")

// FormatError says that an object was written by a newer bdbvault.
type FormatError struct {
	What         string // "manifest", "repository", …
	Found, Known int
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s has format %d, this bdbvault reads up to format %d: use a newer bdbvault", e.What, e.Found, e.Known)
}

func damaged(what, format string, args ...any) error {
	return fmt.Errorf("%s: %s: %w", what, fmt.Sprintf(format, args...), ErrDamaged)
}

// seal writes {"sha256": …, what: body} with the checksum of body's bytes.
func seal(what string, body any) ([]byte, error) {
	inner, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", what, err)
	}
	sum := sha256.Sum256(inner)
	return fmt.Appendf(nil, "{\"sha256\":\"%x\",\"%s\":%s}\n", sum, what, inner), nil
}

// unseal checks the checksum and the format number, then decodes into body. The checksum stands before anything is believed, except
// that a newer format is named as such even where its envelope has changed.
func unseal(what string, known int, data []byte, body any) error {
	inner, ok := openSeal(what, data)
	if !ok || !knownFormat(known, inner) {
		return unsealOdd(what, known, data)
	}
	dec := json.NewDecoder(bytes.NewReader(inner))
	dec.DisallowUnknownFields()
	if err := dec.Decode(body); err != nil {
		return damaged(what, "%v", err)
	}
	if dec.InputOffset() != int64(len(inner)) {
		return damaged(what, "something follows it")
	}
	return nil
}

// openSeal takes the inner object out of what seal has written.
func openSeal(what string, data []byte) (inner []byte, ok bool) {
	head := len(`{"sha256":""`) + 2*sha256.Size + len(`,"":`) + len(what)
	if len(data) < head+len("}\n") {
		return nil, false
	}
	inner = data[head : len(data)-len("}\n")]
	want := fmt.Sprintf("{\"sha256\":\"%x\",\"%s\":", sha256.Sum256(inner), what)
	return inner, string(data[:head]) == want && string(data[head+len(inner):]) == "}\n"
}

// knownFormat reports whether the inner object begins with a version that is known. Every object of ours begins with its version.
func knownFormat(known int, inner []byte) bool {
	text, ok := bytes.CutPrefix(inner, []byte(`{"format":`))
	number, _, end := bytes.Cut(text[:min(len(text), 16)], []byte{','})
	if !end {
		return false
	}
	n, err := strconv.Atoi(string(number))
	return ok && err == nil && n <= known
}

// unsealOdd says what is wrong with an object that seal has not written so, or not this version.
func unsealOdd(what string, known int, data []byte) error {
	var outer map[string]json.RawMessage
	if err := json.Unmarshal(data, &outer); err != nil {
		return damaged(what, "%v", err)
	}
	inner, ok := outer[what]
	if !ok {
		return damaged(what, "no %q in it", what)
	}
	var version struct {
		Format int `json:"format"`
	}
	if json.Unmarshal(inner, &version) == nil && version.Format > known {
		return &FormatError{What: what, Found: version.Format, Known: known}
	}
	return damaged(what, "checksum does not fit")
}
