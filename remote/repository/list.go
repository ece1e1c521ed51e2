package repository

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"bdbvault/manifest"
	"bdbvault/remote"
)

// A store gives a thousand keys in one answer, one answer after the other, so that listing a hundred thousand packs takes a hundred times as long as an
// answer does. Names of packs are hashes, spread evenly: what is left of very many is cut into parts of the same size and listed side by side.

// manyPacks is how many packs are listed in a row before the rest is taken for very many. Tests make it smaller.
var manyPacks = 5000

// listParts is how many parts are listed at once.
const listParts = 8

// ListEnvironment calls fn for each object of an environment, for one at a time, in the order of their keys; only packs come in any order if there
// are very many. Date is the store's clock before anything was listed; zero if it tells none.
func (r *Repository) ListEnvironment(ctx context.Context, env string, fn func(remote.Info) error) (date time.Time, err error) {
	return r.listWide(ctx, env, env+"/", fn)
}

// ListPacks is ListEnvironment for packs alone.
func (r *Repository) ListPacks(ctx context.Context, env string, fn func(remote.Info) error) (date time.Time, err error) {
	return r.listWide(ctx, env, manifest.PacksPrefix(env), fn)
}

func (r *Repository) listWide(ctx context.Context, env, prefix string, fn func(remote.Info) error) (time.Time, error) {
	packs := 0
	var last manifest.Hash
	date, err := r.Bucket.List(ctx, prefix, "", func(i remote.Info) error {
		if err := fn(i); err != nil {
			return err
		}
		if n, err := manifest.ParseObjectKey(env, i.Key); err == nil && n.Pack {
			packs, last = packs+1, n.Hash
		}
		if packs >= manyPacks {
			return errEnough
		}
		return nil
	})
	if packs < manyPacks || !errors.Is(err, errEnough) {
		return date, err
	}
	return date, r.listBehind(ctx, env, prefix, last, fn)
}

// listBehind lists what comes behind a pack.
func (r *Repository) listBehind(ctx context.Context, env, prefix string, pack manifest.Hash, fn func(remote.Info) error) error {
	var one sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	for k := range listParts {
		after, until := partKey(env, pack, k), "" // to the end
		if k < listParts-1 {
			until = partKey(env, pack, k+1)
		}
		g.Go(func() error {
			_, err := r.Bucket.List(ctx, prefix, after, func(i remote.Info) error {
				if until != "" && i.Key > until {
					return errEnough
				}
				one.Lock()
				defer one.Unlock()
				return fn(i)
			})
			if errors.Is(err, errEnough) {
				return nil
			}
			return err
		})
	}
	return g.Wait()
}

// partKey is where one of the parts behind a pack begins. It is no key of a pack, or that of this one.
func partKey(env string, pack manifest.Hash, part int) string {
	begun := int(binary.BigEndian.Uint16(pack[:]))
	var place manifest.Hash
	binary.BigEndian.PutUint16(place[:], uint16(begun+(1<<16-begun)*part/listParts))
	key := manifest.PackKey(env, place)
	return max(key[:len(key)-2*len(place)+4], manifest.PackKey(env, pack))
}
