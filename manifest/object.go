package manifest

import "fmt"

// ObjectName is the name of a pack or a map.
type ObjectName struct {
	Hash Hash
	Pack bool
}

// Key is the object's key in environment env.
func (n ObjectName) Key(env string) string {
	if n.Pack {
		return PackKey(env, n.Hash)
	}
	return MapKey(env, n.Hash)
}

// ParseObjectKey reads what Key writes, and nothing else.
func ParseObjectKey(env, key string) (ObjectName, error) {
	n := ObjectName{Pack: true}
	var err error
	if n.Hash, err = ParsePackKey(env, key); err != nil {
		n.Pack = false
		n.Hash, err = ParseMapKey(env, key)
	}
	if err == nil && n.Key(env) != key {
		err = fmt.Errorf("object %s: not the name of a pack or a map", key)
	}
	return n, err
}

// EachObject calls fn for each pack and map that the backup needs, with its size.
func (m *Manifest) EachObject(fn func(n ObjectName, size int64)) {
	for i := range m.Packs {
		fn(ObjectName{m.Packs[i].Name, true}, m.Packs[i].Size)
	}
	for i := range m.Files {
		fn(ObjectName{m.Files[i].Map, false}, m.Files[i].MapSize)
	}
}

// EachObject calls fn for each pack and map that is condemned.
func (c *Condemned) EachObject(fn func(n ObjectName)) {
	for _, h := range c.Packs {
		fn(ObjectName{h, true})
	}
	for _, h := range c.Maps {
		fn(ObjectName{h, false})
	}
}
