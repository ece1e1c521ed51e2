package manifest

import (
	"fmt"
	"strings"
	"time"
)

const damagedFormat = 1

// Damaged marks an object whose bytes are not what was stored: no backup refers to it from then on. It marks by being there: one that can't be read
// still does.
type Damaged struct {
	Format      int       `json:"format"`
	Environment string    `json:"environment"`
	Object      string    `json:"object"` // its key
	Problem     string    `json:"problem"`
	Found       time.Time `json:"found"` // by the clock of the host
	Host        string    `json:"host"`  // that found it
	Tool        string    `json:"tool"`
}

// DamagedPrefix is the prefix of the marks of an environment's damaged objects.
func DamagedPrefix(env string) string { return env + "/damaged/" }

// DamagedKey is the key of the mark of an object of the environment.
func DamagedKey(env, object string) string {
	return DamagedPrefix(env) + strings.TrimPrefix(object, env+"/")
}

// ParseDamagedKey takes the key of the object out of that of its mark: a pack, a map or a segment.
func ParseDamagedKey(env, key string) (object string, err error) {
	rest, ok := strings.CutPrefix(key, DamagedPrefix(env))
	object = env + "/" + rest
	switch folder, _, _ := strings.Cut(rest, "/"); {
	case !ok:
		err = fmt.Errorf("object %s: not the name of a mark", key)
	case folder == "packs":
		_, err = ParsePackKey(env, object)
	case folder == "maps":
		_, err = ParseMapKey(env, object)
	case folder == "logs":
		_, err = ParseSegmentKey(env, object)
	default:
		err = fmt.Errorf("object %s: not the name of a mark", key)
	}
	return object, err
}

// NewDamaged returns a mark of the current format.
func NewDamaged(env, object, problem string) *Damaged {
	return &Damaged{Format: damagedFormat, Environment: env, Object: object, Problem: problem}
}

// Encode writes a mark.
func (d *Damaged) Encode() ([]byte, error) { return seal("damaged", d) }

// DecodeDamaged reads what Encode writes and checks it.
func DecodeDamaged(data []byte) (*Damaged, error) {
	d := new(Damaged)
	if err := unseal("damaged", damagedFormat, data, d); err != nil {
		return nil, err
	}
	if d.Format < 1 || CheckEnv(d.Environment) != nil || d.Object == "" {
		return nil, damaged("damaged", "impossible values")
	}
	return d, nil
}
