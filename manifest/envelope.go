package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
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
	want := fmt.Appendf(nil, "{\"sha256\":\"%x\",\"%s\":%s}\n", sha256.Sum256(inner), what, inner)
	if !bytes.Equal(want, data) {
		return damaged(what, "checksum does not fit")
	}
	dec := json.NewDecoder(bytes.NewReader(inner))
	dec.DisallowUnknownFields()
	if err := dec.Decode(body); err != nil {
		return damaged(what, "%v", err)
	}
	return nil
}
